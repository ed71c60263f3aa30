/* hil_gather and hil_gather_fours. In assembly as compilers keep a run's state in memory: half of a first layer's time. */
#include "hil_gather.h"
#include "hil_rows.h"

#include <arm_nnsupportfunctions.h>

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP

/* r1: data, r2: rows left, r3: length, r4: skip, r5: columns left, r6: the first of a pair, r7: whether it waits, r12: to. */
__attribute__((naked, noinline)) void hil_gather(__attribute__((unused)) hil_stream_t *stream,
                                                 __attribute__((unused)) const int8_t *data,
                                                 __attribute__((unused)) uint32_t rows,
                                                 __attribute__((unused)) uint32_t length,
                                                 __attribute__((unused)) int32_t skip)
{
    __asm volatile("push {r4-r10, lr}\n"
                   "ldr r4, [sp, #32]\n"
                   "ldr r7, [r0, #8]\n"
                   "ldr r6, [r0, #4]\n"
                   "ldr.w r12, [r0]\n"
                   "0:\n"
                   "mov r5, r3\n"
                   "cbz r7, 1f\n"
                   "ldrsb.w r9, [r1], #1\n"
                   "subs r5, #1\n"
                   "pkhbt r6, r6, r9, lsl #16\n"
                   "str.w r6, [r12], #8\n"
                   "1:\n"
                   "subs r5, #4\n"
                   "blo 3f\n"
                   "2:\n"
                   "ldrsb.w r6, [r1], #4\n"
                   "ldrsb.w r8, [r1, #-3]\n"
                   "ldrsb.w r9, [r1, #-2]\n"
                   "ldrsb.w r10, [r1, #-1]\n"
                   "pkhbt r6, r6, r8, lsl #16\n"
                   "pkhbt r9, r9, r10, lsl #16\n"
                   "str.w r6, [r12], #8\n"
                   "str.w r9, [r12], #8\n"
                   "subs r5, #4\n"
                   "bhs 2b\n"
                   "3:\n"
                   "lsls r5, r5, #31\n" /* carry: a pair, minus: one column */
                   "bcc 4f\n"
                   "ldrsb.w r6, [r1], #2\n"
                   "ldrsb.w r8, [r1, #-1]\n"
                   "pkhbt r6, r6, r8, lsl #16\n"
                   "str.w r6, [r12], #8\n"
                   "4:\n"
                   "mov.w r7, #0\n"
                   "bpl 5f\n"
                   "ldrsb.w r6, [r1], #1\n"
                   "movs r7, #1\n"
                   "5:\n"
                   "add r1, r4\n"
                   "subs r2, #1\n"
                   "bne 0b\n"
                   "str.w r12, [r0]\n"
                   "str r6, [r0, #4]\n"
                   "str r7, [r0, #8]\n"
                   "pop {r4-r10, pc}\n");
}

/* r0: to, r1: data, r2: rows left, r3: fours, r4: skip, r5: fours left. */
__attribute__((naked, noinline)) uint32_t *hil_gather_fours(__attribute__((unused)) uint32_t *to,
                                                            __attribute__((unused)) const int8_t *data,
                                                            __attribute__((unused)) uint32_t rows,
                                                            __attribute__((unused)) uint32_t fours,
                                                            __attribute__((unused)) int32_t skip)
{
    __asm volatile("push {r4-r9, lr}\n"
                   "ldr r4, [sp, #28]\n"
                   "0:\n"
                   "subs r5, r3, #4\n"
                   "blo 2f\n"
                   "1:\n"
                   "ldr r6, [r1, #0]\n"
                   "ldr r7, [r1, #4]\n"
                   "ldr.w r8, [r1, #8]\n"
                   "ldr.w r12, [r1, #12]\n"
                   "sxtb16.w r9, r6\n"
                   "sxtb16.w lr, r6, ror #8\n"
                   "str.w r9, [r0, #0]\n"
                   "str.w lr, [r0, #8]\n"
                   "sxtb16.w r9, r7\n"
                   "sxtb16.w lr, r7, ror #8\n"
                   "str.w r9, [r0, #16]\n"
                   "str.w lr, [r0, #24]\n"
                   "sxtb16.w r9, r8\n"
                   "sxtb16.w lr, r8, ror #8\n"
                   "str.w r9, [r0, #32]\n"
                   "str.w lr, [r0, #40]\n"
                   "sxtb16.w r9, r12\n"
                   "sxtb16.w lr, r12, ror #8\n"
                   "str.w r9, [r0, #48]\n"
                   "str.w lr, [r0, #56]\n"
                   "adds r1, #16\n"
                   "adds r0, #64\n"
                   "subs r5, #4\n"
                   "bhs 1b\n"
                   "2:\n"
                   "adds r5, #4\n"
                   "beq 4f\n"
                   "3:\n"
                   "ldr r6, [r1], #4\n"
                   "subs r5, #1\n"
                   "sxtb16.w r9, r6\n"
                   "sxtb16.w lr, r6, ror #8\n"
                   "str.w lr, [r0, #8]\n"
                   "str.w r9, [r0], #16\n"
                   "bne 3b\n"
                   "4:\n"
                   "add r1, r4\n"
                   "subs r2, #1\n"
                   "bne 0b\n"
                   "pop {r4-r9, pc}\n");
}

#else /* the twins in C */

void hil_gather(hil_stream_t *stream, const int8_t *data, uint32_t rows, uint32_t length, int32_t skip)
{
    for (; rows != 0; --rows) {
        for (uint32_t n = length; n != 0; --n) {
            if (stream->waits != 0) {
                *stream->to = __PKHBT(stream->first, *data, 16);
                stream->to += HIL_PIXELS;
            }
            stream->first = *data++;
            stream->waits ^= 1;
        }
        data += skip;
    }
}

uint32_t *hil_gather_fours(uint32_t *to, const int8_t *data, uint32_t rows, uint32_t fours, int32_t skip)
{
    for (; rows != 0; --rows) {
        for (uint32_t n = fours; n != 0; --n) {
            const uint32_t four = (uint32_t)arm_nn_read_s8x4_ia(&data);
            to[0] = __SXTB16(four);
            to[HIL_PIXELS] = __SXTB16_RORn(four, 8);
            to += 2 * HIL_PIXELS;
        }
        data += skip;
    }
    return to;
}

#endif
