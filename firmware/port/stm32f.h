/* What the F4 (RM0090) and the F7 (RM0385) have in common beside stm32.h: RCC, the flash interface's address, ADC1. */
#ifndef STM32F_H
#define STM32F_H

#include "stm32_temperature.h"

#define RCC 0x40023800u
#define RCC_CR REGISTER(RCC + 0x00u)
#define RCC_PLLCFGR REGISTER(RCC + 0x04u)
#define RCC_CFGR REGISTER(RCC + 0x08u)
#define RCC_AHB1ENR REGISTER(RCC + 0x30u)
#define RCC_APB1ENR REGISTER(RCC + 0x40u)
#define RCC_APB2ENR REGISTER(RCC + 0x44u)
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
#define RCC_APB1ENR_TIM2 (1u << 0)
#define RCC_APB1ENR_PWR (1u << 28)
#define RCC_APB2ENR_ADC1 (1u << 8)
#define FLASH_ACR REGISTER(0x40023C00u)
#define ADC1 0x40012000u
#define STM32F_RESET_HZ 16000000u

/* Half of the PLL's VCO (P = 2, coded 0) is the core's clock, a Q-th is for USB. */
static inline uint32_t stm32f_pll(uint32_t m, uint32_t n, uint32_t q)
{
    return RCC_PLLCFGR_RESERVED | q << 24 | RCC_PLLCFGR_HSE | n << 6 | m;
}

/* The oscillator at HSE: a crystal, or with RCC_CR_HSEBYP somebody else's clock. */
static inline bool stm32f_start_hse(uint32_t bypass)
{
    RCC_CR |= bypass; /* before the oscillator is on */
    RCC_CR |= RCC_CR_HSEON;
    return stm32_reaches(&RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY);
}

/* From the reset clock to the PLL, which runs: wait states first, dividers of the buses next. */
static inline bool stm32f_switch_to_pll(uint32_t flash)
{
    FLASH_ACR = flash;
    if (!stm32_reaches(&FLASH_ACR, flash, flash)) {
        return false;
    }
    RCC_CFGR |= RCC_CFGR_PPRE;
    stm32_change(&RCC_CFGR, RCC_CFGR_SW, RCC_CFGR_SW_PLL);
    return stm32_reaches(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL);
}

/* The temperature sensor, on ADC1's `channel`. */
static inline bool stm32f_sensor(uint32_t channel, uint32_t *sum)
{
    RCC_APB2ENR |= RCC_APB2ENR_ADC1;
    (void)RCC_APB2ENR;
    return stm32f_adc(ADC1, channel, sum);
}

#endif
