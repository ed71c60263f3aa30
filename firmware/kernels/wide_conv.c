/* Convolutions and dense layers of 16-bit activations with 8-bit weights. Sums have 64 bits; a convolution rescales them by
 * 15 bits of the multiplier and rounds once, a dense layer in double, as the reference kernels do. */
#include "hil_kernels.h"

#include <arm_nnsupportfunctions.h>

static inline int16_t clamped(int32_t value, int32_t min, int32_t max)
{
    return (int16_t)(value < min ? min : value > max ? max : value);
}

/* Weights are in columns of fours, 0, 2, 1, 3: SXTB16, with and without a rotation, gives neighbouring ones. */
static inline int64_t dot(const int16_t *x, const int8_t *weights, uint32_t count, int64_t sum)
{
    for (uint32_t n = count / 4; n != 0; --n) {
        const uint32_t first = (uint32_t)arm_nn_read_q15x2_ia(&x), second = (uint32_t)arm_nn_read_q15x2_ia(&x);
        const uint32_t four = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        sum = (int64_t)__SMLALD(__SXTB16(four), first, (uint64_t)sum);
        sum = (int64_t)__SMLALD(__SXTB16_RORn(four, 8), second, (uint64_t)sum);
    }
    for (uint32_t n = count % 4; n != 0; --n) {
        sum += *x++ * *weights++;
    }
    return sum;
}

static inline int64_t bias_of(const int32_t *channel)
{
    return (int64_t)((uint64_t)(uint32_t)channel[1] << 32 | (uint32_t)channel[0]);
}

/* The sum over the window whose first tap is at (top, left) of the input. */
static int64_t window(const hil_wide_conv_t *op, int32_t top, int32_t left, uint32_t first_channel, const int8_t *weights,
                      int64_t sum)
{
    const int16_t *const input = (const int16_t *)op->input + first_channel;
    for (uint32_t i = 0; i < op->kernel_h; ++i) {
        const int32_t row = top + (int32_t)(i * op->dilation_h);
        for (uint32_t j = 0; j < op->kernel_w; ++j, weights += op->depth) {
            const int32_t column = left + (int32_t)(j * op->dilation_w);
            if (row >= 0 && row < op->in_h && column >= 0 && column < op->in_w) {
                sum = dot(input + (row * op->in_w + column) * op->in_c, weights, op->depth, sum);
            }
        }
    }
    return sum;
}

int hil_wide_conv(const void *data)
{
    const hil_wide_conv_t *const op = data;
    int16_t *output = op->output;
    for (int32_t y = 0; y < op->out_h; ++y) {
        for (int32_t x = 0; x < op->out_w; ++x) {
            const int8_t *weights = op->weights;
            const int32_t *channel = op->channels;
            for (uint32_t i = 0; i < op->out_c; ++i, channel += 3) {
                const int64_t sum = window(op, y * op->stride_h - op->pad_top, x * op->stride_w - op->pad_left,
                                           i / op->filters * op->depth, weights, bias_of(channel));
                const uint32_t shift = (uint32_t)channel[2] >> 16;
                const int64_t product = sum * (channel[2] & 0xFFFF) + ((int64_t)1 << (shift - 1));
                *output++ = clamped((int32_t)(product >> shift), op->act_min, op->act_max);
                weights += (uint32_t)(op->kernel_h * op->kernel_w) * op->depth;
            }
        }
    }
    return 0;
}

/* C's round(). */
static int32_t rounded(double value)
{
    const int32_t whole = (int32_t)value;
    const double rest = value - whole;
    return whole + (rest >= 0.5) - (rest <= -0.5);
}

int hil_wide_dense(const void *data)
{
    const hil_wide_dense_t *const op = data;
    const int16_t *input = op->input;
    int16_t *output = op->output;
    for (uint32_t n = op->count; n != 0; --n, input += op->columns) {
        const int8_t *weights = op->weights;
        const int32_t *channel = op->channels;
        for (uint32_t i = op->rows; i != 0; --i, channel += 4, weights += op->columns) {
            double scale;
            __builtin_memcpy(&scale, channel + 2, sizeof scale);
            const int64_t sum = dot(input, weights, op->columns, bias_of(channel));
            *output++ = clamped(rounded((double)sum * scale), op->act_min, op->act_max);
        }
    }
    return 0;
}
