/* Fully connected layers. TensorFlow Lite's reference rescales their sums in double, rounding once, where convolutions
 * round twice in fixed point; CMSIS-NN 4.0.0 does the latter, and has no kernel with a multiplier for each row, which
 * converters emit since 2024. So this is our own. */
#include "hil_kernels.h"
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

/* Adds the products of the input with two rows of weights to sums[0] and sums[1]. */
static inline void dot_two_rows(const hil_dense_t *op, const int8_t *row_0, const int8_t *row_1, int32_t sums[2])
{
    const int8_t *input = op->input;
    int32_t sum_0 = sums[0];
    int32_t sum_1 = sums[1];
    for (uint32_t n = op->columns / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input);
        const uint32_t w_0 = (uint32_t)arm_nn_read_s8x4_ia(&row_0);
        const uint32_t w_1 = (uint32_t)arm_nn_read_s8x4_ia(&row_1);
        const uint32_t even = __SXTB16(x), odd = __SXTB16_RORn(x, 8);
        sum_0 = (int32_t)__SMLAD(__SXTB16(w_0), even, (uint32_t)sum_0);
        sum_0 = (int32_t)__SMLAD(__SXTB16_RORn(w_0, 8), odd, (uint32_t)sum_0);
        sum_1 = (int32_t)__SMLAD(__SXTB16(w_1), even, (uint32_t)sum_1);
        sum_1 = (int32_t)__SMLAD(__SXTB16_RORn(w_1, 8), odd, (uint32_t)sum_1);
    }
    for (uint32_t n = op->columns % 4; n != 0; --n) {
        const int32_t x = *input++;
        sum_0 += x * *row_0++;
        sum_1 += x * *row_1++;
    }
    sums[0] = sum_0;
    sums[1] = sum_1;
}

enum { DENSE_LIMIT = 1 << 30 }; /* beyond any int8 output, whatever its zero point */

/* round(sum * scale) as C computes it in double, half away from zero. The scale is 63 bits / 2^(32 + shift), of which 53
 * are used; see HIL_DENSE_SHIFT_MASK. Double rounds the product to 53 bits first. That can only change the result where
 * it lifts a product onto a half, which adding half of the last of these bits does as well. */
static int8_t rescale(const hil_dense_t *op, int32_t sum, const int32_t *scale)
{
    int32_t value = 0;
    if (sum != 0) {
        const uint32_t magnitude = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
        const uint32_t shift = (uint32_t)scale[1] & HIL_DENSE_SHIFT_MASK;
        const uint64_t low = (uint64_t)magnitude * ((uint32_t)scale[1] & ~HIL_DENSE_SHIFT_MASK);
        uint64_t product = (uint64_t)magnitude * (uint32_t)scale[0] + (low >> 32); /* its upper 64 of 96 bits */
        product += ((uint32_t)low + (1ull << (42 - __builtin_clzll(product | 1u << 30)))) >> 32;
        const uint64_t rounded = (product + (1ull << (shift - 1))) >> shift;
        value = rounded > DENSE_LIMIT ? DENSE_LIMIT : (int32_t)rounded;
    }
    return hil_clamped((sum < 0 ? -value : value) + op->output_zero_point, op->act_min, op->act_max);
}

int hil_dense(const void *data)
{
    const hil_dense_t *const op = data;
    const uint32_t rows = op->rows;
    const int8_t *weights = op->weights;
    const int32_t *scale = op->channels + rows;
    for (uint32_t row = 0; row < rows; row += 2) {
        const uint32_t pair = row + 1 < rows ? 2 : 1; /* a last single row is computed twice and stored once */
        int32_t sums[2] = {op->channels[row], op->channels[row + pair - 1]};
        dot_two_rows(op, weights, weights + (pair - 1) * op->columns, sums);
        for (uint32_t i = 0; i < pair; ++i) {
            op->output[row + i] = rescale(op, sums[i], scale);
            scale += op->scale_step;
        }
        weights += 2 * op->columns;
    }
    return 0;
}
