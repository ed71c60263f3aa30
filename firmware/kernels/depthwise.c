/* Depthwise convolutions with one output for each input channel, four channels at a time; the others are CMSIS-NN's.
 *
 * Where the window is inside, taps are read where they are. Else, and where that makes few calls, the part of the image that
 * some pixels of a row need is gathered first, a word a tap, with the input's zero point (which is in the biases) for
 * padding. Of channels not divisible by 4 the last four overlap those before; less than four are gathered always. */
#include "hil_kernels.h"
#include "hil_taps.h"

#include <arm_nnfunctions.h>
#include <arm_nnsupportfunctions.h>
#include <stdbool.h>

enum { GROUP = 4, PER_GROUP = 2 * GROUP + 1, GATHERED_WORDS = 192, FEW_PIXELS = 12, STORED = 16 };

static inline uint32_t *fill(uint32_t *to, uint32_t value, int32_t count)
{
    for (; count > 0; --count) {
        *to++ = value;
    }
    return to;
}

/* `count` pixels of less than four channels, and zeros for the others. */
static void copy_few(uint32_t *to, const int8_t *x, int32_t channels, int32_t count)
{
    for (; count > 0; --count) {
        *to = (uint8_t)x[0];
        *to |= channels > 1 ? (uint32_t)(uint8_t)x[1] << 8 : 0;
        *to |= channels > 2 ? (uint32_t)(uint8_t)x[2] << 16 : 0;
        ++to;
        x += channels;
    }
}

static inline void copy(uint32_t *to, const int8_t *x, int32_t step, int32_t count)
{
#pragma GCC unroll 4
    for (; count > 0; --count) {
        *to++ = (uint32_t)arm_nn_read_s8x4(x);
        x += step;
    }
}

/* `height` rows of `length` words from (top, left) on. */
static void gather(const hil_conv_t *op, uint32_t *to, int32_t channel, int32_t top, int32_t left, int32_t length,
                   int32_t height)
{
    const uint32_t padding = (uint8_t)op->input_zero_point * 0x01010101u;
    const int32_t channels = op->in_c, right = left + length - op->in_w;
    const int32_t before = left >= 0 ? 0 : -left < length ? -left : length;
    const int32_t after = right <= 0 ? 0 : right < length ? right : length;
    const int8_t *x = op->input + (top * op->in_w + left + before) * channels + channel;
    for (int32_t i = 0, y = top; i < height; ++i, y += op->dilation_h) {
        if (y < 0 || y >= op->in_h) {
            to = fill(to, padding, length);
        } else {
            const int32_t within = length - before - after;
            to = fill(to, padding, before);
            if (channels < GROUP) {
                copy_few(to, x, channels, within);
            } else {
                copy(to, x, channels, within);
            }
            to = fill(to + within, padding, after);
        }
        x += op->dilation_h * op->in_w * channels;
    }
}

/* Four channels of some rows of outputs. */
typedef struct {
    const hil_conv_t *op;
    hil_taps_fn run;
    int32_t channel, top; /* the first channel, and where the windows of the first row begin */
    int8_t *output;       /* of the first row's first pixel */
    hil_taps_t taps;
} row_t;

/* `count` pixels of a row that is in `words`. */
static void run_gathered(row_t *row, const uint32_t *words, int8_t *output, int32_t count)
{
    const int32_t channels = row->op->in_c;
    uint32_t outputs[STORED];
    row->taps.x = (const int8_t *)words;
    row->taps.count = (uint32_t)count;
    row->taps.output = channels < GROUP ? (int8_t *)outputs : output;
    row->run(&row->taps);
    for (int32_t i = 0; channels < GROUP && i < count * channels; ++i) {
        output[i] = ((const int8_t *)outputs)[i / channels * GROUP + i % channels];
    }
}

/* Pixels from `x` to before `end` of `rows` rows, gathered. Several rows only if they fit as a whole. */
static void gathered(row_t *row, int32_t x, int32_t end, int32_t most, int32_t rows)
{
    uint32_t words[GATHERED_WORDS];
    const hil_conv_t *const op = row->op;
    hil_taps_t *const taps = &row->taps;
    const int32_t span = (op->kernel_w - 1) * op->dilation_w + 1, height = (rows - 1) * op->stride_h + op->kernel_h;
    taps->x_step = op->stride_w * sizeof *words;
    taps->tap_step = op->dilation_w * sizeof *words;
    taps->output_step = op->in_c < GROUP ? sizeof *words : op->out_c;
    while (x < end) {
        const int32_t count = end - x < most ? end - x : most;
        const int32_t length = (count - 1) * op->stride_w + span;
        int8_t *output = row->output + x * op->out_c;
        gather(op, words, row->channel, row->top, x * op->stride_w - op->pad_left, length, height);
        taps->row_step = (uint32_t)length * sizeof *words;
        for (int32_t i = 0; i < rows; ++i) {
            run_gathered(row, words + i * op->stride_h * length, output, count);
            output += op->out_w * op->out_c;
        }
        x += count;
    }
}

