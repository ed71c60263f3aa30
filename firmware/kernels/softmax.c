/* Softmax of int8. */
#include "hil_scale.h"

typedef int8_t output_t;

enum { OUTPUT_BITS = 8, OUTPUT_MIN = INT8_MIN };

static inline output_t output_of(int32_t value)
{
    return hil_clamped(value, INT8_MIN, INT8_MAX);
}

#include "hil_softmax.h"

int hil_softmax(const void *data)
{
    const hil_softmax_t *const op = data;
    for (uint32_t row = 0; row < op->rows; ++row) {
        softmax_row(op, op->input + row * op->columns, op->output + row * op->columns);
    }
    return 0;
}
