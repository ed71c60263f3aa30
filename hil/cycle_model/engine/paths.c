#include "paths.h"

#include <stdlib.h>
#include <string.h>

enum { HASH_SIZE = 1 << 14, STEPS_MAX = 32 };

static struct {
    core_options_t options;
    block_t *blocks[HASH_SIZE];
} paths;

void paths_start(const core_options_t *options)
{
    paths.options = *options;
}

static void free_block(block_t *block)
{
    for (edge_t *edge = block->edges, *next; edge != NULL; edge = next) {
        next = edge->next;
        free(edge);
    }
    code_free(&block->code);
    free(block);
}

void paths_stop(void)
{
    for (unsigned i = 0; i < HASH_SIZE; i++) {
        for (block_t *block = paths.blocks[i], *next; block != NULL; block = next) {
            next = block->next_same_hash;
            free_block(block);
        }
    }
    memset(&paths, 0, sizeof paths);
}

static void describe_block(block_t *block)
{
    for (size_t i = 0; i < block->code.count; i++) {
        block->groups[class_info(&block->code.insns[i])->group]++;
    }
    const insn_t *last = &block->code.insns[block->code.count - 1];
    block->calls = is_call(last);
    block->branches = is_branch(last);
    block->conditional = is_conditional(last);
    block->branch = (block->code.end - last->bytes) >> 1;
}

/* The decoded form does not tell two immediates apart, and need not: it is all that costs depend on. */
static bool same_code(const block_t *block, const code_t *code)
{
    return block->code.pc == code->pc && block->code.count == code->count &&
           memcmp(block->code.insns, code->insns, code->count * sizeof *code->insns) == 0;
}

block_t *paths_block(uint32_t pc, const uint8_t *data, size_t bytes)
{
    code_t code;
    int unknown = code_decode(&code, pc, data, bytes);
    if (unknown < 0 || code.count == 0) {
        return NULL;
    }
    block_t **bucket = &paths.blocks[(pc >> 1 ^ pc >> 15) % HASH_SIZE];
    for (block_t *block = *bucket; block != NULL; block = block->next_same_hash) {
        if (same_code(block, &code)) {
            code_free(&code);
            return block;
        }
    }
    block_t *block = calloc(1, sizeof *block);
    if (block == NULL) {
        code_free(&code);
        return NULL;
    }
    block->code = code;
    block->unknown = (uint32_t)unknown;
    block->next_same_hash = *bucket;
    *bucket = block;
    describe_block(block);
    return block;
}

static flow_t flow_between(const block_t *from, const block_t *into)
{
    bool onwards = into->code.pc == from->code.end;
    bool must_leave = from->branches && !from->conditional;
    return onwards && !must_leave ? FLOW_SEQUENTIAL : FLOW_TAKEN;
}

static bool follows_stretches(void)
{
    return paths.options.core != CORE_CORTEX_M4;
}

/* Where QEMU cuts code into blocks depends on pages, and on when its instruction budget runs out, which no two runs
 * share. So that issue groups do not depend on it, the context of cores that follow more than the instruction in front is
 * whole stretches of code up to a branch: the way into a block is told apart by the way into its predecessor where one of
 * the two was cut. */
static const edge_t *way_back(const block_t *from, const edge_t *last)
{
    bool cut = last != NULL && (!from->branches || last->cut);
    return cut && follows_stretches() ? last : NULL;
}

/* The stretch that ends with `edge`, and the one before it, into the end of `steps`. Returns the index of the first. */
static size_t find_steps(const edge_t *edge, step_t steps[STEPS_MAX])
{
    size_t first = STEPS_MAX;
    unsigned stretches = 1;
    steps[--first] = (step_t){ &edge->into->code, edge->flow };
    while (edge != NULL && edge->from != NULL && first > 0) {
        stretches += !edge->cut;
        if (stretches > 2) {
            break;
        }
        const edge_t *via = edge->via;
        steps[--first] = (step_t){ &edge->from->code, via != NULL ? via->flow : FLOW_START };
        edge = via;
    }
    return first;
}

static int32_t block_cycles(const core_options_t *options, const step_t *steps, size_t count)
{
    switch (options->core) {
    case CORE_CORTEX_M7:
        return m7_cycles(steps, count);
    case CORE_CORTEX_M33:
        return m33_cycles(options, steps, count);
    default:
        return m4_cycles(options, steps, count);
    }
}

static edge_t *make_edge(block_t *from, block_t *into, const edge_t *last)
{
    edge_t *edge = calloc(1, sizeof *edge);
    if (edge == NULL) {
        abort();
    }
    edge->from = from;
    edge->into = into;
    edge->via = way_back(from, last);
    edge->flow = flow_between(from, into);
    edge->cut = edge->flow == FLOW_SEQUENTIAL && !from->branches;
    edge->taken = edge->flow == FLOW_TAKEN && from->branches;
    step_t steps[STEPS_MAX];
    size_t first = find_steps(edge, steps);
    bool entry = last == NULL && follows_stretches(); /* the caller may be cut as well */
    first = entry ? STEPS_MAX - 1 : first;
    edge->cycles = block_cycles(&paths.options, &steps[first], STEPS_MAX - first);
    return edge;
}

edge_t *paths_edge(block_t *from, block_t *into, const edge_t *last)
{
    const edge_t *via = way_back(from, last);
    edge_t **link = &into->edges;
    while (*link != NULL && ((*link)->from != from || (*link)->via != via)) {
        link = &(*link)->next;
    }
    edge_t *edge = *link;
    if (edge == into->edges && edge != NULL) {
        return edge;
    }
    if (edge == NULL) {
        edge = make_edge(from, into, last);
    } else {
        *link = edge->next;
    }
    edge->next = into->edges;
    into->edges = edge;
    return edge;
}
