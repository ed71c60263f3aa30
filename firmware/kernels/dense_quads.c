/* hil_dense_quads: four rows from bias to output. In assembly as compilers do not load in one go, spill sums, and take 43
 * instructions to rescale one. */
#include "hil_dense.h"
#include "hil_helium.h"

#include <stdbool.h>

#if HIL_DSP_ASSEMBLY

/* r0: input, r1: weights, r3: the layer; r4 and r6: sums of the even rows, r5 and r7: of even and odd ones, packed as in
 * quads.c. 76 bytes. */
#define FOUR_COLUMNS                                                                                                   \
    "ldr.w r8, [r1], #4\n"                                                                                             \
    "ldr.w r9, [r1], #4\n"                                                                                             \
    "ldr.w r10, [r1], #4\n"                                                                                            \
    "ldr.w r12, [r0], #4\n"                                                                                            \
    "ldr.w r11, [r1], #4\n"                                                                                            \
    "sxtb16.w lr, r12, ror #8\n"                                                                                       \
    "sxtb16.w r12, r12\n"                                                                                              \
    "smlad r7, r9, r12, r7\n"                                                                                          \
    "sxtb16.w r9, r9\n"                                                                                                \
    "smlad r7, r11, lr, r7\n"                                                                                          \
    "sxtb16.w r11, r11\n"                                                                                              \
    "smlad r5, r8, r12, r5\n"                                                                                          \
    "sxtb16.w r8, r8\n"                                                                                                \
    "smlad r5, r10, lr, r5\n"                                                                                          \
    "sxtb16.w r10, r10\n"                                                                                              \
    "smlad r6, r9, r12, r6\n"                                                                                          \
    "smlad r6, r11, lr, r6\n"                                                                                          \
    "smlad r4, r8, r12, r4\n"                                                                                          \
    "smlad r4, r10, lr, r4\n"

/* 256 times the sums of the odd rows. */
#define ODD_ROWS                                                                                                       \
    "subs r5, r5, r4\n"                                                                                                \
    "subs r7, r7, r6\n"                                                                                                \
    "ldr.w r8, [r3, #64]\n"                                                                                            \
    "ldr.w r9, [r3, #72]\n"                                                                                            \
    "add.w r5, r8, r5, asr #8\n"                                                                                       \
    "add.w r7, r9, r7, asr #8\n"

/* By the one scale of all rows: r8 multiplier, r9 half, r10 mask, r11 shift. */
#define RESCALE(result, sum)                                                                                           \
    "smmla " result ", " sum ", r8, r9\n"                                                                              \
    "tst.w " result ", r10\n"                                                                                          \
    "beq 8f\n"                                                                                                         \
    "asr.w " result ", " result ", r11\n"

/* By a scale of its own, which is next at lr. */
#define RESCALE_NEXT(result, sum)                                                                                      \
    "ldrd r8, r11, [lr], #8\n"                                                                                         \
    "mov.w r10, #1\n"                                                                                                  \
    "and.w r11, r11, #63\n"                                                                                            \
    "subs.w r11, r11, #32\n"                                                                                           \
    "ble 8f\n"                                                                                                         \
    "lsl.w r10, r10, r11\n"                                                                                            \
    "lsr.w r9, r10, #1\n"                                                                                              \
    "add.w r9, r9, #1\n"                                                                                               \
    "sub.w r10, r10, #2\n" RESCALE(result, sum)

#define CLAMP(value)                                                                                                   \
    "add.w " value ", " value ", r8\n"                                                                                 \
    "ssat " value ", #8, " value "\n"

/* Offsets: input 0, weights 4, bias 8, scale 12, output 16, count 20, columns 24, zero_point 28, min 32, max 36, scale_step 40,
 * multiplier 44, half 48, mask 52, shift 56, sums 60 ... 72, end 76, enter 80, leave 84. Sums of odd rows are kept among `sums`
 * from go to go: the first has 127 fours of columns at most, which a packed sum has room for with the up to three that are
 * left, all others have 124. */
