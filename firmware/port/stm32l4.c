/* STM32L4+ (RM0432) on a NUCLEO-L4R5ZI: 120 MHz from HSI16, which depends on no solder bridge (1 % accurate; figures are
 * in cycles), range 1 boost mode, 5 wait states, flash prefetch and both flash caches. LPUART1 on PG7/PG8 is the virtual
 * COM port. */
#include "stm32_temperature.h"

#define RCC 0x40021000u
#define RCC_CR REGISTER(RCC + 0x00u)
#define RCC_CFGR REGISTER(RCC + 0x08u)
#define RCC_PLLCFGR REGISTER(RCC + 0x0Cu)
#define RCC_AHB2ENR REGISTER(RCC + 0x4Cu)
#define RCC_APB1ENR1 REGISTER(RCC + 0x58u)
#define RCC_APB1ENR2 REGISTER(RCC + 0x5Cu)
#define RCC_CCIPR REGISTER(RCC + 0x88u)
#define RCC_CCIPR_LPUART1 (3u << 10)
#define RCC_CCIPR_LPUART1_HSI16 (2u << 10)
#define RCC_CR_HSION (1u << 8)
#define RCC_CR_HSIRDY (1u << 10)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR_HSI16 2u
#define RCC_PLLCFGR_REN (1u << 24)
#define RCC_CFGR_SW 3u
#define RCC_CFGR_SW_PLL 3u
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_PLL (3u << 2)
#define RCC_CFGR_HPRE (15u << 4)
#define RCC_CFGR_HPRE_HALF (8u << 4)
#define RCC_AHB2ENR_GPIOG (1u << 6)
#define RCC_AHB2ENR_ADC (1u << 13)
#define RCC_APB1ENR1_TIM2 (1u << 0)
#define RCC_APB1ENR1_PWR (1u << 28)
#define RCC_APB1ENR2_LPUART1 (1u << 0)

#define PWR_CR1 REGISTER(0x40007000u)
#define PWR_CR2 REGISTER(0x40007004u)
#define PWR_SR2 REGISTER(0x40007014u)
#define PWR_CR5 REGISTER(0x40007080u)
#define PWR_CR1_VOS (3u << 9)
#define PWR_CR1_VOS_RANGE1 (1u << 9)
#define PWR_CR2_IOSV (1u << 9) /* PG2..PG15 are supplied by VDDIO2 */
#define PWR_SR2_VOSF (1u << 10)
#define PWR_CR5_R1MODE (1u << 8) /* set: normal, clear: boost */

#define FLASH_ACR REGISTER(0x40022000u)
#define FLASH_ACR_LATENCY 15u
#define FLASH_ACR_FULL_SPEED 5u
#define FLASH_ACR_CACHES (1u << 8 | 1u << 9 | 1u << 10) /* PRFTEN, ICEN, DCEN */

#define GPIOG 0x48001800u
#define STM32_USART 0x40008000u /* LPUART1 */
#define STM32_USART_ROOT 16u
#define STM32_USART_IRQ 70u
/* The divisor has 20 bits: slower than this, the serial port gets HSI16's clock in place of the core's. */
#define SLOWEST_OF_CORE 38400
#define ADC1 0x50040000u
#define ADC_HCLK_4 (3u << 16) /* 30 MHz: the bus's clock divided */
#define TS_CHANNEL 17u
#define TS_CAL1 0x1FFF75A8u
#define TS_CAL2 0x1FFF75CAu

#define FULL_HZ 120000000u
#define RESET_HZ 4000000u
#define HSI16_HZ 16000000u
#define PLL_M 2u  /* 16 MHz / 2 = 8 MHz */
#define PLL_N 30u /* 240 MHz; half of it (R = 2, coded 0) is the core's */
#define SETTLE_ROUNDS 200u /* a µs and more between the two steps to full speed */

static bool start_clocks(void)
{
    RCC_CR |= RCC_CR_HSION;
    if (!stm32_reaches(&RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY)) {
        return false;
    }
    stm32_change(&PWR_CR1, PWR_CR1_VOS, PWR_CR1_VOS_RANGE1);
    if (!stm32_reaches(&PWR_SR2, PWR_SR2_VOSF, 0)) {
        return false;
    }
    PWR_CR5 &= ~PWR_CR5_R1MODE;
    RCC_PLLCFGR = RCC_PLLCFGR_REN | PLL_N << 8 | (PLL_M - 1u) << 4 | RCC_PLLCFGR_HSI16;
    RCC_CR |= RCC_CR_PLLON;
    if (!stm32_reaches(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY)) {
        return false;
    }
    stm32_change(&FLASH_ACR, FLASH_ACR_LATENCY, FLASH_ACR_FULL_SPEED);
    if (!stm32_reaches(&FLASH_ACR, FLASH_ACR_LATENCY, FLASH_ACR_FULL_SPEED)) {
        return false;
    }
    /* Above 80 MHz the bus is to be halved while the source changes. */
    stm32_change(&RCC_CFGR, RCC_CFGR_HPRE, RCC_CFGR_HPRE_HALF);
    stm32_change(&RCC_CFGR, RCC_CFGR_SW, RCC_CFGR_SW_PLL);
    if (!stm32_reaches(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL)) {
        return false;
    }
    for (volatile uint32_t round = 0; round < SETTLE_ROUNDS; round++) {
    }
    stm32_change(&RCC_CFGR, RCC_CFGR_HPRE, 0);
    return true;
}

void hil_port_init(void)
{
    RCC_APB1ENR1 |= RCC_APB1ENR1_PWR | RCC_APB1ENR1_TIM2;
    RCC_APB1ENR2 |= RCC_APB1ENR2_LPUART1;
    RCC_AHB2ENR |= RCC_AHB2ENR_GPIOG;
    (void)RCC_AHB2ENR; /* a peripheral takes two clocks to hear of its own */
    stm32_speed = (stm32_speed_t){RESET_HZ, RESET_HZ, 0};
    if (start_clocks()) {
        stm32_speed = (stm32_speed_t){FULL_HZ, FULL_HZ, 0}; /* APB1 is not divided */
    } else {
        RCC_CFGR = 0;
    }
    if (HIL_BAUD < SLOWEST_OF_CORE && (RCC_CR & RCC_CR_HSIRDY) != 0u) {
        stm32_change(&RCC_CCIPR, RCC_CCIPR_LPUART1, RCC_CCIPR_LPUART1_HSI16);
        stm32_speed.usart_hz = HSI16_HZ;
    }
    FLASH_ACR |= FLASH_ACR_CACHES;
    PWR_CR2 |= PWR_CR2_IOSV;
    stm32_pin(GPIOG, 7, 8);
    stm32_pin(GPIOG, 8, 8);
    stm32_usart_init(STM32_USART, stm32_rate_divisor(HIL_BAUD));
    stm32_cycles_start();
}

#define SENSOR {stm32_half(TS_CAL1), stm32_half(TS_CAL2), 130, 3000u}
static bool read_sensor(uint32_t *sum)
{
    RCC_AHB2ENR |= RCC_AHB2ENR_ADC;
    (void)RCC_AHB2ENR;
    return stm32l_adc(ADC1, ADC_HCLK_4, TS_CHANNEL, sum);
}

#include "stm32_port.h"
