/* Convolutions that no other kernel does, product by product: in groups, and transposed. */
#include "hil_kernels.h"
#include "hil_scale.h"

static int8_t rescaled(const hil_conv_t *op, int32_t sum, uint32_t channel)
{
    const int32_t *const significands = op->channels + op->out_c;
    const int32_t *const shifts = significands + op->out_c;
    const int32_t value = hil_scaled(sum, significands[channel], shifts[channel]) + op->output_zero_point;
    return hil_clamped(value, op->act_min, op->act_max);
}

/* Products of `depth` channels of one pixel with as many weights. */
static int32_t dot(const hil_conv_t *op, const int8_t *pixel, const int8_t *weights, uint32_t depth)
{
    int32_t sum = 0;
    for (uint32_t n = depth; n != 0; --n) {
        sum += (*pixel++ - op->input_zero_point) * *weights++;
    }
    return sum;
}

/* The sum of one output of a convolution whose group begins at `first` and has `depth` channels. */
static int32_t grouped_sum(const hil_conv_t *op, uint32_t y, uint32_t x, const int8_t *weights, uint32_t first,
                           uint32_t depth)
{
    int32_t sum = 0;
    for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
        const int32_t in_y = (int32_t)(y * op->stride_h + ky * op->dilation_h) - op->pad_top;
        for (uint32_t kx = 0; kx < op->kernel_w; ++kx) {
            const int32_t in_x = (int32_t)(x * op->stride_w + kx * op->dilation_w) - op->pad_left;
            if (in_y >= 0 && in_y < op->in_h && in_x >= 0 && in_x < op->in_w) {
                const int8_t *const pixel = op->input + (uint32_t)(in_y * op->in_w + in_x) * op->in_c + first;
                sum += dot(op, pixel, weights, depth);
            }
            weights += depth;
        }
    }
    return sum;
}

int hil_conv_grouped(const void *data)
{
    const hil_grouped_t *const group = data;
    const hil_conv_t *const op = &group->conv;
    const uint32_t depth = group->depth;
    const uint32_t filters = op->out_c / (op->in_c / depth); /* of one group */
    const uint32_t size = op->kernel_h * op->kernel_w * depth;
    int8_t *output = op->output;
    for (uint32_t y = 0; y < op->out_h; ++y) {
        for (uint32_t x = 0; x < op->out_w; ++x) {
            for (uint32_t channel = 0; channel < op->out_c; ++channel) {
                const uint32_t first = channel / filters * depth;
                const int32_t sum = grouped_sum(op, y, x, op->weights + channel * size, first, depth);
                *output++ = rescaled(op, sum + op->channels[channel], channel);
            }
        }
    }
    return 0;
}

/* Where along an axis the input lies that tap `tap` brings to output `place`; below 0 or beyond the end: nowhere. */
static int32_t source_of(uint32_t place, uint32_t pad, uint32_t tap, uint32_t stride)
{
    const int32_t distance = (int32_t)(place + pad) - (int32_t)tap;
    return distance >= 0 && distance % (int32_t)stride == 0 ? distance / (int32_t)stride : -1;
}

static int32_t transposed_sum(const hil_conv_t *op, uint32_t y, uint32_t x, const int8_t *weights)
{
    int32_t sum = 0;
    for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
        const int32_t in_y = source_of(y, op->pad_top, ky, op->stride_h);
        for (uint32_t kx = 0; kx < op->kernel_w; ++kx) {
            const int32_t in_x = source_of(x, op->pad_left, kx, op->stride_w);
            if (in_y >= 0 && in_y < op->in_h && in_x >= 0 && in_x < op->in_w) {
                sum += dot(op, op->input + (uint32_t)(in_y * op->in_w + in_x) * op->in_c, weights, op->in_c);
            }
            weights += op->in_c;
        }
    }
    return sum;
}

int hil_conv_transposed(const void *data)
{
    const hil_conv_t *const op = data;
    const uint32_t size = (uint32_t)op->kernel_h * op->kernel_w * op->in_c;
    int8_t *output = op->output;
    for (uint32_t y = 0; y < op->out_h; ++y) {
        for (uint32_t x = 0; x < op->out_w; ++x) {
            for (uint32_t channel = 0; channel < op->out_c; ++channel) {
                const int32_t sum = transposed_sum(op, y, x, op->weights + channel * size);
                *output++ = rescaled(op, sum + op->channels[channel], channel);
            }
        }
    }
    return 0;
}
