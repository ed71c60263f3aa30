/* Int8 kernels behind one calling convention: a function and a constant that describes one layer.
 *
 * A generated model.c is a table of such pairs (hil_steps) and holds no code. The planner on the host has chosen the
 * kernel and checked its limits; what a kernel refuses nevertheless comes back as a status other than 0. Sizes of the
 * structs are part of the flash estimate (munas/cost/variants.py), so they are asserted here.
 *
 * Tensors are int8, height x width x channels. A zero point z means real = scale * (q - z). Multipliers are
 * significand / 2^31 * 2^shift. Everything is bit-equal to TensorFlow Lite's reference kernels. */
#ifndef HIL_KERNELS_H
#define HIL_KERNELS_H

#include <stdint.h>

typedef int (*hil_kernel_fn)(const void *op);

typedef struct {
    hil_kernel_fn run;
    const void *op;
} hil_step_t;

/* hil_model.layers of them, in execution order. */
extern const hil_step_t hil_steps[];

/* Convolutions, also depthwise. `weights` and `channels` are as hil_rows.h and hil_taps.h say, with the input's zero point in
 * the biases: bias - zero point * sum of the row's weights. Of hil_dw_generic, `channels` holds out_c biases, then out_c
 * significands, then out_c shifts. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    void *scratch;
    const int8_t *weights;
    const int32_t *channels;
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w, out_c;
    uint8_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int8_t input_zero_point, output_zero_point, act_min, act_max;
} hil_conv_t;

/* Scratch: 4 * kernel_h * kernel_w * in_c bytes, if that is more than 1024 (less is on the stack). */
int hil_conv_1x1(const void *op); /* no padding */
int hil_conv_im2col(const void *op);
int hil_conv_any(const void *op); /* both, scales of 1/2 or more too */

/* Multiplier 1; kernel_w is at most 7. */
int hil_dw(const void *op);
int hil_dw_any(const void *op); /* scales of 1/2 or more too */

/* Depthwise, 3 x 3, multiplier 1, at least four channels, no dilation, strides of 1. Two outputs are made at a time that
 * lie one below the other (pairs_down) or side by side. `channels` is as hil_taps.h says; `weights` has nine bytes a channel
 * for each four, across the pairs first: hil_planes.h. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    const int8_t *weights;
    const int32_t *channels;
    uint16_t in_h, in_w, out_h, out_w, channels_count;
    uint8_t pad_top, pad_left;
    int8_t input_zero_point, output_zero_point, act_min, act_max;
    uint8_t pairs_down;
} hil_dw_3x3_t;

int hil_dw_3x3(const void *op);

int hil_dw_generic(const void *op); /* any; faster when the multiplier is divisible by 4 and there is no dilation */

/* Fully connected: rows outputs of columns inputs each. Weights are interleaved as hil_rows.h says, in columns of fours.
 * `channels` holds rows biases (with the input's zero point in them, as above), then two words of scale for each row
 * (scale_step 2) or for all of them (scale_step 0): the upper 31 bits of a significand, and its lower 32 bits with the lowest
 * six replaced by a shift (1 ... 63). The scale is significand / 2^(32 + shift). */
typedef struct {
    const int8_t *input;
    int8_t *output;
    const int8_t *weights;
    const int32_t *channels;
    uint32_t columns;
    uint16_t rows;
    int8_t output_zero_point, act_min, act_max;
    uint8_t scale_step;
} hil_dense_t;

#define HIL_DENSE_SHIFT_MASK 63u

int hil_dense(const void *op);     /* groups of four rows are packed */
int hil_dense_any(const void *op); /* they are not, as no weight of -128 can be */

typedef struct {
    const int8_t *input;
    int8_t *output;
    uint16_t in_h, in_w, channels;
    uint16_t out_h, out_w;
    uint16_t window_h, window_w, stride_h, stride_w, pad_top, pad_left;
    int8_t act_min, act_max;
} hil_pool_t;

int hil_max_pool(const void *op);
int hil_avg_pool(const void *op);

