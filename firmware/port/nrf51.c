/* nRF51 as QEMU's micro:bit has it: UART 0, and two timers, TIMER0 at 8 MHz and TIMER1 at 31.25 kHz, both 32 bits wide (on the
 * chip only TIMER0 is). Under `-icount shift=10` every instruction takes 1024 ns: 8.192 ticks. Clocks and pins are not set up: QEMU
 * has none. */
#include "hil_port.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define UART 0x40002000u
#define UART_STARTRX REGISTER(UART + 0x000u)
#define UART_STARTTX REGISTER(UART + 0x008u)
#define UART_RXDRDY REGISTER(UART + 0x108u)
#define UART_TXDRDY REGISTER(UART + 0x11Cu)
#define UART_INTENSET REGISTER(UART + 0x304u)
#define UART_ENABLE REGISTER(UART + 0x500u)
#define UART_RXD REGISTER(UART + 0x518u)
#define UART_TXD REGISTER(UART + 0x51Cu)
#define UART_BAUDRATE REGISTER(UART + 0x524u)
#define UART_ENABLED 4u
#define UART_115200 0x01D7E000u
#define UART_INT_RXDRDY (1u << 2)

#define TIMER0 0x40008000u
#define TIMER1 0x40009000u
#define TIMER_START(timer) REGISTER((timer) + 0x000u)
#define TIMER_CAPTURE(timer) REGISTER((timer) + 0x040u)
#define TIMER_BITMODE(timer) REGISTER((timer) + 0x508u)
#define TIMER_PRESCALER(timer) REGISTER((timer) + 0x510u)
#define TIMER_CC(timer) REGISTER((timer) + 0x540u)
#define TIMER_32_BITS 3u
#define FAST_PRESCALE 1u /* 16 MHz / 2 */
#define SLOW_PRESCALE 9u /* 16 MHz / 512 */
#define COUNTER_HZ 8000000u

#define NVIC_ISER REGISTER(0xE000E100u)
#define NVIC_ICPR REGISTER(0xE000E280u)
#define NVIC_UART0 (1u << 2)

const char hil_port_timer_kind[] = "icount-instructions";

static void start(uint32_t timer, uint32_t prescale)
{
    TIMER_BITMODE(timer) = TIMER_32_BITS;
    TIMER_PRESCALER(timer) = prescale;
    TIMER_START(timer) = 1u;
}

void hil_port_init(void)
{
    UART_ENABLE = UART_ENABLED;
    UART_BAUDRATE = UART_115200;
    UART_INTENSET = UART_INT_RXDRDY;
    UART_STARTRX = 1u;
    UART_STARTTX = 1u;
    /* Enabled so that it ends a WFI; PRIMASK keeps it from being taken. */
    NVIC_ISER = NVIC_UART0;
    start(TIMER0, FAST_PRESCALE);
    start(TIMER1, SLOW_PRESCALE);
}

#if !defined(HIL_RTT) /* else port/rtt.c has them */
uint8_t hil_port_getc(void)
{
    while (UART_RXDRDY == 0u) {
        __asm volatile("wfi"); /* leaves the emulator's host alone while we wait */
    }
    UART_RXDRDY = 0u; /* first: the read sets it again where more has come */
    const uint8_t byte = (uint8_t)UART_RXD;
    NVIC_ICPR = NVIC_UART0;
    return byte;
}

void hil_port_putc(uint8_t byte)
{
    UART_TXDRDY = 0u;
    UART_TXD = byte;
    while (UART_TXDRDY == 0u) {
    }
}

void hil_port_flush(void)
{
}
#endif

static uint32_t count(uint32_t timer)
{
    TIMER_CAPTURE(timer) = 1u;
    return TIMER_CC(timer);
}

/* The fast timer wraps after 536 s; the slow one, 256 times slower, says how often it has. Both start together, so that the true
 * count lies within 2^31 of the slow one's. No branch: every call takes the same time. */
uint64_t hil_port_ticks(void)
{
    const uint32_t fast = count(TIMER0);
    const uint64_t near = (uint64_t)count(TIMER1) << (SLOW_PRESCALE - FAST_PRESCALE);
    return near + (uint64_t)(int64_t)(int32_t)(fast - (uint32_t)near);
}

uint32_t hil_port_ticks_hz(void)
{
    return COUNTER_HZ;
}
