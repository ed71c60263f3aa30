#include "engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCORE_NEW = 4, PREDICTORS = 1 << 14, HISTORY_MASK = (1 << 8) - 1, RECORD_LAYERS = 1024, COLUMN_TEXT = 24 };

/* Columns of a record. The groups of classes.txt follow these. */
enum {
    COLUMN_CYCLES, COLUMN_INSTRUCTIONS, COLUMN_TAKEN, COLUMN_MISPREDICTED, COLUMN_UNALIGNED, COLUMN_CODE_READS,
    COLUMN_CODE_MISSES, COLUMN_DATA_READS, COLUMN_FLASH_MISSES, COLUMN_RAM_MISSES, COLUMN_UNKNOWN, COLUMN_GROUPS,
    COLUMN_COUNT = COLUMN_GROUPS + GROUP_MAX
};
static const char *const column_names[COLUMN_GROUPS] = {
    "cycles", "instructions", "taken", "mispredicted", "unaligned", "code_reads",
    "code_misses", "data_reads", "flash_misses", "ram_misses", "unknown",
};

typedef struct {
    uint32_t pc; /* of the layer's function */
    uint64_t counts[COLUMN_COUNT];
} layer_t;

static struct {
    engine_options_t options;
    lines_t code_lines, data_lines;
    block_t *before;             /* block that ran last */
    const edge_t *last;          /* the way into it; NULL at the entry of the inference */
    edge_t *touched;
    uint32_t history;            /* how the last conditional branches went, one bit each */
    uint8_t taken_score[PREDICTORS]; /* two-bit counters, by branch and history, or SCORE_NEW */
    bool live;                   /* inside the inference */
    uint32_t inference_return, layer_return; /* layer_return 0: between layers */
    uint64_t mispredicted, unaligned;
    layer_t layers[RECORD_LAYERS];
    unsigned layer_count;        /* layers finished; may exceed RECORD_LAYERS, the rest goes into the total only */
    uint64_t total[COLUMN_COUNT];
    uint64_t inferences;
    char header[COLUMN_COUNT * COLUMN_TEXT];
    char *record;
} engine;

static const size_t record_size = (size_t)(RECORD_LAYERS + 1) * COLUMN_COUNT * 21;

/* --- start, stop --- */

static void write_header(void)
{
    size_t at = (size_t)snprintf(engine.header, sizeof engine.header, "{\"columns\":[\"%s\"", column_names[0]);
    for (unsigned i = 1; i < COLUMN_COUNT; i++) {
        const char *name = i < COLUMN_GROUPS ? column_names[i] : group_name(i - COLUMN_GROUPS);
        if (name != NULL) {
            at += (size_t)snprintf(engine.header + at, sizeof engine.header - at, ",\"%s\"", name);
        }
    }
    snprintf(engine.header + at, sizeof engine.header - at, "]}");
}

const char *engine_header(void)
{
    return engine.header;
}

bool engine_start(const engine_options_t *options, const char **error)
{
    memset(&engine, 0, sizeof engine);
    engine.options = *options;
    paths_start(&options->core);
    write_header();
    const span_t nothing = { 0, 0 };
    const span_t code[2] = { options->flash, nothing };
    const span_t data[2] = { options->flash, options->data_covers_ram ? options->ram : nothing };
    *error = "the lines of code or data are no power of two, or too many";
    if (!lines_init(&engine.code_lines, options->code_line_bytes, options->code_lines, options->code_ways, code) ||
        !lines_init(&engine.data_lines, options->data_line_bytes, options->data_lines, options->data_ways, data)) {
        return false;
    }
    engine.data_lines.random = options->data_random;
    *error = "no memory";
    engine.record = malloc(record_size);
    return engine.record != NULL;
}

void engine_stop(void)
{
    paths_stop();
    lines_free(&engine.code_lines);
    lines_free(&engine.data_lines);
    free(engine.record);
    memset(&engine, 0, sizeof engine);
}

static bool is_layer(uint32_t pc)
{
    for (unsigned i = 0; i < engine.options.layer_count; i++) {
        if (engine.options.layers[i] == pc) {
            return true;
        }
    }
    return false;
}

