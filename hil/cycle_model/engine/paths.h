/* Blocks of code as the emulator translates them, and the ways in which one follows another, each with its cost. */
#ifndef HIL_PATHS_H
#define HIL_PATHS_H

#include "model.h"

typedef struct edge edge_t;

typedef struct block {
    code_t code;
    uint32_t groups[GROUP_MAX];
    uint32_t unknown;
    uint32_t branch;       /* half the address of the instruction at the end */
    bool calls, branches, conditional;
    bool starts_inference, starts_layer;
    edge_t *edges;         /* ways into this block, the last one used first */
    struct block *next_same_hash;
} block_t;

struct edge {
    block_t *from, *into;
    const edge_t *via;    /* the way into `from`, where the cost depends on it */
    edge_t *next;         /* another way into the same block */
    edge_t *next_touched; /* for who counts: another one that ran */
    flow_t flow;
    bool cut;             /* `from` ends where the emulator happened to stop translating */
    bool taken;
    int32_t cycles;
    uint64_t runs;        /* for who counts */
};

void paths_start(const core_options_t *options);
void paths_stop(void);

/* The block of `bytes` of code at `pc`; the same one for the same code. NULL without memory. */
block_t *paths_block(uint32_t pc, const uint8_t *data, size_t bytes);

/* The way from `from` into `into`. `last` is the way that led into `from`, NULL at the start. Ends the program when
 * there is no memory: figures that lack a part are worse than none. */
edge_t *paths_edge(block_t *from, block_t *into, const edge_t *last);

#endif
