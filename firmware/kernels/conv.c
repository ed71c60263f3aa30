/* Convolutions over all channels: two pixels of the output at a time. Their windows are gathered into scratch as 16-bit
 * columns, and multiplied with all rows of weights (rows.c, quads.c). Padding is the input's zero point, as that is in the
 * biases. A last single pixel is computed as a pair with whatever is there. */
#include "hil_gather.h"
#include "hil_kernels.h"
#include "hil_rows.h"

#include <arm_nnsupportfunctions.h>
#include <stdbool.h>

/* Where the kernel lies on an axis of `size` elements when it begins at `start`: positions from `first` to before `end`. */
typedef struct {
    int32_t first, end;
} inside_t;

static inline inside_t inside(int32_t start, int32_t size, int32_t kernel, int32_t dilation)
{
    inside_t found = {0, kernel};
    while (found.first < kernel && start + found.first * dilation < 0) {
        ++found.first;
    }
    while (found.end > found.first && start + (found.end - 1) * dilation >= size) {
        --found.end;
    }
    return found;
}

/* A pixel of the output: which rows of the window are inside, and the input at the window's upper left corner. */
typedef struct {
    inside_t rows;
    int32_t top, left;
} window_t;

static __attribute__((noinline)) void fill(hil_stream_t *stream, int32_t value, uint32_t count)
{
    uint32_t *to = stream->to;
    if (stream->waits != 0) {
        *to = __PKHBT(stream->first, value, 16);
        to += HIL_PIXELS;
        --count;
    }
    for (uint32_t n = count / 2; n != 0; --n) {
        *to = __PKHBT(value, value, 16);
        to += HIL_PIXELS;
    }
    stream->to = to;
    stream->waits = count % 2;
    stream->first = value;
}

static inline bool is_inside(const hil_conv_t *op, const window_t *window, const inside_t *in)
{
    const int32_t rows = window->rows.end - window->rows.first, columns = in->end - in->first;
    return ((rows ^ op->kernel_h) | (columns ^ op->kernel_w)) == 0;
}

/* Rows one by one, and padding. */
static __attribute__((noinline)) void gather_clipped(const hil_conv_t *op, hil_stream_t *stream, const int8_t *row,
                                                     const inside_t *rows, const inside_t *in)
{
    const uint32_t channels = op->in_c, length = op->kernel_w * channels, within = (uint32_t)(in->end - in->first);
    const uint32_t first = (uint32_t)in->first * channels, behind = length - (uint32_t)in->end * channels;
    const bool apart = op->dilation_w != 1;
    for (int32_t i = 0; i < op->kernel_h; ++i) {
        if (i < rows->first || i >= rows->end) {
            fill(stream, op->input_zero_point, length);
        } else {
            if (first != 0) {
                fill(stream, op->input_zero_point, first);
            }
            if (within != 0) {
                hil_gather(stream, row, apart ? within : 1, apart ? channels : within * channels,
                           (op->dilation_w - 1) * (int32_t)channels);
            }
            if (behind != 0) {
                fill(stream, op->input_zero_point, behind);
            }
        }
        row += op->dilation_h * op->in_w * channels;
    }
}

static void gather(const hil_conv_t *op, uint32_t *to, uint32_t pixel, const window_t *window)
{
    const inside_t in = inside(window->left, op->in_w, op->kernel_w, op->dilation_w);
    const int32_t channels = op->in_c, length = op->kernel_w * channels;
    const int8_t *const row = op->input + (window->top * op->in_w + window->left + in.first * op->dilation_w) * channels;
    hil_stream_t stream = {.to = to + pixel};
    if (op->dilation_w == 1 && is_inside(op, window, &in)) {
        hil_gather(&stream, row, op->kernel_h, (uint32_t)length, op->dilation_h * op->in_w * channels - length);
    } else {
        gather_clipped(op, &stream, row, &window->rows, &in);
    }
    if (stream.waits != 0) { /* the last column: both pixels share a word */
        ((int16_t *)(stream.to - pixel))[pixel] = (int16_t)stream.first;
    }
}

static __attribute__((noinline)) uint32_t *fill_fours(uint32_t *to, int32_t value, uint32_t columns)
{
    const uint32_t pair = __PKHBT(value, value, 16);
    for (uint32_t n = columns / 4; n != 0; --n) {
        to[0] = pair;
        to[HIL_PIXELS] = pair;
        to += 2 * HIL_PIXELS;
    }
    return to;
}