__attribute__((naked, noinline)) void hil_dense_quads(__attribute__((unused)) hil_dense_quads_t *quads)
{
    __asm volatile("push {r4-r11, lr}\n"
                   "sub sp, #4\n"
                   "mov r3, r0\n"
                   "ldr r0, [r3, #0]\n"
                   "ldr r1, [r3, #24]\n"
                   "ands r2, r1, #3\n" /* where to go behind the fours: nowhere, one, a pair, a pair and one */
                   "adr.w r4, 4f\n"
                   "beq 1f\n"
                   "adr.w r4, 3f\n"
                   "cmp r2, #1\n"
                   "beq 1f\n"
                   "adr.w r4, 2f\n"
                   "1:\n"
                   "adr.w r5, 9f\n"
                   "lsrs r1, r1, #2\n"
                   "beq 1f\n" /* no fours */
                   "cmp r1, #127\n"
                   "bls 0f\n"
                   "adr.w r4, 7f\n"
                   "0:\n"
                   "cmp r1, #127\n"
                   "itt hi\n"
                   "subhi r1, r1, #124\n"
                   "bhi 0b\n"
                   "add.w r2, r0, r1, lsl #2\n"
                   "str r2, [r3, #76]\n"
                   "rsb r1, r1, #4\n"
                   "and.w r1, r1, #3\n"
                   "movs r2, #76\n"
                   "adr.w r5, 0f\n"
                   "mla r5, r1, r2, r5\n"
                   "b 1f\n"
                   ".balign 4\n"
                   "9:\n" /* no fours: at once to what follows them */
                   "ldr pc, [r3, #84]\n"
                   "1:\n"
                   "orr.w r4, r4, #1\n"
                   "orr.w r5, r5, #1\n"
                   "str r5, [r3, #80]\n"
                   "str r4, [r3, #84]\n"
                   "ldr r1, [r3, #4]\n"
                   "1:\n" /* the next four rows */
                   "ldr.w r8, [r3, #8]\n"
                   "ldm.w r8!, {r4, r5, r6, r7}\n"
                   "ldr r0, [r3, #0]\n"
                   "ldr r2, [r3, #76]\n"
                   "str r5, [r3, #64]\n"
                   "str r7, [r3, #72]\n"
                   "str.w r8, [r3, #8]\n"
                   "mov r5, r4\n"
                   "mov r7, r6\n"
                   "ldr pc, [r3, #80]\n"
                   ".balign 4\n"
                   "0:\n" FOUR_COLUMNS FOUR_COLUMNS FOUR_COLUMNS FOUR_COLUMNS
                   "cmp r0, r2\n"
                   "bne.w 0b\n"
                   "ldr pc, [r3, #84]\n"
                   ".balign 4\n"
                   "7:\n" /* a go of several ends */
                   ODD_ROWS
                   "str r5, [r3, #64]\n"
                   "str r7, [r3, #72]\n"
                   "mov r5, r4\n"
                   "mov r7, r6\n"
                   "ldr.w r8, [r3, #0]\n"
                   "ldr.w r9, [r3, #24]\n"
                   "bic.w r10, r9, #3\n"
                   "add r8, r10\n"
                   "cmp r0, r8\n"
                   "it ne\n"
                   "addne.w r2, r2, #496\n"
                   "bne.w 0b\n"
                   "ands r9, r9, #3\n"
                   "beq 4f\n"
                   "cmp.w r9, #1\n"
                   "beq 3f\n"
                   ".balign 4\n"
                   "2:\n" /* a pair of columns */
                   "ldrsb.w r12, [r0], #2\n"
                   "ldrsb.w lr, [r0, #-1]\n"
                   "ldr.w r8, [r1], #4\n"
                   "ldr.w r9, [r1], #4\n"
                   "pkhbt r12, r12, lr, lsl #16\n"
                   "smlad r5, r8, r12, r5\n"
                   "sxtb16.w r8, r8\n"
                   "smlad r7, r9, r12, r7\n"
                   "sxtb16.w r9, r9\n"
                   "ldr.w r10, [r3, #24]\n"
                   "smlad r4, r8, r12, r4\n"
                   "smlad r6, r9, r12, r6\n"
                   "lsls.w r10, r10, #31\n"
                   "beq 4f\n"
                   ".balign 4\n"
                   "3:\n" /* a last column */
                   "ldrsb.w r12, [r0]\n"
                   "ldr.w r8, [r1], #4\n"
                   "sxtb16.w r9, r8\n"
                   "smlabb r5, r8, r12, r5\n"
                   "smlatb r7, r8, r12, r7\n"
                   "smlabb r4, r9, r12, r4\n"
                   "smlatb r6, r9, r12, r6\n"
                   ".balign 4\n"
                   "4:\n" ODD_ROWS
                   "ldr.w r8, [r3, #40]\n"
                   "cmp.w r8, #0\n"
                   "bne 5f\n"
                   "add.w r12, r3, #44\n"
                   "ldm.w r12, {r8, r9, r10, r11}\n"
                   RESCALE("r0", "r4") RESCALE("r2", "r5") RESCALE("r12", "r6") RESCALE("lr", "r7")
                   "6:\n"
                   "add.w r8, r3, #28\n"
                   "ldm.w r8, {r8, r9, r10}\n" /* zero point, min, max */
                   "ldr.w r11, [r3, #16]\n"
                   CLAMP("r0") CLAMP("r2") CLAMP("r12") CLAMP("lr")
                   "bfi r0, r2, #8, #8\n"
                   "bfi r0, r12, #16, #8\n"
                   "bfi r0, lr, #24, #8\n"
                   "ssub8 r2, r0, r9\n"
                   "sel r0, r0, r9\n"
                   "ssub8 r2, r10, r0\n"
                   "sel r0, r0, r10\n"
                   "str.w r0, [r11], #4\n"
                   "str.w r11, [r3, #16]\n"
                   "9:\n"
                   "ldr.w r8, [r3, #20]\n"
                   "subs.w r8, r8, #1\n"
                   "str.w r8, [r3, #20]\n"
                   "bne.w 1b\n"
                   "str r1, [r3, #4]\n"
                   "add sp, #4\n"
                   "pop {r4-r11, pc}\n"
                   "5:\n" /* each row has a scale of its own */
                   "ldr.w lr, [r3, #12]\n"
                   RESCALE_NEXT("r0", "r4") RESCALE_NEXT("r2", "r5") RESCALE_NEXT("r12", "r6")
                   RESCALE_NEXT("r8", "r7")
                   "str.w lr, [r3, #12]\n"
                   "mov lr, r8\n"
                   "b 6b\n"
                   "8:\n" /* one of the four is near a half */
                   "add.w r12, r3, #60\n"
                   "stm.w r12, {r4, r5, r6, r7}\n"
                   "mov r0, r3\n"
                   "mov r4, r3\n"
                   "mov r5, r1\n"
                   "bl hil_dense_finish\n"
                   "mov r3, r4\n"
                   "mov r1, r5\n"
                   "b 9b\n");
}

