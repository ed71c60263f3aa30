/* A port file compiled for the host, against a model of the chip's registers: what it writes where, and what clock that
 * makes. The model follows the reference manuals: an oscillator or PLL is ready once it is on and its input is, a clock
 * is only switched to when it is ready. -DPORT=... names the port file, -DFAMILY=4, 5 (L4), 7 or 8 (H7). Arguments: what
 * is broken, and ADDRESS=VALUE in hexadecimal: with any of these, registers are plain memory that holds them; with a plus
 * before them they are what the model's registers hold at reset. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile uint32_t *simulated(uint32_t address);
#define REGISTER(address) (*simulated(address))
#define __asm if (0) __asm
#include PORT

#define SLOTS 256
static struct {
    uint32_t address;
    volatile uint32_t value;
} slots[SLOTS];
static uint32_t used;
/* 0: nothing, 1: no oscillator, 2: no PLL, 3: no power, 4: no switch, 5: the H7 is of revision Y, 6: no ADC */
static int broken;
static int plain;

static volatile uint32_t *slot(uint32_t address)
{
    for (uint32_t i = 0; i < used; i++) {
        if (slots[i].address == address) {
            return &slots[i].value;
        }
    }
    if (used == SLOTS) {
        abort();
    }
    slots[used].address = address;
    return &slots[used++].value;
}

static void follow(volatile uint32_t *where, uint32_t bit, int ready)
{
    *where = (*where & ~bit) | (ready ? bit : 0u);
}

#if FAMILY == 5
#define OSC_ON (1u << 8)
#define OSC_READY (1u << 10)
#define SW_AT 0u
#define SW_MASK 3u
#define SW_PLL 3u
#define SWS_AT 2u
#elif FAMILY == 8
#define OSC_ON (1u << 16)
#define OSC_READY (1u << 17)
#define SW_AT 0u
#define SW_MASK 7u
#define SW_PLL 3u
#define SWS_AT 3u
#else
#define OSC_ON (1u << 16)
#define OSC_READY (1u << 17)
#define SW_AT 0u
#define SW_MASK 3u
#define SW_PLL 2u
#define SWS_AT 2u
#endif
#if FAMILY == 8
#define CFGR_AT 0x10u
#else
#define CFGR_AT 0x08u
#endif

/* Everything that hardware would do by itself, before the next access. */
static void settle(void)
{
    if (plain) {
        return;
    }
    volatile uint32_t *cr = slot(RCC), *cfgr = slot(RCC + CFGR_AT);
    follow(cr, OSC_READY, (*cr & OSC_ON) != 0u && broken != 1);
    follow(cr, 1u << 25, (*cr >> 24 & 1u) != 0u && (*cr & OSC_READY) != 0u && broken != 2);
    if (((*cfgr >> SW_AT) & SW_MASK) != SW_PLL || ((*cr >> 25 & 1u) != 0u && broken != 4)) {
        *cfgr = (*cfgr & ~(SW_MASK << SWS_AT)) | ((*cfgr >> SW_AT) & SW_MASK) << SWS_AT;
    }
#if FAMILY == 7
    volatile uint32_t *pwr = slot(0x40007000u), *csr = slot(0x40007004u);
    follow(csr, 1u << 16, (*pwr >> 16 & 1u) != 0u && broken != 3);
    follow(csr, 1u << 17, (*pwr >> 17 & 1u) != 0u && (*csr >> 16 & 1u) != 0u);
#elif FAMILY == 5
    follow(slot(0x40007014u), 1u << 10, broken == 3);
#elif FAMILY == 8
    follow(slot(0x58024804u), 1u << 13, (*slot(0x5802480Cu) & 7u) == 2u && broken != 3);
    follow(slot(0x58024818u), 1u << 13, (*slot(0x58024818u) >> 14 & 3u) == 3u);
#endif
}

/* The ADC that the temperature sensor hangs on: it converts what is switched on, clocked, selected and sampled for long
 * enough, and its reading then depends on nothing but the sensor. */
#define READING 1100u
static int clocked(void)
{
#if FAMILY == 8
    return (*slot(RCC + 0xE0u) >> 24 & 1u) != 0u && (*slot(RCC + 0x58u) >> 16 & 3u) == 2u;
#elif FAMILY == 5
    return (*slot(RCC + 0x4Cu) >> 13 & 1u) != 0u;
#else
    return (*slot(RCC + 0x44u) >> 8 & 1u) != 0u;
#endif
}

