/* The decoder, the cycle models and the line caches for callers without an emulator: the tests, through ctypes. */
#include <stdio.h>
#include <string.h>

#include "engine.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    char mnemonic[16], cls[16];
    uint32_t bytes, moved, access_bytes;
    registers_t writes, base, reads, late, early, address, stored;
} decoded_t;

/* 1 when the instruction is known, else 0. */
EXPORT int timing_decode(uint16_t first, uint16_t second, int in_it, decoded_t *decoded)
{
    insn_t insn;
    bool known = decode(&insn, first, second, in_it != 0);
    *decoded = (decoded_t){
        .bytes = insn.bytes, .moved = insn.moved, .access_bytes = insn.access_bytes, .writes = insn.writes,
        .base = insn.base, .reads = insn.reads, .late = insn.late, .early = insn.early, .address = insn.address,
        .stored = insn.stored,
    };
    snprintf(decoded->mnemonic, sizeof decoded->mnemonic, "%s", known ? insn.mnemonic : "");
    snprintf(decoded->cls, sizeof decoded->cls, "%s", known ? class_info(&insn)->name : "");
    return known;
}

static char last_record[1 << 16];

static void emit(const char *record)
{
    snprintf(last_record, sizeof last_record, "%s", record);
}

EXPORT const char *timing_start(const engine_options_t *options)
{
    engine_options_t own = *options;
    const char *error = NULL;
    own.emit = emit;
    last_record[0] = '\0';
    return engine_start(&own, &error) ? "" : error;
}

EXPORT void timing_stop(void)
{
    engine_stop();
}

EXPORT const char *timing_header(void)
{
    return engine_header();
}

/* Runs the block of `bytes` at `pc` `times` in a row. 0 when all of it is known. */
EXPORT int timing_block(uint32_t pc, const uint8_t *data, size_t bytes, uint32_t times)
{
    block_t *block = engine_translate(pc, data, bytes);
    for (uint32_t i = 0; block != NULL && i < times; i++) {
        engine_block(block);
    }
    return block == NULL ? -1 : (int)block->unknown;
}

EXPORT void timing_read(uint32_t address, uint32_t align_mask)
{
    engine_read(address, align_mask);
}

/* The record of the last inference that ended, empty before. */
EXPORT const char *timing_record(void)
{
    return last_record;
}