/* Sum of two tensors. The output may be one of the inputs. The first has the larger scale, so that half of it is what counts;
 * multipliers and shifts of the others are as in hil_rows.h, shifts 0 or more. */
typedef struct {
    const int8_t *first;
    const int8_t *second;
    int8_t *output;
    int32_t second_multiplier, output_multiplier;
    uint32_t count;
    int8_t second_shift, output_shift;
    int8_t first_zero_point, second_zero_point, output_zero_point;
    int8_t act_min, act_max;
} hil_add_t;

int hil_add(const void *op);

/* Sum of two tensors that may be smaller than the output: they count as real zero beyond their bottom, right and last
 * channel. Sizes are height, width, channels. The output may be an input that has its sizes. add.count is not used. */
typedef struct {
    hil_add_t add;
    uint16_t first_size[3], second_size[3], output_size[3];
} hil_add_padded_t;

int hil_add_padded(const void *op);

/* Copy into a larger tensor filled with `value`; sizes are height, width, channels. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    uint16_t input_size[3], output_size[3], before[3];
    int8_t value;
} hil_pad_t;

int hil_pad(const void *op);

typedef struct {
    const int8_t *data;
    uint32_t run_bytes;
} hil_part_t;

/* `runs` times: one run of each part, one after the other. */
typedef struct {
    const hil_part_t *parts;
    int8_t *output;
    uint32_t count;
    uint32_t runs;
} hil_concat_t;

int hil_concat(const void *op);

/* To another scale and zero point, clamped: QUANTIZE from int8 to int8, RELU, RELU6. The output may be the input. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    uint32_t count;
    int32_t significand;
    int8_t shift;
    int8_t input_zero_point, output_zero_point, act_min, act_max;
} hil_requantize_t;

int hil_requantize(const void *op);

/* Mean over height and width. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    uint32_t pixels;
    int32_t significand;
    uint16_t channels;
    int8_t shift;
    int8_t input_zero_point, output_zero_point;
} hil_mean_t;

int hil_mean(const void *op);

/* Softmax along rows; the output has scale 1/256 and zero point -128. The output may be the input. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    int32_t significand;
    int32_t diff_min;
    uint16_t rows, columns;
    int8_t shift;
} hil_softmax_t;

int hil_softmax(const void *op);

/* The logarithm of a softmax; the output has scale 1/16 and zero point 127. `reverse_*` takes a Q5.26 back to differences of
 * inputs. The output may be the input. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    int32_t significand, reverse_significand;
    int32_t diff_min;
    uint16_t rows, columns;
    int8_t shift, reverse_shift;
} hil_log_softmax_t;

int hil_log_softmax(const void *op);

/* A function of one int8: its results for -128 ... 127. The output may be the input. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    const int8_t *table;
    uint32_t count;
} hil_lookup_t;

int hil_lookup(const void *op);

/* Runs of `run` bytes, gathered along axes with a step each (bytes; 0 and below as well), the last one innermost. */
#define HIL_COPY_AXES 4
typedef struct {
    const int8_t *input;
    int8_t *output;
    uint32_t run;
    uint32_t counts[HIL_COPY_AXES];
    int32_t steps[HIL_COPY_AXES];
} hil_copy_t;

int hil_copy(const void *op);

/* Runs of `run` bytes from the sums of three places; `places` holds those of the first axis, then the second's, the
 * third's. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    const int32_t *places;
    uint32_t run;
    uint32_t counts[3];
} hil_select_t;

int hil_select(const void *op);

/* Two operands with a step in elements along each of four axes. A product has the output's multiplier alone; PRELU has
 * first_* for what is not negative and output_* for the rest. The output may be an operand that has its size. */
typedef struct {
    const int8_t *first;
    const int8_t *second;
    int8_t *output;
    uint32_t counts[4];
    uint32_t first_steps[4], second_steps[4];
    int32_t first_significand, second_significand, output_significand;
    int8_t first_shift, second_shift, output_shift;
    int8_t first_zero_point, second_zero_point, output_zero_point;
    int8_t act_min, act_max;
} hil_binary_t;

