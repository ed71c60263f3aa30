/* Start-up and faults of an Arm M core. Thread mode runs on the process stack at the bottom of RAM, so that an
 * overflow leaves RAM and faults instead of spoiling data; handlers have a small stack of their own. Interrupts stay
 * masked: whatever a port waits for, it polls or wakes for. (Under Renode, which lets PRIMASK mask faults too, they are
 * masked only while a port sleeps; else nothing is enabled that could interrupt.) */
#include <stdint.h>

#include "hil_port.h"
#include "hil_runtime.h"
#include "hil_wire.h"

extern uint8_t _stack_start[], _stack_end[], _handler_stack_end[], _text_start[], _text_end[];
extern uint32_t _data_start[], _data_end[], _data_load[], _bss_start[], _bss_end[];

void hil_reset(void);
void hil_fault_entry(void);
void hil_start(void);
void hil_fault(const uint32_t *frame, uint32_t exception_return);

/* Sixteen system exceptions; no interrupt is ever taken. */
typedef union {
    void *stack;
    void (*handler)(void);
} vector_t;

__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    {.stack = _handler_stack_end},
    {.handler = hil_reset},
    {.handler = hil_fault_entry}, /* NMI */
    {.handler = hil_fault_entry}, /* HardFault */
    {.handler = hil_fault_entry}, /* MemManage */
    {.handler = hil_fault_entry}, /* BusFault */
    {.handler = hil_fault_entry}, /* UsageFault */
    {.handler = hil_fault_entry},
    {.handler = hil_fault_entry},
    {.handler = hil_fault_entry},
    {.handler = hil_fault_entry},
    {.handler = hil_fault_entry}, /* SVCall */
    {.handler = hil_fault_entry}, /* DebugMonitor */
    {.handler = hil_fault_entry},
    {.handler = hil_fault_entry}, /* PendSV */
    {.handler = hil_fault_entry}, /* SysTick */
};

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_SHCSR REGISTER(0xE000ED24u)
#define SCB_SHCSR_FAULTS (7u << 16) /* UsageFault, BusFault and MemManage on their own, not as a HardFault */
#define SCB_CFSR REGISTER(0xE000ED28u)
#define SCB_HFSR REGISTER(0xE000ED2Cu)
#define SCB_MMFAR REGISTER(0xE000ED34u)
#define SCB_BFAR REGISTER(0xE000ED38u)

#if __ARM_ARCH >= 8
#define CFSR_STKOF (1u << 20) /* below the stack pointer's limit */
#else
#define CFSR_STKOF 0u
#endif
#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_RBAR REGISTER(0xE000ED9Cu)
#define MPU_RASR REGISTER(0xE000EDA0u)
#define MPU_CTRL_ENABLE 1u
#define MPU_CTRL_PRIVDEFENA 4u   /* everything else as without an MPU */
#define MPU_RBAR_REGION_7 0x17u  /* VALID, region 7 (the strongest that every core has) */
#define MPU_RASR_FORBID_64K 0x1000001Fu /* execute never, no access, 2^(15 + 1) bytes, enabled */
#define GUARD_BYTES 0x10000u

#define CFSR_MSTKERR (1u << 4)
#define CFSR_MMARVALID (1u << 7)
#define CFSR_STKERR (1u << 12)
#define CFSR_BFARVALID (1u << 15)

/* What Armv6-M (Cortex-M0) has other instructions for. */
#if __ARM_ARCH == 6
#define FPU_ON ""
#define PAINT_A_WORD                                                                                                   \
    "str   r2, [r0]             \n"                                                                                   \
    "adds  r0, #4               \n"
#else
#define FPU_ON /* CPACR: full access to CP10 and CP11 */                                                               \
    "ldr   r0, =0xE000ED88      \n"                                                                                   \
    "ldr   r1, [r0]             \n"                                                                                   \
    "orr   r1, r1, #0x00F00000  \n"                                                                                   \
    "str   r1, [r0]             \n"                                                                                   \
    "dsb                        \n"                                                                                   \
    "isb                        \n"
#define PAINT_A_WORD "str   r2, [r0], #4         \n"
#endif

/* FPU on, stack painted, thread mode onto it. In assembly because it must not use the stack it is setting up. */
__attribute__((naked, noreturn, used)) void hil_reset(void)
{
    __asm volatile("cpsid i                    \n" FPU_ON
                   "ldr   r0, =_stack_start    \n"
                   "ldr   r1, =_stack_end      \n"
                   "ldr   r2, =0xA5A5A5A5      \n" /* HIL_STACK_PAINT */
                   "1:                         \n" PAINT_A_WORD
                   "cmp   r0, r1               \n"
                   "blo   1b                   \n"
                   "msr   psp, r1              \n"
                   "movs  r0, #2               \n" /* CONTROL.SPSEL: thread mode on PSP */
                   "msr   control, r0          \n"
                   "isb                        \n"
                   "bl    hil_start            \n"
                   ".ltorg                     \n");
}

/* Not every bus answers an access below RAM with an error (QEMU's MPS2 ignores it), so the MPU does; an Armv8-M core has
 * a limit for the stack pointer itself. A Cortex-M0 has neither: its bus has to. */
static void guard_stack(void)
{
#if __ARM_ARCH == 6
#elif __ARM_ARCH >= 8
    __asm volatile("msr psplim, %0\n isb" ::"r"(_stack_start) : "memory");
#else
    MPU_RBAR = ((uint32_t)(uintptr_t)_stack_start - GUARD_BYTES) | MPU_RBAR_REGION_7;
    MPU_RASR = MPU_RASR_FORBID_64K;
    MPU_CTRL = MPU_CTRL_ENABLE | MPU_CTRL_PRIVDEFENA;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
}

