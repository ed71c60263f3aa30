/* Products of int8 vectors that are summed up, four columns at a time. */
#ifndef HIL_DOT_H
#define HIL_DOT_H

#include <stdint.h>

#include <arm_nnsupportfunctions.h>

static inline int32_t hil_dual(uint32_t a, uint32_t b, int32_t sum)
{
    return (int32_t)__SMLAD(a, b, (uint32_t)sum);
}

static inline int32_t hil_dot(const int8_t *a, const int8_t *b, uint32_t count, int32_t sum)
{
    for (uint32_t n = count / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&a), y = (uint32_t)arm_nn_read_s8x4_ia(&b);
        sum = hil_dual(__SXTB16(x), __SXTB16(y), sum);
        sum = hil_dual(__SXTB16_RORn(x, 8), __SXTB16_RORn(y, 8), sum);
    }
    for (uint32_t n = count % 4; n != 0; --n) {
        sum += *a++ * *b++;
    }
    return sum;
}

/* Four rows of weights, interleaved as hil_rows.h says in columns of fours, added to `sums`; gives the end of the rows. */
static inline const int8_t *hil_dot_four(const int8_t *weights, const int8_t *input, uint32_t count, int32_t sums[4])
{
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (uint32_t n = count / 4; n != 0; --n) {
        const uint32_t x = (uint32_t)arm_nn_read_s8x4_ia(&input);
        const uint32_t ab = (uint32_t)arm_nn_read_s8x4(weights), cd = (uint32_t)arm_nn_read_s8x4(weights + 4);
        const uint32_t even = __SXTB16(x), odd = __SXTB16_RORn(x, 8);
        a = hil_dual(__SXTB16(ab), even, a);
        b = hil_dual(__SXTB16_RORn(ab, 8), even, b);
        c = hil_dual(__SXTB16(cd), even, c);
        d = hil_dual(__SXTB16_RORn(cd, 8), even, d);
        const uint32_t ab_odd = (uint32_t)arm_nn_read_s8x4(weights + 8), cd_odd = (uint32_t)arm_nn_read_s8x4(weights + 12);
        a = hil_dual(__SXTB16(ab_odd), odd, a);
        b = hil_dual(__SXTB16_RORn(ab_odd, 8), odd, b);
        c = hil_dual(__SXTB16(cd_odd), odd, c);
        d = hil_dual(__SXTB16_RORn(cd_odd, 8), odd, d);
        weights += 16;
    }
    if (count % 4 >= 2) {
        const uint32_t x = __PKHBT(input[0], input[1], 16);
        const uint32_t ab = (uint32_t)arm_nn_read_s8x4_ia(&weights), cd = (uint32_t)arm_nn_read_s8x4_ia(&weights);
        a = hil_dual(__SXTB16(ab), x, a);
        b = hil_dual(__SXTB16_RORn(ab, 8), x, b);
        c = hil_dual(__SXTB16(cd), x, c);
        d = hil_dual(__SXTB16_RORn(cd, 8), x, d);
        input += 2;
    }
    if (count % 2 != 0) {
        const int32_t x = *input;
        a += x * *weights++;
        b += x * *weights++;
        c += x * *weights++;
        d += x * *weights++;
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
    return weights;
}

#endif
