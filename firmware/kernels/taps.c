/* hil_taps: four sums of a pixel, in registers from bias to output. In assembly as the sums, what is under way and the steps
 * take all fourteen registers. */
#include "hil_helium.h"
#include "hil_taps.h"

#if HIL_DSP_ASSEMBLY

/* r0: tap, r1: weights, r2: step to the next tap, r3: to the next row; r4-r7: sums. Adds the products of the channels in
 * `x` with the weights in `w`, which are lost. */
#define FOUR_PRODUCTS(x, w)                                                                                            \
    "sxtb16.w r12, " x ", ror #8\n"                                                                                    \
    "sxtb16.w lr, " w ", ror #8\n"                                                                                     \
    "sxtb16.w " x ", " x "\n"                                                                                          \
    "sxtb16.w " w ", " w "\n"                                                                                          \
    "smlabb r5, r12, lr, r5\n"                                                                                         \
    "smlatt r7, r12, lr, r7\n"                                                                                         \
    "smlabb r4, " x ", " w ", r4\n"                                                                                    \
    "smlatt r6, " x ", " w ", r6\n"

/* 44 bytes. */
#define TAP                                                                                                            \
    "ldr.w r8, [r0]\n"                                                                                                 \
    "ldr.w r11, [r1], #4\n"                                                                                            \
    "add.w r0, r0, r2\n" FOUR_PRODUCTS("r8", "r11")

/* On the stack: x 0, weights 4, channels 8, output 12, count 16, steps 20 and 24, centre 28, min 32, max 36. */
#define ENTER                                                                                                          \
    "push {r4-r11, lr}\n"                                                                                              \
    "sub sp, #52\n"                                                                                                    \
    "ldm r0!, {r1-r10}\n"                                                                                              \
    "stm sp, {r1-r10}\n"                                                                                               \
    "ldrd r2, r3, [r0], #8\n"

#define LEAVE                                                                                                          \
    "add sp, #52\n"                                                                                                    \
    "pop {r4-r11, pc}\n"

#define SUMS                                                                                                           \
    "ldr r12, [sp, #8]\n"                                                                                              \
    "ldr r1, [sp, #4]\n"                                                                                               \
    "ldr r0, [sp, #0]\n"                                                                                               \
    "ldm r12, {r4-r7}\n"

/* Sum * significand / 2^31, then the shift to the right by one more than lr says, rounded twice, half away from zero. */
#define RESCALE(sum, multiplier, next)                                                                                 \
    "smmlar " sum ", " sum ", " multiplier ", " sum "\n"                                                               \
    "add.w " sum ", " sum ", " sum ", asr #31\n"                                                                       \
    "asr.w " sum ", " sum ", lr\n" next                                                                                \
    "add " sum ", r12\n"                                                                                               \
    "ssat " sum ", #8, " sum ", asr #1\n"

#define NEXT_SHIFT "lsr.w lr, lr, #8\n"

/* Stores four outputs. Goes to `again` when there are more pixels. */
#define FINISH(again)                                                                                                  \
    "ldr r0, [sp, #8]\n"                                                                                               \
    "ldr r12, [sp, #28]\n"                                                                                             \
    "adds r0, #16\n"                                                                                                   \
    "ldm r0, {r8-r11, lr}\n" RESCALE("r4", "r8", NEXT_SHIFT) RESCALE("r5", "r9", NEXT_SHIFT)                           \
        RESCALE("r6", "r10", NEXT_SHIFT) RESCALE("r7", "r11", "")                                                      \
    "add.w r0, sp, #12\n"                                                                                              \
    "bfi r4, r5, #8, #8\n"                                                                                             \
    "ldm r0, {r5, r8-r12, lr}\n"  /* output, count, x_step, output_step, centre, min, max */                           \
    "bfi r4, r6, #16, #8\n"                                                                                            \
    "ldr r0, [sp, #0]\n"                                                                                               \
    "bfi r4, r7, #24, #8\n"                                                                                            \
    "ssub8 r7, r4, r12\n"                                                                                              \
    "sel r4, r4, r12\n"                                                                                                \
    "ssub8 r7, lr, r4\n"                                                                                               \
    "sel r4, r4, lr\n"                                                                                                 \
    "add r0, r9\n"                                                                                                     \
    "str r4, [r5]\n"                                                                                                   \
    "add r5, r10\n"                                                                                                    \
    "subs.w r8, r8, #1\n"                                                                                              \
    "str r0, [sp, #0]\n"                                                                                               \
    "str r5, [sp, #12]\n"                                                                                              \
    "str.w r8, [sp, #16]\n"                                                                                            \
    "bne.w " again "\n"

/* r9: the row's end less its beginning in r3's place, r10: rows left. 40: where to enter a row, 44: height. */
__attribute__((naked, noinline)) void hil_taps(__attribute__((unused)) const hil_taps_t *taps)
{
    __asm volatile(ENTER
                   "ldrd r4, r5, [r0]\n" /* width, height */
                   "mls r3, r4, r2, r3\n" /* from behind the last tap of a row to the next row */
                   "adr.w r6, 2f\n"
                   "movs r7, #44\n"
                   "mls r6, r4, r7, r6\n"
                   "orr.w r6, r6, #1\n"
                   "strd r6, r5, [sp, #40]\n"
                   ".balign 4\n"
                   "0:\n" SUMS "ldrd r9, r10, [sp, #40]\n"
                   "bx r9\n"
                   ".balign 4\n" TAP TAP TAP TAP TAP TAP TAP ".balign 4\n"
                   "2:\n"
                   "add r0, r3\n"
                   "subs.w r10, r10, #1\n"
                   "it ne\n"
                   "bxne r9\n" FINISH("0b") LEAVE);
}

#elif !HIL_HELIUM /* the twin in C */

void hil_taps(const hil_taps_t *taps)
{
    hil_taps_any(taps);
}

#endif
