/* Reductions over any axes: two axes that stay, and for each of their elements two that are walked. */
#include "hil_kernels.h"
#include "hil_scale.h"

typedef int32_t (*reduce_fn)(int32_t so_far, int32_t value);

static inline __attribute__((always_inline)) int32_t walk(const hil_reduce_t *op, const int8_t *input, reduce_fn function,
                                                          int32_t start)
{
    int32_t result = start;
    for (uint32_t i = 0; i < op->walked[0]; ++i) {
        const int8_t *element = input + i * op->walked_steps[0];
        for (uint32_t n = op->walked[1]; n != 0; --n) {
            result = function(result, *element);
            element += op->walked_steps[1];
        }
    }
    return result;
}

static inline int32_t plus(int32_t so_far, int32_t value)
{
    return so_far + value;
}

static inline int32_t larger(int32_t so_far, int32_t value)
{
    return so_far > value ? so_far : value;
}

static inline int32_t smaller(int32_t so_far, int32_t value)
{
    return so_far < value ? so_far : value;
}

int hil_sum(const void *data)
{
    const hil_reduce_t *const op = data;
    int8_t *output = op->output;
    const int32_t zero = -op->input_zero_point * (int32_t)(op->walked[0] * op->walked[1]);
    for (uint32_t i = 0; i < op->kept[0]; ++i) {
        for (uint32_t j = 0; j < op->kept[1]; ++j) {
            const int32_t sum = walk(op, op->input + i * op->kept_steps[0] + j * op->kept_steps[1], plus, zero);
            const int32_t value = hil_scaled(sum, op->significand, op->shift) + op->output_zero_point;
            *output++ = hil_clamped(value, INT8_MIN, INT8_MAX);
        }
    }
    return 0;
}

static inline __attribute__((always_inline)) int extreme(const hil_reduce_t *op, reduce_fn function, int32_t start)
{
    int8_t *output = op->output;
    for (uint32_t i = 0; i < op->kept[0]; ++i) {
        for (uint32_t j = 0; j < op->kept[1]; ++j) {
            const int8_t *const input = op->input + i * op->kept_steps[0] + j * op->kept_steps[1];
            *output++ = (int8_t)walk(op, input, function, start);
        }
    }
    return 0;
}

int hil_reduce_max(const void *op)
{
    return extreme(op, larger, INT8_MIN);
}

int hil_reduce_min(const void *op)
{
    return extreme(op, smaller, INT8_MAX);
}
