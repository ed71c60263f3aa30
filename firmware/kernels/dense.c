/* Fully connected layers. TensorFlow Lite's reference rescales their sums in double, rounding once, where convolutions
 * round twice in fixed point; CMSIS-NN 4.0.0 does the latter, and has no kernel with a multiplier for each row, which
 * converters emit since 2024. So this is our own. Rows are interleaved in groups as in hil_rows.h, in columns of fours. */
#include "hil_dense.h"
#include "hil_dot.h"
#include "hil_kernels.h"
#include "hil_rows.h"
#include "hil_scale.h"

enum { GROUP = 4 };

static const int8_t *two_rows(const hil_dense_t *op, const int8_t *weights, int32_t sums[GROUP])
{
    const int8_t *input = op->input;
    int32_t a = sums[0], b = sums[1];
    for (uint32_t n = op->columns / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input);
        const uint32_t ab = (uint32_t)arm_nn_read_s8x4_ia(&weights), ab_odd = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        const uint32_t even = __SXTB16(x), odd = __SXTB16_RORn(x, 8);
        a = hil_dual(__SXTB16(ab), even, a);
        b = hil_dual(__SXTB16_RORn(ab, 8), even, b);
        a = hil_dual(__SXTB16(ab_odd), odd, a);
        b = hil_dual(__SXTB16_RORn(ab_odd, 8), odd, b);
    }
    if (op->columns % 4 >= 2) {
        const uint32_t x = __PKHBT(input[0], input[1], 16), ab = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        a = hil_dual(__SXTB16(ab), x, a);
        b = hil_dual(__SXTB16_RORn(ab, 8), x, b);
        input += 2;
    }
    if (op->columns % 2 != 0) {
        a += *input * *weights++;
        b += *input * *weights++;
    }
    sums[0] = a, sums[1] = b;
    return weights;
}

/* The columns of a single row are reordered twice, which leaves them in order. */
static void one_row(const hil_dense_t *op, const int8_t *weights, int32_t sums[GROUP])
{
    const int8_t *input = op->input;
    int32_t sum = sums[0];
    for (uint32_t n = op->columns / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input), w = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        sum = hil_dual(__SXTB16(w), __SXTB16(x), sum);
        sum = hil_dual(__SXTB16_RORn(w, 8), __SXTB16_RORn(x, 8), sum);
    }
    for (uint32_t n = op->columns % 4; n != 0; --n) {
        sum += *input++ * *weights++;
    }
    sums[0] = sum;
}

enum { DENSE_LIMIT = 1 << 30 }; /* beyond any int8 output, whatever its zero point */

/* round(sum * scale) as C computes it in double, half away from zero. The scale is 63 bits / 2^(32 + shift), of which 53
 * are used; see HIL_DENSE_SHIFT_MASK. Double rounds the product to 53 bits first. That can only change the result where
 * it lifts a product onto a half, which adding half of the last of these bits does as well. */
static __attribute__((noinline)) int32_t rescaled_exactly(int32_t sum, const int32_t *scale)
{
    if (sum == 0) {
        return 0;
    }
    const uint32_t magnitude = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    const uint32_t shift = (uint32_t)scale[1] & HIL_DENSE_SHIFT_MASK;
    const uint64_t low = (uint64_t)magnitude * ((uint32_t)scale[1] & ~HIL_DENSE_SHIFT_MASK);
    uint64_t product = (uint64_t)magnitude * (uint32_t)scale[0] + (low >> 32); /* its upper 64 of 96 bits */
    product += ((uint32_t)low + (1ull << (42 - __builtin_clzll(product | 1u << 30)))) >> 32;
    const uint64_t rounded = (product + (1ull << (shift - 1))) >> shift;
    const int32_t value = rounded > DENSE_LIMIT ? DENSE_LIMIT : (int32_t)rounded;
    return sum < 0 ? -value : value;
}