/* Pixels from `x` to before `end`, whose windows are inside. */
static void direct(row_t *row, int32_t x, int32_t end)
{
    const hil_conv_t *const op = row->op;
    hil_taps_t *const taps = &row->taps;
    const int32_t left = x * op->stride_w - op->pad_left;
    taps->x = op->input + (row->top * op->in_w + left) * op->in_c + row->channel;
    taps->x_step = (uint32_t)op->stride_w * op->in_c;
    taps->tap_step = (uint32_t)op->dilation_w * op->in_c;
    taps->row_step = (uint32_t)op->dilation_h * op->in_w * op->in_c;
    taps->output = row->output + x * op->out_c;
    taps->output_step = op->out_c;
    taps->count = (uint32_t)(end - x);
    row->run(taps);
}

static __attribute__((noinline)) void depthwise(const hil_conv_t *op, hil_taps_fn run)
{
    const int32_t channels = op->in_c, span = (op->kernel_w - 1) * op->dilation_w;
    const int32_t first = (op->pad_left + op->stride_w - 1) / op->stride_w;
    const int32_t last = op->in_w - 1 - span + op->pad_left; /* where the last window begins that is inside */
    const int32_t inside = last < 0 ? 0 : last / op->stride_w + 1;
    const int32_t end = inside < op->out_w ? inside : op->out_w;
    const bool padded = first > 0 || end < op->out_w;
    const bool never_direct = channels < GROUP || (padded && end - first < FEW_PIXELS);
    const int32_t fit = (GATHERED_WORDS / op->kernel_h - span - 1) / op->stride_w + 1;
    const int32_t most = channels < GROUP && fit > STORED ? STORED : fit;
    const int32_t whole = (op->out_w - 1) * op->stride_w + span + 1;
    const bool in_blocks = never_direct && op->out_w <= most && op->dilation_h == 1;
    const int32_t block = in_blocks ? (GATHERED_WORDS / whole - op->kernel_h) / op->stride_h + 1 : 1;
    row_t row = {.op = op, .run = run, .top = -op->pad_top};
    row.taps.centre = 2 * op->output_zero_point + 1;
    row.taps.min = (uint8_t)op->act_min * 0x01010101u;
    row.taps.max = (uint8_t)op->act_max * 0x01010101u;
    row.taps.width = op->kernel_w;
    row.taps.height = op->kernel_h;
    for (int32_t y = 0; y < op->out_h; y += block) {
        const int32_t rows = op->out_h - y < block ? op->out_h - y : block;
        const bool rows_inside = row.top >= 0 && row.top + (op->kernel_h - 1) * op->dilation_h < op->in_h;
        const bool at_once = never_direct || !rows_inside;
        row.taps.weights = op->weights;
        row.taps.channels = op->channels;
        for (int32_t done = 0; done < channels; done += GROUP) {
            row.channel = channels < GROUP ? 0 : done + GROUP <= channels ? done : channels - GROUP;
            row.output = op->output + y * op->out_w * channels + row.channel;
            gathered(&row, 0, at_once ? op->out_w : first, most, rows);
            if (!at_once) {
                direct(&row, first, end);
                gathered(&row, end, op->out_w, most, rows);
            }
            row.taps.weights += GROUP * op->kernel_w * op->kernel_h;
            row.taps.channels += PER_GROUP;
        }
        row.top += block * op->stride_h;
    }
}

int hil_dw(const void *op)
{
    depthwise(op, hil_taps);
    return 0;
}

int hil_dw_any(const void *op)
{
    depthwise(op, hil_taps_any);
    return 0;
}

int hil_dw_generic(const void *data)
{
    const hil_conv_t *const op = data;
    const cmsis_nn_context context = {.buf = NULL, .size = 0};
    const cmsis_nn_dw_conv_params params = {
        .input_offset = -op->input_zero_point,
        .output_offset = op->output_zero_point,
        .ch_mult = op->out_c / op->in_c,
        .stride = {.w = op->stride_w, .h = op->stride_h},
        .padding = {.w = op->pad_left, .h = op->pad_top},
        .dilation = {.w = op->dilation_w, .h = op->dilation_h},
        .activation = {.min = op->act_min, .max = op->act_max},
    };
    const int32_t *const channels = op->channels;
    const cmsis_nn_per_channel_quant_params quant = {
        .multiplier = (int32_t *)(uintptr_t)(channels + op->out_c), /* only read, though not declared so */
        .shift = (int32_t *)(uintptr_t)(channels + 2 * op->out_c),
    };
    const cmsis_nn_dims input = {.n = 1, .h = op->in_h, .w = op->in_w, .c = op->in_c};
    const cmsis_nn_dims filter = {.n = 1, .h = op->kernel_h, .w = op->kernel_w, .c = op->out_c};
    const cmsis_nn_dims output = {.n = 1, .h = op->out_h, .w = op->out_w, .c = op->out_c};
    return arm_depthwise_conv_s8(&context, &params, &quant, &input, op->input, &filter, op->weights, &output, channels,
                                 &output, op->output);
}
