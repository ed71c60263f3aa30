/* Reductions over any axes: two axes that stay, and for each of their elements two that are walked. Each kernel that includes
 * it has a copy of its own, for an element_t from ELEMENT_MIN to ELEMENT_MAX. */
#ifndef HIL_REDUCE_H
#define HIL_REDUCE_H

#include "hil_kernels.h"
#include "hil_scale.h"

typedef int32_t (*reduce_fn)(int32_t so_far, int32_t value);

static inline __attribute__((always_inline)) int32_t walk(const hil_reduce_t *op, uint32_t first, reduce_fn function,
                                                          int32_t start)
{
    const element_t *const input = (const element_t *)(const void *)op->input + first;
    int32_t result = start;
    for (uint32_t i = 0; i < op->walked[0]; ++i) {
        const element_t *element = input + i * op->walked_steps[0];
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

static inline __attribute__((always_inline)) int sum(const hil_reduce_t *op)
{
    element_t *output = (element_t *)(void *)op->output;
    const int32_t zero = -op->input_zero_point * (int32_t)(op->walked[0] * op->walked[1]);
    for (uint32_t i = 0; i < op->kept[0]; ++i) {
        for (uint32_t j = 0; j < op->kept[1]; ++j) {
            const int32_t found = walk(op, i * op->kept_steps[0] + j * op->kept_steps[1], plus, zero);
            const int32_t value = hil_scaled(found, op->significand, op->shift) + op->output_zero_point;
            *output++ = (element_t)(value < ELEMENT_MIN ? ELEMENT_MIN : value > ELEMENT_MAX ? ELEMENT_MAX : value);
        }
    }
    return 0;
}

static inline __attribute__((always_inline)) int extreme(const hil_reduce_t *op, reduce_fn function, int32_t start)
{
    element_t *output = (element_t *)(void *)op->output;
    for (uint32_t i = 0; i < op->kept[0]; ++i) {
        for (uint32_t j = 0; j < op->kept[1]; ++j) {
            *output++ = (element_t)walk(op, i * op->kept_steps[0] + j * op->kept_steps[1], function, start);
        }
    }
    return 0;
}

#endif
