/* Element-wise addition, in place or not, of tensors that may be smaller than the sum. The reference scales both inputs
 * to twice the larger scale, with 20 bits of headroom, adds, and scales the sum to the output's. To halve the input of the
 * larger scale is exact, so that only the other one is multiplied. */
#include "hil_kernels.h"
#include "hil_scale.h"

enum { LANES = 4 };

/* Where a run reads: `step` is LANES, or 0 for a side that is padding and reads four of its zero point again and again. */
typedef struct {
    const int8_t *data;
    uint32_t step;
} source_t;

/* a and b are elements times 2^24. */
static inline int32_t sum_of(const hil_add_t *op, int32_t a, int32_t b)
{
    const int32_t first = (a >> 5) - op->first_zero_point * (1 << 19);
    const int32_t second = (b >> 4) - op->second_zero_point * (1 << 20);
    const int32_t product = hil_multiplied(second, op->second_multiplier);
    const int32_t shifted = (((product + (product >> 31)) >> op->second_shift) + 1) >> 1;
    const int32_t sum = hil_multiplied(first + shifted, op->output_multiplier);
    const int32_t centred = ((sum + (sum >> 31)) >> op->output_shift) + 2 * op->output_zero_point + 1;
    return __SSAT(centred >> 1, 8);
}

static void add_run(const hil_add_t *op, source_t first, source_t second, int8_t *output, uint32_t count)
{
    const hil_add_t here = *op; /* no store can change it, so that it stays in registers */
    const uint32_t min = (uint8_t)here.act_min * 0x01010101u, max = (uint8_t)here.act_max * 0x01010101u;
    for (; count >= LANES; count -= LANES) {
        const uint32_t a = (uint32_t)arm_nn_read_s8x4(first.data), b = (uint32_t)arm_nn_read_s8x4(second.data);
        uint32_t four = 0;
        for (uint32_t shift = 0; shift < 32; shift += 8) {
            const int32_t sum = sum_of(&here, (int32_t)(a << (24 - shift) & 0xff000000u), (int32_t)(b << (24 - shift) & 0xff000000u));
            four |= (uint32_t)(uint8_t)sum << shift;
        }
        arm_nn_write_s8x4_ia(&output, (int32_t)hil_clamped_s8x4(four, min, max));
        first.data += first.step;
        second.data += second.step;
    }
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t sum = sum_of(&here, first.data[i] * (1 << 24), second.data[i] * (1 << 24));
        *output++ = (int8_t)hil_clamped_s8x4((uint8_t)sum, min, max);
    }
}

int hil_add(const void *data)
{
    const hil_add_t *const op = data;
    add_run(op, (source_t){op->first, LANES}, (source_t){op->second, LANES}, op->output, op->count);
    return 0;
}

/* One input of a padded addition: `next` is its next pixel, as pixels of the output are visited in order. */
typedef struct {
    const int8_t *next;
    uint32_t zero; /* its zero point, four times */
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
    return done < channels ? (source_t){data + done, LANES} : (source_t){(const int8_t *)&side->zero, 0};
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
    side_t first = {op->add.first, (uint8_t)op->add.first_zero_point * 0x01010101u, op->first_size};
    side_t second = {op->add.second, (uint8_t)op->add.second_zero_point * 0x01010101u, op->second_size};
    int8_t *output = op->add.output;
    for (uint32_t y = 0; y < op->output_size[0]; ++y) {
        for (uint32_t x = 0; x < op->output_size[1]; ++x) {
            add_pixel(op, &first, &second, output, y, x);
            output += op->output_size[2];
        }
    }
    return 0;
}