block_t *engine_translate(uint32_t pc, const uint8_t *data, size_t bytes)
{
    block_t *block = paths_block(pc, data, bytes);
    if (block != NULL) {
        block->starts_inference = pc == engine.options.inference;
        block->starts_layer = is_layer(pc);
    }
    return block;
}

/* A word at a stack address is never in flash; everything else may be. */
bool engine_wants_reads(const insn_t *insn)
{
    const registers_t stack_pointer = (registers_t)1 << 13;
    const class_info_t *info = class_info(insn);
    bool reads = insn->access_bytes != 0 && insn->stored == 0 && info->name != NULL;
    return reads && (engine.options.data_covers_ram || insn->address != stack_pointer);
}

uint32_t engine_align_mask(const insn_t *insn)
{
    return insn->moved == 1 ? insn->access_bytes - 1u : 0;
}

/* --- counting --- */

/* What the Cortex-M7 gets wrong: two-bit saturating counters, chosen by the branch and by how the last branches went. What
 * is new to them is expected to go right: on a board this inference is not the first, and the predictor has seen it. */
static void predict(const block_t *block, bool taken)
{
    uint32_t context = (block->branch ^ engine.history * 0x9E3779B1u >> 7) % PREDICTORS;
    uint8_t *score = &engine.taken_score[context];
    if (*score == SCORE_NEW) {
        *score = taken ? 2 : 1;
    }
    engine.history = (engine.history << 1 | taken) & HISTORY_MASK;
    engine.mispredicted += (*score >= 2) != taken;
    if (taken) {
        *score = (uint8_t)(*score + (*score < 3));
    } else {
        *score = (uint8_t)(*score - (*score > 0));
    }
}

/* A read is a change of line: how often one line is asked for depends on how the code is cut into blocks. */
static void read_code_lines(const block_t *block)
{
    lines_t *lines = &engine.code_lines;
    uint32_t step = 1u << lines->line_shift;
    for (uint32_t at = block->code.pc & ~(step - 1); at < block->code.end; at += step) {
        if (at >> lines->line_shift != lines->last) {
            lines_read_slow(lines, at);
        }
    }
}

static void count(block_t *from, block_t *into)
{
    edge_t *edge = paths_edge(from, into, engine.last);
    engine.last = edge;
    if (edge->runs++ == 0) {
        edge->next_touched = engine.touched;
        engine.touched = edge;
    }
    if (engine.options.core.core == CORE_CORTEX_M7 && from->conditional) {
        predict(from, edge->taken);
    }
    if (engine.code_lines.sets != 0) {
        read_code_lines(into);
    }
}

/* --- regions --- */

/* Adds all that ran since the last call to `counts` and to the total. */
static void collect(uint64_t counts[COLUMN_COUNT])
{
    uint64_t sums[COLUMN_COUNT] = { 0 };
    for (edge_t *edge = engine.touched, *next; edge != NULL; edge = next) {
        const block_t *block = edge->into;
        next = edge->next_touched;
        sums[COLUMN_CYCLES] += edge->runs * (uint64_t)(int64_t)edge->cycles;
        sums[COLUMN_INSTRUCTIONS] += edge->runs * block->code.count;
        sums[COLUMN_TAKEN] += edge->taken ? edge->runs : 0;
        sums[COLUMN_UNKNOWN] += edge->runs * block->unknown;
        for (unsigned group = 0; group < GROUP_MAX; group++) {
            sums[COLUMN_GROUPS + group] += edge->runs * block->groups[group];
        }
        edge->runs = 0;
        edge->next_touched = NULL;
    }
    engine.touched = NULL;
    sums[COLUMN_MISPREDICTED] = engine.mispredicted;
    sums[COLUMN_UNALIGNED] = engine.unaligned;
    sums[COLUMN_CODE_READS] = engine.code_lines.reads;
    sums[COLUMN_CODE_MISSES] = engine.code_lines.misses[0];
    sums[COLUMN_DATA_READS] = engine.data_lines.reads;
    sums[COLUMN_FLASH_MISSES] = engine.data_lines.misses[0];
    sums[COLUMN_RAM_MISSES] = engine.data_lines.misses[1];
    const core_options_t *core = &engine.options.core;
    sums[COLUMN_CYCLES] += engine.mispredicted * core->mispredict_cycles + engine.unaligned * core->unaligned_cycles;
    engine.mispredicted = engine.unaligned = 0;
    lines_reset_counts(&engine.code_lines);
    lines_reset_counts(&engine.data_lines);
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        counts[i] += sums[i];
        engine.total[i] += sums[i];
    }
}

