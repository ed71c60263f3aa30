/* One row of a softmax of int8 in fixed point, as the reference kernels of TensorFlow Lite compute it: exp() of Q5.26, sums in
 * Q12.19. Each kernel that includes it has a copy of its own, for an output_t of OUTPUT_BITS
 * from OUTPUT_MIN on, to which output_of() clamps. */
#ifndef HIL_SOFTMAX_H
#define HIL_SOFTMAX_H

#include "hil_kernels.h"
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

enum { SUM_INTEGER_BITS = 12 };

/* exp() of an input difference <= 0, as Q0.31; 0 when it is negligible. */
static __attribute__((noinline)) int32_t exp_of(const hil_softmax_t *op, int32_t difference)
{
    if (difference < op->diff_min) {
        return 0;
    }
    const int32_t scaled = arm_nn_doubling_high_mult(difference * (1 << op->shift), op->significand);
    return arm_nn_exp_on_negative_values(scaled);
}

static void softmax_row(const hil_softmax_t *op, const int8_t *input, output_t *output)
{
    const uint32_t columns = op->columns;
    int32_t largest = INT8_MIN;
    for (uint32_t i = 0; i < columns; ++i) {
        largest = MAX(largest, input[i]);
    }
    int32_t sum = 0;
    for (uint32_t i = 0; i < columns; ++i) {
        sum += arm_nn_divide_by_power_of_two(exp_of(op, input[i] - largest), SUM_INTEGER_BITS);
    }
    const int32_t headroom = __builtin_clz((uint32_t)sum); /* the largest adds about 1, so the sum is never 0 */
    const int32_t fraction = (int32_t)(((uint32_t)sum << headroom) - 0x80000000u);
    const int32_t scale = arm_nn_one_over_one_plus_x_for_x_in_0_1(fraction);
    const int32_t exponent = SUM_INTEGER_BITS - headroom + 31 - OUTPUT_BITS;
    for (uint32_t i = 0; i < columns; ++i) {
        const int32_t share = arm_nn_doubling_high_mult(scale, exp_of(op, input[i] - largest));
        const int32_t value = arm_nn_divide_by_power_of_two(share, exponent) + OUTPUT_MIN;
        output[i] = output_of(value);
    }
}

#endif
