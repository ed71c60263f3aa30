/* A port for the host: standard input and output, a clock of its own, memory in arrays. With it the firmware's command
 * parser runs under the host's sanitisers, is fuzzed (HOST_FUZZ), and is the device of the fault injection.
 *
 * Time and output depend on the input, so that a figure of one input is never right for another: layer i takes
 * 1000 + input[i] ticks, output byte i is input[i % 100] + 1 + i / 100 (tests/faults/host_device.py knows the same).
 *
 * With HIL_RTT it is the network and the clock of an emulated Cortex-M, whose start-up and memory are the runtime's own and
 * whose serial port is port/rtt.c (tests/faults/rtt_device.py). */
#include <stdio.h>

#include "hil_model.h"
#include "hil_port.h"
#include "hil_runtime.h"
#include "hil_wire.h"

#define ARENA 4096u
#define INPUT 1024u
#define STEP 1000003u /* ticks between two looks at the clock */
#ifndef HOST_OUTPUT
#define HOST_OUTPUT 10u
#endif
#ifndef HOST_SPARE
#define HOST_SPARE 1024u
#endif

#ifdef HIL_RTT
int8_t hil_arena[ARENA] __attribute__((section(".arena"), aligned(16)));
#else
static uint32_t stack[512];
int8_t hil_arena[ARENA + HOST_SPARE] __attribute__((aligned(16))); /* the spare RAM follows the arena */
#endif

const hil_model_t hil_model = {
    .build_id = "0123456789abcdef0123456789abcdef",
    .profile = "ad01",
    .layers = 70,
    .arena_size = ARENA,
    .input_offset = INPUT,
    .input_size = 100,
    .output_offset = 0,
    .output_size = HOST_OUTPUT,
    .input_zero_point = -3,
    .output_zero_point = 5,
    .output_scale = 0.5f,
    .input_scale = 0.25f,
};

#ifndef HIL_RTT
const hil_memory_t hil_memory = {
    .stack_start = (uint8_t *)stack,
    .stack_end = (uint8_t *)(stack + 512),
    .static_start = (uint8_t *)stack,
    .static_end = (uint8_t *)stack,
    .spare_start = (uint8_t *)hil_arena + ARENA,
    .spare_end = (uint8_t *)hil_arena + ARENA + HOST_SPARE,
    .flash_bytes = 0,
};
#endif

const char hil_port_timer_kind[] = "modelled-cycles";
static uint64_t now;
#ifdef HOST_FUZZ
static uint32_t inferences_left; /* a command may ask for billions */
#endif

int hil_model_infer(hil_mark_fn mark)
{
#ifdef HOST_FUZZ
    if (inferences_left == 0u) {
        return 3;
    }
    inferences_left--;
#endif
    for (uint32_t layer = 0; layer < hil_model.layers; layer++) {
        now += 1000u + (uint8_t)hil_arena[INPUT + layer];
        if (mark != NULL) {
            mark(layer);
        }
    }
    for (uint32_t i = 0; i < HOST_OUTPUT; i++) {
        hil_arena[i] = (int8_t)(hil_arena[INPUT + i % 100u] + 1 + (int)(i / 100u));
    }
    return 0;
}

#ifndef HIL_RTT
int hil_bare_return(hil_mark_fn mark)
{
    (void)mark;
    return 0;
}

int hil_bare_nop_return(hil_mark_fn mark)
{
    (void)mark;
    return 0;
}

int hil_bare_marks(hil_mark_fn mark)
{
    mark(0);
    mark(1);
    return 0;
}

uint32_t *hil_stack_pointer(void)
{
    return stack + 512;
}
#endif

void hil_port_init(void)
{
}

#ifndef HIL_RTT
uint8_t hil_port_getc(void)
{
    return (uint8_t)getchar();
}

void hil_port_putc(uint8_t byte)
{
    putchar(byte);
}

void hil_port_flush(void)
{
    fflush(stdout);
}
#endif

uint64_t hil_port_ticks(void)
{
    return now += STEP;
}

uint32_t hil_port_ticks_hz(void)
{
    return 25000000u;
}

#ifdef HOST_FUZZ
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The frame that no mutation would find: ` #0001` and the CRC-32 of the `size` bytes of the command. */
static void feed_seal(const uint8_t *command, uint32_t size)
{
    char frame[16];
    (void)snprintf(frame, sizeof frame, " #0001%08x", (unsigned)hil_crc32_from(1, command, size));
    for (const char *next = frame; *next != '\0'; next++) {
        hil_feed((uint8_t)*next);
    }
}

/* The device is not reset between inputs, as a real one is not. The first byte says whether commands get frames. What
 * an input began is ended, and answered. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t start = 1;
    inferences_left = 60;
    for (size_t i = 1; i < size; i++) {
        if (data[i] == '%') {
            if ((data[0] & 1u) != 0u) {
                feed_seal(data + start, (uint32_t)(i - start));
            }
            start = i + 1u;
        }
        hil_feed(data[i]);
    }
    hil_feed('%');
    return 0;
}
#elif !defined(HIL_RTT)
int main(void)
{
    hil_greet();
    fflush(stdout);
    for (int byte = getchar(); byte != EOF; byte = getchar()) {
        hil_feed((uint8_t)byte);
        if (byte == HIL_WIRE_TERMINATOR) {
            fflush(stdout);
        }
    }
    return 0;
}
#endif
