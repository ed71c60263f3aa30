/* Follows execution block by block, counts inside the inference, and hands out one record an inference.
 *
 * It knows nothing of QEMU: whoever emulates calls engine_block for every block about to run and engine_read for every
 * read, and gets the finished record as text. Everything starts empty at the entry of the inference, so that a record
 * does not depend on what ran before. */
#ifndef HIL_ENGINE_H
#define HIL_ENGINE_H

#include "lines.h"
#include "paths.h"

enum { LAYER_FUNCTIONS_MAX = 64 };

typedef struct {
    core_options_t core;
    uint32_t inference;                      /* address of the function that is one inference */
    uint32_t layers[LAYER_FUNCTIONS_MAX];    /* addresses of the functions that are layers */
    unsigned layer_count;
    span_t flash, ram;
    uint32_t code_line_bytes, code_lines, code_ways;
    uint32_t data_line_bytes, data_lines, data_ways;
    bool data_covers_ram, data_random;
    void (*emit)(const char *record);
} engine_options_t;

/* False when the options cannot be had; `error` says why. */
bool engine_start(const engine_options_t *options, const char **error);
void engine_stop(void);

/* The block of `bytes` of code at `pc`; the same one for the same code. NULL without memory. */
block_t *engine_translate(uint32_t pc, const uint8_t *data, size_t bytes);

/* `block` is about to run. */
void engine_block(block_t *block);

/* Reads `align_mask` + 1 bytes (0 for any number that is never split). */
void engine_read(uint32_t address, uint32_t align_mask);

/* Whether the reads of `insn` can matter, and the mask that engine_read wants for them. */
bool engine_wants_reads(const insn_t *insn);
uint32_t engine_align_mask(const insn_t *insn);

/* The line that explains the numbers of all records. */
const char *engine_header(void);

#endif