static void begin_inference(const block_t *caller)
{
    engine.live = true;
    engine.last = NULL;
    engine.inference_return = caller->code.end;
    engine.layer_return = 0;
    engine.layer_count = 0;
    memset(engine.total, 0, sizeof engine.total);
    engine.history = 0;
    memset(engine.taken_score, SCORE_NEW, sizeof engine.taken_score);
    lines_flush(&engine.code_lines);
    lines_flush(&engine.data_lines);
}

/* A layer lasts from the end of the one before it, as between two marks on a board. */
static void end_layer(void)
{
    static layer_t overflow;
    layer_t *layer = engine.layer_count < RECORD_LAYERS ? &engine.layers[engine.layer_count] : &overflow;
    memset(layer->counts, 0, sizeof layer->counts);
    collect(layer->counts);
    engine.layer_count++;
    engine.layer_return = 0;
}

static void begin_layer(const block_t *caller, const block_t *first)
{
    /* A wrapper entered by a jump returns to where the inference does. */
    engine.layer_return = caller->calls ? caller->code.end : engine.inference_return;
    if (engine.layer_count < RECORD_LAYERS) {
        engine.layers[engine.layer_count].pc = first->code.pc;
    }
}

static size_t write_counts(size_t at, const uint64_t counts[COLUMN_COUNT])
{
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        if (i < COLUMN_GROUPS || group_name(i - COLUMN_GROUPS) != NULL) {
            const char *comma = i == 0 ? "" : ",";
            at += (size_t)snprintf(engine.record + at, record_size - at, "%s%" PRIu64, comma, counts[i]);
        }
    }
    return at;
}

static void end_inference(void)
{
    uint64_t tail[COLUMN_COUNT] = { 0 };
    if (engine.layer_return != 0) {
        end_layer();
    }
    collect(tail);
    engine.live = false;
    engine.inferences++;
    size_t at = (size_t)snprintf(engine.record, record_size, "{\"inference\":%" PRIu64 ",\"total\":[", engine.inferences);
    at = write_counts(at, engine.total);
    at += (size_t)snprintf(engine.record + at, record_size - at, "],\"layers\":[");
    for (unsigned i = 0; i < engine.layer_count && i < RECORD_LAYERS; i++) {
        const char *comma = i == 0 ? "" : ",";
        at += (size_t)snprintf(engine.record + at, record_size - at, "%s[%" PRIu32 ",[", comma, engine.layers[i].pc);
        at = write_counts(at, engine.layers[i].counts);
        at += (size_t)snprintf(engine.record + at, record_size - at, "]]");
    }
    snprintf(engine.record + at, record_size - at, "]}");
    engine.options.emit(engine.record);
}

void engine_block(block_t *block)
{
    block_t *before = engine.before;
    engine.before = block;
    if (!engine.live) {
        if (!block->starts_inference || before == NULL || !before->calls) {
            return;
        }
        begin_inference(before);
    } else if (block->code.pc == engine.inference_return) {
        end_inference();
        return;
    } else if (engine.layer_return != 0) {
        if (block->code.pc == engine.layer_return) {
            end_layer();
        }
    } else if (block->starts_layer) {
        begin_layer(before, block);
    }
    count(before, block);
}

void engine_read(uint32_t address, uint32_t align_mask)
{
    if (!engine.live) {
        return;
    }
    lines_read(&engine.data_lines, address);
    if ((address & align_mask) != 0) {
        bool thrice = engine.options.core.core == CORE_CORTEX_M4 && (address & 1u) && align_mask == 3;
        engine.unaligned += thrice ? 2 : 1; /* the M4 reads a word at an odd address in three parts */
    }
}
