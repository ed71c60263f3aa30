/* hil_quads: eight sums of two pixels and four rows, in registers from bias to output. It is written in assembly because
 * the loop takes all fourteen registers: compilers spill some of the sums, which costs a third of the time. */
#include "hil_rows.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP /* else they are in rows.c, in C */

/* r4-r7: sums of pixel 0, r8-r11: of pixel 1; r0: x, r1: weights, r2 and r3: rows, r12 and lr: pixels. Two columns of two
 * rows are one word, so that it is 256 times the odd row and the even one at once: r5, r7, r9 and r11 sum that up, and the
 * even rows are taken from it in the end. The loop over four of these can be entered at each. */
#define PACKED_COLUMNS                                                                                                 \
    "ldr.w r2, [r1], #4\n"                                                                                             \
    "ldr.w lr, [r0, #4]\n"                                                                                             \
    "ldr.w r12, [r0], #8\n"                                                                                            \
    "sxtb16.w r3, r2\n"                                                                                                \
    "smlad r5, r2, r12, r5\n"                                                                                          \
    "smlad r9, r2, lr, r9\n"                                                                                           \
    "ldr.w r2, [r1], #4\n"                                                                                             \
    "smlad r4, r3, r12, r4\n"                                                                                          \
    "smlad r8, r3, lr, r8\n"                                                                                           \
    "sxtb16.w r3, r2\n"                                                                                                \
    "smlad r7, r2, r12, r7\n"                                                                                          \
    "smlad r11, r2, lr, r11\n"                                                                                         \
    "smlad r6, r3, r12, r6\n"                                                                                          \
    "smlad r10, r3, lr, r10\n"
#define PACKED_BYTES "56"

/* The same with each row for itself. */
#define PLAIN_COLUMNS                                                                                                  \
    "ldr.w r2, [r1], #4\n"                                                                                             \
    "ldr.w lr, [r0, #4]\n"                                                                                             \
    "ldr.w r12, [r0], #8\n"                                                                                            \
    "sxtb16.w r3, r2, ror #8\n"                                                                                        \
    "sxtb16.w r2, r2\n"                                                                                                \
    "smlad r4, r2, r12, r4\n"                                                                                          \
    "smlad r8, r2, lr, r8\n"                                                                                           \
    "ldr.w r2, [r1], #4\n"                                                                                             \
    "smlad r5, r3, r12, r5\n"                                                                                          \
    "smlad r9, r3, lr, r9\n"                                                                                           \
    "sxtb16.w r3, r2, ror #8\n"                                                                                        \
    "sxtb16.w r2, r2\n"                                                                                                \
    "smlad r6, r2, r12, r6\n"                                                                                          \
    "smlad r10, r2, lr, r10\n"                                                                                         \
    "smlad r7, r3, r12, r7\n"                                                                                          \
    "smlad r11, r3, lr, r11\n"
#define PLAIN_BYTES "64"

/* An odd last column: r2 has a byte of each row, r12 that of both pixels. */
#define PACKED_COLUMN                                                                                                  \
    "sxtb16.w r3, r2\n"                                                                                                \
    "smlabb r5, r2, r12, r5\n"                                                                                         \
    "smlabt r9, r2, r12, r9\n"                                                                                         \
    "smlabb r4, r3, r12, r4\n"                                                                                         \
    "smlabt r8, r3, r12, r8\n"                                                                                         \
    "smlatb r7, r2, r12, r7\n"                                                                                         \
    "smlatt r11, r2, r12, r11\n"                                                                                       \
    "smlatb r6, r3, r12, r6\n"                                                                                         \
    "smlatt r10, r3, r12, r10\n"
#define PLAIN_COLUMN                                                                                                   \
    "sxtb16.w r3, r2, ror #8\n"                                                                                        \
    "sxtb16.w r2, r2\n"                                                                                                \
    "smlabb r4, r2, r12, r4\n"                                                                                         \
    "smlabt r8, r2, r12, r8\n"                                                                                         \
    "smlabb r5, r3, r12, r5\n"                                                                                         \
    "smlabt r9, r3, r12, r9\n"                                                                                         \
    "smlatb r6, r2, r12, r6\n"                                                                                         \
    "smlatt r10, r2, r12, r10\n"                                                                                       \
    "smlatb r7, r3, r12, r7\n"                                                                                         \
    "smlatt r11, r3, r12, r11\n"

/* Biases are in r4-r7: sums begin with them, packed ones with that of the even row. */
#define PLAIN_BIAS                                                                                                     \
    "mov r8, r4\n"                                                                                                     \
    "mov r9, r5\n"                                                                                                     \
    "mov r10, r6\n"                                                                                                    \
    "mov r11, r7\n"
#define PACKED_BIAS                                                                                                    \
    "mov r5, r4\n"                                                                                                     \
    "mov r7, r6\n" PLAIN_BIAS