/* The same. The upper 31 bits of the scale decide unless the product comes within 2^32 units of them to a half: the lower
 * ones, and rounding to 53 bits, add less than 2^31 each. For shifts that leave the upper word of the product no bit below
 * the half that is always so. */
static inline int32_t rescaled(int32_t sum, const int32_t *scale)
{
    const uint32_t shift = ((uint32_t)scale[1] & HIL_DENSE_SHIFT_MASK) - 32; /* of the upper word */
    if (shift - 1 < 30) {
        const int32_t high = (int32_t)((int64_t)sum * scale[0] >> 32) + (1 << (shift - 1));
        const int32_t value = (high - 1) >> shift;
        if (value == (high + 1) >> shift) {
            return value;
        }
    }
    return rescaled_exactly(sum, scale);
}

/* Four outputs of `sums`, one after the other. */
void hil_dense_finish(hil_dense_quads_t *quads)
{
    for (uint32_t i = 0; i < GROUP; ++i) {
        const int32_t value = rescaled(quads->sums[i], quads->scale) + quads->zero_point;
        *quads->output++ = hil_clamped(value, (int8_t)quads->min, (int8_t)quads->max);
        quads->scale += quads->scale_step;
    }
}

static void quads_any(hil_dense_quads_t *quads, const hil_dense_t *op)
{
    for (; quads->count != 0; --quads->count) {
        for (uint32_t i = 0; i < GROUP; ++i) {
            quads->sums[i] = *quads->bias++;
        }
        quads->weights = hil_dot_four(quads->weights, op->input, op->columns, quads->sums);
        hil_dense_finish(quads);
    }
}

/* What rescales a sum in one multiplication, for one scale: see hil_dense.h. */
static void prepare(hil_dense_quads_t *quads)
{
    const uint32_t shift = ((uint32_t)quads->scale[1] & HIL_DENSE_SHIFT_MASK) - 32;
    const uint32_t unit = shift - 1 < 31 ? 1u << shift : 0;
    quads->multiplier = quads->scale[0];
    quads->half = (int32_t)(unit / 2 + 1);
    quads->mask = unit != 0 ? unit - 2 : 0;
    quads->shift = shift;
}

static void quads_packed(hil_dense_quads_t *quads, const hil_dense_t *op)
{
    (void)op;
    prepare(quads);
    hil_dense_quads(quads);
}

typedef void (*quads_fn)(hil_dense_quads_t *quads, const hil_dense_t *op);

static inline __attribute__((always_inline)) int dense(const hil_dense_t *op, quads_fn all_quads)
{
    hil_dense_quads_t quads; /* field by field: an initialiser clears all others first */
    quads.input = op->input;
    quads.weights = op->weights;
    quads.bias = op->channels;
    quads.scale = op->channels + op->rows;
    quads.output = op->output;
    quads.count = op->rows / GROUP;
    quads.columns = op->columns;
    quads.zero_point = op->output_zero_point;
    quads.min = (uint8_t)op->act_min * 0x01010101u;
    quads.max = (uint8_t)op->act_max * 0x01010101u;
    quads.scale_step = op->scale_step;
    if (quads.count != 0) {
        all_quads(&quads, op);
    }
    for (uint32_t left = op->rows % GROUP; left != 0;) {
        const uint32_t count = left >= 2 ? 2 : 1;
        for (uint32_t i = 0; i < count; ++i) {
            quads.sums[i] = *quads.bias++;
        }
        if (count == 2) {
            quads.weights = two_rows(op, quads.weights, quads.sums);
        } else {
            one_row(op, quads.weights, quads.sums);
        }
        for (uint32_t i = 0; i < count; ++i) {
            *quads.output++ = hil_clamped(rescaled(quads.sums[i], quads.scale) + op->output_zero_point, op->act_min, op->act_max);
            quads.scale += quads.scale_step;
        }
        left -= count;
    }
    return 0;
}

int hil_dense(const void *op)
{
    return dense(op, quads_packed);
}

int hil_dense_any(const void *op)
{
    return dense(op, quads_any);
}
