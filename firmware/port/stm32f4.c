/* STM32F405 (RM0090), as on a Netduino Plus 2: 168 MHz from its 25 MHz crystal, 5 wait states, flash prefetch and both
 * flash caches. USART1 on PA9/PA10.
 *
 * QEMU's netduinoplus2 (HIL_QEMU) has the USART and the timers, but neither clocks nor a cycle counter: there the clock
 * tree gives up and TIM2 is the timer. QEMU feeds its timers with 1 GHz, so that TIM2 divided by 1024 counts
 * instructions under `-icount shift=10`, and TIM5 divided by 65536 counts every 64th. */
#include "stm32f.h"

#define RCC_AHB1ENR_GPIOA (1u << 0)
#define RCC_APB1ENR_TIM5 (1u << 3)
#define RCC_APB2ENR_USART1 (1u << 4)

#define PWR_CR REGISTER(0x40007000u)
#define PWR_CR_VOS_SCALE1 (1u << 14)

#define FLASH_ACR_FULL_SPEED (5u | 1u << 8 | 1u << 9 | 1u << 10) /* LATENCY, PRFTEN, ICEN, DCEN */

#define GPIOA 0x40020000u
#define TS_CHANNEL 16u
#define TS_CAL1 0x1FFF7A2Cu
#define TS_CAL2 0x1FFF7A2Eu

/* The USART of the F4 is the older one. */
#define USART1_STATUS 0x40011000u
#define USART1_SR REGISTER(USART1_STATUS)
#define USART1_DR REGISTER(0x40011004u)
#define USART1_BRR REGISTER(0x40011008u)
#define USART1_CR1 REGISTER(0x4001100Cu)
#define USART1_CR1_RE (1u << 2)
#define USART1_CR1_TE (1u << 3)
#define USART1_CR1_UE (1u << 13)

#define USART1_IRQ 37u

#define FULL_HZ 168000000u
#define PLL_M 25u  /* 25 MHz / 25 = 1 MHz */
#define PLL_N 336u /* half of it (P = 2, coded 0) is the core's */
#define PLL_Q 7u

#if defined(HIL_QEMU)
const char hil_port_timer_kind[] = "icount-instructions";
#define QEMU_TIMER_HZ 1000000000u
#define QEMU_INSTRUCTION 1024u
#endif

static bool start_clocks(void)
{
    RCC_APB1ENR |= RCC_APB1ENR_PWR;
    if (!stm32f_start_hse(0)) {
        return false;
    }
    PWR_CR |= PWR_CR_VOS_SCALE1;
    RCC_PLLCFGR = stm32f_pll(PLL_M, PLL_N, PLL_Q);
    RCC_CR |= RCC_CR_PLLON;
    return stm32_reaches(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY) && stm32f_switch_to_pll(FLASH_ACR_FULL_SPEED);
}

static void start_timers(void)
{
#if defined(HIL_QEMU)
    stm32_timer_start(TIM2, QEMU_INSTRUCTION);
    stm32_timer_start(TIM5, 1u << TIM_COARSE_SHIFT);
#else
    stm32_cycles_start();
#endif
}

void hil_port_init(void)
{
    stm32_speed = (stm32_speed_t){STM32F_RESET_HZ, STM32F_RESET_HZ, 0};
    if (start_clocks()) {
        stm32_speed = (stm32_speed_t){FULL_HZ, FULL_HZ / 2u, 1};
    } else {
        RCC_CFGR = 0;
    }
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOA;
    RCC_APB1ENR |= RCC_APB1ENR_TIM2 | RCC_APB1ENR_TIM5;
    RCC_APB2ENR |= RCC_APB2ENR_USART1;
    (void)RCC_APB2ENR; /* a peripheral takes two clocks to hear of its own */
    stm32_pin(GPIOA, 9, 7);
    stm32_pin(GPIOA, 10, 7);
    USART1_BRR = stm32_divisor(stm32_speed.usart_hz, HIL_BAUD);
    USART1_CR1 = USART1_CR1_UE | USART1_CR1_RE | USART1_CR1_TE | STM32_USART_CR1_SLEEP;
    start_timers();
}

#if !defined(HIL_RTT) /* else port/rtt.c has them */
uint8_t hil_port_getc(void)
{
    stm32_wait_for_byte(USART1_STATUS, USART1_IRQ);
    return (uint8_t)USART1_DR;
}

void hil_port_putc(uint8_t byte)
{
    while ((USART1_SR & USART_TXE) == 0u) {
    }
    USART1_DR = byte;
}

void hil_port_flush(void)
{
    while ((USART1_SR & USART_TC) == 0u) {
    }
}

uint32_t hil_port_set_rate(uint32_t rate)
{
    hil_port_flush();
    USART1_BRR = stm32_divisor(stm32_speed.usart_hz, rate);
    return stm32_divisor(stm32_speed.usart_hz, USART1_BRR);
}
#endif

#if defined(HIL_QEMU)
uint64_t hil_port_ticks(void)
{
    const uint32_t count = REGISTER(TIM2 + TIM_CNT);
    return stm32_continued(count, (uint64_t)REGISTER(TIM5 + TIM_CNT) << TIM_COARSE_SHIFT >> 10);
}

uint32_t hil_port_ticks_hz(void)
{
    return QEMU_TIMER_HZ / QEMU_INSTRUCTION; /* half a hertz less than it is: microseconds are 0.5 ppm too long */
}
#else
#define SENSOR {stm32_half(TS_CAL1), stm32_half(TS_CAL2), 110, 3300u}
static bool read_sensor(uint32_t *sum)
{
    return stm32f_sensor(TS_CHANNEL, sum); /* of the F405; in the F42x the channel is 18 */
}
#endif

#include "stm32_port.h"
