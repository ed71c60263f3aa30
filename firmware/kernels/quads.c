/* hil_quads: eight sums of two pixels and four rows, in registers from bias to output. It is written in assembly because
 * the loop takes all fourteen registers: compilers spill some of the sums, which costs a third of the time. */
#include "hil_helium.h"
#include "hil_rows.h"

#if HIL_DSP_ASSEMBLY /* else they are in rows.c or helium.c, in C */

/* r4-r7: sums of pixel 0, r8-r11: of pixel 1; r0: x, r1: weights, r2 and r3: rows, r12 and lr: pixels. Two columns of two
 * rows are one word, so that it is 256 times the odd row and the even one at once: r5, r7, r9 and r11 sum that up, and the
 * even rows are taken from it in the end. All is loaded in one go, in an
 * order that has two instructions a cycle on a Cortex-M7. The loop over four of these can be entered at each. */
#define COLUMNS                                                                                                        \
    "ldr.w r2, [r1], #4\n"                                                                                             \
    "ldr.w r3, [r1], #4\n"                                                                                             \
    "ldr.w r12, [r0], #4\n"                                                                                            \
    "ldr.w lr, [r0], #4\n"                                                                                             \
    "smlad r5, r2, r12, r5\n"                                                                                          \
    "smlad r11, r3, lr, r11\n"                                                                                         \
    "smlad r7, r3, r12, r7\n"                                                                                          \
    "sxtb16.w r3, r3\n"                                                                                                \
    "smlad r9, r2, lr, r9\n"                                                                                           \
    "sxtb16.w r2, r2\n"                                                                                                \
    "smlad r10, r3, lr, r10\n"                                                                                         \
    "smlad r6, r3, r12, r6\n"                                                                                          \
    "smlad r4, r2, r12, r4\n"                                                                                          \
    "smlad r8, r2, lr, r8\n"

/* An odd last column: a byte of each row, and that of both pixels. */
#define COLUMN                                                                                                         \
    "ldr r2, [r1], #4\n"                                                                                               \
    "ldr r12, [r0]\n"                                                                                                  \
    "sxtb16.w r3, r2\n"                                                                                                \
    "smlabb r5, r2, r12, r5\n"                                                                                         \
    "smlabt r9, r2, r12, r9\n"                                                                                         \
    "smlabb r4, r3, r12, r4\n"                                                                                         \
    "smlabt r8, r3, r12, r8\n"                                                                                         \
    "smlatb r7, r2, r12, r7\n"                                                                                         \
    "smlatt r11, r2, r12, r11\n"                                                                                       \
    "smlatb r6, r3, r12, r6\n"                                                                                         \
    "smlatt r10, r3, r12, r10\n"

/* 256 times the odd rows' sums. */
#define ODD_ROWS                                                                                                       \
    "subs r5, r5, r4\n"                                                                                                \
    "sub.w r9, r9, r8\n"                                                                                               \
    "subs r7, r7, r6\n"                                                                                                \
    "sub.w r11, r11, r10\n"

/* Packed sums begin with those of the even row. */
#define PACK_PAIRS                                                                                                     \
    "mov r5, r4\n"                                                                                                     \
    "mov r9, r8\n"                                                                                                     \
    "mov r7, r6\n"                                                                                                     \
    "mov r11, r10\n"

/* Sum * significand / 2^31, rounded. */
#define MULTIPLY(sum, multiplier) "smmlar " sum ", " sum ", " multiplier ", " sum "\n"

/* The shift to the right by r2 + 1 rounds half away from zero: down for negative ones. r1: centre. */
#define SHIFT(one, other)                                                                                              \
    "add.w " one ", " one ", " one ", asr #31\n"                                                                       \
    "add.w " other ", " other ", " other ", asr #31\n"                                                                 \
    "asr.w " one ", " one ", r2\n"                                                                                     \
    "asr.w " other ", " other ", r2\n"                                                                                 \
    "lsrs r2, r2, #8\n"                                                                                                \
    "add " one ", r1\n"                                                                                                \
    "add " other ", r1\n"                                                                                              \
    "ssat " one ", #8, " one ", asr #1\n"                                                                              \
    "ssat " other ", #8, " other ", asr #1\n"

