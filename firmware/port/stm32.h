/* What the ports of the STM32 families have in common. Register addresses and bits are those of the reference manuals
 * (RM0090 F405, RM0385 F746, RM0432 L4R5, RM0433 H743) and of the Armv7-M architecture reference manual; every one was
 * compared with ST's device headers (cmsis_device_f4 cdbad761, _f7 b01bc43f, _l4 a2530753, _h7 13ba9da7).
 *
 * Clocks: the order of the steps and what is waited for were compared with ST's HAL (hal_rcc.c and hal_pwr_ex.c of
 * stm32f4xx_hal_driver d232197, f7 72edf6a, l4 a9f8b8a, h7 6f5e35e). From memory of the manuals, which were not at hand, are
 * what the HAL takes from its user: wait states, the ranges of a PLL, and that the H7's supply comes before its voltage.
 *
 * HIL_RENODE and HIL_QEMU (a board's [renode] and [qemu] defines) only change what the timer counts and is called, and
 * how a byte is waited for: clocks, serial port and counters are set up by the same instructions everywhere. */
#ifndef STM32_H
#define STM32_H

#include <stdbool.h>
#include <stdint.h>

#include "hil_port.h"

#define STM32_WAIT_ROUNDS 200000u /* at least 10 ms at any reset clock; the slowest start-up, a crystal's, takes 2 ms */

#ifndef REGISTER /* a test brings its own */
#define REGISTER(address) (*(volatile uint32_t *)(address))
#endif

/* Bounded, so that a part that never gets ready is an error that can be told: the core stays at its reset clock, and
 * says so through hil_port_ticks_hz. */
static inline bool stm32_reaches(volatile uint32_t *where, uint32_t mask, uint32_t value)
{
    for (uint32_t round = 0; round < STM32_WAIT_ROUNDS; round++) {
        if ((*where & mask) == value) {
            return true;
        }
    }
    return false;
}

static inline void stm32_change(volatile uint32_t *where, uint32_t mask, uint32_t value)
{
    *where = (*where & ~mask) | value;
}

/* A clock's divisor for `rate`, rounded to the nearest. */
static inline uint32_t stm32_divisor(uint32_t clock_hz, uint32_t rate)
{
    return (clock_hz + rate / 2u) / rate;
}

/* What the clock tree came to: the core's clock, that of the serial port, and how much slower TIM2's is than the core's. */
typedef struct {
    uint32_t core_hz;
    uint32_t usart_hz;
    uint32_t timer_shift; /* TIM2 runs at the core's clock, or at half of it */
} stm32_speed_t;

static stm32_speed_t stm32_speed;

/* Of the serial port, in parts of its clock: the root once as the clock's factor and once as the rate's, for 32 bits to hold
 * both. */
#define stm32_rate_divisor(rate) stm32_divisor(stm32_speed.usart_hz * STM32_USART_ROOT, (rate) / STM32_USART_ROOT)

/* --- pins ---------------------------------------------------------------------------------------------------- */

#define GPIO_MODER 0x00u
#define GPIO_PUPDR 0x0Cu
#define GPIO_AFRL 0x20u

/* Alternate function `function` on pin 0..15; pulled up, so that a line that nobody drives is idle. */
static inline void stm32_pin(uint32_t gpio, uint32_t pin, uint32_t function)
{
    stm32_change(&REGISTER(gpio + GPIO_PUPDR), 3u << (2u * pin), 1u << (2u * pin));
    stm32_change(&REGISTER(gpio + GPIO_AFRL + 4u * (pin / 8u)), 15u << (4u * (pin % 8u)), function << (4u * (pin % 8u)));
    stm32_change(&REGISTER(gpio + GPIO_MODER), 3u << (2u * pin), 2u << (2u * pin));
}

/* --- USART and LPUART of the F7, L4 and H7 -------------------------------------------------------------------- */

