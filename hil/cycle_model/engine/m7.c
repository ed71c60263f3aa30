/* Cortex-M7: in-order dual issue, with the pairing rules and latencies of classes.txt. Results are counted from the late
 * ALU's point of view: `ready` is the cycle in which it can use a register; the early ALU would need it a cycle earlier. */
#include <string.h>

#include "model.h"
#include "thumb2_tables.h"

static const uint8_t unit_counts[UNIT_COUNT] = {
    [UNIT_ALU] = 2, [UNIT_SHIFT] = 1, [UNIT_MAC] = 1, [UNIT_LOAD] = 2, [UNIT_STORE] = 1,
    [UNIT_BRANCH] = 1, [UNIT_SIMD] = 1, [UNIT_VFP] = 1, [UNIT_VPORT] = 2,
};

static const int32_t long_ago = -100; /* nothing from before the first step is still under way */

typedef struct {
    int32_t cycle;                  /* of the issue group being filled */
    unsigned issued;                /* instructions in it; 2 closes it */
    uint8_t used[UNIT_COUNT];
    int32_t ready[REGISTER_COUNT];  /* cycle in which a plain ALU can use the register */
    registers_t loaded;             /* last written by the load of a word */
} issue_t;

static void next_cycle(issue_t *issue, int32_t cycle)
{
    issue->cycle = cycle;
    issue->issued = 0;
    memset(issue->used, 0, sizeof issue->used);
}

/* First cycle in which all of `set` is there, when it is needed `early` cycles before a plain ALU would need it. */
static int32_t operands_ready(const issue_t *issue, registers_t set, int32_t early)
{
    int32_t cycle = 0;
    for (; set != 0; set &= set - 1) {
        int32_t ready = issue->ready[__builtin_ctzll(set)] + early;
        cycle = ready > cycle ? ready : cycle;
    }
    return cycle;
}

static int32_t max(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* How much later than a plain ALU an accumulator is read. */
static int32_t accumulator_delay(const insn_t *insn)
{
    return insn->cls == CLASS_VMLA ? 3 : insn->cls == CLASS_VFMA ? 2 : 1;
}

static int32_t earliest(const issue_t *issue, const insn_t *insn)
{
    bool float_store = classes[insn->cls].group == GROUP_STORE && insn->stored >> REGISTER_S0;
    int32_t cycle = operands_ready(issue, insn->reads, 0);
    if (classes[insn->cls].m7_load_wait) {
        cycle = max(cycle, operands_ready(issue, insn->reads & issue->loaded, 1));
    }
    cycle = max(cycle, operands_ready(issue, insn->early | insn->address, 1));
    cycle = max(cycle, operands_ready(issue, insn->late, -accumulator_delay(insn)));
    return max(cycle, operands_ready(issue, insn->stored, float_store ? -2 : -1));
}

static uint8_t units_taken(const issue_t *issue, const class_info_t *info, unsigned unit)
{
    bool goes_round = unit == UNIT_SHIFT && info->m7_free_shift && issue->issued > 0;
    return goes_round ? 0 : info->m7_units[unit];
}

static bool fits(const issue_t *issue, const class_info_t *info)
{
    if (issue->issued >= 2 || (info->m7_issue != ISSUE_ANY && issue->issued > 0)) {
        return false;
    }
    for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
        if (issue->used[unit] + units_taken(issue, info, unit) > unit_counts[unit]) {
            return false;
        }
    }
    return true;
}

static void set_ready(issue_t *issue, registers_t set, int32_t cycle)
{
    for (; set != 0; set &= set - 1) {
        issue->ready[__builtin_ctzll(set)] = cycle;
    }
}

/* Whether the early ALU runs `insn`, which has just been given its place in the open group. */
static bool runs_early(const issue_t *issue, const insn_t *insn)
{
    unsigned early = classes[insn->cls].m7_early;
    bool slot = early == EARLY_EITHER || (early == EARLY_OLDER && issue->issued == 0);
    return slot && operands_ready(issue, insn->reads | insn->early, 1) <= issue->cycle;
}

static void issue_insn(issue_t *issue, const insn_t *insn)
{
    const registers_t flags = (registers_t)1 << REGISTER_FLAGS;
    const class_info_t *info = &classes[insn->cls];
    int32_t cycle = earliest(issue, insn);
    if (cycle > issue->cycle) {
        next_cycle(issue, cycle);
    }
    if (!fits(issue, info)) {
        next_cycle(issue, issue->cycle + 1);
    }
    for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
        issue->used[unit] = (uint8_t)(issue->used[unit] + units_taken(issue, info, unit));
    }
    int32_t latency = runs_early(issue, insn) ? 0 : info->m7_latency;
    issue->issued += info->m7_issue == ISSUE_ALONE ? 2 : 1;
    int32_t hold = info->m7_hold ? info->m7_hold : (insn->moved + 1) / 2;
    if (hold > 1) {
        next_cycle(issue, issue->cycle + hold - 1);
        issue->issued = 2;
    }
    set_ready(issue, insn->base, issue->cycle);
    set_ready(issue, insn->writes & ~flags, issue->cycle + latency);
    set_ready(issue, insn->writes & flags, issue->cycle + info->m7_latency);
    issue->loaded = insn->cls == CLASS_LD ? issue->loaded | insn->writes : issue->loaded & ~(insn->writes | insn->base);
}

static void issue_code(issue_t *issue, const code_t *code)
{
    for (size_t i = 0; i < code->count; i++) {
        issue_insn(issue, &code->insns[i]);
    }
}

/* Cycles until the group being filled is issued. */
static int32_t elapsed(const issue_t *issue)
{
    return issue->cycle + (issue->issued > 0);
}

int32_t m7_cycles(const step_t *steps, size_t count)
{
    issue_t issue = { 0 };
    int32_t before = 0;
    set_ready(&issue, ((registers_t)1 << REGISTER_COUNT) - 1, long_ago);
    for (size_t i = 0; i < count; i++) {
        before = elapsed(&issue);
        if (steps[i].flow == FLOW_TAKEN) {
            next_cycle(&issue, before);
        }
        issue_code(&issue, steps[i].code);
    }
    return elapsed(&issue) - before;
}
