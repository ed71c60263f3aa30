/* Pools. CMSIS-NN's take three times the code; its maximum compares byte by byte with branches, so that its time depends
 * on the data, and its average needs scratch. */
#include "hil_kernels.h"
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

/* What of the input lies under a window, as its first pixel and its size. */
typedef struct {
    const int8_t *first;
    uint32_t height, width;
} patch_t;

/* Part of an axis that a window which begins at `start` covers: returns its length, and where it begins in *first. */
static uint32_t cover(int32_t start, uint32_t window, uint32_t extent, uint32_t *first)
{
    const int32_t end = MIN(start + (int32_t)window, (int32_t)extent);
    *first = (uint32_t)MAX(start, 0);
    return (uint32_t)(end - MAX(start, 0));
}

static patch_t patch_at(const hil_pool_t *op, uint32_t y, uint32_t x)
{
    uint32_t top;
    uint32_t left;
    patch_t patch;
    patch.height = cover((int32_t)(y * op->stride_h) - op->pad_top, op->window_h, op->in_h, &top);
    patch.width = cover((int32_t)(x * op->stride_w) - op->pad_left, op->window_w, op->in_w, &left);
    patch.first = op->input + (top * op->in_w + left) * op->channels;
    return patch;
}

/* Larger of each of four signed bytes. */
static inline uint32_t max_s8x4(uint32_t a, uint32_t b)
{
    (void)__SSUB8(a, b);
    return __SEL(a, b);
}

/* `lanes` (1 or 4) channels of one output pixel. Fewer than four are read one by one, as a word would reach beyond. */
static uint32_t max_of(const hil_pool_t *op, const patch_t *patch, uint32_t channel, uint32_t lanes)
{
    const uint32_t channels = op->channels;
    const int8_t *row = patch->first + channel;
    uint32_t largest = 0x80808080u;
    for (uint32_t y = patch->height; y != 0; --y) {
        const int8_t *pixel = row;
        for (uint32_t x = patch->width; x != 0; --x) {
            largest = max_s8x4(largest, lanes == 4 ? (uint32_t)arm_nn_read_s8x4(pixel) : (uint8_t)*pixel);
            pixel += channels;
        }
        row += op->in_w * channels;
    }
    return hil_clamped_s8x4(largest, (uint8_t)op->act_min * 0x01010101u, (uint8_t)op->act_max * 0x01010101u);
}

static void max_pixel(const hil_pool_t *op, const patch_t *patch, int8_t *output)
{
    uint32_t channel = 0;
    for (; channel + 4 <= op->channels; channel += 4) {
        arm_nn_write_s8x4_ia(&output, (int32_t)max_of(op, patch, channel, 4));
    }
    for (; channel < op->channels; ++channel) {
        *output++ = (int8_t)max_of(op, patch, channel, 1);
    }
}

static void average_pixel(const hil_pool_t *op, const patch_t *patch, int8_t *output)
{
    const uint32_t channels = op->channels;
    const int32_t count = (int32_t)(patch->height * patch->width);
    for (uint32_t channel = 0; channel < channels; ++channel) {
        const int8_t *row = patch->first + channel;
        int32_t sum = 0;
        for (uint32_t y = patch->height; y != 0; --y) {
            const int8_t *pixel = row;
            for (uint32_t x = patch->width; x != 0; --x) {
                sum += *pixel;
                pixel += channels;
            }
            row += op->in_w * channels;
        }
        const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
        output[channel] = hil_clamped(mean, op->act_min, op->act_max);
    }
}

typedef void (*pixel_fn)(const hil_pool_t *op, const patch_t *patch, int8_t *output);

static int pool(const hil_pool_t *op, pixel_fn pixel)
{
    int8_t *output = op->output;
    for (uint32_t y = 0; y < op->out_h; ++y) {
        for (uint32_t x = 0; x < op->out_w; ++x) {
            const patch_t patch = patch_at(op, y, x);
            pixel(op, &patch, output);
            output += op->channels;
        }
    }
    return 0;
}

int hil_max_pool(const void *op)
{
    return pool(op, max_pixel);
}

int hil_avg_pool(const void *op)
{
    return pool(op, average_pixel);
}
