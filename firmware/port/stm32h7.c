/* STM32H743 (RM0433) on a NUCLEO-144: 400 MHz from the 8 MHz that the ST-LINK feeds into HSE, voltage scale 1, buses at
 * 200 and 100 MHz, 2 wait states, both L1 caches. USART3 on PD8/PD9 is the virtual COM port. */
#include "stm32_temperature.h"

#define RCC 0x58024400u
#define RCC_CR REGISTER(RCC + 0x00u)
#define RCC_CFGR REGISTER(RCC + 0x10u)
#define RCC_D1CFGR REGISTER(RCC + 0x18u)
#define RCC_D2CFGR REGISTER(RCC + 0x1Cu)
#define RCC_D3CFGR REGISTER(RCC + 0x20u)
#define RCC_PLLCKSELR REGISTER(RCC + 0x28u)
#define RCC_PLLCFGR REGISTER(RCC + 0x2Cu)
#define RCC_PLL1DIVR REGISTER(RCC + 0x30u)
#define RCC_AHB4ENR REGISTER(RCC + 0xE0u)
#define RCC_APB1LENR REGISTER(RCC + 0xE8u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLL1ON (1u << 24)
#define RCC_CR_PLL1RDY (1u << 25)
#define RCC_CFGR_SW 7u
#define RCC_CFGR_SW_PLL1 3u
#define RCC_CFGR_SWS (7u << 3)
#define RCC_CFGR_SWS_PLL1 (3u << 3)
#define RCC_D1CFGR_FULL_SPEED (8u | 4u << 4) /* HPRE: AXI and AHB at half the core's clock; D1PPRE: half of that */
#define RCC_D2CFGR_FULL_SPEED (4u << 4 | 4u << 8)
#define RCC_D3CFGR_FULL_SPEED (4u << 4)
#define RCC_PLLCKSELR_HSE 2u
#define RCC_PLLCFGR_RGE_2_4_MHZ (1u << 2)
#define RCC_PLLCFGR_DIVP1EN (1u << 16)
#define RCC_PLLCFGR_PLL1 0xFu /* FRACEN, VCOSEL (clear: wide), RGE of PLL1 */
#define RCC_AHB4ENR_GPIOD (1u << 3)
#define RCC_AHB4ENR_ADC3 (1u << 24)
#define RCC_D3CCIPR REGISTER(RCC + 0x58u)
#define RCC_D3CCIPR_ADCSEL (3u << 16)
#define RCC_D3CCIPR_ADCSEL_PER (2u << 16) /* HSI, 64 MHz: not of the PLL */
#define RCC_APB1LENR_TIM2 (1u << 0)
#define RCC_APB1LENR_USART3 (1u << 18)

#define PWR_CSR1 REGISTER(0x58024804u)
#define PWR_CR3 REGISTER(0x5802480Cu)
#define PWR_D3CR REGISTER(0x58024818u)
#define PWR_CSR1_ACTVOSRDY (1u << 13)
#define PWR_CR3_SUPPLY 7u
#define PWR_CR3_LDOEN 2u
#define PWR_D3CR_VOSRDY (1u << 13)
#define PWR_D3CR_VOS_SCALE1 (3u << 14)

#define FLASH_ACR REGISTER(0x52002000u)
#define FLASH_ACR_FULL_SPEED (2u | 2u << 4) /* LATENCY, WRHIGHFREQ for 200 MHz at scale 1 */

#define DBGMCU_IDCODE REGISTER(0x5C001000u)
#define DBGMCU_REVISION_AT 16u
#define DBGMCU_REVISION_X 0x2001u
#define AXI_TARG7_FN_MOD REGISTER(0x51008108u)
#define AXI_READ_ISS_OVERRIDE 1u

#define GPIOD 0x58020C00u
#define STM32_USART 0x40004800u /* USART3 */
#define STM32_USART_ROOT 1u
#define STM32_USART_IRQ 39u
#define ADC3 0x58026000u
#define ADC_PER_8 (4u << 18) /* PRESC: 8 MHz */
#define TS_CHANNEL 18u
#define TS_CAL1 0x1FF1E820u
#define TS_CAL2 0x1FF1E840u

#define FULL_HZ 400000000u
#define RESET_HZ 64000000u
#define PLL_M 4u   /* 8 MHz / 4 = 2 MHz */
#define PLL_N 400u /* 800 MHz; half of it (P) is the core's */
#define PLL_P 2u

static bool is_before_revision_x(void)
{
    return DBGMCU_IDCODE >> DBGMCU_REVISION_AT < DBGMCU_REVISION_X;
}

