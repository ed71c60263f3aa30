#include "lines.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t no_line = UINT32_MAX;

static uint32_t span_lines(const lines_t *lines, const span_t *span)
{
    return (uint32_t)(((uint64_t)span->length + (1u << lines->line_shift) - 1) >> lines->line_shift);
}

static bool power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

bool lines_init(lines_t *lines, uint32_t line_bytes, uint32_t count, uint32_t ways, const span_t spans[2])
{
    *lines = (lines_t){ .last = no_line, .spans = { spans[0], spans[1] } };
    if (count == 0) {
        return true;
    }
    ways = ways == 0 ? count : ways;
    if (!power_of_two(line_bytes) || count % ways != 0 || !power_of_two(count / ways) || count >= UINT16_MAX) {
        return false;
    }
    lines->line_shift = (uint32_t)__builtin_ctz(line_bytes);
    lines->ways = ways;
    lines->sets = count / ways;
    size_t held = (size_t)span_lines(lines, &spans[0]) + span_lines(lines, &spans[1]);
    lines->stamp = calloc(count, sizeof *lines->stamp);
    lines->line = calloc(count, sizeof *lines->line);
    lines->slot = calloc(held + 1, sizeof *lines->slot);
    return lines->stamp != NULL && lines->line != NULL && lines->slot != NULL;
}

void lines_free(lines_t *lines)
{
    free(lines->stamp);
    free(lines->line);
    free(lines->slot);
    *lines = (lines_t){ 0 };
}

/* Where `slot` keeps the line of an address, and the number of its span; NULL when it is not cached. */
static uint16_t *slot_of(lines_t *lines, uint32_t address, unsigned *number)
{
    uint32_t before = 0;
    for (unsigned i = 0; i < 2; i++) {
        const span_t *span = &lines->spans[i];
        if (address - span->origin < span->length) {
            *number = i;
            return &lines->slot[before + ((address - span->origin) >> lines->line_shift)];
        }
        before += span_lines(lines, span);
    }
    return NULL;
}

/* Marsaglia's xorshift: the same ways in every run. */
static uint32_t any_way(lines_t *lines, uint32_t first)
{
    lines->sequence ^= lines->sequence << 13;
    lines->sequence ^= lines->sequence >> 17;
    lines->sequence ^= lines->sequence << 5;
    return first + lines->sequence % lines->ways;
}

/* The way of the set from `first` on that a new line takes: an empty one, if there is any. */
static uint32_t way_to_fill(lines_t *lines, uint32_t first)
{
    uint32_t oldest = first;
    for (uint32_t way = first; way < first + lines->ways; way++) {
        if (lines->stamp[way] < lines->stamp[oldest]) {
            oldest = way;
        }
    }
    return lines->random && lines->stamp[oldest] != 0 ? any_way(lines, first) : oldest;
}

void lines_read_slow(lines_t *lines, uint32_t address)
{
    unsigned span = 0, other = 0;
    uint16_t *slot = slot_of(lines, address, &span);
    if (slot == NULL) {
        return;
    }
    uint32_t line = address >> lines->line_shift;
    lines->reads++;
    lines->last = line;
    if (*slot == 0) {
        uint32_t way = way_to_fill(lines, (line & (lines->sets - 1)) * lines->ways);
        if (lines->stamp[way] != 0) {
            *slot_of(lines, lines->line[way] << lines->line_shift, &other) = 0;
        }
        lines->misses[span]++;
        lines->line[way] = line;
        *slot = (uint16_t)(way + 1);
    }
    lines->stamp[*slot - 1] = ++lines->clock;
}

void lines_flush(lines_t *lines)
{
    unsigned span = 0;
    for (uint32_t i = 0; i < lines->sets * lines->ways; i++) {
        if (lines->stamp[i] != 0) {
            *slot_of(lines, lines->line[i] << lines->line_shift, &span) = 0;
            lines->stamp[i] = 0;
        }
    }
    lines->clock = 0;
    lines->sequence = 0x2545F491u;
    lines->last = no_line;
}

void lines_reset_counts(lines_t *lines)
{
    lines->reads = lines->misses[0] = lines->misses[1] = 0;
}