#if FAMILY == 5 || FAMILY == 8
#if FAMILY == 8
#define ADC 0x58026000u
#define CLOCK_FIELD (4u << 18)
#define CHANNEL 18u
#define SELECTED (*slot(ADC + 0x1Cu) == 1u << CHANNEL)
#define SCALE 16u
#else
#define ADC 0x50040000u
#define CLOCK_FIELD (3u << 16)
#define CHANNEL 17u
#define SELECTED 1
#define SCALE 1u
#endif
static void convert(void)
{
    volatile uint32_t *cr = slot(ADC + 0x08u), *isr = slot(ADC), *ccr = slot(ADC + 0x308u);
    const int powered = (*cr >> 28 & 3u) == 1u; /* regulator on, out of deep power down */
    static int calibrated;
    static uint32_t status;
    if (*isr != status) {
        status &= ~*isr; /* written ones clear */
    }
    if ((*cr >> 31 & 1u) != 0u && powered && (*cr & 1u) == 0u) {
        calibrated = 1;
        *cr &= ~(1u << 31);
    }
    status = (status & ~1u) | ((*cr & 1u) != 0u && powered && calibrated && clocked());
    if ((*cr >> 2 & 1u) != 0u && (status & 1u) != 0u &&
        (*ccr & (15u << 18 | 3u << 16 | 1u << 23)) == (CLOCK_FIELD | 1u << 23) && *slot(ADC + 0x30u) == CHANNEL << 6 &&
        *slot(ADC + 0x18u) >> 3u * (CHANNEL - 10u) == 7u && SELECTED && broken != 6) {
        *slot(ADC + 0x40u) = READING * SCALE;
        *cr &= ~4u;
        status |= 4u;
    }
    if ((*cr >> 1 & 1u) != 0u) {
        *cr &= ~3u;
    }
    *isr = status;
}
#else
#define ADC 0x40012000u
#if FAMILY == 7
#define CHANNEL 18u
#else
#define CHANNEL 16u
#endif
#define SCALE 1u
static void convert(void)
{
    volatile uint32_t *cr2 = slot(ADC + 0x08u);
    const uint32_t ccr = *slot(ADC + 0x304u);
    if ((*cr2 >> 30 & 1u) != 0u && (*cr2 & 1u) != 0u && clocked() && (ccr >> 22 & 3u) == 2u && (ccr >> 16 & 3u) == 1u &&
        *slot(ADC + 0x34u) == CHANNEL && *slot(ADC + 0x2Cu) >> 20 == 0u &&
        *slot(ADC + 0x0Cu) >> 3u * (CHANNEL - 10u) == 7u && broken != 6) {
        *slot(ADC + 0x4Cu) = READING * SCALE;
        *cr2 &= ~(1u << 30);
        *slot(ADC) |= 2u;
    }
}
#endif

static volatile uint32_t *simulated(uint32_t address)
{
    settle();
    if (!plain) {
        convert();
    }
    return slot(address);
}

static void reset_values(void)
{
#if FAMILY == 8
    *slot(RCC) = 0x00000005u;
    *slot(0x5802480Cu) = 6u;
    *slot(0x58024818u) = 1u << 14;
    *slot(0x5C001000u) = broken == 5 ? 0x10036450u : 0x20036450u;
#elif FAMILY == 5
    *slot(RCC) = 0x00000063u;
    *slot(0x40007000u) = 1u << 9;
    *slot(0x40007080u) = 1u << 8;
#else
    *slot(RCC) = 0x00000083u;
    *slot(RCC + 4u) = 0x24003010u;
    *slot(0x40007000u) = 0xC000u;
#endif
}

#if FAMILY == 4
#define RATE_DIVISOR 0x40011008u
#define SERIAL_STATUS 0x40011000u
#elif FAMILY == 5
#define RATE_DIVISOR 0x4000800Cu
#define SERIAL_STATUS 0x4000801Cu
#else
#define RATE_DIVISOR 0x4000480Cu
#define SERIAL_STATUS 0x4000481Cu
#endif

int main(int count, char **words)
{
    broken = count > 1 ? atoi(words[1]) : 0;
    plain = count > 2 && words[2][0] != '+';
    if (!plain) {
        reset_values();
    }
    for (int i = 2; i < count; i++) {
        unsigned address, value;
        if (sscanf(words[i] + !plain, "%x=%x", &address, &value) != 2) {
            return 1;
        }
        *slot(address) = value;
    }
    hil_port_init();
    settle();
    printf("{\"hz\": %u, \"kind\": \"%s\"", hil_port_ticks_hz(), hil_port_timer_kind);
    for (uint32_t i = 0; i < used; i++) {
        printf(", \"%08x\": %u", slots[i].address, slots[i].value);
    }
    int32_t millidegrees = 0;
    if (!plain) {
        const int before = hil_port_temperature(&millidegrees); /* nothing is where the factory's readings are */
        *slot(TS_CAL1 & ~3u) = 1000u * SCALE | (TS_CAL2 == TS_CAL1 + 2u ? 1400u * SCALE << 16 : 0u);
        *slot(TS_CAL2 & ~3u) |= TS_CAL2 % 4u == 2u ? 1400u * SCALE << 16 : 1400u * SCALE;
        const int after = hil_port_temperature(&millidegrees);
        printf(", \"uncalibrated\": %d, \"measured\": %d, \"millidegrees\": %d", before, after, millidegrees);
    }
    if (!plain) {
        *slot(SERIAL_STATUS) |= 1u << 6; /* all has left */
        printf(", \"rate\": %u", hil_port_set_rate(921600u));
        printf(", \"divisor\": %u", *slot(RATE_DIVISOR));
    }
    /* Ticks: the coarse counter says how often the cycle counter has wrapped, whichever is a little ahead. */
    *slot(TIM2 + TIM_CNT) = 1u << 20;
    *slot(0xE0001004u) = 0;
    printf(", \"coarse\": %llu, \"continued\": [", (unsigned long long)hil_port_ticks());
    for (uint32_t i = 0; i < 7; i++) {
        static const int64_t lead[7] = {0, 5, -5, 70000, -70000, 2147483647, -2147483648};
        const uint64_t near = 3u * (1ull << 32) + (i % 2u ? 1u : 4294967290u);
        const uint64_t want = near + (uint64_t)lead[i];
        printf("%s%d", i ? ", " : "", stm32_continued((uint32_t)want, near) == want);
    }
    printf("]}\n");
    return 0;
}