/* Revision Y, which the first NUCLEO-H743ZI have, may read wrong data from the AXI SRAM, where all of ours is, unless
 * one read at a time is issued to it (ES0392, 2.2.9). */
static void mend_axi_sram(void)
{
    if (is_before_revision_x()) {
        AXI_TARG7_FN_MOD = AXI_READ_ISS_OVERRIDE;
    }
}

static bool start_power(void)
{
    /* Can be written once after power-on; until then the voltage cannot be changed. */
    stm32_change(&PWR_CR3, PWR_CR3_SUPPLY, PWR_CR3_LDOEN);
    if (!stm32_reaches(&PWR_CSR1, PWR_CSR1_ACTVOSRDY, PWR_CSR1_ACTVOSRDY)) {
        return false;
    }
    stm32_change(&PWR_D3CR, PWR_D3CR_VOS_SCALE1, PWR_D3CR_VOS_SCALE1);
    return stm32_reaches(&PWR_D3CR, PWR_D3CR_VOSRDY, PWR_D3CR_VOSRDY);
}

static bool start_clocks(void)
{
    RCC_CR |= RCC_CR_HSEBYP;
    RCC_CR |= RCC_CR_HSEON;
    if (!start_power() || !stm32_reaches(&RCC_CR, RCC_CR_HSERDY, RCC_CR_HSERDY)) {
        return false;
    }
    RCC_PLLCKSELR = PLL_M << 4 | RCC_PLLCKSELR_HSE;
    stm32_change(&RCC_PLLCFGR, RCC_PLLCFGR_PLL1, RCC_PLLCFGR_RGE_2_4_MHZ | RCC_PLLCFGR_DIVP1EN);
    RCC_PLL1DIVR = (PLL_N - 1u) | (PLL_P - 1u) << 9 | 1u << 16 | 1u << 24;
    RCC_CR |= RCC_CR_PLL1ON;
    if (!stm32_reaches(&RCC_CR, RCC_CR_PLL1RDY, RCC_CR_PLL1RDY)) {
        return false;
    }
    FLASH_ACR = FLASH_ACR_FULL_SPEED;
    if (!stm32_reaches(&FLASH_ACR, FLASH_ACR_FULL_SPEED, FLASH_ACR_FULL_SPEED)) {
        return false;
    }
    RCC_D1CFGR = RCC_D1CFGR_FULL_SPEED;
    RCC_D2CFGR = RCC_D2CFGR_FULL_SPEED;
    RCC_D3CFGR = RCC_D3CFGR_FULL_SPEED;
    stm32_change(&RCC_CFGR, RCC_CFGR_SW, RCC_CFGR_SW_PLL1);
    return stm32_reaches(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL1);
}

void hil_port_init(void)
{
    stm32_speed = (stm32_speed_t){RESET_HZ, RESET_HZ, 0};
    mend_axi_sram();
    if (start_clocks()) {
        stm32_speed = (stm32_speed_t){FULL_HZ, FULL_HZ / 4u, 1};
    } else {
        RCC_CFGR = 0;
        RCC_D1CFGR = 0;
        RCC_D2CFGR = 0;
        RCC_D3CFGR = 0;
    }
    stm32_caches_on();
    RCC_AHB4ENR |= RCC_AHB4ENR_GPIOD;
    RCC_APB1LENR |= RCC_APB1LENR_USART3 | RCC_APB1LENR_TIM2;
    (void)RCC_APB1LENR; /* a peripheral takes two clocks to hear of its own */
    stm32_pin(GPIOD, 8, 7);
    stm32_pin(GPIOD, 9, 7);
    stm32_usart_init(STM32_USART, stm32_rate_divisor(HIL_BAUD));
    stm32_cycles_start();
}

/* The factory's second reading is at 110 degrees in revision Y, at 130 in V (ST's stm32h7xx_ll_adc.h). */
#define SENSOR {stm32_half(TS_CAL1), stm32_half(TS_CAL2), is_before_revision_x() ? 110 : 130, 3300u}
static bool read_sensor(uint32_t *sum)
{
    RCC_AHB4ENR |= RCC_AHB4ENR_ADC3;
    stm32_change(&RCC_D3CCIPR, RCC_D3CCIPR_ADCSEL, RCC_D3CCIPR_ADCSEL_PER);
    REGISTER(ADC3 + ADC_L_PCSEL) = 1u << TS_CHANNEL;
    return stm32l_adc(ADC3, ADC_PER_8, TS_CHANNEL, sum); /* of 16 bits */
}

#include "stm32_port.h"