/* Four outputs into one word, clamped to r2 ... r3 each. */
#define PACK(a, b, c, d)                                                                                               \
    "bfi " a ", " b ", #8, #8\n"                                                                                       \
    "bfi " a ", " c ", #16, #8\n"                                                                                      \
    "bfi " a ", " d ", #24, #8\n"                                                                                      \
    "ssub8 r12, " a ", r2\n"                                                                                           \
    "sel " a ", " a ", r2\n"                                                                                           \
    "ssub8 r12, r3, " a "\n"                                                                                           \
    "sel " a ", " a ", r3\n"

/* On the stack: x 0, weights 4, channels 8, outputs 12 and 16, quads 20, centre 24, min 28, max 32, end of the columns 36,
 * where to enter the loop 40, what follows it 44, and `rows` 48.
 *
 * A packed sum of an odd row stays below 2^23, as 128 * 128 * HIL_PACKED_COLUMNS does. More columns are taken in goes, 252
 * pairs of them but in the first; weights ... output_1 of `rows` (offsets 4 ... 16) hold the odd rows' sums meanwhile. */
__attribute__((naked, noinline)) void hil_quads(__attribute__((unused)) hil_rows_t *rows)
{
    __asm volatile("push {r4-r11, lr}\n"
                   "sub sp, #52\n"
                   "str r0, [sp, #48]\n"
                   "ldm r0, {r1-r10}\n"
                   "stm sp, {r1-r9}\n"
                   "lsrs r2, r10, #1\n" /* pairs of columns */
                   "add.w r3, r1, r2, lsl #3\n"
                   "adr.w r5, 4f\n"
                   "lsls r7, r10, #31\n"
                   "it ne\n"
                   "adrne.w r5, 3f\n"
                   "adr.w r4, 2f\n"
                   "cbz r2, 1f\n"
                   "rsb r7, r2, #4\n" /* the pairs that the first trip leaves out */
                   "and.w r7, r7, #3\n"
                   "adr.w r4, 0f\n"
                   "movs r6, #56\n"
                   "mla r4, r7, r6, r4\n"
                   "cmp r2, #255\n"
                   "itt hi\n"
                   "adrhi.w r4, 8f\n"
                   "adrhi.w r5, 7f\n"
                   "1:\n"
                   "orr.w r4, r4, #1\n"
                   "orr.w r5, r5, #1\n"
                   "add.w r2, sp, #36\n"
                   "stm r2, {r3, r4, r5}\n"
                   "b.w 5f\n"
                   ".balign 4\n"
                   "0:\n" COLUMNS COLUMNS COLUMNS COLUMNS "ldr r2, [sp, #36]\n"
                   "cmp r0, r2\n"
                   "bne 0b\n"
                   ".balign 4\n"
                   "2:\n"
                   "ldr pc, [sp, #44]\n"
                   ".balign 4\n"
                   "3:\n" COLUMN
                   "4:\n"
                   "ldr r0, [sp, #8]\n"
                   "str r1, [sp, #4]\n"
                   "ldr r2, [r0, #-12]\n"
                   "ldr r3, [r0, #-4]\n" ODD_ROWS
                   "add.w r5, r2, r5, asr #8\n"
                   "add.w r9, r2, r9, asr #8\n"
                   "add.w r7, r3, r7, asr #8\n"
                   "add.w r11, r3, r11, asr #8\n"
                   "6:\n"
                   "ldm r0!, {r2, r3, r12, lr}\n"
                   MULTIPLY("r4", "r2") MULTIPLY("r8", "r2") MULTIPLY("r5", "r3") MULTIPLY("r9", "r3")
                   MULTIPLY("r6", "r12") MULTIPLY("r10", "r12") MULTIPLY("r7", "lr") MULTIPLY("r11", "lr")
                   "ldr r2, [r0], #4\n"
                   "ldr r1, [sp, #24]\n"
                   "str r0, [sp, #8]\n"
                   SHIFT("r4", "r8") SHIFT("r5", "r9") SHIFT("r6", "r10") SHIFT("r7", "r11")
                   "ldr r2, [sp, #28]\n"
                   "ldr r3, [sp, #32]\n"
                   "ldr r0, [sp, #12]\n"
                   "ldr r1, [sp, #16]\n"
                   PACK("r4", "r5", "r6", "r7") PACK("r8", "r9", "r10", "r11")
                   "str r8, [r1], #4\n"
                   "str r4, [r0], #4\n" /* last: the outputs may be the same */
                   "ldr r2, [sp, #20]\n"
                   "str r0, [sp, #12]\n"
                   "str r1, [sp, #16]\n"
                   "subs r2, r2, #1\n"
                   "str r2, [sp, #20]\n"
                   "beq 9f\n"
                   "5:\n"
                   "ldr r12, [sp, #8]\n"
                   "ldr r1, [sp, #4]\n"
                   "ldr r0, [sp, #0]\n"
                   "ldm r12!, {r4, r5, r6, r7}\n"
                   "str r12, [sp, #8]\n"
                   "mov r8, r4\n"
                   "mov r10, r6\n" PACK_PAIRS
                   "ldr pc, [sp, #40]\n"
                   "9:\n"
                   "ldr r0, [sp, #48]\n"
                   "ldr r2, [sp, #4]\n"
                   "ldr r3, [sp, #8]\n"
                   "ldr r4, [sp, #12]\n"
                   "ldr r5, [sp, #16]\n"
                   "adds r0, #4\n"
                   "stm r0, {r2-r5}\n"
                   "add sp, #52\n"
                   "pop {r4-r11, pc}\n"
                   /* Many columns: the odd rows' sums begin with their biases; where the first go ends and enters the loop. */
                   ".balign 4\n"
                   "8:\n"
                   "ldr r2, [r12, #-12]\n"
                   "ldr r3, [r12, #-4]\n"
                   "ldr.w r12, [sp, #48]\n"
                   "str.w r2, [r12, #4]\n"
                   "str.w r2, [r12, #8]\n"
                   "str.w r3, [r12, #12]\n"
                   "str.w r3, [r12, #16]\n"
                   "ldr.w r2, [r12, #36]\n"
                   "lsrs r2, r2, #1\n"
                   "1:\n"
                   "subs r2, #252\n"
                   "cmp r2, #255\n"
                   "bhi 1b\n"
                   "add.w r3, r0, r2, lsl #3\n"
                   "str r3, [sp, #36]\n"
                   "rsb r2, r2, #4\n"
                   "and.w r2, r2, #3\n"
                   "adr.w r3, 0b\n"
                   "mov.w r12, #56\n"
                   "mla r3, r2, r12, r3\n"
                   "orr.w r3, r3, #1\n"
                   "bx r3\n"
                   /* The end of a go. */
                   ".balign 4\n"
                   "7:\n"
                   "ldr.w r12, [sp, #48]\n"
                   "ldr.w r2, [r12, #36]\n"
                   "ldr r3, [sp, #0]\n"
                   "lsr.w r12, r2, #1\n"
                   "add.w r3, r3, r12, lsl #3\n" /* behind all pairs */
                   "cmp r0, r3\n"
                   "bne 1f\n"
                   "lsls r2, r2, #31\n"
                   "beq 1f\n" COLUMN
                   "1:\n" ODD_ROWS
                   "ldr.w r12, [sp, #48]\n"
                   "ldr.w r2, [r12, #4]\n"
                   "ldr.w r3, [r12, #8]\n"
                   "add.w r5, r2, r5, asr #8\n"
                   "add.w r9, r3, r9, asr #8\n"
                   "ldr.w r2, [r12, #12]\n"
                   "ldr.w r3, [r12, #16]\n"
                   "add.w r7, r2, r7, asr #8\n"
                   "add.w r11, r3, r11, asr #8\n"
                   "ldr.w r2, [r12, #36]\n"
                   "ldr r3, [sp, #0]\n"
                   "lsrs r2, r2, #1\n"
                   "add.w r3, r3, r2, lsl #3\n"
                   "cmp r0, r3\n"
                   "bne 1f\n"
                   "ldr r0, [sp, #8]\n"
                   "str r1, [sp, #4]\n"
                   "b.w 6b\n"
                   "1:\n"
                   "str.w r5, [r12, #4]\n"
                   "str.w r9, [r12, #8]\n"
                   "str.w r7, [r12, #12]\n"
                   "str.w r11, [r12, #16]\n" PACK_PAIRS
                   "ldr r2, [sp, #36]\n"
                   "add.w r2, r2, #2016\n"
                   "str r2, [sp, #36]\n"
                   "b.w 0b\n");
}

#else

typedef int hil_quads_are_in_c;

#endif
