/* Arm MPS2+ and MPS3 FPGA images as QEMU emulates them: CMSDK UART 0, and the counter of the FPGA I/O block. Under
 * `-icount shift=10` every instruction takes 1024 ns: 25.6 ticks at 25 MHz, 20.48 at 20 MHz.
 *
 * HIL_MPS_IMAGE says which image, where it is not one with the memory map of AN385 (Cortex-M3), AN386 (Cortex-M4) or AN500
 * (Cortex-M7). AN505 (Cortex-M33) and AN547 (Cortex-M55) run in secure state, and so use the secure addresses. */
#include "hil_port.h"

#ifndef HIL_MPS_IMAGE
#define UART 0x40004000u
#define FPGAIO 0x40028000u
#define IRQ_UART0 0u /* its receiver */
#define IRQ_COUNT 1u
#define COUNTER_HZ 25000000u
#elif HIL_MPS_IMAGE == 505
#define UART 0x50200000u
#define FPGAIO 0x50302000u
#define IRQ_UART0 32u /* its receiver, then its transmitter, whose interrupt is off */
#define IRQ_COUNT 2u
#define COUNTER_HZ 20000000u
#elif HIL_MPS_IMAGE == 547
#define UART 0x59303000u
#define FPGAIO 0x59302000u
#define IRQ_UART0 33u
#define IRQ_COUNT 2u
#define COUNTER_HZ 20000000u /* QEMU's: the image's own clock, of 32 MHz, is not its counter's */
#else
#error "HIL_MPS_IMAGE is no image that this port knows"
#endif

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define UART_DATA REGISTER(UART + 0x00u)
#define UART_STATE REGISTER(UART + 0x04u)
#define UART_CTRL REGISTER(UART + 0x08u)
#define UART_INTSTATUS REGISTER(UART + 0x0Cu)
#define UART_BAUDDIV REGISTER(UART + 0x10u)
#define UART_STATE_TX_FULL 1u
#define UART_STATE_RX_FULL 2u
#define UART_CTRL_TX_ENABLE 1u
#define UART_CTRL_RX_ENABLE 2u
#define UART_CTRL_RX_INTERRUPT 8u
#define UART_INT_RX 2u

#define FPGAIO_CLK1HZ REGISTER(FPGAIO + 0x10u)
#define FPGAIO_COUNTER REGISTER(FPGAIO + 0x18u)
#define FPGAIO_PRESCALE REGISTER(FPGAIO + 0x1Cu)

#define NVIC_ISER REGISTER(0xE000E100u + 4u * (IRQ_UART0 / 32u))
#define NVIC_ICPR REGISTER(0xE000E280u + 4u * (IRQ_UART0 / 32u))
#define NVIC_BITS (((1u << IRQ_COUNT) - 1u) << (IRQ_UART0 % 32u))

#define UART_CLOCK_HZ 25000000u

const char hil_port_timer_kind[] = "icount-instructions";

void hil_port_init(void)
{
    UART_BAUDDIV = UART_CLOCK_HZ / HIL_BAUD;
    UART_CTRL = UART_CTRL_TX_ENABLE | UART_CTRL_RX_ENABLE | UART_CTRL_RX_INTERRUPT;
    /* Enabled so that it ends a WFI; PRIMASK keeps it from being taken. */
    NVIC_ISER = NVIC_BITS;
    FPGAIO_PRESCALE = 0; /* the counter counts every clock */
}

#if !defined(HIL_RTT) /* else port/rtt.c has them */
uint8_t hil_port_getc(void)
{
    while ((UART_STATE & UART_STATE_RX_FULL) == 0u) {
        __asm volatile("wfi"); /* leaves the emulator's host alone while we wait */
    }
    const uint8_t byte = (uint8_t)UART_DATA;
    UART_INTSTATUS = UART_INT_RX;
    NVIC_ICPR = NVIC_BITS;
    return byte;
}

void hil_port_putc(uint8_t byte)
{
    while ((UART_STATE & UART_STATE_TX_FULL) != 0u) {
    }
    UART_DATA = byte;
}

void hil_port_flush(void)
{
    while ((UART_STATE & UART_STATE_TX_FULL) != 0u) {
    }
}

uint32_t hil_port_set_rate(uint32_t rate)
{
    hil_port_flush();
    UART_BAUDDIV = UART_CLOCK_HZ / rate;
    return UART_CLOCK_HZ / UART_BAUDDIV;
}
#endif

/* The 32-bit counter wraps after 172 s and more; the counter of seconds beside it says how often it has. Both start at reset,
 * so the true count lies within 2^31 of the seconds' own. No branch: every call takes the same time. */
uint64_t hil_port_ticks(void)
{
    const uint32_t count = FPGAIO_COUNTER;
    const uint64_t near = (uint64_t)FPGAIO_CLK1HZ * COUNTER_HZ;
    return near + (uint64_t)(int64_t)(int32_t)(count - (uint32_t)near);
}

uint32_t hil_port_ticks_hz(void)
{
    return COUNTER_HZ;
}
