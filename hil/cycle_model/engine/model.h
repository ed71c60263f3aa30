/* Cycle models: what a translated block costs, given what ran before it. */
#ifndef HIL_MODEL_H_TIMING
#define HIL_MODEL_H_TIMING

#include <stddef.h>

#include "decode.h"

enum { GROUP_MAX = 8 };

typedef enum { CORE_CORTEX_M4, CORE_CORTEX_M7, CORE_CORTEX_M33 } core_t;

/* How one block follows another. */
typedef enum { FLOW_START, FLOW_SEQUENTIAL, FLOW_TAKEN } flow_t;

typedef struct {
    core_t core;
    uint32_t refill_cycles;        /* M4: P, for a target that one fetch delivers; M33: what a taken branch adds */
    uint32_t refill_split_cycles;  /* M4: P, for a 4-byte target that lies across two words */
    uint32_t divide_cycles;        /* M4, M33: D; its operands are out of reach of a plugin */
    uint32_t accumulate_cycles;    /* M4 model, as the M3: of a multiplication that accumulates, beyond a plain one */
    uint32_t long_multiply_cycles; /* the same of one with a product of 64 bits */
    uint32_t address_stall_cycles; /* M4: address computed by the instruction before */
    uint32_t mispredict_cycles;    /* M7 */
    uint32_t unaligned_cycles;     /* for each part that an unaligned load is read in beyond the first */
} core_options_t;

/* Straight-line code as the emulator translated it. */
typedef struct {
    uint32_t pc, end;
    size_t count;
    insn_t *insns;
} code_t;

/* Decodes `bytes` of code at `pc` into `code` (its insns are allocated). Returns how many instructions are unknown, or
 * -1 without memory. */
int code_decode(code_t *code, uint32_t pc, const uint8_t *data, size_t bytes);
void code_free(code_t *code);

const class_info_t *class_info(const insn_t *insn);
const char *group_name(unsigned group);
bool is_branch(const insn_t *insn);      /* may go elsewhere than to the next instruction */
bool is_conditional(const insn_t *insn); /* may go on to the next instruction as well */
bool is_call(const insn_t *insn);

/* Code, and how it was entered from the step before it (the first step: FLOW_START). */
typedef struct {
    const code_t *code;
    flow_t flow;
} step_t;

/* Cycles that the last of `count` steps adds, the cost of leaving the step before it included. */
int32_t m4_cycles(const core_options_t *options, const step_t *steps, size_t count);
int32_t m7_cycles(const step_t *steps, size_t count);
int32_t m33_cycles(const core_options_t *options, const step_t *steps, size_t count);

#endif