/* A fault is an exception whatever PRIMASK says, on a core and in QEMU; in Renode (1.16.1) only what PRIMASK lets pass
 * is taken, HardFault included. An interrupt is enabled in the NVIC only while PRIMASK is set. */
static void unmask_faults(void)
{
#if defined(HIL_RENODE)
    SCB_SHCSR |= SCB_SHCSR_FAULTS;
    __asm volatile("cpsie i" ::: "memory");
#endif
}

__attribute__((noreturn, used)) void hil_start(void)
{
    const uint32_t *from = _data_load;
    for (volatile uint32_t *to = _data_start; to < _data_end; to++) {
        *to = *from++;
    }
    /* volatile keeps the compiler from calling memset for it, which nothing else may need */
    for (volatile uint32_t *to = _bss_start; to < _bss_end; to++) {
        *to = 0;
    }
    SCB_VTOR = (uint32_t)(uintptr_t)vectors;
    guard_stack();
    unmask_faults();
    hil_port_init();
    if (hil_model_setup) {
        (void)hil_model_setup(); /* what went wrong is in its log; every inference will be refused */
    }
    hil_greet();
    for (;;) {
        hil_feed(hil_port_getc());
    }
}

/* A core whose handlers' stack pointer leads nowhere locks up. Renode goes on, and its memory that is not there reads as
 * zeros: the handler would run into them. (The handlers' stack is the first of the static data: link.ld.) */
#if defined(HIL_RENODE)
#define HANDLER_STACK_AGAIN                                                                                            \
    "mov   r2, sp                     \n"                                                                             \
    "ldr   r3, =_static_start         \n"                                                                             \
    "cmp   r2, r3                     \n"                                                                             \
    "ldr   r3, =_handler_stack_end    \n"                                                                             \
    "it    hs                         \n"                                                                             \
    "cmphs r3, r2                     \n"                                                                             \
    "it    lo                         \n"                                                                             \
    "msrlo msp, r3                    \n"
#else
#define HANDLER_STACK_AGAIN ""
#endif

__attribute__((naked, used)) void hil_fault_entry(void)
{
#if __ARM_ARCH == 6
    __asm volatile("mov   r1, lr      \n"
                   "movs  r2, #4      \n"
                   "mrs   r0, msp     \n"
                   "tst   r1, r2      \n"
                   "beq   1f          \n"
                   "mrs   r0, psp     \n"
                   "1:                \n"
                   "ldr   r2, =hil_fault\n"
                   "bx    r2          \n"
                   ".ltorg            \n");
#else
    __asm volatile("tst   lr, #4      \n"
                   "ite   eq          \n"
                   "mrseq r0, msp     \n"
                   "mrsne r0, psp     \n"
                   "mov   r1, lr      \n"
                   HANDLER_STACK_AGAIN
                   "b     hil_fault   \n"
                   ".ltorg            \n");
#endif
}

static bool below_stack(uint32_t address)
{
    const uint32_t bottom = (uint32_t)(uintptr_t)_stack_start;
    return address < bottom && bottom - address <= GUARD_BYTES;
}

static bool is_code(uint32_t address)
{
    return (address & 1u) != 0u && address >= (uint32_t)(uintptr_t)_text_start &&
           address < (uint32_t)(uintptr_t)_text_end;
}

/* After a stack overflow the core could not save where it was: the deepest return address on the stack says it
 * almost as well. */
static uint32_t deepest_return(uint32_t from)
{
    const uint32_t bottom = (uint32_t)(uintptr_t)_stack_start;
    const uint32_t *word = (const uint32_t *)(uintptr_t)(from > bottom ? from & ~3u : bottom);
    for (; word < (const uint32_t *)_stack_end; word++) {
        if (is_code(*word)) {
            return *word & ~1u;
        }
    }
    return 0;
}

/* Last words. No m-ready: nothing after this can be trusted. */
__attribute__((noreturn, used)) void hil_fault(const uint32_t *frame, uint32_t exception_return)
{
    const uint32_t cfsr = SCB_CFSR;
    const uint32_t bfar = (cfsr & CFSR_BFARVALID) != 0u ? SCB_BFAR : 0u;
    const uint32_t mmfar = (cfsr & CFSR_MMARVALID) != 0u ? SCB_MMFAR : 0u;
    const uint32_t sp = (uint32_t)(uintptr_t)frame;
    const bool on_process_stack = (exception_return & 4u) != 0u;
    const uint32_t unsaved_causes = CFSR_STKERR | CFSR_MSTKERR | CFSR_STKOF;
    const bool unsaved = (cfsr & unsaved_causes) != 0u || sp < (uint32_t)(uintptr_t)_stack_start;
    const bool overflow = (on_process_stack && unsaved) || below_stack(bfar) || below_stack(mmfar);
    const uint32_t values[] = {
        /* Renode comes back on the handlers' stack when the process stack could not take the frame */
        unsaved ? deepest_return(on_process_stack ? sp : 0u) : frame[6], unsaved ? exception_return : frame[5], sp, cfsr, SCB_HFSR, bfar,
        mmfar, overflow,
    };
    static const char names[][8] = {" pc=", " lr=", " sp=", " cfsr=", " hfsr=", " bfar=", " mmfar=", " stack="};
    hil_text("\r\n");
    hil_line_crc_start(0);
    hil_text("e-[" HIL_WIRE_FAULT);
    for (uint32_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        hil_text(names[i]);
        hil_text_hex(values[i], 8);
    }
    const uint32_t crc = hil_line_crc();
    hil_text(" crc=");
    hil_text_hex(crc, 8);
    hil_text("]\r\n");
    hil_port_flush();
    for (;;) {
        __asm volatile("wfi");
    }
}
