/* Bilinear resizing in fixed point with 10 fractional bits an axis. Each kernel that includes it has a copy of its own, for an
 * element_t, 2^20 of which a sum_t holds. */
#ifndef HIL_RESIZE_H
#define HIL_RESIZE_H

#include "hil_kernels.h"

enum { BITS = 10, ONE = 1 << BITS };

/* Along one axis: the input's two neighbours of an output, and how far it lies beyond the first one. */
typedef struct {
    uint32_t low, high;
    int32_t beyond;
} between_t;

static between_t between(uint32_t place, int32_t scale, uint32_t size, uint8_t half_pixel)
{
    const int32_t scaled = (int32_t)place * scale + (half_pixel ? scale / 2 - ONE / 2 : 0);
    const int32_t low = scaled / ONE;
    const int32_t high = (scaled + ONE - 1) / ONE;
    between_t found;
    found.low = low > 0 ? (uint32_t)low : 0;
    found.high = high < (int32_t)size - 1 ? (uint32_t)high : size - 1;
    found.beyond = scaled - (int32_t)found.low * ONE;
    return found;
}

static element_t interpolated(sum_t sum)
{
    return (element_t)((sum + (sum > 0 ? 1 << (2 * BITS - 1) : -(1 << (2 * BITS - 1)))) / (1 << (2 * BITS)));
}

static inline __attribute__((always_inline)) int resize_bilinear(const hil_resize_t *op)
{
    const uint32_t channels = op->channels;
    const element_t *const input = (const element_t *)(const void *)op->input;
    element_t *output = (element_t *)(void *)op->output;
    for (uint32_t y = 0; y < op->out_h; ++y) {
        const between_t row = between(y, op->scale_h, op->in_h, op->half_pixel_centers);
        for (uint32_t x = 0; x < op->out_w; ++x) {
            const between_t column = between(x, op->scale_w, op->in_w, op->half_pixel_centers);
            const element_t *const low = input + row.low * op->in_w * channels;
            const element_t *const high = input + row.high * op->in_w * channels;
            const uint32_t left = column.low * channels;
            const uint32_t right = column.high * channels;
            for (uint32_t c = 0; c < channels; ++c) {
                const int32_t above = low[left + c] * (ONE - column.beyond) + low[right + c] * column.beyond;
                const int32_t below = high[left + c] * (ONE - column.beyond) + high[right + c] * column.beyond;
                *output++ = interpolated((sum_t)above * (ONE - row.beyond) + (sum_t)below * row.beyond);
            }
        }
    }
    return 0;
}

#endif
