/* 1x1 convolutions, strided or not. CMSIS-NN's (arm_nn_mat_mult_nt_t_s8) is three times as long and has no SIMD for the
 * last of an odd number of channels. This one works on two pixels by two channels at a time, four products of each in
 * one trip of the inner loop. A last single pixel or channel is computed together with the one before it, once more; an
 * only one is computed twice. The input's zero point is part of the biases already, as every output sums over all
 * weights of its row. */
#include "hil_kernels.h"

#include <arm_nnsupportfunctions.h>

enum { TILE = 2 };

typedef struct {
    int32_t x0w0, x0w1, x1w0, x1w1;
} sums_t;

/* What the outputs of one channel need, ready for store_pair(). */
typedef struct {
    int32_t significand; /* 2 * significand - 2^32 */
    int32_t factor;      /* 2^(shift to the left), or 0 for a significand of 0 */
    uint32_t drop;       /* (shift to the right) - 1, or 0 */
    uint32_t half;       /* whether there is a shift to the right */
    int32_t zero_point, min, max;
    uint32_t second; /* distance of the second pixel's output from that of the first, 0 for an only pixel */
} channel_t;

/* Two rows of weights. A step lies between two pixels or two rows; it is 0 for an only one. `next` is the distance of
 * their outputs. */
typedef struct {
    const int8_t *weights;
    uint32_t w_step, x_step, columns, next;
    int32_t bias[2];
    channel_t channels[2];
} pair_t;

/* Adds the products of both pixels with both rows of weights. The order is one that needs few registers at a time. */
static inline sums_t dot_tile(const pair_t *pair, const int8_t *x)
{
    const int8_t *w = pair->weights;
    const uint32_t x_step = pair->x_step, w_step = pair->w_step;
    sums_t sums = {pair->bias[0], pair->bias[1], pair->bias[0], pair->bias[1]};
    for (const int8_t *const end = x + pair->columns / 4 * 4; x != end;) {
        const uint32_t x_1 = (uint32_t)arm_nn_read_s8x4(x + x_step);
        const uint32_t x_0 = (uint32_t)arm_nn_read_s8x4_ia(&x);
        const uint32_t x_0_even = __SXTB16(x_0), x_0_odd = __SXTB16_RORn(x_0, 8);
        const uint32_t x_1_even = __SXTB16(x_1), x_1_odd = __SXTB16_RORn(x_1, 8);
        const uint32_t w_1 = (uint32_t)arm_nn_read_s8x4(w + w_step);
        const uint32_t w_1_even = __SXTB16(w_1), w_1_odd = __SXTB16_RORn(w_1, 8);
        sums.x0w1 = (int32_t)__SMLAD(x_0_even, w_1_even, (uint32_t)sums.x0w1);
        sums.x0w1 = (int32_t)__SMLAD(x_0_odd, w_1_odd, (uint32_t)sums.x0w1);
        sums.x1w1 = (int32_t)__SMLAD(x_1_even, w_1_even, (uint32_t)sums.x1w1);
        sums.x1w1 = (int32_t)__SMLAD(x_1_odd, w_1_odd, (uint32_t)sums.x1w1);
        const uint32_t w_0 = (uint32_t)arm_nn_read_s8x4_ia(&w);
        const uint32_t w_0_even = __SXTB16(w_0), w_0_odd = __SXTB16_RORn(w_0, 8);
        sums.x0w0 = (int32_t)__SMLAD(x_0_even, w_0_even, (uint32_t)sums.x0w0);
        sums.x0w0 = (int32_t)__SMLAD(x_0_odd, w_0_odd, (uint32_t)sums.x0w0);
        sums.x1w0 = (int32_t)__SMLAD(x_1_even, w_0_even, (uint32_t)sums.x1w0);
        sums.x1w0 = (int32_t)__SMLAD(x_1_odd, w_0_odd, (uint32_t)sums.x1w0);
    }
    for (uint32_t n = pair->columns % 4; n != 0; --n) {
        const int32_t x_0 = *x, x_1 = x[x_step];
        const int32_t w_0 = *w, w_1 = w[w_step];
        sums.x0w0 += x_0 * w_0;
        sums.x0w1 += x_0 * w_1;
        sums.x1w0 += x_1 * w_0;
        sums.x1w1 += x_1 * w_1;
        ++x;
        ++w;
    }
    return sums;
}

