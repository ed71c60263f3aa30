/* Depthwise convolutions of 3 x 3 with one output for each input channel, no strides and no dilation: tiles of four channels are spread into planes of
 * 16-bit pairs, with the input's zero point (which is in the biases) for padding, and multiplied a channel at a time. Of
 * channels not divisible by 4 the last four overlap those before; only what is left of them is multiplied. */
#include "hil_kernels.h"
#include "hil_planes.h"
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

enum { GROUP = 4, PER_GROUP = 2 * GROUP + 1, TAPS = 3, WORDS = HIL_PLANE_WORDS };
enum { MOST = 2 * (HIL_PLANE_PAIRS - 1), MOST_ROWS = HIL_PLANE_ROWS - TAPS + 1 }; /* outputs of a tile */

/* The axis of the pairs, or the other one. Steps are in bytes of the input. */
typedef struct {
    int32_t in, out, pad, step;
} axis_t;

/* The tile at hand: where the windows of its first outputs begin, columns of words, and rows before, on and behind the input. */
typedef struct {
    axis_t along, across;
    hil_planes_t planes;
    int32_t left, top, columns, above, inside, below;
} tile_t;

static inline uint32_t *fill(uint32_t *to, uint32_t pair, int32_t count)
{
    for (; count > 0; --count) {
        to[0] = to[WORDS] = to[2 * WORDS] = to[3 * WORDS] = pair;
        ++to;
    }
    return to;
}

static inline uint32_t *spread(uint32_t *to, const int8_t *x, int32_t x_step, const int8_t *y, int32_t y_step, int32_t count)
{
#pragma GCC unroll 1
    for (; count > 0; --count) {
        const uint32_t first = (uint32_t)arm_nn_read_s8x4(x), second = (uint32_t)arm_nn_read_s8x4(y);
        const uint32_t x_02 = __SXTB16(first), x_13 = __SXTB16_RORn(first, 8);
        const uint32_t y_02 = __SXTB16(second), y_13 = __SXTB16_RORn(second, 8);
        to[0] = __PKHBT(x_02, y_02, 16);
        to[WORDS] = __PKHBT(x_13, y_13, 16);
        to[2 * WORDS] = __PKHTB(y_02, x_02, 16);
        to[3 * WORDS] = __PKHTB(y_13, x_13, 16);
        ++to;
        x += x_step;
        y += y_step;
    }
    return to;
}

static __attribute__((noinline)) void gather_planes(const tile_t *tile, uint32_t padding, const int8_t *x, uint32_t *words)
{
    const uint32_t pair = __SXTB16(padding);
    int32_t at = tile->left;
    for (int32_t n = tile->columns; n != 0; --n) {
        const int8_t *first = x, *second = x + tile->along.step;
        int32_t first_step = tile->across.step, second_step = first_step;
        if ((uint32_t)at >= (uint32_t)tile->along.in) {
            first = (const int8_t *)&padding;
            first_step = 0;
        }
        if ((uint32_t)at + 1 >= (uint32_t)tile->along.in) {
            second = (const int8_t *)&padding;
            second_step = 0;
        }
        uint32_t *to = fill(words, pair, tile->above);
        to = spread(to, first, first_step, second, second_step, tile->inside);
        (void)fill(to, pair, tile->below);
        words += HIL_PLANE_ROWS;
        x += 2 * tile->along.step;
        at += 2;
    }
}

/* All channels of a tile whose outputs begin at `output`. */
static __attribute__((noinline)) void multiply_tile(const hil_dw_3x3_t *op, tile_t *tile, int8_t *output)
{
    uint32_t words[GROUP * WORDS];
    hil_planes_t *const planes = &tile->planes;
    const int8_t *x = op->input + tile->left * tile->along.step + (tile->top + tile->above) * tile->across.step;
    planes->weights = op->weights;
    planes->channels = op->channels;
    for (int32_t left = op->channels_count; left > 0; left -= GROUP) {
        const int32_t again = left < GROUP ? GROUP - left : 0;
        gather_planes(tile, (uint8_t)op->input_zero_point * 0x01010101u, x - again, words);
        planes->x = words + again * WORDS;
        planes->output = output;
        planes->count = (uint32_t)(GROUP - again);
        planes->shifts = (const uint8_t *)(planes->channels + 2 * GROUP) + again;
        planes->weights += TAPS * TAPS * again;
        planes->channels += again;
        hil_planes(planes);
        planes->weights += TAPS * TAPS * GROUP;
        planes->channels += PER_GROUP;
        x += GROUP;
        output += GROUP;
    }
}

/* Outputs are saturated; an activation may want less. */
static void clamp(const hil_dw_3x3_t *op, uint32_t size)
{
    const uint32_t min = (uint8_t)op->act_min * 0x01010101u, max = (uint8_t)op->act_max * 0x01010101u;
    int8_t *at = op->output;
    for (uint32_t n = size / 4; n != 0; --n) {
        arm_nn_write_s8x4_ia(&at, (int32_t)hil_clamped_s8x4((uint32_t)arm_nn_read_s8x4(at), min, max));
    }
    for (uint32_t n = size % 4; n != 0; --n) {
        *at = hil_clamped(*at, op->act_min, op->act_max);
        ++at;
    }
}

static inline int32_t between(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static inline int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

int hil_dw_3x3(const void *data)
{
    const hil_dw_3x3_t *const op = data;
    const int32_t channels = op->channels_count, down = op->out_w * channels;
    tile_t tile;
    axis_t *const along = &tile.along, *const across = &tile.across;
    *(op->pairs_down != 0 ? along : across) = (axis_t){op->in_h, op->out_h, op->pad_top, op->in_w * channels};
    *(op->pairs_down != 0 ? across : along) = (axis_t){op->in_w, op->out_w, op->pad_left, channels};
    tile.planes.along = (uint32_t)(op->pairs_down != 0 ? down : channels);
    tile.planes.across = (uint32_t)(op->pairs_down != 0 ? channels : down);
    tile.planes.centre = 256 * (2 * op->output_zero_point + 1);
    tile.top = -across->pad;
    int8_t *band = op->output;
    for (int32_t rows_left = across->out; rows_left > 0; rows_left -= MOST_ROWS) {
        const int32_t rows = least(rows_left, MOST_ROWS), height = rows + TAPS - 1;
        tile.planes.rows = (uint32_t)rows;
        tile.above = between(-tile.top, 0, height);
        tile.inside = between(across->in - tile.top, tile.above, height) - tile.above;
        tile.below = height - tile.above - tile.inside;
        tile.left = -along->pad;
        int8_t *output = band;
        for (int32_t left = along->out; left > 0; left -= MOST) {
            const uint32_t count = (uint32_t)least(left, MOST);
            tile.columns = (int32_t)(count + 1) / 2 + 1;
            tile.planes.full = count / 2 * sizeof(uint32_t[HIL_PLANE_ROWS]);
            tile.planes.odd = count % 2 * sizeof(uint32_t[HIL_PLANE_ROWS]);
            multiply_tile(op, &tile, output);
            tile.left += MOST;
            output += MOST * tile.planes.along;
        }
        tile.top += MOST_ROWS;
        band += MOST_ROWS * tile.planes.across;
    }
    if (op->act_min != INT8_MIN || op->act_max != INT8_MAX) {
        clamp(op, (uint32_t)(op->out_h * op->out_w * channels));
    }
    return 0;
}
