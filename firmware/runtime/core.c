/* What the linker and the core alone know: the memory map, the stack pointer, and the least code that can be timed. */
#include "hil_runtime.h"

extern uint8_t _stack_start[], _stack_end[], _static_start[], _static_end[], _spare_start[], _spare_end[];
extern uint8_t _flash_used[];

HIL_MODEL_CONST hil_memory_t hil_memory = {
    .stack_start = _stack_start,
    .stack_end = _stack_end,
    .static_start = _static_start,
    .static_end = _static_end,
    .spare_start = _spare_start,
    .spare_end = _spare_end,
    .flash_bytes = (uint32_t)_flash_used,
};

__attribute__((naked, used)) int hil_bare_return(hil_mark_fn mark)
{
    (void)mark;
    __asm volatile("bx lr");
}

__attribute__((naked, used)) int hil_bare_nop_return(hil_mark_fn mark)
{
    (void)mark;
    __asm volatile("nop\n bx lr");
}

__attribute__((naked, used)) int hil_bare_marks(hil_mark_fn mark)
{
    (void)mark;
    __asm volatile("push {r4, lr}   \n"
                   "mov  r4, r0     \n"
                   "movs r0, #0     \n"
                   "blx  r4         \n"
                   "movs r0, #1     \n"
                   "blx  r4         \n"
                   "movs r0, #0     \n"
                   "pop  {r4, pc}   \n");
}

__attribute__((naked, used)) uint32_t *hil_stack_pointer(void)
{
    __asm volatile("mov r0, sp\n bx lr");
}
