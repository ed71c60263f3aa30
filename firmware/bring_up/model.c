/* What `munas-hil bring-up` runs on a board in a network's place: its input is a command, its output the answer.
 *
 * Words are little endian. Input: command, three arguments. Output: eight words. The host's half is hil/bring_up/steps.py. */
#include "board.h"
#include "build.h"
#include "hil_model.h"
#include "hil_port.h"

#define INPUT_OFFSET 1024
#define INPUT_BYTES 16
#define OUTPUT_WORDS 8

enum { ECHO, LOOP, LOOP_WITHOUT, MEMORY, READ, TEMPERATURE, RATE };

int8_t hil_arena[2048] __attribute__((section(".arena"), aligned(16)));

const hil_model_t hil_model = {
    .build_id = HIL_BUILD_ID,
    .profile = HIL_PROFILE,
    .layers = 1,
    .arena_size = sizeof hil_arena,
    .input_offset = INPUT_OFFSET,
    .input_size = INPUT_BYTES,
    .output_offset = 0,
    .output_size = 4 * OUTPUT_WORDS,
    .input_scale = 1.0f,
    .output_scale = 1.0f,
};

static uint32_t argument(uint32_t index)
{
    const int8_t *from = hil_arena + INPUT_OFFSET + 4u * index;
    uint32_t word = 0;
    for (uint32_t i = 0; i < 4u; i++) {
        word |= (uint32_t)(uint8_t)from[i] << (8u * i);
    }
    return word;
}

static void answer(uint32_t index, uint32_t word)
{
    for (uint32_t i = 0; i < 4u; i++) {
        hil_arena[4u * index + i] = (int8_t)(word >> (8u * i));
    }
}

/* Two instructions a round, and the same ones whatever the compiler. */
__attribute__((noinline)) static void loop(uint32_t rounds)
{
    __asm volatile(".balign 16            \n"
                   "1: subs %0, %0, #1    \n"
                   "bne 1b                \n"
                   : "+r"(rounds)
                   :
                   : "cc");
}

/* With some bits of a register off: caches and prefetching that the port has switched on. */
static void loop_without(uint32_t address, uint32_t bits, uint32_t rounds)
{
    volatile uint32_t *const where = (volatile uint32_t *)(uintptr_t)address;
    const uint32_t before = *where;
    *where = before & ~bits;
    __asm volatile("dsb\n isb" ::: "memory");
    loop(rounds);
    *where = before;
    __asm volatile("dsb\n isb" ::: "memory");
    answer(0, before & bits);
}

/* Every word of a region holds what was written to it, and to it alone: the value depends on the address. */
static void memory(uint32_t address, uint32_t bytes)
{
    volatile uint32_t *const words = (volatile uint32_t *)(uintptr_t)address;
    uint32_t wrong = 0, first = 0;
    for (uint32_t i = 0; i < bytes / 4u; i++) {
        words[i] = (address + 4u * i) * 2654435761u;
    }
    for (uint32_t i = 0; i < bytes / 4u; i++) {
        if (words[i] != (address + 4u * i) * 2654435761u) {
            first = wrong == 0u ? address + 4u * i : first;
            wrong++;
        }
    }
    answer(0, wrong);
    answer(1, first);
}

/* Whether there is a sensor that can be read, and thousandths of a degree. */
static void temperature(void)
{
    int32_t millidegrees = 0;
    answer(0, hil_port_temperature && hil_port_temperature(&millidegrees));
    answer(1, (uint32_t)millidegrees);
}

/* The answer comes at the new rate; before, there is time for the other side to change to it. */
static void change_rate(uint32_t rate, uint32_t rounds)
{
    answer(0, 0);
    if (hil_port_set_rate) {
        loop(rounds);
        answer(0, hil_port_set_rate(rate));
    }
}

int hil_model_infer(hil_mark_fn mark)
{
    const uint32_t command = argument(0), a = argument(1), b = argument(2), c = argument(3);
    for (uint32_t i = 0; i < OUTPUT_WORDS; i++) {
        answer(i, i < 4u ? argument(i) : 0u);
    }
    switch (command) {
    case LOOP:
        loop(a);
        break;
    case LOOP_WITHOUT:
        loop_without(a, b, c);
        break;
    case MEMORY:
        memory(a, b);
        break;
    case READ:
        answer(0, *(volatile uint32_t *)(uintptr_t)a);
        break;
    case TEMPERATURE:
        temperature();
        break;
    case RATE:
        change_rate(a, b);
        break;
    default:
        break;
    }
    if (mark) {
        mark(0);
    }
    return 0;
}
