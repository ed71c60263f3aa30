/* Fully connected layers. TensorFlow Lite's reference rescales their sums in double, rounding once, where convolutions
 * round twice in fixed point; CMSIS-NN 4.0.0 does the latter, and has no kernel with a multiplier for each row, which
 * converters emit since 2024. So this is our own. Rows are interleaved in groups as in hil_rows.h, in columns of fours. */
#include "hil_kernels.h"
#include "hil_rows.h"
#include "hil_scale.h"

enum { GROUP = 4 };

static inline int32_t dual(uint32_t a, uint32_t b, int32_t sum)
{
    return (int32_t)__SMLAD(a, b, (uint32_t)sum);
}

/* Adds the products of the input with four rows to `sums`; gives the end of the rows. */
typedef const int8_t *(*four_rows_fn)(const hil_dense_t *op, const int8_t *weights, int32_t sums[GROUP]);

enum { FOURS_AT_ONCE = HIL_PACKED_COLUMNS / 4 };

/* Two columns of two rows. */
static inline void multiply_pair(uint32_t packed, uint32_t x, int32_t *even, int32_t *odd)
{
    const int32_t product = dual(__SXTB16(packed), x, 0);
    *odd += (dual(packed, x, 0) - product) >> 8;
    *even += product;
}

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP

/* r0: input, r1: weights, r4 and r6: sums of the even rows, r5 and r7: of even and odd ones, packed as in quads.c. 76 bytes. */
#define FOUR_COLUMNS                                                                                                   \
    "ldr.w r12, [r0], #4\n"                                                                                            \
    "ldr.w r9, [r1, #4]\n"                                                                                             \
    "ldr.w r10, [r1, #8]\n"                                                                                            \
    "ldr.w r11, [r1, #12]\n"                                                                                           \
    "ldr.w r8, [r1], #16\n"                                                                                            \
    "sxtb16.w lr, r12, ror #8\n"                                                                                       \
    "sxtb16.w r12, r12\n"                                                                                              \
    "smlad r5, r8, r12, r5\n"                                                                                          \
    "sxtb16.w r8, r8\n"                                                                                                \
    "smlad r7, r9, r12, r7\n"                                                                                          \
    "sxtb16.w r9, r9\n"                                                                                                \
    "smlad r5, r10, lr, r5\n"                                                                                          \
    "sxtb16.w r10, r10\n"                                                                                              \
    "smlad r7, r11, lr, r7\n"                                                                                          \
    "sxtb16.w r11, r11\n"                                                                                              \
    "smlad r4, r8, r12, r4\n"                                                                                          \
    "smlad r6, r9, r12, r6\n"                                                                                          \
    "smlad r4, r10, lr, r4\n"                                                                                          \
    "smlad r6, r11, lr, r6\n"

/* 4 * `fours` columns, at least 4. In assembly as compilers do not load in one go, which costs a fifth. */
static __attribute__((naked, noinline)) void multiply_fours(__attribute__((unused)) const int8_t *input,
                                                            __attribute__((unused)) const int8_t *weights,
                                                            __attribute__((unused)) uint32_t fours,
                                                            __attribute__((unused)) int32_t sums[GROUP])
{
    __asm volatile("push {r3-r11, lr}\n"
                   "ldr r4, [r3]\n"
                   "ldr r6, [r3, #8]\n"
                   "mov r5, r4\n"
                   "mov r7, r6\n"
                   "rsb r8, r2, #0\n" /* columns that the first trip leaves out */
                   "and r8, r8, #3\n"
                   "add.w r2, r0, r2, lsl #2\n"
                   "adr.w r9, 0f\n"
                   "movs r3, #76\n"
                   "mla r9, r8, r3, r9\n"
                   "orr.w r9, r9, #1\n"
                   "bx r9\n"
                   ".balign 4\n"
                   "0:\n" FOUR_COLUMNS FOUR_COLUMNS FOUR_COLUMNS FOUR_COLUMNS
                   "cmp r0, r2\n"
                   "bne.w 0b\n"
                   "pop {r3}\n"
                   "ldr r0, [r3, #4]\n"
                   "ldr r1, [r3, #12]\n"
                   "subs r5, r5, r4\n"
                   "subs r7, r7, r6\n"
                   "add.w r5, r0, r5, asr #8\n"
                   "add.w r7, r1, r7, asr #8\n"
                   "stm r3, {r4-r7}\n"
                   "pop {r4-r11, pc}\n");
}

#else /* the twin in C */

static void multiply_fours(const int8_t *input, const int8_t *weights, uint32_t fours, int32_t sums[GROUP])
{
    for (; fours != 0; --fours) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input), columns[2] = {__SXTB16(x), __SXTB16_RORn(x, 8)};
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t packed = (uint32_t)arm_nn_read_s8x4_ia(&weights);
            multiply_pair(packed, columns[i / 2], &sums[i % 2 * 2], &sums[i % 2 * 2 + 1]);
        }
    }
}

#endif

