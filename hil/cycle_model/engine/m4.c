/* Cortex-M3 and M4 at zero wait states: the table of Arm 100166 (DDI 0439), rules in classes.txt. */
#include "model.h"
#include "thumb2_tables.h"

/* A single load whose second cycle the next load or store hides. */
static bool pipelines(const insn_t *insn)
{
    return classes[insn->cls].m4_rule == RULE_L;
}

static bool takes_address_from(const insn_t *insn, const insn_t *producer)
{
    return (insn->address & producer->writes) != 0;
}

/* A store does not pipeline with the load behind it. */
static bool waits_for_store(const insn_t *before, const insn_t *insn)
{
    return classes[before->cls].m4_rule == RULE_W && classes[insn->cls].group == GROUP_LOAD && insn->stored == 0;
}

/* Cycles of `insn` when `before` ran directly in front of it (NULL: the pipeline was refilled). Without refill. */
static uint32_t insn_cycles(const core_options_t *options, const insn_t *before, const insn_t *insn)
{
    const class_info_t *info = &classes[insn->cls];
    uint32_t cycles = info->m4_base + (uint32_t)info->m4_per_register * insn->moved;
    cycles += info->m4_accumulates * options->accumulate_cycles + info->m4_long * options->long_multiply_cycles;
    switch (info->m4_rule) {
    case RULE_L:
        cycles += before != NULL && pipelines(before) && !takes_address_from(insn, before) ? 1 : 2;
        break;
    case RULE_I:
        cycles += before != NULL && before->bytes == 2 ? 0 : 1;
        break;
    case RULE_D:
        cycles += options->divide_cycles;
        break;
    default:
        break;
    }
    if (before != NULL && waits_for_store(before, insn)) {
        cycles += 1;
    }
    if (before != NULL && insn->access_bytes && !before->access_bytes && takes_address_from(insn, before)) {
        cycles += options->address_stall_cycles;
    }
    return cycles;
}

static uint32_t refill_cycles(const core_options_t *options, const code_t *target)
{
    bool split = (target->pc & 2u) && target->count > 0 && target->insns[0].bytes == 4;
    return split ? options->refill_split_cycles : options->refill_cycles;
}

/* What the way out of `before` changes: the refill of a taken branch; a transfer to PC that its condition skipped. */
static int32_t exit_cycles(const core_options_t *options, const code_t *before, flow_t flow, const code_t *next)
{
    if (before == NULL || before->count == 0 || !is_branch(&before->insns[before->count - 1])) {
        return 0;
    }
    const insn_t *last = &before->insns[before->count - 1];
    if (flow == FLOW_TAKEN) {
        return (int32_t)refill_cycles(options, next);
    }
    return 1 - (int32_t)insn_cycles(options, NULL, last);
}

/* Only the instruction in front matters, so only the step before the last one does. */
int32_t m4_cycles(const core_options_t *options, const step_t *steps, size_t count)
{
    const code_t *next = steps[count - 1].code, *before = count > 1 ? steps[count - 2].code : NULL;
    flow_t flow = steps[count - 1].flow;
    int32_t cycles = exit_cycles(options, before, flow, next);
    const insn_t *previous = flow == FLOW_SEQUENTIAL && before->count > 0 ? &before->insns[before->count - 1] : NULL;
    for (size_t i = 0; i < next->count; i++) {
        cycles += (int32_t)insn_cycles(options, previous, &next->insns[i]);
        previous = &next->insns[i];
    }
    return cycles;
}
