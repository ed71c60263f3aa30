/* 1x1 convolutions, strided or not. CMSIS-NN's (arm_nn_mat_mult_nt_t_s8) is five times as long and has no SIMD for the
 * last of an odd number of channels. This one works on two pixels by two channels at a time, four products of each in
 * one trip of the inner loop; a single pixel or channel at the end is computed twice. The input's zero point is part of
 * the biases already, as every output sums over all weights of its row. */
#include "hil_kernels.h"
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

enum { TILE = 2 };

/* Two rows of something: `step` lies between them, 0 when there is only one. */
typedef struct {
    const int8_t *first;
    uint32_t step;
} rows_t;

typedef struct {
    int32_t x0w0, x0w1, x1w0, x1w1;
} sums_t;

/* Adds the products of both pixels with both rows of weights. */
static inline sums_t dot_tile(uint32_t columns, rows_t pixels, rows_t weights, sums_t sums)
{
    const int8_t *x = pixels.first;
    const int8_t *w = weights.first;
    for (const int8_t *const end = x + columns / 4 * 4; x != end;) {
        const uint32_t x_1 = (uint32_t)arm_nn_read_s8x4(x + pixels.step);
        const uint32_t w_1 = (uint32_t)arm_nn_read_s8x4(w + weights.step);
        const uint32_t x_0 = (uint32_t)arm_nn_read_s8x4_ia(&x);
        const uint32_t w_0 = (uint32_t)arm_nn_read_s8x4_ia(&w);
        const uint32_t x_0_even = __SXTB16(x_0), x_0_odd = __SXTB16_RORn(x_0, 8);
        const uint32_t x_1_even = __SXTB16(x_1), x_1_odd = __SXTB16_RORn(x_1, 8);
        const uint32_t w_0_even = __SXTB16(w_0), w_0_odd = __SXTB16_RORn(w_0, 8);
        sums.x0w0 = (int32_t)__SMLAD(x_0_even, w_0_even, (uint32_t)sums.x0w0);
        sums.x0w0 = (int32_t)__SMLAD(x_0_odd, w_0_odd, (uint32_t)sums.x0w0);
        sums.x1w0 = (int32_t)__SMLAD(x_1_even, w_0_even, (uint32_t)sums.x1w0);
        sums.x1w0 = (int32_t)__SMLAD(x_1_odd, w_0_odd, (uint32_t)sums.x1w0);
        const uint32_t w_1_even = __SXTB16(w_1), w_1_odd = __SXTB16_RORn(w_1, 8);
        sums.x0w1 = (int32_t)__SMLAD(x_0_even, w_1_even, (uint32_t)sums.x0w1);
        sums.x0w1 = (int32_t)__SMLAD(x_0_odd, w_1_odd, (uint32_t)sums.x0w1);
        sums.x1w1 = (int32_t)__SMLAD(x_1_even, w_1_even, (uint32_t)sums.x1w1);
        sums.x1w1 = (int32_t)__SMLAD(x_1_odd, w_1_odd, (uint32_t)sums.x1w1);
    }
    for (uint32_t n = columns % 4; n != 0; --n) {
        const int32_t x_0 = *x, x_1 = x[pixels.step];
        const int32_t w_0 = *w, w_1 = w[weights.step];
        sums.x0w0 += x_0 * w_0;
        sums.x0w1 += x_0 * w_1;
        sums.x1w0 += x_1 * w_0;
        sums.x1w1 += x_1 * w_1;
        ++x;
        ++w;
    }
    return sums;
}

static inline int8_t finish(const hil_conv_t *op, int32_t sum, int32_t significand, int32_t shift)
{
    return hil_clamped(hil_scaled(sum, significand, shift) + op->output_zero_point, op->act_min, op->act_max);
}

/* One or two pixels (`pixels.step` 0: one) of one or two channels, beginning with `row`. What there is only one of is
 * stored twice. */
static void tile(const hil_conv_t *op, rows_t pixels, uint32_t row, int8_t *output)
{
    const uint32_t rows = op->out_c;
    const uint32_t next = row + 1 < rows ? 1 : 0;
    const int32_t *const bias = op->channels + row;
    const int32_t *const significand = bias + rows;
    const int32_t *const shift = significand + rows;
    const rows_t weights = {op->weights + row * op->in_c, next * op->in_c};
    sums_t sums = {bias[0], bias[next], bias[0], bias[next]};
    sums = dot_tile(op->in_c, pixels, weights, sums);
    const int8_t x0w0 = finish(op, sums.x0w0, significand[0], shift[0]);
    const int8_t x1w0 = finish(op, sums.x1w0, significand[0], shift[0]);
    const int8_t x0w1 = finish(op, sums.x0w1, significand[next], shift[next]);
    const int8_t x1w1 = finish(op, sums.x1w1, significand[next], shift[next]);
    int8_t *const second = output + (pixels.step != 0 ? rows : 0);
    output[0] = x0w0;
    output[next] = x0w1;
    second[0] = x1w0;
    second[next] = x1w1;
}

int hil_conv_1x1(const void *data)
{
    const hil_conv_t *const op = data;
    const uint32_t step = op->stride_w * op->in_c;
    for (uint32_t row = 0; row < op->out_c; row += TILE) {
        int8_t *output = op->output + row;
        for (uint32_t y = 0; y < op->out_h; ++y) {
            const int8_t *input = op->input + y * op->stride_h * op->in_w * op->in_c;
            for (uint32_t x = 0; x < op->out_w; x += TILE) {
                const uint32_t more = x + 1 < op->out_w ? 1 : 0;
                tile(op, (rows_t){input, more * step}, row, output);
                input += TILE * step;
                output += (1 + more) * op->out_c;
            }
        }
    }
    return 0;
}