#elif !HIL_HELIUM /* the twin in C */

/* Two bytes of packed weights times a column. */
static inline void multiply_packed(const int8_t *packed, int32_t x, int32_t *sums)
{
    sums[0] += packed[0] * x;
    sums[1] += (packed[1] + (packed[0] < 0)) * x;
}

void hil_dense_quads(hil_dense_quads_t *quads)
{
    const uint32_t fours = quads->columns / 4 * 4, even = quads->columns / 2 * 2;
    for (; quads->count != 0; --quads->count) {
        for (uint32_t i = 0; i < 4; ++i) {
            quads->sums[i] = *quads->bias++;
        }
        for (uint32_t column = 0; column < quads->columns; ++column) {
            /* Two words have two columns of four rows: 0, 2 and 1, 3 of fours, neighbours of what is left of them. */
            const bool in_four = column < fours;
            const uint32_t pair = in_four ? column / 4 * 2 + column % 2 : column / 2;
            const uint32_t half = in_four ? column % 4 / 2 : column % 2;
            const int8_t *const packed = quads->weights + 8 * pair;
            multiply_packed(packed + 2 * half, quads->input[column], quads->sums);
            multiply_packed(packed + 2 * half + (column < even ? 4 : 2), quads->input[column], quads->sums + 2);
        }
        quads->weights += 4 * quads->columns;
        hil_dense_finish(quads);
    }
}

#endif
