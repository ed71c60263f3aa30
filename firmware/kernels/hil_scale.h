#ifndef HIL_SCALE_H
#define HIL_SCALE_H

#include <stdint.h>

#include <arm_nnsupportfunctions.h>

/* value * significand / 2^31 * 2^shift in fixed point, rounded twice as the reference kernels do. */
int32_t hil_scaled(int32_t value, int32_t significand, int32_t shift);

static inline int8_t hil_clamped(int32_t value, int32_t min, int32_t max)
{
    return (int8_t)(value < min ? min : value > max ? max : value);
}

/* Each of four signed bytes, clamped to those of min ... max. */
static inline uint32_t hil_clamped_s8x4(uint32_t four, uint32_t min, uint32_t max)
{
    (void)__SSUB8(four, min);
    const uint32_t raised = __SEL(four, min);
    (void)__SSUB8(max, raised);
    return __SEL(raised, max);
}

/* value * significand / 2^31, rounded, by a multiplier as hil_rows.h has them. */
static inline int32_t hil_multiplied(int32_t value, int32_t multiplier)
{
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
    int32_t product;
    __asm("smmlar %0, %1, %2, %1" : "=r"(product) : "r"(value), "r"(multiplier));
    return product;
#else /* value * 2^32 is the part of 2 * significand that the multiplier lacks */
    const int64_t high = (int64_t)((uint64_t)(uint32_t)value << 32 | 1u << 31);
    return (int32_t)((high + (int64_t)value * multiplier) >> 32);
#endif
}

/* The same, with a zero point added, by a multiplier and a shift as hil_rows.h has them; `centre` is 2 * zero point + 1.
 * Shifts below 0 are to the left, and nothing is rounded a second time then. */
static inline int32_t hil_rescaled(int32_t sum, int32_t multiplier, int32_t shift, int32_t centre)
{
    const int32_t scaled = shift < 0 ? (int32_t)((uint32_t)sum << (-1 - shift)) : sum;
    const int32_t product = hil_multiplied(scaled, multiplier);
    if (shift < 0) {
        return (int32_t)((uint32_t)product + (uint32_t)(centre >> 1));
    }
    const int32_t shifted = (int32_t)((uint32_t)product + (uint32_t)(product >> 31)) >> shift;
    return __QADD(shifted, centre) >> 1;
}

/* `count` outputs of one pixel. `channels` holds as many biases, multipliers, and a word of shifts, a byte each; min and
 * max are the activation's, four times. */
static inline void hil_finish(const int32_t *channels, uint32_t count, const int32_t *sums, int32_t centre, uint32_t min,
                              uint32_t max, int8_t *output)
{
    uint32_t shifts = (uint32_t)channels[2 * count];
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t value = hil_rescaled(sums[i], channels[count + i], (int8_t)shifts, centre);
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP /* no branches: time does not depend on the data */
        output[i] = (int8_t)hil_clamped_s8x4((uint8_t)__SSAT(value, 8), min, max);
#else
        output[i] = hil_clamped(value, (int8_t)min, (int8_t)max);
#endif
        shifts >>= 8;
    }
}

#endif
