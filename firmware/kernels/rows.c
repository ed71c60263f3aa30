/* What convolutions over all channels do in C: the rows that do not make four, and any scales. */
#include "hil_helium.h"
#include "hil_rows.h"
#include "hil_scale.h"

enum { PIXELS = HIL_PIXELS, GROUP = 4 };

static __attribute__((noinline)) void finish_both(hil_rows_t *rows, uint32_t count, const int32_t *sums_0, const int32_t *sums_1)
{
    hil_finish(rows->channels, count, sums_1, rows->centre, rows->min, rows->max, rows->output_1);
    /* last: the outputs may be the same */
    hil_finish(rows->channels, count, sums_0, rows->centre, rows->min, rows->max, rows->output_0);
    rows->channels += 2 * count + 1;
    rows->output_0 += count;
    rows->output_1 += count;
}

/* hil_quads for any shifts, with weights that are not packed: two columns of four rows are two words. */
void hil_quads_any(hil_rows_t *rows)
{
    for (uint32_t n = rows->quads; n != 0; --n) {
        const uint32_t *x = rows->x;
        int32_t sums[PIXELS][GROUP];
        for (uint32_t i = 0; i < GROUP; ++i) {
            sums[0][i] = sums[1][i] = rows->channels[i];
        }
        for (uint32_t pair = rows->columns / 2; pair != 0; --pair) {
            for (uint32_t half = 0; half < GROUP; half += 2) {
                const uint32_t w = (uint32_t)arm_nn_read_s8x4_ia(&rows->weights);
                const uint32_t even = __SXTB16(w), odd = __SXTB16_RORn(w, 8);
                for (uint32_t pixel = 0; pixel < PIXELS; ++pixel) {
                    int32_t *const sum = &sums[pixel][half];
                    sum[0] = (int32_t)__SMLAD(even, x[pixel], (uint32_t)sum[0]);
                    sum[1] = (int32_t)__SMLAD(odd, x[pixel], (uint32_t)sum[1]);
                }
            }
            x += PIXELS;
        }
        if (rows->columns % 2 != 0) {
            for (uint32_t i = 0; i < GROUP; ++i) {
                const int32_t w = *rows->weights++;
                sums[0][i] += w * (int16_t)*x;
                sums[1][i] += w * (int16_t)(*x >> 16);
            }
        }
        finish_both(rows, GROUP, sums[0], sums[1]);
    }
}

#if !HIL_DSP_ASSEMBLY && !HIL_HELIUM

/* Two bytes of packed weights times both pixels' columns. */
static inline void multiply_packed(const int8_t *packed, int32_t x_0, int32_t x_1, int32_t *sums_0, int32_t *sums_1)
{
    const int32_t even = packed[0], odd = packed[1] + (packed[0] < 0);
    sums_0[0] += even * x_0;
    sums_0[1] += odd * x_0;
    sums_1[0] += even * x_1;
    sums_1[1] += odd * x_1;
}

/* The twin in C of the assembly in quads.c. */
void hil_quads(hil_rows_t *rows)
{
    for (uint32_t n = rows->quads; n != 0; --n) {
        const int16_t *x = (const int16_t *)rows->x;
        int32_t sums[PIXELS][GROUP];
        for (uint32_t i = 0; i < GROUP; ++i) {
            sums[0][i] = sums[1][i] = rows->channels[i];
        }
        for (uint32_t pair = rows->columns / 2; pair != 0; --pair) {
            for (uint32_t half = 0; half < GROUP; half += 2) {
                for (uint32_t column = 0; column < 2; ++column) {
                    multiply_packed(rows->weights, x[column], x[2 + column], &sums[0][half], &sums[1][half]);
                    rows->weights += 2;
                }
            }
            x += 2 * PIXELS;
        }
        for (uint32_t half = 0; rows->columns % 2 != 0 && half < GROUP; half += 2) {
            multiply_packed(rows->weights, x[0], x[1], &sums[0][half], &sums[1][half]);
            rows->weights += 2;
        }
        finish_both(rows, GROUP, sums[0], sums[1]);
    }
}

#endif

static void two_rows(hil_rows_t *rows)
{
    const uint32_t *x = rows->x;
    const int8_t *weights = rows->weights;
    int32_t x0w0 = rows->channels[0], x0w1 = rows->channels[1], x1w0 = x0w0, x1w1 = x0w1;
    for (const uint32_t *const end = x + rows->columns / 2 * PIXELS; x != end; x += PIXELS) {
        const uint32_t w = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        const uint32_t x_0 = x[0], x_1 = x[1];
        const uint32_t even = __SXTB16(w), odd = __SXTB16_RORn(w, 8);
        x0w0 = (int32_t)__SMLAD(even, x_0, (uint32_t)x0w0);
        x0w1 = (int32_t)__SMLAD(odd, x_0, (uint32_t)x0w1);
        x1w0 = (int32_t)__SMLAD(even, x_1, (uint32_t)x1w0);
        x1w1 = (int32_t)__SMLAD(odd, x_1, (uint32_t)x1w1);
    }
    if (rows->columns % 2 != 0) {
        const int32_t x_0 = (int16_t)*x, x_1 = (int16_t)(*x >> 16);
        x0w0 += x_0 * weights[0];
        x0w1 += x_0 * weights[1];
        x1w0 += x_1 * weights[0];
        x1w1 += x_1 * weights[1];
        weights += 2;
    }
    rows->weights = weights;
    finish_both(rows, 2, (const int32_t[]){x0w0, x0w1}, (const int32_t[]){x1w0, x1w1});
}

static void one_row(hil_rows_t *rows)
{
    const uint32_t *x = rows->x;
    const int8_t *weights = rows->weights;
    int32_t sum_0 = rows->channels[0], sum_1 = sum_0;
    for (const uint32_t *const end = x + rows->columns / 4 * (2 * PIXELS); x != end; x += 2 * PIXELS) {
        const uint32_t w = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        const uint32_t even = __SXTB16(w), odd = __SXTB16_RORn(w, 8);
        sum_0 = (int32_t)__SMLAD(even, x[0], (uint32_t)sum_0);
        sum_1 = (int32_t)__SMLAD(even, x[1], (uint32_t)sum_1);
        sum_0 = (int32_t)__SMLAD(odd, x[2], (uint32_t)sum_0);
        sum_1 = (int32_t)__SMLAD(odd, x[3], (uint32_t)sum_1);
    }
    if (rows->columns % 4 >= 2) {
        sum_0 += weights[0] * (int16_t)x[0] + weights[1] * (int16_t)(x[0] >> 16);
        sum_1 += weights[0] * (int16_t)x[1] + weights[1] * (int16_t)(x[1] >> 16);
        x += PIXELS;
        weights += 2;
    }
    if (rows->columns % 2 != 0) {
        sum_0 += *weights * (int16_t)*x;
        sum_1 += *weights * (int16_t)(*x >> 16);
    }
    finish_both(rows, 1, &sum_0, &sum_1);
}

void hil_rest_of_rows(hil_rows_t *rows, uint32_t count)
{
    if (count >= 2) {
        two_rows(rows);
    }
    if (count % 2 != 0) {
        one_row(rows);
    }
}
