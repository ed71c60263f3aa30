/* What a port/<soc>.c provides: clock, one serial port, one timer. Nothing here may allocate or block, except getc. */
#ifndef HIL_PORT_H
#define HIL_PORT_H

#include <stdbool.h>
#include <stdint.h>

#ifndef HIL_BAUD
#define HIL_BAUD 115200 /* what the board's file or the bench file does not say otherwise */
#endif

/* Clock, serial port (HIL_BAUD, 8N1 where a baud rate exists) and timer, running. Called once, first. */
void hil_port_init(void);

/* Waits for the next byte. */
uint8_t hil_port_getc(void);

/* Sends one byte; waits until there is room, not until it has left. */
void hil_port_putc(uint8_t byte);

/* Waits until all sent bytes have left, so that sending costs nothing inside a measurement. */
void hil_port_flush(void);

/* Ticks since some start, never going back (a wrap of the hardware counter is handled as long as it is called at
 * least once a wrap: see the port). Must take the same time at every call. */
uint64_t hil_port_ticks(void);

/* Ticks in a second. */
uint32_t hil_port_ticks_hz(void);

/* What a tick counts: "dwt-cycles", "icount-instructions", "renode-instructions" or "modelled-cycles". */
extern const char hil_port_timer_kind[];

/* The chip's temperature in thousandths of a degree Celsius; false when it cannot be read. A port without a sensor has no
 * such function. Only bring-up's firmware links it. */
__attribute__((weak)) bool hil_port_temperature(int32_t *millidegrees);

/* The serial port at `rate` instead, as near as it can be divided; returns the rate that it now has. A port without a rate
 * has no such function. Only bring-up's firmware links it. */
__attribute__((weak)) uint32_t hil_port_set_rate(uint32_t rate);

#endif
