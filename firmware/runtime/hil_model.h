/* What a generated model.c defines and the runtime uses. Nothing else crosses this border. */
#ifndef HIL_MODEL_H
#define HIL_MODEL_H

#include <stdint.h>

/* All sizes and offsets are in bytes; offsets count from hil_arena. The input and the output are one int8 tensor each. */
typedef struct {
    const char *build_id; /* 32 hex digits: the identity of every input of the build */
    const char *profile;  /* MLPerf Tiny model id ([a-z0-9]+) that `profile%` answers */
    uint16_t layers;      /* how often hil_model_infer calls its mark */
    uint32_t arena_size;
    uint32_t input_offset;
    uint32_t input_size;
    uint32_t output_offset;
    uint32_t output_size;
    int8_t input_zero_point;
    int8_t output_zero_point;
    float output_scale;
    float input_scale;
    uint32_t arena_kept; /* bytes at the end of the arena that live from one inference to the next; 0 but for TFLM and states */
#if defined(HIL_MODEL_IN_RAM)
    uint32_t variables; /* resource variables of the network */
#endif
} hil_model_t;

/* An interpreter says at start-up how large its arena is and where in it input and output lie. */
#if defined(HIL_MODEL_IN_RAM)
#define HIL_MODEL_CONST
/* It also decides where each of several inputs and outputs lies: both are called outside of what is timed. */
void hil_model_take_input(void);   /* the input was written */
void hil_model_give_output(void);  /* an inference has ended */
#else
#define HIL_MODEL_CONST const
#endif

extern HIL_MODEL_CONST hil_model_t hil_model;

/* arena_size bytes, aligned to 16:
 *   int8_t hil_arena[N] __attribute__((section(".arena"), aligned(16)));
 * The runtime writes every byte of it between inferences, the last arena_kept ones apart. */
extern int8_t hil_arena[];

/* Called after layer 0, 1, ... layers-1 (execution order) when not NULL. */
typedef void (*hil_mark_fn)(uint32_t layer);

/* Runs the network on the input in the arena. 0, or 1 + index of the layer whose kernel refused. */
int hil_model_infer(hil_mark_fn mark);

/* All are only there for a model that needs them. */
void hil_model_reset(void) __attribute__((weak));          /* states to what they are before the first inference */
int hil_model_setup(void) __attribute__((weak));           /* once, after start-up; not 0: no inference will run */
uint32_t hil_model_arena_used(void) __attribute__((weak)); /* bytes that the interpreter says it uses of the arena */

#endif
