/* Products of rows of weights with two pixels, which are the core of every convolution over all channels.
 *
 * Two pixels lie in `x` as 16-bit columns, side by side: two columns of the one, two of the other, and so on; an odd last
 * column is one word (the one, the other). Columns that are widened four at a time, those of 1x1 kernels and of channels
 * divisible by 4 (but of hil_conv_any), are in the order 0, 2, 1, 3 that SXTB16 leaves, in `x` and in the weights. Rows of weights are interleaved so that SXTB16, with and without a rotation by
 * 8, gives two columns of one row: for each two columns four rows are two words (row 0 | row 1 | row 0 | row 1, then rows
 * 2 and 3), two rows are one word, and of a single row four columns are one (column 0 | 2 | 1 | 3). What is left of an odd
 * count lies behind, a column after the other. `channels` has, for each such group of rows, its biases, its multipliers
 * and one word of shifts, a byte each. The input's zero point is part of the biases.
 *
 * A multiplier m and a shift s stand for 2 * significand - 2^32 and -1 - (shift to the left): m is what SMMLAR needs. */
#ifndef HIL_ROWS_H
#define HIL_ROWS_H

#include <stdint.h>

enum { HIL_PIXELS = 2 };

/* Order and size are known to the assembly. */
typedef struct {
    const uint32_t *x;
    const int8_t *weights;
    const int32_t *channels;
    int8_t *output_0, *output_1; /* of the two pixels; the same for an only one, which is the first */
    uint32_t quads;              /* groups of four rows */
    int32_t centre;              /* 2 * zero point + 1 */
    uint32_t min, max;           /* of the activation, four times */
    uint32_t columns;
} hil_rows_t;

/* The groups of four rows: leaves in `rows` where the others begin. `quads` is at least 1. */
typedef void (*hil_quads_fn)(hil_rows_t *rows);

/* Shifts of 0 or more: scales below 1/2. Every odd byte of the weights is one less if the byte before it is negative: as 16
 * bits, both are 256 times the odd row plus the even one. */
void hil_quads(hil_rows_t *rows);
void hil_quads_any(hil_rows_t *rows); /* in C, for any shifts; weights as they are */

enum { HIL_PACKED_COLUMNS = 511 }; /* as many as a packed sum has room for, whatever the weights are */

/* The up to three rows that are left. */
void hil_rest_of_rows(hil_rows_t *rows, uint32_t count);

#endif
