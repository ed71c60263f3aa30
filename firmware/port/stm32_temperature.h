/* The temperature sensor of the STM32 families, through the ADC that it hangs on. Registers are those of the reference
 * manuals (RM0090 chapter 13, RM0385 chapter 15, RM0432 chapter 21, RM0433 chapter 25), calibration values those of the
 * data sheets (DS8626, DS10916, DS12023, DS12110). VDDA is taken for the 3.3 V that all Nucleo and Discovery boards
 * have: 1 % off is 3 degrees. Good to a few degrees, which is what a drift is looked at with. */
#ifndef STM32_TEMPERATURE_H
#define STM32_TEMPERATURE_H

#include "stm32.h"

#define STM32_VDDA_MV 3300u
#define STM32_CAL1_CELSIUS 30
#define STM32_CONVERSIONS 16u      /* averaged */
#define STM32_SENSOR_ROUNDS 50000u /* 120 us and more at any core clock: sensor, regulator and ADC have started by then */

/* The factory's readings: at 30 degrees, and at `hot`, with `reference_mv` at the ADC. */
typedef struct {
    uint32_t cal1;
    uint32_t cal2;
    int32_t hot;
    uint32_t reference_mv;
} stm32_calibration_t;

/* A half word through a word: `address` is even. */
static inline uint32_t stm32_half(uint32_t address)
{
    return REGISTER(address & ~3u) >> (8u * (address & 2u)) & 0xFFFFu;
}

/* `sum` is of STM32_CONVERSIONS readings. False where no chip can be that cold or hot. */
static inline bool stm32_millidegrees(uint32_t sum, const stm32_calibration_t *known, int32_t *millidegrees)
{
    const int32_t reading = (int32_t)(sum / STM32_CONVERSIONS * STM32_VDDA_MV / known->reference_mv);
    const int32_t above = reading - (int32_t)known->cal1, range = (int32_t)(known->cal2 - known->cal1);
    if (above > 2 * range || above < -2 * range) {
        return false;
    }
    *millidegrees = 1000 * STM32_CAL1_CELSIUS + above * (1000 * (known->hot - STM32_CAL1_CELSIUS)) / range;
    return true;
}

/* Neither zeros (no such memory, as in an emulator) nor erased flash. */
static inline bool stm32_is_calibrated(const stm32_calibration_t *known)
{
    return known->cal1 != 0u && known->cal1 < known->cal2 && known->cal2 != 0xFFFFu;
}

static inline void stm32_sensor_starts(void)
{
    for (volatile uint32_t round = 0; round < STM32_SENSOR_ROUNDS; round++) {
    }
}

/* --- F4 and F7 --------------------------------------------------------------------------------------------------- */

#define ADC_F_SR 0x00u
#define ADC_F_CR2 0x08u
#define ADC_F_SMPR1 0x0Cu
#define ADC_F_SQR1 0x2Cu
#define ADC_F_SQR3 0x34u
#define ADC_F_DR 0x4Cu
#define ADC_F_CCR 0x304u /* behind ADC1 */
#define ADC_F_SR_EOC (1u << 1)
#define ADC_F_CR2_ADON (1u << 0)
#define ADC_F_CR2_SWSTART (1u << 30)
#define ADC_F_CCR_PRE (3u << 16)
#define ADC_F_CCR_PRE_4 (1u << 16) /* of the 84 or 108 MHz of APB2: 36 MHz at most */
#define ADC_F_CCR_VBATE (1u << 22) /* the battery is on the same channel in the F7 */
#define ADC_F_CCR_TSVREFE (1u << 23)
#define ADC_F_SLOWEST 7u /* 480 clocks: the sensor wants 10 us */

/* Its clock has to be on. `adc` is ADC1, `channel` 10..18. */
static inline bool stm32f_adc(uint32_t adc, uint32_t channel, uint32_t *sum)
{
    bool fine = true;
    stm32_change(&REGISTER(adc + ADC_F_CCR), ADC_F_CCR_PRE | ADC_F_CCR_VBATE, ADC_F_CCR_PRE_4 | ADC_F_CCR_TSVREFE);
    REGISTER(adc + ADC_F_SMPR1) = ADC_F_SLOWEST << (3u * (channel - 10u));
    REGISTER(adc + ADC_F_SQR1) = 0; /* one conversion */
    REGISTER(adc + ADC_F_SQR3) = channel;
    REGISTER(adc + ADC_F_CR2) = ADC_F_CR2_ADON;
    stm32_sensor_starts();
    *sum = 0;
    for (uint32_t i = 0; i < STM32_CONVERSIONS && fine; i++) {
        REGISTER(adc + ADC_F_SR) = 0;
        REGISTER(adc + ADC_F_CR2) = ADC_F_CR2_ADON | ADC_F_CR2_SWSTART;
        fine = stm32_reaches(&REGISTER(adc + ADC_F_SR), ADC_F_SR_EOC, ADC_F_SR_EOC);
        *sum += REGISTER(adc + ADC_F_DR) & 0xFFFFu;
    }
    REGISTER(adc + ADC_F_CR2) = 0;
    stm32_change(&REGISTER(adc + ADC_F_CCR), ADC_F_CCR_TSVREFE, 0);
    return fine;
}

