/* A network's operators, as model.c names them for the measuring runtime. */
#ifndef HIL_OPERATORS_H
#define HIL_OPERATORS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hil_hook;

/* As large and aligned as a hil::Hook, which C cannot know (hil_tflm.h asserts it). */
typedef struct {
    uint32_t words[10];
} hil_hook_space_t;

/* Puts an operator into its hook; 0 when TFLM took it. */
typedef int (*hil_operator_fn)(struct hil_hook *hook);

extern const hil_operator_fn hil_operators[];
extern const uint32_t hil_operator_count;
extern hil_hook_space_t hil_hooks[];

#ifdef __cplusplus
}
#endif

#endif
