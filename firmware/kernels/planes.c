/* hil_planes: two outputs at once, nine weights in six registers from the first row of a channel to the last. In assembly
 * as weights, words and sums take all fourteen registers. */
#include "hil_planes.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP

/* r0: x, r1: output, r2-r4: a pair of columns of each row of taps, r5-r10: weights (0, 1) and (1, 2) of each row, r11 and
 * r12: sums. On the stack: bias 0, multiplier 4, 256 * centre + shift 8, from output to output 12 (0 for a single one),
 * where the pairs end 16, x 20 and output 24 of the row, rows left 28, and `planes` from 32 on. */

/* Products of both sums with a row's words. */
#define ROW(multiply, and_multiply, x, w) multiply " r11, " x ", " w ", r11\n" and_multiply " r12, " x ", " w ", r12\n"

_Static_assert(sizeof(uint32_t[HIL_PLANE_WORDS]) == 192 && sizeof(uint32_t[HIL_PLANE_ROWS]) == 24, "offsets below");

__attribute__((naked, noinline)) void hil_planes(__attribute__((unused)) const hil_planes_t *planes)
{
    __asm volatile("push {r4-r11, lr}\n"
                   "sub sp, #80\n"
                   "add.w r8, sp, #32\n"
                   "ldm r0!, {r1-r6}\n"
                   "stm r8!, {r1-r6}\n"
                   "str r5, [sp, #12]\n"
                   "ldm r0, {r1-r6}\n"
                   "stm r8, {r1-r6}\n"
                   "1:\n" /* a channel */
                   "add r3, sp, #64\n"
                   "ldm r3, {r0, r1, r2, r4}\n"
                   "ldr.w r11, [r1], #4\n"
                   "ldr.w r12, [r1, #12]\n"
                   "ldrb.w lr, [r2], #1\n"
                   "ldr r5, [r0]\n"
                   "ldr.w r7, [r0, #3]\n"
                   "ldr.w r9, [r0, #5]\n"
                   "adds r0, #9\n"
                   "stm r3!, {r0, r1, r2}\n"
                   "orr.w lr, lr, r4\n"
                   "str.w r11, [sp]\n"
                   "strd r12, lr, [sp, #4]\n"
                   "sxtb16.w r11, r5\n"
                   "sxtb16.w r12, r5, ror #8\n"
                   "pkhbt r5, r11, r12, lsl #16\n"
                   "pkhbt r6, r12, r11\n"
                   "sxtb16.w r11, r7\n"
                   "sxtb16.w r12, r7, ror #8\n"
                   "pkhbt r7, r11, r12, lsl #16\n"
                   "pkhbt r8, r12, r11\n"
                   "sxtb16.w r11, r9\n" /* 5 and 7 of nine, then 6 and 8 */
                   "sxtb16.w r12, r9, ror #8\n"
                   "pkhbt r9, r12, r11\n"
                   "pkhtb r10, r12, r11, asr #16\n"
                   "ldrd r0, r1, [sp, #52]\n"
                   "ldr r4, [sp, #40]\n"
                   "add.w r2, r0, #192\n"
                   "adds r3, r1, #1\n"
                   "strd r2, r3, [sp, #52]\n"
                   "2:\n" /* a row */
                   "str r4, [sp, #28]\n"
                   "strd r0, r1, [sp, #20]\n"
                   "ldr r2, [sp, #32]\n"
                   "ldr.w r11, [sp]\n"
                   "adds r2, r2, r0\n"
                   "str r2, [sp, #16]\n"
                   "cmp r2, r0\n"
                   "ldm r0, {r2, r3, r4}\n"
                   "beq 4f\n"
                   ".balign 4\n"
                   "3:\n"
                   "mov r12, r11\n"
                   ROW("smlad", "smlatb", "r2", "r5") ROW("smlad", "smlatb", "r3", "r7") ROW("smlad", "smlatb", "r4", "r9")
                   "ldr r2, [r0, #24]!\n"
                   "ldr r3, [r0, #4]\n"
                   "ldr r4, [r0, #8]\n"
                   ROW("smlabt", "smlad", "r2", "r6") ROW("smlabt", "smlad", "r3", "r8") ROW("smlabt", "smlad", "r4", "r10")
                   /* rescaled as in quads.c; a single output is stored last, over the one that is too many */
                   "ldr.w lr, [sp, #4]\n"
                   "smmlar r11, r11, lr, r11\n"
                   "smmlar r12, r12, lr, r12\n"
                   "ldr.w lr, [sp, #8]\n"
                   "add.w r11, r11, r11, asr #31\n"
                   "add.w r12, r12, r12, asr #31\n"
                   "asr.w r11, r11, lr\n"
                   "asr.w r12, r12, lr\n"
                   "add.w r11, r11, lr, asr #8\n"
                   "add.w r12, r12, lr, asr #8\n"
                   "ssat r11, #8, r11, asr #1\n"
                   "ssat r12, #8, r12, asr #1\n"
                   "ldr.w lr, [sp, #12]\n"
                   "strb.w r12, [r1, lr]\n"
                   "strb.w r11, [r1]\n"
                   "add.w r1, r1, lr, lsl #1\n"
                   "ldr.w r11, [sp]\n"
                   "ldr.w lr, [sp, #16]\n"
                   "cmp r0, lr\n"
                   "bne 3b\n"
                   "4:\n" /* behind the pairs; and behind a single output */
                   "ldr.w r12, [sp, #36]\n"
                   "ldr.w lr, [sp, #12]\n"
                   "cmp.w r12, #0\n"
                   "beq 5f\n"
                   "cmp.w lr, #0\n"
                   "beq 5f\n"
                   "add r12, r0\n"
                   "mov.w lr, #0\n"
                   "str.w r12, [sp, #16]\n"
                   "str.w lr, [sp, #12]\n"
                   "b 3b\n"
                   "5:\n"
                   "ldr r4, [sp, #28]\n"
                   "ldrd r2, r3, [sp, #44]\n"
                   "ldrd r0, r1, [sp, #20]\n"
                   "str r3, [sp, #12]\n"
                   "adds r0, #4\n"
                   "add r1, r2\n"
                   "subs r4, #1\n"
                   "bne 2b\n"
                   "ldr r0, [sp, #60]\n"
                   "subs r0, #1\n"
                   "str r0, [sp, #60]\n"
                   "bne 1b\n"
                   "add sp, #80\n"
                   "pop {r4-r11, pc}\n");
}

