/* A fully connected layer of several rows: the same weights for one row after the other. */
#include "hil_kernels.h"

int hil_dense_rows(const void *data)
{
    const hil_dense_rows_t *const op = data;
    hil_dense_t row = op->dense;
    for (uint32_t n = op->count; n != 0; --n) {
        if (hil_dense(&row) != 0) {
            return 1;
        }
        row.input += row.columns;
        row.output += row.rows;
    }
    return 0;
}
