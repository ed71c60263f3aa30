/* A fully connected layer of several rows: the same weights for one row after the other. */
#include "hil_kernels.h"

static inline __attribute__((always_inline)) int all_rows(const hil_dense_rows_t *op, hil_kernel_fn run)
{
    hil_dense_t row = op->dense;
    for (uint32_t n = op->count; n != 0; --n) {
        if (run(&row) != 0) {
            return 1;
        }
        row.input += row.columns;
        row.output += row.rows;
    }
    return 0;
}

int hil_dense_rows(const void *op)
{
    return all_rows(op, hil_dense);
}

int hil_dense_rows_any(const void *op)
{
    return all_rows(op, hil_dense_any);
}
