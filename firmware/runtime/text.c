/* Text to the port without stdio: decimal, hexadecimal, and extension lines with their CRC-32. */
#include "hil_port.h"
#include "hil_runtime.h"

static uint32_t line_crc;
static uint32_t reply_sequence;
static bool first_field;
static bool in_line; /* something has been sent since the last line end */

static uint32_t crc_step(uint32_t crc, uint8_t byte)
{
    /* CRC-32 (IEEE) of each value of four bits: half the speed and 1/16 the flash of the usual table. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    crc ^= byte;
    crc = (crc >> 4) ^ table[crc & 15u];
    return (crc >> 4) ^ table[crc & 15u];
}

uint32_t hil_crc32_from(uint32_t start, const uint8_t *data, uint32_t size)
{
    uint32_t crc = ~start;
    while (size-- > 0u) {
        crc = crc_step(crc, *data++);
    }
    return ~crc;
}

uint32_t hil_crc32(const uint8_t *data, uint32_t size)
{
    return hil_crc32_from(0, data, size);
}

void hil_line_crc_start(uint32_t start)
{
    line_crc = ~start;
}

uint32_t hil_line_crc(void)
{
    return ~line_crc;
}

static void put(char c)
{
    line_crc = crc_step(line_crc, (uint8_t)c);
    in_line = c != '\n';
    hil_port_putc((uint8_t)c);
}

void hil_text(const char *text)
{
    while (*text != '\0') {
        put(*text++);
    }
}

/* What does not fit the core's own division goes a bit at a time: far smaller than libgcc's 64-bit division. */
uint64_t hil_divide(uint64_t dividend, uint32_t divisor, uint32_t *remainder)
{
    if (dividend <= UINT32_MAX) {
        *remainder = (uint32_t)dividend % divisor;
        return (uint32_t)dividend / divisor;
    }
    uint64_t rest = 0;
    for (uint32_t bit = 0; bit < 64u; bit++) {
        rest = (rest << 1) | (dividend >> 63);
        dividend <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            dividend |= 1u;
        }
    }
    *remainder = (uint32_t)rest;
    return dividend;
}

/* At least `least` digits, the last `decimals` of them behind a point. */
void hil_text_number(uint64_t value, uint32_t least, uint32_t decimals)
{
    char digits[20];
    uint32_t count = 0;
    do {
        uint32_t digit;
        value = hil_divide(value, 10u, &digit);
        digits[count++] = (char)('0' + digit);
    } while (value != 0u || count < least);
    while (count > 0u) {
        if (count == decimals) {
            put('.');
        }
        put(digits[--count]);
    }
}

void hil_text_u64(uint64_t value)
{
    hil_text_number(value, 1, 0);
}

void hil_text_hex(uint32_t value, uint32_t digits)
{
    while (digits-- > 0u) {
        put("0123456789abcdef"[(value >> (4u * digits)) & 15u]);
    }
}

void hil_text_bytes(const uint8_t *data, uint32_t size)
{
    while (size-- > 0u) {
        hil_text_hex(*data++, 2);
    }
}

void hil_text_end(void)
{
    hil_text("\r\n");
}

static void start_error(const char *text)
{
    if (in_line) {
        hil_text_end(); /* of a reply that it interrupts */
    }
    hil_text("e-[");
    hil_text(text);
}

void hil_error_number(const char *text, uint32_t number)
{
    start_error(text);
    hil_text_u64(number);
    hil_text("]\r\n");
}

void hil_error_at(const char *text, const char *what)
{
    start_error(text);
    /* What came in goes back out only as far as it cannot be mistaken for a line of ours. */
    for (uint32_t i = 0; i < 32u && what[i] >= ' ' && what[i] <= '~'; i++) {
        put(what[i]);
    }
    hil_text("]\r\n");
}

bool hil_same(const char *a, const char *b)
{
    while (*a == *b) {
        if (*a++ == '\0') {
            return true;
        }
        b++;
    }
    return false;
}

void hil_error(const char *text)
{
    hil_error_at(text, "");
}

void hil_reply_sequence(uint32_t sequence)
{
    reply_sequence = sequence;
}

void hil_reply(const char *key)
{
    hil_line_crc_start(reply_sequence);
    first_field = true;
    hil_text("m-hil-");
    hil_text(key);
    hil_text("-[");
}

static void separate(void)
{
    if (!first_field) {
        put(',');
    }
    first_field = false;
}

void hil_field_u64(uint64_t value)
{
    separate();
    hil_text_u64(value);
}

void hil_field_i32(int32_t value)
{
    separate();
    if (value < 0) {
        put('-');
    }
    hil_text_u64(value < 0 ? 0u - (uint32_t)value : (uint32_t)value);
}

void hil_field_text(const char *text)
{
    separate();
    hil_text(text);
}

void hil_field_bytes(const uint8_t *data, uint32_t size)
{
    separate();
    hil_text_bytes(data, size);
}

void hil_reply_end(void)
{
    put(']');
    const uint32_t crc = hil_line_crc();
    put('-');
    hil_text_hex(crc, 8);
    hil_text_end();
}
