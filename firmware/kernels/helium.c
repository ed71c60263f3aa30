/* hil_quads, hil_dense_quads and hil_taps for cores with Helium, in the place of the assembly for the DSP extension. */
#include "hil_dense.h"
#include "hil_helium.h"
#include "hil_rows.h"
#include "hil_scale.h"
#include "hil_taps.h"

#if HIL_HELIUM

enum { PIXELS = HIL_PIXELS, GROUP = 4, EIGHT = 8 };

/* Two columns of two rows that are packed, of one pixel. */
static inline void add_pair(uint32_t packed, uint32_t x, int32_t sums[2])
{
    const uint32_t even = __SXTB16(packed), odd = __SXTB16_RORn(__SSUB16(packed, even), 8);
    sums[0] = (int32_t)__SMLAD(even, x, (uint32_t)sums[0]);
    sums[1] = (int32_t)__SMLAD(odd, x, (uint32_t)sums[1]);
}

/* One column of two rows that are packed. */
static inline void add_column(const int8_t *packed, int32_t x, int32_t sums[2])
{
    sums[0] += packed[0] * x;
    sums[1] += (packed[1] + (packed[0] < 0)) * x;
}

/* Eight columns of four rows lie as two columns of rows 0 and 1, the same two of rows 2 and 3, and so on: VLD2 sorts them,
 * and likewise the pixels. */
void hil_quads(hil_rows_t *rows)
{
    for (uint32_t n = rows->quads; n != 0; --n) {
        const uint32_t *x = rows->x;
        const int8_t *w = rows->weights;
        int32_t sums[PIXELS][GROUP];
        int32_t a0 = rows->channels[0], b0 = rows->channels[1], c0 = rows->channels[2], d0 = rows->channels[3];
        int32_t a1 = a0, b1 = b0, c1 = c0, d1 = d0;
        for (uint32_t eights = rows->columns / EIGHT; eights != 0; --eights) {
            const int32x4x2_t weights = vld2q_s32((const int32_t *)w), pixels = vld2q_s32((const int32_t *)x);
            const int16x8_t x_0 = vreinterpretq_s16_s32(pixels.val[0]), x_1 = vreinterpretq_s16_s32(pixels.val[1]);
            const int16x8_t ab = vreinterpretq_s16_s32(weights.val[0]), cd = vreinterpretq_s16_s32(weights.val[1]);
            const int16x8_t a = hil_even_row(ab), b = hil_odd_row(ab, a), c = hil_even_row(cd), d = hil_odd_row(cd, c);
            a0 = vmladavaq_s16(a0, a, x_0);
            a1 = vmladavaq_s16(a1, a, x_1);
            b0 = vmladavaq_s16(b0, b, x_0);
            b1 = vmladavaq_s16(b1, b, x_1);
            c0 = vmladavaq_s16(c0, c, x_0);
            c1 = vmladavaq_s16(c1, c, x_1);
            d0 = vmladavaq_s16(d0, d, x_0);
            d1 = vmladavaq_s16(d1, d, x_1);
            w += EIGHT * GROUP;
            x += EIGHT;
        }
        sums[0][0] = a0, sums[0][1] = b0, sums[0][2] = c0, sums[0][3] = d0;
        sums[1][0] = a1, sums[1][1] = b1, sums[1][2] = c1, sums[1][3] = d1;
        for (uint32_t pairs = rows->columns % EIGHT / 2; pairs != 0; --pairs) {
            for (uint32_t half = 0; half < GROUP; half += 2) {
                const uint32_t packed = (uint32_t)arm_nn_read_s8x4_ia(&w);
                add_pair(packed, x[0], &sums[0][half]);
                add_pair(packed, x[1], &sums[1][half]);
            }
            x += PIXELS;
        }
        for (uint32_t half = 0; rows->columns % 2 != 0 && half < GROUP; half += 2) {
            add_column(w, (int16_t)*x, &sums[0][half]);
            add_column(w, (int16_t)(*x >> 16), &sums[1][half]);
            w += 2;
        }
        hil_finish_four(rows->channels, sums[1], rows->centre, rows->min, rows->max, rows->output_1);
        /* last: the outputs may be the same */
        hil_finish_four(rows->channels, sums[0], rows->centre, rows->min, rows->max, rows->output_0);
        rows->weights = w;
        rows->channels += 2 * GROUP + 1;
        rows->output_0 += GROUP;
        rows->output_1 += GROUP;
    }
}

