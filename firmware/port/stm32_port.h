/* What every STM32 port gives to the runtime in the same words. A port includes this last, after it has defined
 *
 *     STM32_USART      its serial port, of the newer kind (the F4's is the older one, and has functions of its own)
 *     STM32_USART_ROOT  the root of the parts that it makes of its clock: 16 in a low-power UART, which makes 256, else 1
 *     STM32_USART_IRQ  the number of its interrupt
 *     SENSOR           the factory's readings of its temperature sensor (stm32_calibration_t)
 *     read_sensor      what switches that sensor's ADC on and adds up its readings
 *
 * and started clocks and timers in hil_port_init. */
#ifndef STM32_PORT_H
#define STM32_PORT_H

#include "stm32_temperature.h"

#if defined(STM32_USART) && !defined(HIL_RTT) /* else port/rtt.c has them */
uint8_t hil_port_getc(void)
{
    return stm32_usart_get(STM32_USART, STM32_USART_IRQ);
}

void hil_port_putc(uint8_t byte)
{
    stm32_usart_put(STM32_USART, byte);
}

void hil_port_flush(void)
{
    stm32_usart_flush(STM32_USART);
}

uint32_t hil_port_set_rate(uint32_t rate)
{
    stm32_usart_flush(STM32_USART);
    const uint32_t divisor = stm32_rate_divisor(rate);
    stm32_usart_init(STM32_USART, divisor);
    return stm32_divisor(stm32_speed.usart_hz * STM32_USART_ROOT, divisor) * STM32_USART_ROOT;
}
#endif

#if !defined(HIL_QEMU) /* which has no cycle counter, and faults where the factory's readings are */
const char hil_port_timer_kind[] = STM32_TIMER_KIND;

uint64_t hil_port_ticks(void)
{
    return stm32_cycles(stm32_speed.timer_shift);
}

uint32_t hil_port_ticks_hz(void)
{
    return stm32_speed.core_hz;
}

bool hil_port_temperature(int32_t *millidegrees)
{
    const stm32_calibration_t known = SENSOR;
    uint32_t sum;
    return stm32_is_calibrated(&known) && read_sensor(&sum) && stm32_millidegrees(sum, &known, millidegrees);
}
#endif

#endif
