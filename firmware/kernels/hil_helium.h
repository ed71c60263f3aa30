/* Who does the work of the inner loops: assembly for the DSP extension, Helium (helium.c), or the twins in C. Helium takes the
 * layouts of hil_rows.h, hil_dense.h and hil_taps.h as they are, eight columns at a time. */
#ifndef HIL_HELIUM_H
#define HIL_HELIUM_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define HIL_HELIUM 1
#else
#define HIL_HELIUM 0
#endif

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP && !HIL_HELIUM
#define HIL_DSP_ASSEMBLY 1
#else
#define HIL_DSP_ASSEMBLY 0
#endif

#if HIL_HELIUM

#include <arm_mve.h>
#include <stdint.h>

/* Weights of two rows, packed (hil_rows.h) or not: the even one's are the lower bytes. */
static inline int16x8_t hil_even_row(int16x8_t pair)
{
    return vmovlbq_s8(vreinterpretq_s8_s16(pair));
}

static inline int16x8_t hil_odd_row(int16x8_t packed, int16x8_t even)
{
    return vshrq_n_s16(vsubq_s16(packed, even), 8);
}

/* Four outputs of one pixel as hil_finish has them, for shifts of 0 or more. A multiplier is twice the significand, as
 * 32 bits. */
static inline void hil_finish_four(const int32_t *channels, const int32_t *sums, int32_t centre, uint32_t min, uint32_t max,
                                   int8_t *output)
{
    const int32x4_t significands = (int32x4_t)vshrq_n_u32((uint32x4_t)vld1q_s32(channels + 4), 1);
    const int32x4_t shifts = vldrbq_s32((const int8_t *)(channels + 8));
    const int32x4_t product = vqrdmulhq_s32(vld1q_s32(sums), significands);
    const int32x4_t shifted = vshlq_s32(vaddq_s32(product, vshrq_n_s32(product, 31)), vnegq_s32(shifts));
    const int32x4_t value = vshrq_n_s32(vqaddq_n_s32(shifted, centre), 1);
    vstrbq_s32(output, vminq_s32(vmaxq_s32(value, vdupq_n_s32((int8_t)min)), vdupq_n_s32((int8_t)max)));
}

#endif

#endif