#define USART_CR1 0x00u
#define USART_CR3 0x08u
#define USART_BRR 0x0Cu
#define USART_ISR 0x1Cu
#define USART_RDR 0x24u
#define USART_TDR 0x28u
#define USART_CR1_UE (1u << 0)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_RXNEIE (1u << 5) /* the same bit in the F4's */
#define USART_CR3_OVRDIS (1u << 12) /* a byte that comes too late replaces the last; the protocol's CRCs notice */
#define USART_RXNE (1u << 5)        /* the same bits in the F4's status register */
#define USART_TC (1u << 6)
#define USART_TXE (1u << 7)

#if defined(HIL_RENODE) || defined(HIL_QEMU)
#define STM32_USART_CR1_SLEEP USART_CR1_RXNEIE
#define NVIC_ENABLE(irq) REGISTER(0xE000E100u + 4u * ((irq) / 32u))
#define NVIC_DISABLE(irq) REGISTER(0xE000E180u + 4u * ((irq) / 32u))
#define NVIC_UNPEND(irq) REGISTER(0xE000E280u + 4u * ((irq) / 32u))

/* An interrupt that is pending ends a WFI; PRIMASK keeps it from being taken, and it is enabled nowhere else. */
static inline void stm32_sleep_until_byte(uint32_t status, uint32_t irq)
{
    const uint32_t bit = 1u << irq % 32u;
    uint32_t masked;
    __asm volatile("mrs %0, primask\n cpsid i" : "=r"(masked)::"memory");
    NVIC_UNPEND(irq) = bit; /* that of bytes that were read since; a byte that waits stays pending */
    NVIC_ENABLE(irq) = bit;
    while ((REGISTER(status) & USART_RXNE) == 0u) {
        __asm volatile("wfi");
    }
    NVIC_DISABLE(irq) = bit;
    __asm volatile("msr primask, %0" ::"r"(masked) : "memory");
}
#else
#define STM32_USART_CR1_SLEEP 0u
#endif

static inline void stm32_usart_init(uint32_t usart, uint32_t divisor)
{
    REGISTER(usart + USART_CR1) = 0;
    REGISTER(usart + USART_CR3) = USART_CR3_OVRDIS;
    REGISTER(usart + USART_BRR) = divisor;
    REGISTER(usart + USART_CR1) = USART_CR1_UE | USART_CR1_RE | USART_CR1_TE | STM32_USART_CR1_SLEEP;
}

/* Until the status register `status` of the port whose interrupt is `irq` says that a byte is there. Polled on a board: in
 * WFI the cycle counter would stop while the coarse one goes on. An emulator would take a core of its host for that. */
static inline void stm32_wait_for_byte(uint32_t status, uint32_t irq)
{
    (void)irq;
    while ((REGISTER(status) & USART_RXNE) == 0u) {
#if defined(HIL_RENODE) || defined(HIL_QEMU)
        stm32_sleep_until_byte(status, irq);
#endif
    }
}

static inline uint8_t stm32_usart_get(uint32_t usart, uint32_t irq)
{
    stm32_wait_for_byte(usart + USART_ISR, irq);
    return (uint8_t)REGISTER(usart + USART_RDR);
}

static inline void stm32_usart_put(uint32_t usart, uint8_t byte)
{
    while ((REGISTER(usart + USART_ISR) & USART_TXE) == 0u) {
    }
    REGISTER(usart + USART_TDR) = byte;
}

static inline void stm32_usart_flush(uint32_t usart)
{
    while ((REGISTER(usart + USART_ISR) & USART_TC) == 0u) {
    }
}

/* --- time ------------------------------------------------------------------------------------------------------ */

#define TIM2 0x40000000u
#define TIM5 0x40000C00u
#define TIM_CR1 0x00u
#define TIM_EGR 0x14u
#define TIM_CNT 0x24u
#define TIM_PSC 0x28u
#define TIM_ARR 0x2Cu
#define TIM_CR1_CEN 1u
#define TIM_EGR_UG 1u
#define TIM_COARSE_SHIFT 16u /* a tick of the coarse counter is 2^16 of its timer's clock */

