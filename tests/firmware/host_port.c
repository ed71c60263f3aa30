/* A port for the host: standard input and output, a clock that advances by a fixed step, memory in arrays. With it the
 * firmware's command parser runs under the host's sanitisers and can be fuzzed. */
#include <stdio.h>

#include "hil_model.h"
#include "hil_port.h"
#include "hil_runtime.h"

#define ARENA 4096u
#ifndef HOST_SPARE
#define HOST_SPARE 1024u
#endif

static uint32_t stack[512];
int8_t hil_arena[ARENA + HOST_SPARE] __attribute__((aligned(16))); /* the spare RAM follows the arena */

const hil_model_t hil_model = {
    .build_id = "0123456789abcdef0123456789abcdef",
    .profile = "ad01",
    .layers = 70,
    .arena_size = ARENA,
    .input_offset = 1024,
    .input_size = 100,
    .output_offset = 0,
    .output_size = 10,
    .input_zero_point = -3,
    .output_zero_point = 5,
    .output_scale = 0.5f,
    .input_scale = 0.25f,
};

const hil_memory_t hil_memory = {
    .stack_start = (uint8_t *)stack,
    .stack_end = (uint8_t *)(stack + 512),
    .static_start = (uint8_t *)stack,
    .static_end = (uint8_t *)stack,
    .spare_start = (uint8_t *)hil_arena + ARENA,
    .spare_end = (uint8_t *)hil_arena + ARENA + HOST_SPARE,
    .flash_bytes = 0,
};

const char hil_port_timer_kind[] = "modelled-cycles";

int hil_model_infer(hil_mark_fn mark)
{
    for (uint32_t layer = 0; layer < hil_model.layers; layer++) {
        hil_arena[layer % 10u] = (int8_t)(hil_arena[1024u + layer] + 1);
        if (mark != NULL) {
            mark(layer);
        }
    }
    return 0;
}

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

void hil_port_init(void)
{
}

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

uint64_t hil_port_ticks(void)
{
    static uint64_t now;
    return now += 1000003u;
}

uint32_t hil_port_ticks_hz(void)
{
    return 25000000u;
}

int main(void)
{
    hil_greet();
    for (int byte = getchar(); byte != EOF; byte = getchar()) {
        hil_feed((uint8_t)byte);
    }
    return 0;
}
