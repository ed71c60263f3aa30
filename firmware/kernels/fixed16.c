/* tanh and the logistic function in fixed point of 16 bits. Every step rounds and saturates where the reference does: both
 * come from exp() of a negative number, a polynomial of what is left of a quarter times a factor for each larger bit, and
 * from a division by Newton's method. Time does not depend on the value. */
#include "hil_fixed16.h"

#include <arm_nnsupportfunctions.h>

enum {
    ONE = INT16_MAX,         /* Q0.15 has no larger number */
    ONE_Q2 = 1 << 13,        /* Q2.13 */
    EIGHTH = 1 << 12,        /* Q0.15 */
    EXP_OF_EIGHTH = 28918,   /* exp(-1/8), Q0.15 */
    THIRD = 10923,           /* Q0.15 */
    FIRST_GUESS = 23130,     /* 48/17, Q2.13 */
    GUESS_SLOPE = -15420,    /* -32/17, Q2.13 */
    NEWTON_STEPS = 3,
    FACTORS = 7,
    LEAST = -32,             /* exp() of less is 0, where a format has so small numbers */
};

/* exp(-1/4), exp(-1/2), exp(-1), ... exp(-16), Q0.15. */
static const int16_t factors[FACTORS] = {25520, 19875, 12055, 4435, 600, 11, 0};

static inline int16_t saturated(int32_t value)
{
    return (int16_t)__SSAT(value, 16);
}

/* The product of two numbers of which each is a part of 2^15, rounded, halves up. Never of -1 and -1, which would saturate. */
static inline int16_t multiplied(int16_t a, int16_t b)
{
    return (int16_t)((a * b + (1 << 14)) >> 15);
}

static inline int16_t halved(int32_t value, int32_t bits)
{
    return (int16_t)arm_nn_divide_by_power_of_two(value, bits);
}

/* exp(value) of -1/4 <= value < 0, Q0.15. */
static int16_t exp_of_quarter(int16_t value)
{
    const int16_t x = (int16_t)(value + EIGHTH);
    const int16_t x2 = multiplied(x, x), x3 = multiplied(x2, x), x4 = multiplied(x2, x2);
    const int16_t cubic = multiplied((int16_t)(halved(x4, 2) + x3), THIRD);
    const int16_t series = (int16_t)(x + halved((int16_t)(cubic + x2), 1));
    return saturated(EXP_OF_EIGHTH + multiplied(EXP_OF_EIGHTH, series));
}

/* exp(value) of value <= 0 with `integer_bits`, as Q0.15. */
static int16_t exp_of_negative(int16_t value, uint32_t integer_bits)
{
    const uint32_t fraction_bits = 15 - integer_bits;
    const int32_t quarter = 1 << (fraction_bits - 2);
    const int32_t rest = (value & (quarter - 1)) - quarter; /* of a quarter */
    int16_t result = exp_of_quarter(saturated(rest * (1 << integer_bits)));
    const int32_t steps = rest - value;
    for (uint32_t i = 0; i < integer_bits + 2 && i < FACTORS; ++i) {
        const int32_t change = multiplied(result, factors[i]) - result; /* a mask, as a branch would cost time by the value */
        result = (int16_t)(result + (change & -((steps >> (fraction_bits - 2 + i)) & 1)));
    }
    if (integer_bits > 5 && value < LEAST * (1 << fraction_bits)) {
        result = 0;
    }
    return value == 0 ? ONE : result;
}

/* 2 / (1 + x) of 0 <= x <= 1 (Q0.15), as Q2.13. */
static int16_t two_over_one_plus(int16_t x)
{
    const int16_t half_denominator = (int16_t)((x + ONE + 1) / 2);
    int16_t found = (int16_t)(FIRST_GUESS + multiplied(half_denominator, GUESS_SLOPE));
    for (uint32_t n = NEWTON_STEPS; n != 0; --n) {
        const int16_t error = (int16_t)(ONE_Q2 - multiplied(half_denominator, found));
        found = (int16_t)(found + saturated(multiplied(found, error) * 4));
    }
    return found;
}

int16_t hil_tanh_q(int16_t value, uint32_t integer_bits)
{
    const int16_t negative = (int16_t)(value < 0 ? value : -value);
    const int16_t exponential = exp_of_negative(negative, integer_bits + 1); /* of twice the value */
    const int16_t magnitude = saturated((int16_t)(two_over_one_plus(exponential) - ONE_Q2) * 4);
    return (int16_t)(value == 0 ? 0 : value < 0 ? -magnitude : magnitude);
}

int16_t hil_logistic_q3(int16_t value)
{
    const int16_t negative = (int16_t)(value > 0 ? -value : value);
    const int16_t positive = saturated(two_over_one_plus(exp_of_negative(negative, 3)) * 2);
    return (int16_t)(value == 0 ? 1 << 14 : value > 0 ? positive : ONE - positive);
}
