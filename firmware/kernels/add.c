/* Element-wise addition, in place or not, of tensors that may be smaller than the sum. */
#include "hil_kernels.h"
#include "hil_scale.h"

enum { LEFT_SHIFT_BITS = 20 }; /* headroom for the inputs' multipliers: part of the reference's arithmetic */

/* Where a run reads: `step` is 1, or 0 for a side that is padding and reads its own zero point again and again. */
typedef struct {
    const int8_t *data;
    uint32_t step;
} source_t;

static void add_run(const hil_add_t *op, source_t first, source_t second, int8_t *output, uint32_t count)
{
    for (; count != 0; --count) {
        const int32_t a = (*first.data - op->first_zero_point) * (1 << LEFT_SHIFT_BITS);
        const int32_t b = (*second.data - op->second_zero_point) * (1 << LEFT_SHIFT_BITS);
        const int32_t sum = hil_scaled(a, op->first_significand, op->first_shift) +
                            hil_scaled(b, op->second_significand, op->second_shift);
        const int32_t value = hil_scaled(sum, op->output_significand, op->output_shift) + op->output_zero_point;
        *output++ = hil_clamped(value, op->act_min, op->act_max);
        first.data += first.step;
        second.data += second.step;
    }
}

int hil_add(const void *data)
{
    const hil_add_t *const op = data;
    add_run(op, (source_t){op->first, 1}, (source_t){op->second, 1}, op->output, op->count);
    return 0;
}

/* One input of a padded addition: `next` is its next pixel, as pixels of the output are visited in order. */
typedef struct {
    const int8_t *next;
    const int8_t *zero;
    const uint16_t *size;
} side_t;

/* Channels of the side that lie at pixel (y, x): all or none. Moves on behind them. */
static uint32_t take_pixel(side_t *side, uint32_t y, uint32_t x, const int8_t **pixel)
{
    const uint32_t channels = y < side->size[0] && x < side->size[1] ? side->size[2] : 0;
    *pixel = side->next;
    side->next += channels;
    return channels;
}

/* `data` as long as there are channels left at `done`, padding from there on. */
static source_t source_at(const side_t *side, const int8_t *data, uint32_t done, uint32_t channels)
{
    return done < channels ? (source_t){data + done, 1} : (source_t){side->zero, 0};
}

static void add_pixel(const hil_add_padded_t *op, side_t *first, side_t *second, int8_t *output, uint32_t y, uint32_t x)
{
    const int8_t *a;
    const int8_t *b;
    const uint32_t a_count = take_pixel(first, y, x, &a);
    const uint32_t b_count = take_pixel(second, y, x, &b);
    const uint32_t ends[3] = {a_count < b_count ? a_count : b_count, a_count < b_count ? b_count : a_count,
                              op->output_size[2]};
    uint32_t done = 0;
    for (uint32_t i = 0; i < 3; ++i) {
        const source_t from_a = source_at(first, a, done, a_count);
        const source_t from_b = source_at(second, b, done, b_count);
        add_run(&op->add, from_a, from_b, output + done, ends[i] - done);
        done = ends[i];
    }
}

int hil_add_padded(const void *data)
{
    const hil_add_padded_t *const op = data;
    side_t first = {op->add.first, &op->add.first_zero_point, op->first_size};
    side_t second = {op->add.second, &op->add.second_zero_point, op->second_size};
    int8_t *output = op->add.output;
    for (uint32_t y = 0; y < op->output_size[0]; ++y) {
        for (uint32_t x = 0; x < op->output_size[1]; ++x) {
            add_pixel(op, &first, &second, output, y, x);
            output += op->output_size[2];
        }
    }
    return 0;
}