/* Columns of fours are in the order 0, 2, 1, 3. */
void hil_dense_quads(hil_dense_quads_t *quads)
{
    static const uint16_t order[EIGHT] = {0, 2, 1, 3, 4, 6, 5, 7};
    const uint16x8_t columns = vld1q_u16(order);
    for (; quads->count != 0; --quads->count) {
        const int8_t *x = quads->input, *w = quads->weights;
        int32_t *const sums = quads->sums;
        int32_t a = quads->bias[0], b = quads->bias[1], c = quads->bias[2], d = quads->bias[3];
        for (uint32_t eights = quads->columns / EIGHT; eights != 0; --eights) {
            const int32x4x2_t weights = vld2q_s32((const int32_t *)w);
            const int16x8_t eight = vldrbq_gather_offset_s16(x, columns);
            const int16x8_t ab = vreinterpretq_s16_s32(weights.val[0]), cd = vreinterpretq_s16_s32(weights.val[1]);
            const int16x8_t even = hil_even_row(ab), third = hil_even_row(cd);
            a = vmladavaq_s16(a, even, eight);
            b = vmladavaq_s16(b, hil_odd_row(ab, even), eight);
            c = vmladavaq_s16(c, third, eight);
            d = vmladavaq_s16(d, hil_odd_row(cd, third), eight);
            w += EIGHT * GROUP;
            x += EIGHT;
        }
        sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
        if (quads->columns % EIGHT >= 4) {
            const uint32_t four = (uint32_t)arm_nn_read_s8x4_ia(&x);
            const uint32_t halves[2] = {__SXTB16(four), __SXTB16_RORn(four, 8)};
            for (uint32_t i = 0; i < 4; ++i) {
                add_pair((uint32_t)arm_nn_read_s8x4_ia(&w), halves[i / 2], &sums[i % 2 * 2]);
            }
        }
        if (quads->columns % 4 >= 2) {
            const uint32_t pair = __PKHBT(x[0], x[1], 16);
            add_pair((uint32_t)arm_nn_read_s8x4_ia(&w), pair, sums);
            add_pair((uint32_t)arm_nn_read_s8x4_ia(&w), pair, sums + 2);
            x += 2;
        }
        if (quads->columns % 2 != 0) {
            add_column(w, *x, sums);
            add_column(w + 2, *x, sums + 2);
            w += GROUP;
        }
        quads->weights = w;
        quads->bias += GROUP;
        hil_dense_finish(quads);
    }
}

/* A lane for each of the four channels. */
static inline __attribute__((always_inline)) void taps(const hil_taps_t *taps, uint32_t width, uint32_t height)
{
    const int8_t *pixel = taps->x;
    int8_t *output = taps->output;
    for (uint32_t n = taps->count; n != 0; --n) {
        const int8_t *w = taps->weights, *row = pixel;
        int32x4_t sum = vld1q_s32(taps->channels);
        for (uint32_t y = height; y != 0; --y) {
            const int8_t *x = row;
            for (uint32_t i = width; i != 0; --i) {
                sum = vaddq_s32(sum, vmulq_s32(vldrbq_s32(x), vldrbq_s32(w)));
                w += GROUP;
                x += taps->tap_step;
            }
            row += taps->row_step;
        }
        int32_t sums[GROUP];
        vst1q_s32(sums, sum);
        hil_finish_four(taps->channels, sums, taps->centre, taps->min, taps->max, output);
        pixel += taps->x_step;
        output += taps->output_step;
    }
}

void hil_taps_3x3(const hil_taps_t *op)
{
    taps(op, 3, 3);
}

void hil_taps(const hil_taps_t *op)
{
    taps(op, op->width, op->height);
}

#else

typedef int hil_helium_is_absent;

#endif