static const int8_t *four_rows(const hil_dense_t *op, const int8_t *weights, int32_t sums[GROUP])
{
    const int8_t *input = op->input;
    for (uint32_t left = op->columns / 4; left != 0;) {
        const uint32_t fours = left < FOURS_AT_ONCE ? left : FOURS_AT_ONCE;
        multiply_fours(input, weights, fours, sums);
        input += 4 * fours;
        weights += 4 * GROUP * fours;
        left -= fours;
    }
    if (op->columns % 4 >= 2) {
        const uint32_t x = __PKHBT(input[0], input[1], 16);
        multiply_pair((uint32_t)arm_nn_read_s8x4_ia(&weights), x, &sums[0], &sums[1]);
        multiply_pair((uint32_t)arm_nn_read_s8x4_ia(&weights), x, &sums[2], &sums[3]);
        input += 2;
    }
    if (op->columns % 2 != 0) {
        const uint32_t four = (uint32_t)arm_nn_read_s8x4_ia(&weights), x = (uint16_t)*input;
        multiply_pair(four, x, &sums[0], &sums[1]);
        multiply_pair(four >> 16, x, &sums[2], &sums[3]);
    }
    return weights;
}

/* The twin in C, for weights that cannot be packed. */
static const int8_t *four_rows_any(const hil_dense_t *op, const int8_t *weights, int32_t sums[GROUP])
{
    const int8_t *input = op->input;
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (uint32_t n = op->columns / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input);
        const uint32_t ab = (uint32_t)arm_nn_read_s8x4(weights), cd = (uint32_t)arm_nn_read_s8x4(weights + 4);
        const uint32_t even = __SXTB16(x), odd = __SXTB16_RORn(x, 8);
        a = dual(__SXTB16(ab), even, a);
        b = dual(__SXTB16_RORn(ab, 8), even, b);
        c = dual(__SXTB16(cd), even, c);
        d = dual(__SXTB16_RORn(cd, 8), even, d);
        const uint32_t ab_odd = (uint32_t)arm_nn_read_s8x4(weights + 8), cd_odd = (uint32_t)arm_nn_read_s8x4(weights + 12);
        a = dual(__SXTB16(ab_odd), odd, a);
        b = dual(__SXTB16_RORn(ab_odd, 8), odd, b);
        c = dual(__SXTB16(cd_odd), odd, c);
        d = dual(__SXTB16_RORn(cd_odd, 8), odd, d);
        weights += 16;
    }
    if (op->columns % 4 >= 2) {
        const uint32_t x = __PKHBT(input[0], input[1], 16);
        const uint32_t ab = (uint32_t)arm_nn_read_s8x4_ia(&weights), cd = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        a = dual(__SXTB16(ab), x, a);
        b = dual(__SXTB16_RORn(ab, 8), x, b);
        c = dual(__SXTB16(cd), x, c);
        d = dual(__SXTB16_RORn(cd, 8), x, d);
        input += 2;
    }
    if (op->columns % 2 != 0) {
        const int32_t x = *input;
        a += x * *weights++;
        b += x * *weights++;
        c += x * *weights++;
        d += x * *weights++;
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
    return weights;
}

static const int8_t *two_rows(const hil_dense_t *op, const int8_t *weights, int32_t sums[GROUP])
{
    const int8_t *input = op->input;
    int32_t a = sums[0], b = sums[1];
    for (uint32_t n = op->columns / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input);
        const uint32_t ab = (uint32_t)arm_nn_read_s8x4_ia(&weights), ab_odd = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        const uint32_t even = __SXTB16(x), odd = __SXTB16_RORn(x, 8);
        a = dual(__SXTB16(ab), even, a);
        b = dual(__SXTB16_RORn(ab, 8), even, b);
        a = dual(__SXTB16(ab_odd), odd, a);
        b = dual(__SXTB16_RORn(ab_odd, 8), odd, b);
    }
    if (op->columns % 4 >= 2) {
        const uint32_t x = __PKHBT(input[0], input[1], 16), ab = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        a = dual(__SXTB16(ab), x, a);
        b = dual(__SXTB16_RORn(ab, 8), x, b);
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
        sum = dual(__SXTB16(w), __SXTB16(x), sum);
        sum = dual(__SXTB16_RORn(w, 8), __SXTB16_RORn(x, 8), sum);
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

static inline __attribute__((always_inline)) int dense(const hil_dense_t *op, four_rows_fn multiply_four)
{
    const int32_t zero_point = op->output_zero_point, min = op->act_min, max = op->act_max;
    const uint32_t scale_step = op->scale_step;
    const int8_t *weights = op->weights;
    const int32_t *bias = op->channels, *scale = bias + op->rows;
    int8_t *output = op->output;
    for (uint32_t left = op->rows; left != 0;) {
        const uint32_t count = left >= GROUP ? GROUP : left >= 2 ? 2 : 1;
        int32_t sums[GROUP];
        for (uint32_t i = 0; i < count; ++i) {
            sums[i] = *bias++;
        }
        if (count == GROUP) {
            weights = multiply_four(op, weights, sums);
        } else if (count == 2) {
            weights = two_rows(op, weights, sums);
        } else {
            one_row(op, weights, sums);
        }
        for (uint32_t i = 0; i < count; ++i) {
            *output++ = hil_clamped(rescaled(sums[i], scale) + zero_point, min, max);
            scale += scale_step;
        }
        left -= count;
    }
    return 0;
}

int hil_dense(const void *op)
{
    return dense(op, four_rows);
}

int hil_dense_any(const void *op)
{
    return dense(op, four_rows_any);
}
