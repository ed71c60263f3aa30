/* STM32F74x (RM0385) on a NUCLEO-144: 216 MHz from the 8 MHz that the ST-LINK feeds into HSE, over-drive on, 7 wait
 * states, flash prefetch and accelerator, both L1 caches. USART3 on PD8/PD9 is the virtual COM port. */
#include "stm32f.h"

#define RCC_AHB1ENR_GPIOD (1u << 3)
#define RCC_APB1ENR_USART3 (1u << 18)

#define PWR_CR1 REGISTER(0x40007000u)
#define PWR_CSR1 REGISTER(0x40007004u)
#define PWR_VOS_SCALE1 (3u << 14)
#define PWR_OVERDRIVE (1u << 16) /* ODEN in CR1, ODRDY in CSR1 */
#define PWR_SWITCHING (1u << 17) /* ODSWEN in CR1, ODSWRDY in CSR1 */

#define FLASH_ACR_FULL_SPEED (7u | 1u << 8 | 1u << 9) /* LATENCY, PRFTEN, ARTEN */

#define GPIOD 0x40020C00u
#define STM32_USART 0x40004800u /* USART3 */
#define STM32_USART_ROOT 1u
#define STM32_USART_IRQ 39u
#define TS_CHANNEL 18u
#define TS_CAL1 0x1FF0F44Cu
#define TS_CAL2 0x1FF0F44Eu

#define FULL_HZ 216000000u
#define PLL_M 4u   /* 8 MHz / 4 = 2 MHz */
#define PLL_N 216u /* 432 MHz; half of it (P = 2, coded 0) is the core's */
#define PLL_Q 9u

static bool start_clocks(void)
{
    RCC_APB1ENR |= RCC_APB1ENR_PWR;
    if (!stm32f_start_hse(RCC_CR_HSEBYP)) {
        return false;
    }
    PWR_CR1 |= PWR_VOS_SCALE1;
    RCC_PLLCFGR = stm32f_pll(PLL_M, PLL_N, PLL_Q);
    RCC_CR |= RCC_CR_PLLON;
    PWR_CR1 |= PWR_OVERDRIVE;
    if (!stm32_reaches(&PWR_CSR1, PWR_OVERDRIVE, PWR_OVERDRIVE)) {
        return false;
    }
    PWR_CR1 |= PWR_SWITCHING;
    return stm32_reaches(&PWR_CSR1, PWR_SWITCHING, PWR_SWITCHING) &&
           stm32_reaches(&RCC_CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY) && stm32f_switch_to_pll(FLASH_ACR_FULL_SPEED);
}

void hil_port_init(void)
{
    stm32_speed = (stm32_speed_t){STM32F_RESET_HZ, STM32F_RESET_HZ, 0};
    if (start_clocks()) {
        stm32_speed = (stm32_speed_t){FULL_HZ, FULL_HZ / 4u, 1};
    } else {
        RCC_CFGR = 0;
    }
    stm32_caches_on();
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOD;
    RCC_APB1ENR |= RCC_APB1ENR_USART3 | RCC_APB1ENR_TIM2;
    (void)RCC_APB1ENR; /* a peripheral takes two clocks to hear of its own */
    stm32_pin(GPIOD, 8, 7);
    stm32_pin(GPIOD, 9, 7);
    stm32_usart_init(STM32_USART, stm32_rate_divisor(HIL_BAUD));
    stm32_cycles_start();
}

#define SENSOR {stm32_half(TS_CAL1), stm32_half(TS_CAL2), 110, 3300u}
static bool read_sensor(uint32_t *sum)
{
    return stm32f_sensor(TS_CHANNEL, sum);
}

#include "stm32_port.h"
