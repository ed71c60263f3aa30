/* What the kernels use of the DSP extension, for cores that lack it (Cortex-M3): the same results in plain C. Included in
 * front of every kernel there; see library() of hil/build/sources.py. */
#ifndef HIL_NO_DSP_H
#define HIL_NO_DSP_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#error "this core has the DSP extension"
#endif

static uint32_t hil_no_dsp_ge; /* the GE flags of the last __SSUB8, a byte of ones each */

static inline uint32_t hil_no_dsp_rotated(uint32_t x, uint32_t bits)
{
    return bits == 0u ? x : x >> bits | x << (32u - bits);
}

static inline int32_t hil_no_dsp_half(uint32_t x, uint32_t top)
{
    return (int16_t)(x >> 16u * top);
}

static inline uint32_t hil_no_dsp_pair(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16;
}

static inline uint32_t __SXTB16(uint32_t x)
{
    return hil_no_dsp_pair((int8_t)x, (int8_t)(x >> 16));
}

static inline uint32_t __SXTB16_RORn(uint32_t x, uint32_t bits)
{
    return __SXTB16(hil_no_dsp_rotated(x, bits));
}

static inline uint32_t __SMLAD(uint32_t x, uint32_t y, uint32_t sum)
{
    return sum + (uint32_t)(hil_no_dsp_half(x, 0) * hil_no_dsp_half(y, 0)) +
           (uint32_t)(hil_no_dsp_half(x, 1) * hil_no_dsp_half(y, 1));
}

static inline uint64_t __SMLALD(uint32_t x, uint32_t y, uint64_t sum)
{
    return sum + (uint64_t)(int64_t)(hil_no_dsp_half(x, 0) * hil_no_dsp_half(y, 0)) +
           (uint64_t)(int64_t)(hil_no_dsp_half(x, 1) * hil_no_dsp_half(y, 1));
}

static inline uint32_t __SSUB8(uint32_t x, uint32_t y)
{
    uint32_t difference = 0;
    hil_no_dsp_ge = 0;
    for (uint32_t shift = 0; shift < 32u; shift += 8u) {
        const int32_t byte = (int8_t)(x >> shift) - (int8_t)(y >> shift);
        difference |= ((uint32_t)byte & 0xFFu) << shift;
        hil_no_dsp_ge |= byte >= 0 ? 0xFFu << shift : 0u;
    }
    return difference;
}

static inline uint32_t __SEL(uint32_t x, uint32_t y)
{
    return (x & hil_no_dsp_ge) | (y & ~hil_no_dsp_ge);
}

static inline int32_t __QADD(int32_t x, int32_t y)
{
    const int64_t sum = (int64_t)x + y;
    return sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : (int32_t)sum;
}

#define __PKHBT(x, y, bits) ((uint32_t)(((uint32_t)(x) & 0xFFFFu) | (((uint32_t)(y) << (bits)) & 0xFFFF0000u)))
#define __PKHTB(x, y, bits) \
    ((uint32_t)(((uint32_t)(x) & 0xFFFF0000u) | ((uint32_t)((int32_t)(y) >> (bits)) & 0xFFFFu)))

#endif
