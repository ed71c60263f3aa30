/* The logarithm of a softmax of int8 in fixed point, as the reference kernels of TensorFlow Lite compute it: exp() of Q5.26, sums
 * in Q12.19, logarithms in Q5.26. */
#include "hil_kernels.h"
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

enum { INTEGER_BITS = 5, SUM_INTEGER_BITS = 12, OUTPUT_SHIFT = 31 - INTEGER_BITS - 4 };

/* All as Q0.31. */
enum {
    SQRT_HALF = 1518500250,
    FOURTH_ROOT_HALF = 1805811301,
    LOG_2 = 1488522236,
    ALPHA_NUMERATOR = 117049297,  /* 11/240 * 2^(1/4) */
    ALPHA_DENOMINATOR = 127690142, /* 1/20 * 2^(1/4) */
    ALPHA_ONE = 1057819769,       /* 2^(3/4) - 2^(1/4) */
    ALPHA_FOUR = 638450708,       /* 1/4 * 2^(1/4) */
};

static inline int32_t times(int32_t first, int32_t second)
{
    return arm_nn_doubling_high_mult(first, second);
}

/* value * 2^bits of a positive value, the largest int32 where that is more. */
static inline int32_t shifted(int32_t value, int32_t bits)
{
    return value > INT32_MAX >> bits ? INT32_MAX : (int32_t)((uint32_t)value << bits);
}

/* The logarithm of a Q12.19 from 1 on, as Q5.26: log(z) = n log(2) + log(r), with an r near the fourth root of a half. It is
 * looked for from z and from z * sqrt(1/2), whichever is nearer to a power of two, and log(r) is a quotient of polynomials. */
static int32_t logarithm(int32_t z)
{
    const int32_t zeros = __builtin_clz((uint32_t)z), zeros_b = __builtin_clz((uint32_t)times(z, SQRT_HALF)) - 1;
    const int32_t r_a = shifted(times((int32_t)((uint32_t)z << (zeros - 1)), SQRT_HALF), 1);
    const int32_t r_b = shifted(z, zeros_b);
    const int32_t r = MIN(r_a, r_b);
    const int32_t quarter = 1 << (31 - 6 - 2); /* powers of two have one integer bit more than the result */
    const int32_t power_a = (SUM_INTEGER_BITS - zeros) * (1 << (31 - 6)) + quarter;
    const int32_t power_b = (SUM_INTEGER_BITS - zeros_b) * (1 << (31 - 6)) - quarter;
    const int32_t power = MAX(power_a, power_b);
    const int32_t p = (int32_t)(((uint32_t)r + (uint32_t)FOURTH_ROOT_HALF + 1) / 2);
    const int32_t q = 2 * (r - FOURTH_ROOT_HALF);
    const int32_t square = times(q, q);
    const int32_t numerator = times(q, r) + times(times(q, square), ALPHA_NUMERATOR);
    const int32_t denominator = times(p, ALPHA_ONE + q + times(ALPHA_DENOMINATOR, square)) + times(ALPHA_FOUR, q);
    const int32_t quotient =
        times(arm_nn_divide_by_power_of_two(numerator, 6), arm_nn_one_over_one_plus_x_for_x_in_0_1(denominator));
    return 2 * (times(power, LOG_2) + quotient);
}

static void log_softmax_row(const hil_log_softmax_t *op, const int8_t *input, int8_t *output)
{
    int32_t largest = INT8_MIN, sum = 0;
    for (uint32_t i = 0; i < op->columns; ++i) {
        largest = MAX(largest, input[i]);
    }
    for (uint32_t i = 0; i < op->columns; ++i) {
        const int32_t difference = input[i] - largest;
        if (difference >= op->diff_min) {
            const int32_t scaled = hil_scaled(difference, op->significand, op->shift);
            sum += arm_nn_divide_by_power_of_two(arm_nn_exp_on_negative_values(scaled), SUM_INTEGER_BITS);
        }
    }
    const int32_t log_of_sum = logarithm(sum);
    const int32_t least = hil_scaled(log_of_sum + INT32_MIN, op->reverse_significand, op->reverse_shift);
    const int32_t beyond = MAX(op->diff_min - 1, least);
    for (uint32_t i = 0; i < op->columns; ++i) {
        const int32_t difference = input[i] - largest;
        int32_t value = INT8_MIN;
        if (difference > beyond) {
            const int32_t scaled = hil_scaled(difference, op->significand, op->shift);
            value = arm_nn_divide_by_power_of_two(scaled - log_of_sum, OUTPUT_SHIFT) + INT8_MAX;
        }
        output[i] = hil_clamped(value, INT8_MIN, INT8_MAX);
    }
}

int hil_log_softmax(const void *data)
{
    const hil_log_softmax_t *const op = data;
    for (uint32_t row = 0; row < op->rows; ++row) {
        log_softmax_row(op, op->input + row * op->columns, op->output + row * op->columns);
    }
    return 0;
}
