/* Fully connected layers, four rows at a time, from bias to output. */
#ifndef HIL_DENSE_H
#define HIL_DENSE_H

#include <stdint.h>

/* What is left of a layer; fields as in hil_dense_t. `min` and `max` are the activation's, four times. Order and size are
 * known to the assembly.
 *
 * A sum is rescaled by its scale's upper 31 bits: with the upper word of that product plus `half` = 2^shift / 2 + 1, shifted by
 * `shift`. The lower bits, and double's own rounding, decide when the bits of `mask` = 2^shift - 2 are all zero: then
 * hil_dense_finish takes over. These four are those of the first row, and used when scale_step is 0. */
typedef struct {
    const int8_t *input;
    const int8_t *weights;
    const int32_t *bias, *scale;
    int8_t *output;
    uint32_t count; /* of groups of four rows, 1 or more */
    uint32_t columns;
    int32_t zero_point;
    uint32_t min, max;
    uint32_t scale_step; /* words from row to row: 0 or 2 */
    int32_t multiplier, half;
    uint32_t mask, shift;
    int32_t sums[4]; /* those that hil_dense_finish has to do with */
    uint32_t end, enter, leave; /* of the loop over columns */
} hil_dense_quads_t;

void hil_dense_quads(hil_dense_quads_t *quads); /* weights packed as for hil_quads */
void hil_dense_finish(hil_dense_quads_t *quads);

#endif
