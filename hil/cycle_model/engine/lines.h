/* A small cache of lines, told of every read. It replaces the line that was used longest ago, or any. */
#ifndef HIL_LINES_H
#define HIL_LINES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t origin, length;
} span_t;

typedef struct {
    uint32_t line_shift, sets, ways;
    span_t spans[2];    /* what is cached; reads elsewhere are free */
    uint32_t last;      /* line of the last read: the short cut for neighbours */
    uint32_t *stamp;    /* [sets * ways] time of the last use, 0: empty */
    uint32_t *line;     /* [sets * ways] line held */
    uint16_t *slot;     /* [lines of both spans] 1 + slot that holds the line, 0: none */
    uint32_t clock;
    bool random;        /* replaces any way of the set, by a fixed sequence from the flush on */
    uint32_t sequence;
    uint64_t reads, misses[2]; /* misses by span */
} lines_t;

/* `ways` 0 means fully associative. False without memory or with sizes that are no powers of two or too large. */
bool lines_init(lines_t *lines, uint32_t line_bytes, uint32_t count, uint32_t ways, const span_t spans[2]);
void lines_free(lines_t *lines);
void lines_flush(lines_t *lines);
void lines_reset_counts(lines_t *lines);
void lines_read_slow(lines_t *lines, uint32_t address);

/* One read of at most a line, not crossing one. */
static inline void lines_read(lines_t *lines, uint32_t address)
{
    if (lines->sets != 0) {
        if (address >> lines->line_shift == lines->last) {
            lines->reads++;
        } else {
            lines_read_slow(lines, address);
        }
    }
}

#endif