/* arm_nn_requantize for significands of 2^30 or more (or 0), without branches. */
static inline int32_t rescaled(int32_t sum, const channel_t *channel)
{
    const int32_t scaled = (int32_t)((uint32_t)sum * (uint32_t)channel->factor);
    /* (scaled * true significand + 2^30) >> 31: the part of 2^32 in twice the significand is the first term. */
    const int64_t high = (int64_t)((uint64_t)(uint32_t)scaled << 32 | 1u << 31);
    const int32_t product = (int32_t)((high + (int64_t)scaled * channel->significand) >> 32);
    /* Half away from zero: down for negative ones. Adding half after part of the shift cannot overflow. */
    const int32_t lowered = product - (int32_t)((uint32_t)product >> 31 & channel->half);
    return ((lowered >> channel->drop) + (int32_t)channel->half) >> channel->half;
}

/* The clamping in two steps becomes conditional moves: as many instructions for every value. */
static inline int8_t finish(const channel_t *channel, int32_t sum, int32_t min, int32_t max)
{
    int32_t value = rescaled(sum, channel) + channel->zero_point;
    value = value < min ? min : value;
    value = value > max ? max : value;
    return (int8_t)value;
}

/* One channel of both pixels. Out of line: inline in tile() it is four times there, and no faster. */
static __attribute__((noinline)) void store_pair(const channel_t *channel, int32_t sum_0, int32_t sum_1, int8_t *output)
{
    const int32_t min = channel->min, max = channel->max;
    int8_t *const second = output + channel->second;
    const int8_t value_0 = finish(channel, sum_0, min, max);
    const int8_t value_1 = finish(channel, sum_1, min, max);
    *output = value_0;
    *second = value_1;
}

/* Two pixels by two channels. Out of line, so that the inner loop has all registers. */
static __attribute__((noinline)) void tile(const pair_t *pair, const int8_t *x, int8_t *output)
{
    const sums_t sums = dot_tile(pair, x);
    store_pair(&pair->channels[0], sums.x0w0, sums.x1w0, output);
    store_pair(&pair->channels[1], sums.x0w1, sums.x1w1, output + pair->next);
}

static inline channel_t channel_of(const hil_conv_t *op, const int32_t *bias)
{
    const int32_t significand = bias[op->out_c];
    const int32_t shift = bias[2 * op->out_c];
    return (channel_t){
        .significand = (int32_t)((uint32_t)significand << 1),
        .factor = significand != 0 ? (int32_t)(1u << (shift > 0 ? shift : 0)) : 0,
        .drop = shift < 0 ? (uint32_t)(-1 - shift) : 0,
        .half = shift < 0 ? 1 : 0,
        .zero_point = op->output_zero_point,
        .min = op->act_min,
        .max = op->act_max,
        .second = op->out_w > 1 ? op->out_c : 0,
    };
}

/* `output` is where the pair's first channel begins. */
static void all_pixels(const hil_conv_t *op, const pair_t *pair, int8_t *output)
{
    const uint32_t step = op->stride_w * op->in_c;
    for (uint32_t y = 0; y < op->out_h; ++y) {
        const int8_t *x = op->input + y * op->stride_h * op->in_w * op->in_c;
        for (int32_t left = op->out_w; left > 0; left -= TILE) {
            if (left < TILE) {
                x -= pair->x_step;
                output -= pair->channels[0].second;
            }
            tile(pair, x, output);
            x += TILE * step;
            output += op->out_c + pair->channels[0].second;
        }
    }
}

int hil_conv_1x1(const void *data)
{
    const hil_conv_t *const op = data;
    const uint32_t rows = op->out_c, columns = op->in_c;
    const uint32_t next = rows > 1 ? 1 : 0;
    for (uint32_t i = 0; i < rows; i += TILE) {
        const uint32_t row = i + next < rows ? i : i - 1;
        pair_t pair; /* an initialiser would call memset */
        pair.weights = op->weights + row * columns;
        pair.w_step = next * columns;
        pair.x_step = op->out_w > 1 ? op->stride_w * columns : 0;
        pair.columns = columns;
        pair.next = next;
        for (uint32_t n = 0; n < TILE; ++n) {
            const int32_t *const bias = op->channels + row + n * next;
            pair.bias[n] = *bias;
            pair.channels[n] = channel_of(op, bias);
        }
        all_pixels(op, &pair, op->output + row);
    }
    return 0;
}
