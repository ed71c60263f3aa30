/* The serial functions of any port over RTT: two rings in RAM, which a debug probe reads and writes while the core runs.
 * No pin, no baud rate, no UART. Linked in place of the port's own functions where HIL_RTT is defined.
 *
 * The layout of the control block is SEGGER's, as their manual (UM08001, RTT) describes it, so that J-Link, OpenOCD,
 * pyOCD and probe-rs find it: by its name, or by the ID at its start. The text is ours. Up is to the host. */
#include "hil_port.h"

#if defined(HIL_RTT)

#define UP_BYTES 512u
#define DOWN_BYTES 512u /* more than the longest command: the host need not wait for its middle */

typedef struct {
    const char *name;
    char *start;
    uint32_t size;
    volatile uint32_t written; /* where the writer writes next */
    volatile uint32_t read;    /* where the reader reads next: equal when nothing is there */
    uint32_t flags;            /* what a full buffer does is the writer's affair here */
} ring_t;

typedef struct {
    char id[16];
    int32_t up_count;
    int32_t down_count;
    ring_t up;
    ring_t down;
} control_t;

static char up_bytes[UP_BYTES];
static char down_bytes[DOWN_BYTES];

/* Volatile, as the other side is not in this program. Start-up writes it anew at every reset. */
extern volatile control_t _SEGGER_RTT;
volatile control_t _SEGGER_RTT = {
    .id = "SEGGER RTT",
    .up_count = 1,
    .down_count = 1,
    .up = {.name = "munas-hil", .start = up_bytes, .size = UP_BYTES, .flags = 2u},
    .down = {.name = "munas-hil", .start = down_bytes, .size = DOWN_BYTES, .flags = 2u},
};

/* Bytes before indices, in the order in which they were written: the other side sees memory, not this core's buffers. */
static inline void settle(void)
{
    __asm volatile("dmb" ::: "memory");
}

uint8_t hil_port_getc(void)
{
    volatile ring_t *const ring = &_SEGGER_RTT.down;
    const uint32_t at = ring->read;
    while (ring->written == at) {
    }
    settle();
    const uint8_t byte = (uint8_t)((volatile char *)ring->start)[at];
    settle();
    ring->read = at + 1u == DOWN_BYTES ? 0u : at + 1u;
    return byte;
}

void hil_port_putc(uint8_t byte)
{
    volatile ring_t *const ring = &_SEGGER_RTT.up;
    const uint32_t at = ring->written, next = at + 1u == UP_BYTES ? 0u : at + 1u;
    while (ring->read == next) {
    }
    ((volatile char *)ring->start)[at] = (char)byte;
    settle();
    ring->written = next;
}

void hil_port_flush(void)
{
    volatile ring_t *const ring = &_SEGGER_RTT.up;
    while (ring->read != ring->written) {
    }
}

#else
typedef int hil_no_rtt; /* a file of C is not empty */
#endif
