/* Kernels of 16-bit activations that have no weights. Zero points are 0, but for what QUANTIZE reads or writes. */
#include "hil_kernels.h"
#include "hil_scale.h"

enum { SUM_SHIFT = 15, TABLE_BITS = 9 };

static inline int32_t between(int32_t value, int32_t min, int32_t max)
{
    return value < min ? min : value > max ? max : value;
}

typedef int32_t (*binary_fn)(const hil_wide_binary_t *op, int32_t first, int32_t second);

static inline __attribute__((always_inline)) int run(const hil_wide_binary_t *op, binary_fn function)
{
    int16_t *output = op->output;
    for (uint32_t i = 0; i < op->counts[0]; ++i) {
        for (uint32_t j = 0; j < op->counts[1]; ++j) {
            for (uint32_t k = 0; k < op->counts[2]; ++k) {
                const int16_t *first = (const int16_t *)op->first + i * op->first_steps[0] + j * op->first_steps[1] +
                                       k * op->first_steps[2];
                const int16_t *second = (const int16_t *)op->second + i * op->second_steps[0] +
                                        j * op->second_steps[1] + k * op->second_steps[2];
                for (uint32_t n = op->counts[3]; n != 0; --n) {
                    *output++ = (int16_t)between(function(op, *first, *second), op->act_min, op->act_max);
                    first += op->first_steps[3];
                    second += op->second_steps[3];
                }
            }
        }
    }
    return 0;
}

static inline int32_t sum_of(const hil_wide_binary_t *op, int32_t first, int32_t second)
{
    const int32_t sum = hil_scaled(first * (1 << SUM_SHIFT), op->first_significand, op->first_shift) +
                        hil_scaled(second * (1 << SUM_SHIFT), op->second_significand, op->second_shift);
    return hil_scaled(sum, op->output_significand, op->output_shift);
}

static inline int32_t difference_of(const hil_wide_binary_t *op, int32_t first, int32_t second)
{
    const int32_t difference = hil_scaled(first * (1 << SUM_SHIFT), op->first_significand, op->first_shift) -
                               hil_scaled(second * (1 << SUM_SHIFT), op->second_significand, op->second_shift);
    return hil_scaled(difference, op->output_significand, op->output_shift);
}

static inline int32_t product_of(const hil_wide_binary_t *op, int32_t first, int32_t second)
{
    return hil_scaled(first * second, op->output_significand, op->output_shift);
}

static inline int32_t larger_of(const hil_wide_binary_t *op, int32_t first, int32_t second)
{
    (void)op;
    return first > second ? first : second;
}

static inline int32_t smaller_of(const hil_wide_binary_t *op, int32_t first, int32_t second)
{
    (void)op;
    return first < second ? first : second;
}

int hil_wide_add(const void *op)
{
    return run(op, sum_of);
}

int hil_wide_sub(const void *op)
{
    return run(op, difference_of);
}

int hil_wide_mul(const void *op)
{
    return run(op, product_of);
}

int hil_wide_maximum(const void *op)
{
    return run(op, larger_of);
}

int hil_wide_minimum(const void *op)
{
    return run(op, smaller_of);
}

typedef int32_t (*pool_fn)(int32_t so_far, int32_t value);

/* One window of one channel; `count` gets the positions that are inside. */
static inline __attribute__((always_inline)) int32_t pooled(const hil_wide_pool_t *op, const int16_t *input, int32_t top,
                                                            int32_t left, pool_fn function, int32_t start, int32_t *count)
{
    const int32_t bottom = MIN(top + op->window_h, op->in_h), right = MIN(left + op->window_w, op->in_w);
    top = MAX(top, 0);
    left = MAX(left, 0);
    *count = (bottom - top) * (right - left);
    for (int32_t row = top; row < bottom; ++row) {
        const int16_t *element = input + (row * op->in_w + left) * op->channels;
        for (int32_t n = right - left; n > 0; --n) {
            start = function(start, *element);
            element += op->channels;
        }
    }
    return start;
}

static inline int32_t larger(int32_t so_far, int32_t value)
{
    return so_far > value ? so_far : value;
}

static inline int32_t plus(int32_t so_far, int32_t value)
{
    return so_far + value;
}

static inline __attribute__((always_inline)) int pool(const hil_wide_pool_t *op, int averages)
{
    const int16_t *const input = op->input;
    int16_t *output = op->output;
    for (int32_t y = 0; y < op->out_h; ++y) {
        for (int32_t x = 0; x < op->out_w; ++x) {
            const int32_t top = y * op->stride_h - op->pad_top, left = x * op->stride_w - op->pad_left;
            for (uint32_t channel = 0; channel < op->channels; ++channel) {
                int32_t count;
                int32_t value = averages ? pooled(op, input + channel, top, left, plus, 0, &count)
                                         : pooled(op, input + channel, top, left, larger, INT16_MIN, &count);
                if (averages) {
                    value = (value > 0 ? value + count / 2 : value - count / 2) / count;
                }
                *output++ = (int16_t)between(value, op->act_min, op->act_max);
            }
        }
    }
    return 0;
}

