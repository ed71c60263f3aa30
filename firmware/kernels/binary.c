/* Arithmetic of two tensors that broadcast: an operand that is the same along an axis has a step of 0 there. Each
 * function is a kernel of its own, so that a network links what it uses. */
#include "hil_kernels.h"
#include "hil_scale.h"

enum { LEFT_SHIFT_BITS = 20 }; /* headroom for the inputs' multipliers of sums: part of the reference's arithmetic */

typedef int32_t (*binary_fn)(const hil_binary_t *op, int32_t first, int32_t second);

static inline __attribute__((always_inline)) int run(const hil_binary_t *op, binary_fn function)
{
    int8_t *output = op->output;
    for (uint32_t i = 0; i < op->counts[0]; ++i) {
        for (uint32_t j = 0; j < op->counts[1]; ++j) {
            for (uint32_t k = 0; k < op->counts[2]; ++k) {
                const int8_t *first = op->first + i * op->first_steps[0] + j * op->first_steps[1] + k * op->first_steps[2];
                const int8_t *second =
                    op->second + i * op->second_steps[0] + j * op->second_steps[1] + k * op->second_steps[2];
                for (uint32_t n = op->counts[3]; n != 0; --n) {
                    const int32_t value = function(op, *first - op->first_zero_point, *second - op->second_zero_point);
                    *output++ = hil_clamped(value + op->output_zero_point, op->act_min, op->act_max);
                    first += op->first_steps[3];
                    second += op->second_steps[3];
                }
            }
        }
    }
    return 0;
}

static inline int32_t widened(int32_t value, int32_t significand, int32_t shift)
{
    return hil_scaled(value * (1 << LEFT_SHIFT_BITS), significand, shift);
}

static inline int32_t sum_of(const hil_binary_t *op, int32_t first, int32_t second)
{
    const int32_t sum = widened(first, op->first_significand, op->first_shift) +
                        widened(second, op->second_significand, op->second_shift);
    return hil_scaled(sum, op->output_significand, op->output_shift);
}

static inline int32_t difference_of(const hil_binary_t *op, int32_t first, int32_t second)
{
    const int32_t difference = widened(first, op->first_significand, op->first_shift) -
                               widened(second, op->second_significand, op->second_shift);
    return hil_scaled(difference, op->output_significand, op->output_shift);
}

static inline int32_t product_of(const hil_binary_t *op, int32_t first, int32_t second)
{
    return hil_scaled(first * second, op->output_significand, op->output_shift);
}

/* All three tensors have one zero point: the host gives 0 for it. */
static inline int32_t larger_of(const hil_binary_t *op, int32_t first, int32_t second)
{
    (void)op;
    return first > second ? first : second;
}

static inline int32_t smaller_of(const hil_binary_t *op, int32_t first, int32_t second)
{
    (void)op;
    return first < second ? first : second;
}

/* The second operand is the slope of the first one's negative values. */
static inline int32_t sloped(const hil_binary_t *op, int32_t first, int32_t second)
{
    if (first >= 0) {
        return hil_scaled(first, op->first_significand, op->first_shift);
    }
    return hil_scaled(first * second, op->output_significand, op->output_shift);
}

int hil_add_broadcast(const void *op)
{
    return run(op, sum_of);
}

int hil_sub(const void *op)
{
    return run(op, difference_of);
}

int hil_mul(const void *op)
{
    return run(op, product_of);
}

int hil_maximum(const void *op)
{
    return run(op, larger_of);
}

int hil_minimum(const void *op)
{
    return run(op, smaller_of);
}

int hil_prelu(const void *op)
{
    return run(op, sloped);
}