/* --- L4 and H7 --------------------------------------------------------------------------------------------------- */

#define ADC_L_ISR 0x00u
#define ADC_L_CR 0x08u
#define ADC_L_SMPR2 0x18u
#define ADC_L_PCSEL 0x1Cu /* of the H7 */
#define ADC_L_SQR1 0x30u
#define ADC_L_DR 0x40u
#define ADC_L_CCR 0x308u /* behind the first ADC of its pair */
#define ADC_L_ISR_ADRDY (1u << 0)
#define ADC_L_ISR_EOC (1u << 2)
#define ADC_L_CR_ADEN (1u << 0)
#define ADC_L_CR_ADDIS (1u << 1)
#define ADC_L_CR_ADSTART (1u << 2)
#define ADC_L_CR_ADVREGEN (1u << 28)
#define ADC_L_CR_DEEPPWD (1u << 29)
#define ADC_L_CR_ADCAL (1u << 31)
#define ADC_L_CCR_CLOCK (15u << 18 | 3u << 16) /* PRESC, CKMODE */
#define ADC_L_CCR_TSEN (1u << 23)
#define ADC_L_SLOWEST 7u /* 640 clocks and more */

/* Its clock has to be on. `clock` goes into CCR's PRESC and CKMODE, `channel` is 10..18. Bits of CR are set by writing
 * ones; zeros leave those that hardware clears alone. */
static inline bool stm32l_adc(uint32_t adc, uint32_t clock, uint32_t channel, uint32_t *sum)
{
    volatile uint32_t *const cr = &REGISTER(adc + ADC_L_CR);
    volatile uint32_t *const isr = &REGISTER(adc + ADC_L_ISR);
    *sum = 0;
    *cr = 0; /* out of deep power down */
    *cr = ADC_L_CR_ADVREGEN;
    stm32_change(&REGISTER(adc + ADC_L_CCR), ADC_L_CCR_CLOCK, clock | ADC_L_CCR_TSEN);
    stm32_sensor_starts();
    *cr = ADC_L_CR_ADVREGEN | ADC_L_CR_ADCAL;
    bool fine = stm32_reaches(&REGISTER(adc + ADC_L_CR), ADC_L_CR_ADCAL, 0);
    stm32_sensor_starts(); /* ADEN must not follow the calibration within 4 clocks */
    *isr = ADC_L_ISR_ADRDY;
    *cr = ADC_L_CR_ADVREGEN | ADC_L_CR_ADEN;
    fine = fine && stm32_reaches(&REGISTER(adc + ADC_L_ISR), ADC_L_ISR_ADRDY, ADC_L_ISR_ADRDY);
    REGISTER(adc + ADC_L_SMPR2) = ADC_L_SLOWEST << (3u * (channel - 10u));
    REGISTER(adc + ADC_L_SQR1) = channel << 6; /* one conversion */
    for (uint32_t i = 0; i < STM32_CONVERSIONS && fine; i++) {
        *isr = ADC_L_ISR_EOC;
        *cr = ADC_L_CR_ADVREGEN | ADC_L_CR_ADEN | ADC_L_CR_ADSTART;
        fine = stm32_reaches(&REGISTER(adc + ADC_L_ISR), ADC_L_ISR_EOC, ADC_L_ISR_EOC);
        *sum += REGISTER(adc + ADC_L_DR) & 0xFFFFu;
    }
    *cr = ADC_L_CR_ADVREGEN | ADC_L_CR_ADEN | ADC_L_CR_ADDIS;
    (void)stm32_reaches(&REGISTER(adc + ADC_L_CR), ADC_L_CR_ADEN, 0);
    stm32_change(&REGISTER(adc + ADC_L_CCR), ADC_L_CCR_TSEN, 0);
    *cr = ADC_L_CR_DEEPPWD;
    return fine;
}

#endif