int hil_wide_max_pool(const void *op)
{
    return pool(op, 0);
}

int hil_wide_avg_pool(const void *op)
{
    return pool(op, 1);
}

/* An input's magnitude, 2^17 of which are 32/3, at which the table (of the logistic function) is read. */
static inline int32_t argument(const hil_wide_function_t *op, int32_t value)
{
    const int32_t half = op->shift > 0 ? 1 << (op->shift - 1) : 0;
    return (int32_t)((uint32_t)(value * op->multiplier) + (uint32_t)half) >> op->shift;
}

/* The table between two of its entries, which are `bits` apart; `most` beyond its end. */
static inline uint32_t interpolated(const hil_wide_function_t *op, uint32_t magnitude, uint32_t bits, uint32_t most)
{
    const uint16_t *const table = (const uint16_t *)op->table;
    const uint32_t at = magnitude >> bits;
    if (at >= HIL_WIDE_TABLE - 1) {
        return most;
    }
    return ((uint32_t)table[at] << bits) + (magnitude & ((1u << bits) - 1)) * (uint32_t)(table[at + 1] - table[at]);
}

int hil_wide_logistic(const void *data)
{
    const hil_wide_function_t *const op = data;
    const int16_t *const input = op->input;
    int16_t *const output = op->output;
    for (uint32_t i = 0; i < op->count; ++i) {
        const int32_t x = argument(op, input[i]);
        const uint32_t found = interpolated(op, x < 0 ? 0u - (uint32_t)x : (uint32_t)x, TABLE_BITS, INT16_MAX << 10);
        output[i] = (int16_t)((x >= 0 ? found + (1u << 9) : (1u << 25) - found + (1u << 9) - 1) >> 10);
    }
    return 0;
}

/* tanh(x) is 2 * logistic(2x) - 1. */
int hil_wide_tanh(const void *data)
{
    const hil_wide_function_t *const op = data;
    const int16_t *const input = op->input;
    int16_t *const output = op->output;
    for (uint32_t i = 0; i < op->count; ++i) {
        const int32_t x = argument(op, input[i]);
        const uint32_t magnitude = x < 0 ? 0u - (uint32_t)x : (uint32_t)x;
        const int32_t found = (int32_t)interpolated(op, magnitude, TABLE_BITS - 1, 0xFFFFu << 8) - (1 << 23);
        output[i] = (int16_t)((x >= 0 ? found + (1 << 7) : -found + (1 << 7) - 1) >> 8);
    }
    return 0;
}

/* 513 entries over the range of 16 bits, in between which it is linear. */
static int32_t looked_up(const int16_t *table, int32_t value)
{
    const int16_t *const entry = table + 256 + (value >> 7);
    return (int16_t)(entry[0] + (((entry[1] - entry[0]) * (value & 127) + 64) >> 7));
}

static void softmax_row(const hil_wide_softmax_t *op, const int16_t *input, int16_t *output)
{
    int32_t largest = INT16_MIN, sum = 0;
    for (uint32_t i = 0; i < op->columns; ++i) {
        largest = MAX(largest, input[i]);
    }
    for (uint32_t i = 0; i < op->columns; ++i) { /* the output holds exponentials for a while */
        const int32_t scaled = hil_scaled(input[i] - largest, op->significand, op->shift) + INT16_MAX;
        output[i] = (int16_t)looked_up(op->tables, between(scaled, INT16_MIN, INT16_MAX));
        sum += output[i];
    }
    const int32_t headroom = __builtin_clz((uint32_t)sum) - 1; /* the largest adds about 1, so the sum is never 0 */
    const int32_t shifted = (int32_t)((((int64_t)sum << headroom) + (1 << 13)) >> 14) - (1 << 15) - (1 << 16);
    const int32_t reciprocal = looked_up(op->tables + HIL_WIDE_EXP_TABLE, between(shifted, INT16_MIN, INT16_MAX));
    const int32_t right = 30 - headroom;
    for (uint32_t i = 0; i < op->columns; ++i) {
        output[i] = (int16_t)between((output[i] * reciprocal + (1 << (right - 1))) >> right, 0, INT16_MAX);
    }
}

int hil_wide_softmax(const void *data)
{
    const hil_wide_softmax_t *const op = data;
    for (uint32_t row = 0; row < op->rows; ++row) {
        softmax_row(op, (const int16_t *)op->input + row * op->columns, (int16_t *)op->output + row * op->columns);
    }
    return 0;
}

int hil_wide_requantize(const void *data)
{
    const hil_wide_requantize_t *const op = data;
    for (uint32_t i = 0; i < op->count; ++i) {
        const int32_t input = op->is_input_wide ? ((const int16_t *)op->input)[i] : ((const int8_t *)op->input)[i];
        const int32_t value = hil_scaled(input - op->input_zero_point, op->significand, op->shift) + op->output_zero_point;
        if (op->is_output_wide) {
            ((int16_t *)op->output)[i] = (int16_t)between(value, INT16_MIN, INT16_MAX);
        } else {
            ((int8_t *)op->output)[i] = (int8_t)between(value, INT8_MIN, INT8_MAX);
        }
    }
    return 0;
}