#else /* the twin in C */

#include "hil_scale.h"

static void multiply(const hil_planes_t *planes, const int16_t *x, const int8_t *weights, uint32_t channel)
{
    const uint32_t count = planes->full / sizeof(uint32_t[HIL_PLANE_ROWS]) * 2 + (planes->odd != 0);
    for (uint32_t i = 0; i < planes->rows * count; ++i) {
        const uint32_t row = i / count, at = i % count;
        int32_t sum = planes->channels[channel];
        for (uint32_t tap = 0; tap < 9; ++tap) {
            const uint32_t from = at + tap % 3; /* along the pairs */
            const uint32_t word = from / 2 * HIL_PLANE_ROWS + row + tap / 3;
            sum += weights[tap] * x[2 * word + from % 2];
        }
        const int32_t value = hil_rescaled(sum, planes->channels[4 + channel], planes->shifts[channel], planes->centre >> 8);
        planes->output[channel + row * planes->across + at * planes->along] = hil_clamped(value, -128, 127);
    }
}

void hil_planes(const hil_planes_t *planes)
{
    for (uint32_t channel = 0; channel < planes->count; ++channel) {
        const int16_t *const x = (const int16_t *)(planes->x + channel * HIL_PLANE_WORDS);
        multiply(planes, x, planes->weights + 9 * channel, channel);
    }
}

#endif