/* Sums of the odd rows out of those of both. r0: behind the biases. */
#define UNPACK                                                                                                         \
    "ldr r2, [r0, #-12]\n"                                                                                             \
    "ldr r3, [r0, #-4]\n"                                                                                              \
    "subs r5, r5, r4\n"                                                                                                \
    "sub.w r9, r9, r8\n"                                                                                               \
    "subs r7, r7, r6\n"                                                                                                \
    "sub.w r11, r11, r10\n"                                                                                            \
    "add.w r5, r2, r5, asr #8\n"                                                                                       \
    "add.w r9, r2, r9, asr #8\n"                                                                                       \
    "add.w r7, r3, r7, asr #8\n"                                                                                       \
    "add.w r11, r3, r11, asr #8\n"

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

/* On the stack: x 0, weights 4, channels 8, outputs 12 and 16, quads 20, centre 24, min 28, max 32, end of x 36, where
 * to enter the loop 40, whether there is an odd column 44, and `rows` 48. */
#define QUADS(columns, bytes, column, bias, unpack) \
        "push {r4-r11, lr}\n" \
        "sub sp, #52\n" \
        "str r0, [sp, #48]\n" \
        "ldm r0, {r1-r10}\n" \
        "stm sp, {r1-r9}\n" \
        "lsrs r2, r10, #1\n" /* pairs of columns */ \
        "add.w r3, r1, r2, lsl #3\n" \
        "and.w r5, r10, #1\n" \
        "adr.w r4, 2f\n" \
        "cbz r2, 1f\n" \
        "rsb r2, r2, #4\n" /* the pairs that the first trip leaves out */ \
        "and.w r2, r2, #3\n" \
        "adr.w r4, 0f\n" \
        "movs r6, #" bytes "\n" \
        "mla r4, r2, r6, r4\n" \
        "1:\n" \
        "orr.w r4, r4, #1\n" \
        "add.w r2, sp, #36\n" \
        "stm r2, {r3, r4, r5}\n" \
        "b 3f\n" \
        ".balign 4\n" \
        "0:\n" columns columns columns columns "ldr r2, [sp, #36]\n" \
        "cmp r0, r2\n" \
        "bne 0b\n" \
        ".balign 4\n" \
        "2:\n" \
        "ldr r2, [sp, #44]\n" \
        "cbz r2, 4f\n" \
        "ldr r2, [r1], #4\n" \
        "ldr r12, [r0]\n" \
        column \
        "4:\n" \
        "ldr r0, [sp, #8]\n" \
        "str r1, [sp, #4]\n" \
        unpack \
        "ldm r0!, {r2, r3, r12, lr}\n" \
        MULTIPLY("r4", "r2") MULTIPLY("r8", "r2") MULTIPLY("r5", "r3") MULTIPLY("r9", "r3") \
        MULTIPLY("r6", "r12") MULTIPLY("r10", "r12") MULTIPLY("r7", "lr") MULTIPLY("r11", "lr") \
        "ldr r2, [r0], #4\n" \
        "ldr r1, [sp, #24]\n" \
        "str r0, [sp, #8]\n" \
        SHIFT("r4", "r8") SHIFT("r5", "r9") SHIFT("r6", "r10") SHIFT("r7", "r11") \
        "ldr r2, [sp, #28]\n" \
        "ldr r3, [sp, #32]\n" \
        "ldr r0, [sp, #12]\n" \
        "ldr r1, [sp, #16]\n" \
        PACK("r4", "r5", "r6", "r7") PACK("r8", "r9", "r10", "r11") \
        "str r8, [r1], #4\n" \
        "str r4, [r0], #4\n" /* last: the outputs may be the same */ \
        "ldr r2, [sp, #20]\n" \
        "str r0, [sp, #12]\n" \
        "str r1, [sp, #16]\n" \
        "subs r2, r2, #1\n" \
        "str r2, [sp, #20]\n" \
        "beq 5f\n" \
        "3:\n" \
        "ldr r12, [sp, #8]\n" \
        "ldr r1, [sp, #4]\n" \
        "ldr r0, [sp, #0]\n" \
        "ldm r12!, {r4-r7}\n" \
        "str r12, [sp, #8]\n" \
        bias \
        "ldr pc, [sp, #40]\n" \
        "5:\n" \
        "ldr r0, [sp, #48]\n" \
        "ldr r2, [sp, #4]\n" \
        "ldr r3, [sp, #8]\n" \
        "ldr r4, [sp, #12]\n" \
        "ldr r5, [sp, #16]\n" \
        "adds r0, #4\n" \
        "stm r0, {r2-r5}\n" \
        "add sp, #52\n" \
        "pop {r4-r11, pc}\n"

/* Each sum of a packed pair of rows has to stay below 2^23: 128 * 128 * HIL_PACKED_COLUMNS does. */
__attribute__((naked, noinline)) void hil_quads(__attribute__((unused)) hil_rows_t *rows)
{
    __asm volatile(QUADS(PACKED_COLUMNS, PACKED_BYTES, PACKED_COLUMN, PACKED_BIAS, UNPACK));
}

__attribute__((naked, noinline)) void hil_quads_deep(__attribute__((unused)) hil_rows_t *rows)
{
    __asm volatile(QUADS(PLAIN_COLUMNS, PLAIN_BYTES, PLAIN_COLUMN, PLAIN_BIAS, ""));
}

#else

typedef int hil_quads_are_in_c;

#endif
