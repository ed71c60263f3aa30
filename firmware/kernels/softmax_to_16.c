/* Softmax of int8 that makes 16 bits. */
#include "hil_scale.h"

typedef int16_t output_t;

enum { OUTPUT_BITS = 16, OUTPUT_MIN = INT16_MIN };

static inline output_t output_of(int32_t value)
{
    return (int16_t)(value > INT16_MAX ? INT16_MAX : value);
}

#include "hil_softmax.h"

int hil_softmax_to_16(const void *data)
{
    const hil_softmax_t *const op = data;
    for (uint32_t row = 0; row < op->rows; ++row) {
        softmax_row(op, op->input + row * op->columns, (output_t *)(void *)op->output + row * op->columns);
    }
    return 0;
}
