/* Arm MPS2+ FPGA images AN386 (Cortex-M4) and AN500 (Cortex-M7), as QEMU emulates them: CMSDK UART 0, and the counter
 * of the FPGA I/O block (25 MHz). Under `-icount shift=10` every instruction takes 1024 ns, 25.6 ticks. */
#include "hil_port.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTSTATUS REGISTER(0x4000400Cu)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define UART_STATE_TX_FULL 1u
#define UART_STATE_RX_FULL 2u
#define UART_CTRL_TX_ENABLE 1u
#define UART_CTRL_RX_ENABLE 2u
#define UART_CTRL_RX_INTERRUPT 8u
#define UART_INT_RX 2u

#define FPGAIO_CLK1HZ REGISTER(0x40028010u)
#define FPGAIO_COUNTER REGISTER(0x40028018u)
#define FPGAIO_PRESCALE REGISTER(0x4002801Cu)

#define NVIC_ISER0 REGISTER(0xE000E100u)
#define NVIC_ICPR0 REGISTER(0xE000E280u)
#define IRQ_UART0_RX 0u

#define CLOCK_HZ 25000000u
#define BAUD 115200u

const char hil_port_timer_kind[] = "icount-instructions";

void hil_port_init(void)
{
    UART_BAUDDIV = CLOCK_HZ / BAUD;
    UART_CTRL = UART_CTRL_TX_ENABLE | UART_CTRL_RX_ENABLE | UART_CTRL_RX_INTERRUPT;
    /* Enabled so that it ends a WFI; PRIMASK keeps it from being taken. */
    NVIC_ISER0 = 1u << IRQ_UART0_RX;
    FPGAIO_PRESCALE = 0; /* the counter counts every clock */
}

uint8_t hil_port_getc(void)
{
    while ((UART_STATE & UART_STATE_RX_FULL) == 0u) {
        __asm volatile("wfi"); /* leaves the emulator's host alone while we wait */
    }
    const uint8_t byte = (uint8_t)UART_DATA;
    UART_INTSTATUS = UART_INT_RX;
    NVIC_ICPR0 = 1u << IRQ_UART0_RX;
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

/* The 32-bit counter wraps every 172 s; the counter of seconds beside it says how often it has. Both start at reset,
 * so the true count lies within 2^31 of the seconds' own. No branch: every call takes the same time. */
uint64_t hil_port_ticks(void)
{
    const uint32_t count = FPGAIO_COUNTER;
    const uint64_t near = (uint64_t)FPGAIO_CLK1HZ * CLOCK_HZ;
    return near + (uint64_t)(int64_t)(int32_t)(count - (uint32_t)near);
}

uint32_t hil_port_ticks_hz(void)
{
    return CLOCK_HZ;
}
