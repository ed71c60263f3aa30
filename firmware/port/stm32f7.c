/* STM32F74x (RM0385) on a NUCLEO-144: 216 MHz from the 8 MHz that the ST-LINK feeds into HSE, over-drive on, 7 wait
 * states, flash prefetch and accelerator, both L1 caches. USART3 on PD8/PD9 is the virtual COM port. */
#include "stm32_temperature.h"

#define RCC 0x40023800u
#define RCC_CR REGISTER(RCC + 0x00u)
#define RCC_PLLCFGR REGISTER(RCC + 0x04u)
#define RCC_CFGR REGISTER(RCC + 0x08u)
#define RCC_AHB1ENR REGISTER(RCC + 0x30u)
#define RCC_APB1ENR REGISTER(RCC + 0x40u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR_RESERVED 0x20000000u /* to be kept at its reset value */
#define RCC_PLLCFGR_HSE (1u << 22)
#define RCC_CFGR_PPRE (5u << 10 | 4u << 13) /* APB1 a quarter, APB2 half */
#define RCC_CFGR_SW 3u
#define RCC_CFGR_SW_PLL 2u
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_AHB1ENR_GPIOD (1u << 3)
#define RCC_APB1ENR_TIM2 (1u << 0)
#define RCC_APB1ENR_USART3 (1u << 18)
#define RCC_APB1ENR_PWR (1u << 28)
#define RCC_APB2ENR REGISTER(RCC + 0x44u)
#define RCC_APB2ENR_ADC1 (1u << 8)

#define PWR_CR1 REGISTER(0x40007000u)
#define PWR_CSR1 REGISTER(0x40007004u)
#define PWR_VOS_SCALE1 (3u << 14)
#define PWR_OVERDRIVE (1u << 16) /* ODEN in CR1, ODRDY in CSR1 */
#define PWR_SWITCHING (1u << 17) /* ODSWEN in CR1, ODSWRDY in CSR1 */

#define FLASH_ACR REGISTER(0x40023C00u)
#define FLASH_ACR_FULL_SPEED (7u | 1u << 8 | 1u << 9) /* LATENCY, PRFTEN, ARTEN */

#define GPIOD 0x40020C00u
#define USART3 0x40004800u
#define ADC1 0x40012000u
#define TS_CHANNEL 18u
#define TS_CAL1 0x1FF0F44Cu
#define TS_CAL2 0x1FF0F44Eu

#define FULL_HZ 216000000u
#define RESET_HZ 16000000u
#define PLL_M 4u   /* 8 MHz / 4 = 2 MHz */
#define PLL_N 216u /* 432 MHz; half of it (P = 2, coded 0) is the core's */
#define PLL_Q 9u

const char hil_port_timer_kind[] = STM32_TIMER_KIND;

static uint32_t core_hz = RESET_HZ;
static uint32_t timer_shift; /* TIM2 runs at the core's clock, or at half of it */

static bool start_clocks(void)
{
    RCC_APB1ENR |= RCC_APB1ENR_PWR;
    RCC_CR |= RCC_CR_HSEBYP;
    RCC_CR |= RCC_CR_HSEON;
    if (!stm32_reaches(&RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY)) {
        return false;
    }
    PWR_CR1 |= PWR_VOS_SCALE1;
    RCC_PLLCFGR = RCC_PLLCFGR_RESERVED | PLL_Q << 24 | RCC_PLLCFGR_HSE | PLL_N << 6 | PLL_M;
    RCC_CR |= RCC_CR_PLLON;
    PWR_CR1 |= PWR_OVERDRIVE;
    if (!stm32_reaches(&PWR_CSR1, PWR_OVERDRIVE, PWR_OVERDRIVE)) {
        return false;
    }
    PWR_CR1 |= PWR_SWITCHING;
    if (!stm32_reaches(&PWR_CSR1, PWR_SWITCHING, PWR_SWITCHING) ||
        !stm32_reaches(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY)) {
        return false;
    }
    FLASH_ACR = FLASH_ACR_FULL_SPEED;
    if (!stm32_reaches(&FLASH_ACR, FLASH_ACR_FULL_SPEED, FLASH_ACR_FULL_SPEED)) {
        return false;
    }
    RCC_CFGR |= RCC_CFGR_PPRE;
    stm32_change(&RCC_CFGR, RCC_CFGR_SW, RCC_CFGR_SW_PLL);
    return stm32_reaches(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL);
}

void hil_port_init(void)
{
    uint32_t usart_hz = RESET_HZ;
    if (start_clocks()) {
        core_hz = FULL_HZ;
        usart_hz = FULL_HZ / 4u;
        timer_shift = 1;
    } else {
        RCC_CFGR = 0;
    }
    stm32_caches_on();
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOD;
    RCC_APB1ENR |= RCC_APB1ENR_USART3 | RCC_APB1ENR_TIM2;
    (void)RCC_APB1ENR; /* a peripheral takes two clocks to hear of its own */
    stm32_pin(GPIOD, 8, 7);
    stm32_pin(GPIOD, 9, 7);
    stm32_usart_init(USART3, stm32_divisor(usart_hz, STM32_BAUD));
    stm32_cycles_start();
}

#if !defined(HIL_RTT) /* else port/rtt.c has them */
uint8_t hil_port_getc(void)
{
    return stm32_usart_get(USART3);
}

void hil_port_putc(uint8_t byte)
{
    stm32_usart_put(USART3, byte);
}

void hil_port_flush(void)
{
    stm32_usart_flush(USART3);
}
#endif

uint64_t hil_port_ticks(void)
{
    return stm32_cycles(timer_shift);
}

uint32_t hil_port_ticks_hz(void)
{
    return core_hz;
}

/* ADC1's channel 18. */
bool hil_port_temperature(int32_t *millidegrees)
{
    const stm32_calibration_t known = {stm32_half(TS_CAL1), stm32_half(TS_CAL2), 110, 3300u};
    uint32_t sum;
    if (!stm32_is_calibrated(&known)) {
        return false;
    }
    RCC_APB2ENR |= RCC_APB2ENR_ADC1;
    (void)RCC_APB2ENR;
    return stm32f_adc(ADC1, TS_CHANNEL, &sum) && stm32_millidegrees(sum, &known, millidegrees);
}
