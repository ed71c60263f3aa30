/* Cortex-M33: in order, one instruction a cycle, results a cycle or two later, and a second slot for branches and IT.
 * Latencies and rules are those of classes.txt. */
#include "model.h"
#include "thumb2_tables.h"


typedef struct {
    int32_t cycle;                 /* in which the next instruction can be issued */
    int32_t ready[REGISTER_COUNT]; /* first cycle in which the register can be used */
    bool slot;                     /* the last instruction was a 2-byte one with nothing beside it yet */
    bool slot_sets_flags;
} pipeline_t;

/* First cycle in which all of `set` is there for what takes it `late` cycles behind the issue. */
static int32_t available(const pipeline_t *pipeline, registers_t set, int32_t late)
{
    int32_t cycle = pipeline->cycle;
    for (; set != 0; set &= set - 1) {
        int32_t ready = pipeline->ready[__builtin_ctzll(set)] - late;
        cycle = ready > cycle ? ready : cycle;
    }
    return cycle;
}

/* Accumulators and values to store are taken a cycle later than other operands. */
static int32_t operands_there(const pipeline_t *pipeline, const insn_t *insn)
{
    int32_t plain = available(pipeline, insn->reads | insn->early | insn->address, 0);
    int32_t late = available(pipeline, insn->late | insn->stored, 1);
    return plain > late ? plain : late;
}

static void results_from(pipeline_t *pipeline, registers_t set, int32_t cycle)
{
    for (; set != 0; set &= set - 1) {
        pipeline->ready[__builtin_ctzll(set)] = cycle;
    }
}

static int32_t issue_cycles(const core_options_t *options, const insn_t *insn)
{
    const class_info_t *info = &classes[insn->cls];
    int32_t cycles = info->m33_base + info->m33_per_register * insn->moved;
    if (info->m33_rule == RULE_D) {
        cycles += (int32_t)options->divide_cycles;
    }
    return cycles + (info->m33_rule == RULE_M && insn->bytes == 2);
}

static void issue(pipeline_t *pipeline, const core_options_t *options, const insn_t *insn)
{
    const registers_t flags = (registers_t)1 << REGISTER_FLAGS;
    const class_info_t *info = &classes[insn->cls];
    if (info->m33_rule == RULE_I && pipeline->slot) {
        pipeline->slot = false;
        return;
    }
    int32_t cycles = issue_cycles(options, insn) + (info->m33_rule == RULE_I);
    pipeline->cycle = operands_there(pipeline, insn) + cycles;
    results_from(pipeline, insn->base, pipeline->cycle);
    results_from(pipeline, insn->writes, pipeline->cycle - 1 + info->m33_latency);
    pipeline->slot = insn->bytes == 2;
    pipeline->slot_sets_flags = (insn->writes & flags) != 0;
}

/* The branch that ended the code in front, now that it is known where it went. */
static void leave(pipeline_t *pipeline, const core_options_t *options, const insn_t *branch, bool taken)
{
    bool plain = branch->access_bytes == 0;
    bool pairs = plain && branch->bytes == 2 && pipeline->slot && !(taken && pipeline->slot_sets_flags);
    pipeline->cycle = operands_there(pipeline, branch) + (pairs ? 0 : taken || plain ? issue_cycles(options, branch) : 1);
    results_from(pipeline, branch->writes | branch->base, pipeline->cycle);
    pipeline->cycle += taken ? (int32_t)options->refill_cycles : 0;
    pipeline->slot = false;
}

int32_t m33_cycles(const core_options_t *options, const step_t *steps, size_t count)
{
    pipeline_t pipeline = { 0 };
    int32_t before = 0;
    results_from(&pipeline, ((registers_t)1 << REGISTER_COUNT) - 1, -100); /* nothing from before is under way */;
    for (size_t i = 0; i < count; i++) {
        before = pipeline.cycle;
        const code_t *last = i > 0 ? steps[i - 1].code : NULL;
        if (last != NULL && last->count > 0 && is_branch(&last->insns[last->count - 1])) {
            leave(&pipeline, options, &last->insns[last->count - 1], steps[i].flow == FLOW_TAKEN);
        }
        for (size_t k = 0; k < steps[i].code->count; k++) {
            if (!is_branch(&steps[i].code->insns[k])) {
                issue(&pipeline, options, &steps[i].code->insns[k]);
            }
        }
    }
    return pipeline.cycle - before;
}