#define DEMCR REGISTER(0xE000EDFCu)
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)
#define DWT_LAR REGISTER(0xE0001FB0u)
#define DWT_LAR_KEY 0xC5ACCE55u /* the M7 locks its DWT; the M4 has no such register and ignores it */
#define DWT_CTRL_CYCCNTENA 1u

/* A 32-bit timer (TIM2 or TIM5) that counts every `prescaler`th clock for ever. */
static inline void stm32_timer_start(uint32_t timer, uint32_t prescaler)
{
    REGISTER(timer + TIM_CR1) = 0;
    REGISTER(timer + TIM_ARR) = 0xFFFFFFFFu;
    REGISTER(timer + TIM_PSC) = prescaler - 1u;
    REGISTER(timer + TIM_EGR) = TIM_EGR_UG; /* takes over the prescaler */
    REGISTER(timer + TIM_CNT) = 0;
    REGISTER(timer + TIM_CR1) = TIM_CR1_CEN;
}

/* Its clock has to be on. */
static inline void stm32_cycles_start(void)
{
    DEMCR |= DEMCR_TRCENA;
    DWT_LAR = DWT_LAR_KEY;
    DWT_CYCCNT = 0;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
    stm32_timer_start(TIM2, 1u << TIM_COARSE_SHIFT);
}

/* The 32 bits of `count`, continued. `near` counts the same roughly, and without a wrap: as both start together, the
 * true count lies within 2^31 of it. No branch and no state: an inference may last for many wraps. */
static inline uint64_t stm32_continued(uint32_t count, uint64_t near)
{
    return near + (uint64_t)(int64_t)(int32_t)(count - (uint32_t)near);
}

/* The cycle counter wraps after 10 to 36 s; TIM2, which comes from the same PLL, says how often it has.
 * `cycles_shift`: a clock of TIM2 is 2^cycles_shift cycles of the core. */
static inline uint64_t stm32_cycles(uint32_t cycles_shift)
{
    const uint32_t count = DWT_CYCCNT;
    return stm32_continued(count, (uint64_t)REGISTER(TIM2 + TIM_CNT) << (TIM_COARSE_SHIFT + cycles_shift));
}

#if defined(HIL_RENODE)
#define STM32_TIMER_KIND "renode-instructions" /* its DWT counts virtual time; the platform file ties it to instructions */
#else
#define STM32_TIMER_KIND "dwt-cycles"
#endif

/* --- caches of the Cortex-M7 ------------------------------------------------------------------------------------ */

#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CCSIDR REGISTER(0xE000ED80u)
#define SCB_CSSELR REGISTER(0xE000ED84u)
#define SCB_ICIALLU REGISTER(0xE000EF50u)
#define SCB_DCISW REGISTER(0xE000EF60u)
#define SCB_CCR_DC (1u << 16)
#define SCB_CCR_IC (1u << 17)

static inline void stm32_barrier(void)
{
    __asm volatile("dsb\n isb" ::: "memory");
}

/* Both on, after invalidating what reset left in them. Nothing here uses DMA, so nothing has to be kept coherent. */
static inline void stm32_caches_on(void)
{
    stm32_barrier();
    SCB_ICIALLU = 0;
    stm32_barrier();
    SCB_CCR |= SCB_CCR_IC;
    stm32_barrier();
    SCB_CSSELR = 0; /* level 1 data cache: its lines have 32 bytes, and four ways */
    stm32_barrier();
    const uint32_t geometry = SCB_CCSIDR;
    const uint32_t last_set = geometry >> 13 & 0x7FFFu;
    const uint32_t last_way = geometry >> 3 & 0x3FFu;
    for (uint32_t set = 0; set <= last_set; set++) {
        for (uint32_t way = 0; way <= last_way; way++) {
            SCB_DCISW = set << 5 | way << 30;
        }
    }
    stm32_barrier();
    SCB_CCR |= SCB_CCR_DC;
    stm32_barrier();
}

#endif