int hil_add_broadcast(const void *op);
int hil_sub(const void *op);
int hil_mul(const void *op);
int hil_maximum(const void *op);
int hil_minimum(const void *op);
int hil_prelu(const void *op);

/* One output for each element of two axes that are kept, of all elements along two that are walked. Only a sum (or mean)
 * has multiplier and zero points. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    uint32_t kept[2], walked[2];
    uint32_t kept_steps[2], walked_steps[2];
    int32_t significand;
    int8_t shift;
    int8_t input_zero_point, output_zero_point;
} hil_reduce_t;

int hil_sum(const void *op);
int hil_reduce_max(const void *op);
int hil_reduce_min(const void *op);

typedef struct {
    hil_dense_t dense; /* of the first row */
    uint32_t count;
} hil_dense_rows_t;

int hil_dense_rows(const void *op);
int hil_dense_rows_any(const void *op); /* with hil_dense_any */

/* A convolution whose groups have `depth` input channels each. */
typedef struct {
    hil_conv_t conv;
    uint32_t depth;
} hil_grouped_t;

int hil_conv_grouped(const void *op);

int hil_conv_transposed(const void *op); /* a hil_conv_t; padding is that of the convolution that it turns around */

/* Scales are input pixels an output pixel, times 1024. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    int32_t scale_h, scale_w;
    uint16_t in_h, in_w, out_h, out_w;
    uint16_t channels;
    uint8_t half_pixel_centers;
} hil_resize_t;

int hil_resize_bilinear(const void *op);

/* One LSTM over `steps` inputs in a row. Each cell has the rows of its input, forget, cell and output gate over the inputs,
 * then those over the hidden state, four interleaved as hil_rows.h says in columns of fours; and as many biases, with the zero
 * points in them. Multipliers: four of the inputs' sums, four of the hidden state's (both to Q3.12), the output's. A cell
 * is 16 bits, a Q with `integer_bits`, and `clip` at most, if that is not 0. */
#define HIL_LSTM_GATES 4
typedef struct {
    const int8_t *input;
    int8_t *output;
    int8_t *hidden;
    void *cells_state;
    const int8_t *weights;
    const int32_t *biases;
    int32_t significands[2 * HIL_LSTM_GATES + 1];
    uint32_t steps;
    uint16_t inputs, cells;
    int16_t clip;
    int8_t shifts[2 * HIL_LSTM_GATES + 1];
    int8_t integer_bits, output_zero_point;
} hil_lstm_t;

int hil_lstm(const void *op);

/* `rank` filters for each unit. `biases` holds those of the filters (the input's zero point), then those of the units. */
typedef struct {
    const int8_t *input;
    int8_t *output;
    void *state; /* `memory` features of 16 bits for each filter, the newest last */
    const int8_t *weights;
    const int16_t *time_weights;
    const int32_t *biases;
    int32_t feature_significand, output_significand;
    uint16_t inputs, units, rank, memory;
    int8_t feature_shift, output_shift;
    int8_t output_zero_point;
} hil_svdf_t;

int hil_svdf(const void *op);

int hil_softmax_to_16(const void *op); /* a hil_softmax_t whose output is 16 bits: scale 1/65536, zero point -32768 */

/* 16-bit activations with 8-bit weights. Group g has `filters` outputs of `depth` input channels; a depthwise convolution has
 * a group a channel. Weights: output, row, column, channel, of which four are in the order 0, 2, 1, 3. `channels`: for each
 * output a bias of 64 bits, and 15 bits of multiplier with a shift in the upper half. */
typedef struct {
    const void *input;
    void *output;
    const int8_t *weights;
    const int32_t *channels;
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w, out_c;
    uint16_t depth, filters;
    uint8_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int16_t act_min, act_max;
} hil_wide_conv_t;

int hil_wide_conv(const void *op);

/* `count` inputs of `columns`. `channels`: for each row a bias of 64 bits, and its scale, a double. */
typedef struct {
    const void *input;
    void *output;
    const int8_t *weights;
    const int32_t *channels;
    uint32_t columns;
    uint16_t rows, count;
    int16_t act_min, act_max;
} hil_wide_dense_t;

