/* Runs the layers of many generated networks in one image, under QEMU with semihosting: for each network and each of
 * its inputs, the input goes into the arena, the layers run, and the output is appended to a file on the host.
 * bench_cases.c (generated) defines the networks, bench_inputs the inputs, one after the other. */
#include <stdint.h>
#include <string.h>

#include "hil_kernels.h"
#include "hil_model.h"

typedef struct {
    const hil_model_t *model;
    const hil_step_t *steps;
    int8_t *arena;
    void (*reset)(void);
} bench_case_t;

extern const bench_case_t bench_cases[];
extern const uint32_t bench_count;
extern const uint32_t bench_inputs_each;
extern const int8_t bench_inputs[];
extern const char bench_output_path[];

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_EXIT = 0x18, MODE_WB = 5, STOPPED = 0x20026, RUNTIME_ERROR = 0x20023 };

static uint32_t host(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(uint32_t reason)
{
    host(SYS_EXIT, (const void *)(uintptr_t)reason);
    for (;;) {
    }
}

static uint32_t open_output(void)
{
    const uint32_t arguments[3] = {(uint32_t)(uintptr_t)bench_output_path, MODE_WB, strlen(bench_output_path)};
    return host(SYS_OPEN, arguments);
}

static void write_output(uint32_t handle, const void *data, uint32_t size)
{
    const uint32_t arguments[3] = {handle, (uint32_t)(uintptr_t)data, size};
    if (host(SYS_WRITE, arguments) != 0) {
        leave(RUNTIME_ERROR);
    }
}

/* 0, or 1 + index of the layer that refused. The arena is poisoned first, so that a read of stale bytes shows. */
static uint32_t run(const bench_case_t *test, const int8_t *input)
{
    const hil_model_t *const model = test->model;
    memset(test->arena, 0x55, model->arena_size - model->arena_kept); /* what is kept holds zeros at first */
    if (test->reset) {
        test->reset();
    }
    memcpy(test->arena + model->input_offset, input, model->input_size);
    for (uint32_t i = 0; i < model->layers; ++i) {
        if (test->steps[i].run(test->steps[i].op) != 0) {
            return i + 1;
        }
    }
    return 0;
}

void bench_main(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* FPU on */
    __asm volatile("dsb\n isb");
    const uint32_t handle = open_output();
    const int8_t *input = bench_inputs;
    for (uint32_t i = 0; i < bench_count; ++i) {
        const bench_case_t *const test = &bench_cases[i];
        for (uint32_t n = 0; n < bench_inputs_each; ++n) {
            const uint8_t status = (uint8_t)run(test, input);
            write_output(handle, &status, 1);
            write_output(handle, test->arena + test->model->output_offset, test->model->output_size);
            input += test->model->input_size;
        }
    }
    leave(STOPPED);
}

static void fault(void)
{
    leave(RUNTIME_ERROR);
}

extern uint32_t bench_stack_top[];

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)bench_stack_top, (uintptr_t)bench_main, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault,           (uintptr_t)fault,      (uintptr_t)fault,
};