/* The same for channels divisible by 4 without dilation along the row. */
static void gather_fours(const hil_conv_t *op, uint32_t *to, uint32_t pixel, const window_t *window)
{
    const inside_t in = inside(window->left, op->in_w, op->kernel_w, 1);
    const uint32_t channels = op->in_c, length = (uint32_t)op->kernel_w * channels;
    const int32_t step = op->dilation_h * op->in_w * (int32_t)channels;
    const int8_t *row = op->input + (window->top * op->in_w + window->left + in.first) * (int32_t)channels;
    to += pixel;
    if (is_inside(op, window, &in)) {
        (void)hil_gather_fours(to, row, op->kernel_h, length / 4, step - (int32_t)length);
        return;
    }
    const uint32_t first = (uint32_t)in.first * channels, end = (uint32_t)in.end * channels;
    for (int32_t i = 0; i < op->kernel_h; ++i) {
        if (i < window->rows.first || i >= window->rows.end || first == end) {
            to = fill_fours(to, op->input_zero_point, length);
        } else {
            if (first != 0) {
                to = fill_fours(to, op->input_zero_point, first);
            }
            to = hil_gather_fours(to, row, 1, (end - first) / 4, 0);
            if (end != length) {
                to = fill_fours(to, op->input_zero_point, length - end);
            }
        }
        row += step;
    }
}

/* Two pixels are in `x`: all rows of weights. */
static inline void multiply(const hil_conv_t *op, hil_rows_t *rows, hil_quads_fn quads)
{
    rows->weights = op->weights;
    rows->channels = op->channels;
    rows->quads = op->out_c / 4;
    if (rows->quads != 0) {
        quads(rows);
    }
    if (op->out_c % 4 != 0) {
        hil_rest_of_rows(rows, op->out_c % 4);
    }
}

typedef void (*gather_fn)(const hil_conv_t *op, uint32_t *to, uint32_t pixel, const window_t *window);

static void convolve(const hil_conv_t *op, uint32_t *scratch, gather_fn gather_pixel, hil_quads_fn quads)
{
    hil_rows_t rows = {.x = scratch, .centre = 2 * op->output_zero_point + 1};
    rows.columns = (uint32_t)op->kernel_h * op->kernel_w * op->in_c;
    rows.min = (uint8_t)op->act_min * 0x01010101u;
    rows.max = (uint8_t)op->act_max * 0x01010101u;
    int8_t *output = op->output;
    window_t window = {.top = -op->pad_top};
    uint32_t pixel = 0;
    for (uint32_t y = op->out_h; y != 0; --y) {
        window.rows = inside(window.top, op->in_h, op->kernel_h, op->dilation_h);
        window.left = -op->pad_left;
        for (uint32_t x = op->out_w; x != 0; --x) {
            gather_pixel(op, scratch, pixel, &window);
            window.left += op->stride_w;
            pixel ^= 1;
            if (pixel == 0) {
                rows.output_0 = output;
                rows.output_1 = output + op->out_c;
                output += 2 * op->out_c;
                multiply(op, &rows, quads);
            }
        }
        window.top += op->stride_h;
    }
    if (pixel != 0) { /* the second is whatever is there, and overwritten by the first */
        rows.output_0 = output;
        rows.output_1 = output;
        multiply(op, &rows, quads);
    }
}

static void gather_one(const hil_conv_t *op, uint32_t *to, uint32_t pixel, const window_t *window)
{
    const uint32_t columns = op->in_c, rest = columns % 4;
    const int8_t *data = op->input + (window->top * op->in_w + window->left) * (int32_t)columns;
    to += pixel;
    if (columns >= 4) {
        to = hil_gather_fours(to, data, 1, columns / 4, 0);
        data += columns - rest;
    }
    if (rest >= 2) {
        *to = __PKHBT(data[0], data[1], 16);
        to += HIL_PIXELS;
        data += 2;
    }
    if (rest % 2 != 0) { /* the last column: both pixels share a word */
        ((int16_t *)(to - pixel))[pixel] = *data;
    }
}

enum { STACK_COLUMNS = 256 }; /* munas/cost/kernels.py counts on it */

static __attribute__((noinline)) int with_scratch(const hil_conv_t *op, gather_fn gather_pixel, hil_quads_fn quads)
{
    uint32_t on_stack[STACK_COLUMNS];
    const uint32_t columns = (uint32_t)op->kernel_h * op->kernel_w * op->in_c;
    convolve(op, columns <= STACK_COLUMNS ? on_stack : op->scratch, gather_pixel, quads);
    return 0;
}

int hil_conv_1x1(const void *op)
{
    return with_scratch(op, gather_one, hil_quads);
}

int hil_conv_im2col(const void *data)
{
    const hil_conv_t *const op = data;
    return with_scratch(op, op->in_c % 4 == 0 && op->dilation_w == 1 ? gather_fours : gather, hil_quads);
}

int hil_conv_any(const void *op)
{
    return with_scratch(op, gather, hil_quads_any);
}