int hil_wide_dense(const void *op);

/* As hil_binary_t. */
typedef struct {
    const void *first;
    const void *second;
    void *output;
    uint32_t counts[4];
    uint32_t first_steps[4], second_steps[4];
    int32_t first_significand, second_significand, output_significand;
    int8_t first_shift, second_shift, output_shift;
    int16_t act_min, act_max;
} hil_wide_binary_t;

int hil_wide_add(const void *op);
int hil_wide_sub(const void *op);
int hil_wide_mul(const void *op);
int hil_wide_maximum(const void *op);
int hil_wide_minimum(const void *op);

/* A hil_reduce_t and a hil_resize_t whose input and output are 16 bits; steps are elements. */
int hil_wide_sum(const void *op);
int hil_wide_reduce_max(const void *op);
int hil_wide_reduce_min(const void *op);
int hil_wide_resize_bilinear(const void *op);

typedef struct {
    const void *input;
    void *output;
    uint16_t in_h, in_w, channels;
    uint16_t out_h, out_w;
    uint16_t window_h, window_w, stride_h, stride_w, pad_top, pad_left;
    int16_t act_min, act_max;
} hil_wide_pool_t;

int hil_wide_max_pool(const void *op);
int hil_wide_avg_pool(const void *op);

/* `table` is the logistic function of 0, 1/24, 2/24, ..., times 2^16, without a sign. Inputs are multiplied and shifted. */
#define HIL_WIDE_TABLE 256
typedef struct {
    const void *input;
    void *output;
    const int16_t *table;
    uint32_t count;
    int32_t multiplier;
    int8_t shift;
} hil_wide_function_t;

int hil_wide_logistic(const void *op);
int hil_wide_tanh(const void *op);

/* `tables`: exp() of -10 ... 0 and 1 / (1 + x) of 0 ... 1, as Q0.15. */
#define HIL_WIDE_EXP_TABLE 513
typedef struct {
    const void *input;
    void *output;
    const int16_t *tables;
    int32_t significand;
    uint16_t rows, columns;
    int8_t shift;
} hil_wide_softmax_t;

int hil_wide_softmax(const void *op);

/* QUANTIZE where one side or both have 16 bits. */
typedef struct {
    const void *input;
    void *output;
    uint32_t count;
    int32_t significand;
    int16_t input_zero_point, output_zero_point;
    int8_t shift;
    uint8_t is_input_wide, is_output_wide;
} hil_wide_requantize_t;

int hil_wide_requantize(const void *op);

/* Bytes of the arena that live from one inference to the next: what they hold at first, or (0) `fill` in all. */
typedef struct {
    int8_t *data;
    const int8_t *initial;
    uint32_t bytes;
    int32_t fill;
} hil_state_t;

void hil_restore(const hil_state_t *states, uint32_t count);

_Static_assert(sizeof(hil_state_t) == 16, "hil/codegen/plan.py counts on it");
_Static_assert(sizeof(hil_step_t) == 8, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_conv_t) == 44, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_dw_3x3_t) == 36, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_dense_t) == 28, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_pool_t) == 32, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_add_t) == 32, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_add_padded_t) == 52, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_pad_t) == 28, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_part_t) == 8, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_concat_t) == 16, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_requantize_t) == 24, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_mean_t) == 24, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_softmax_t) == 24, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_log_softmax_t) == 28, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_lookup_t) == 16, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_copy_t) == 44, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_select_t) == 28, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_binary_t) == 80, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_reduce_t) == 48, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_dense_rows_t) == 32, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_grouped_t) == 48, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_resize_t) == 28, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_lstm_t) == 84, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_svdf_t) == 44, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_conv_t) == 44, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_dense_t) == 28, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_binary_t) == 80, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_pool_t) == 36, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_function_t) == 24, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_softmax_t) == 24, "munas/cost/variants.py counts on it");
_Static_assert(sizeof(hil_wide_requantize_t) == 24, "munas/cost/variants.py counts on it");

#endif
