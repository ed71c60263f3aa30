/* What the words of a command mean. */
#include "hil_runtime.h"

bool hil_number(const char *text, uint32_t *value)
{
    uint32_t number = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        const uint32_t digit = (uint32_t)*text - '0';
        if (digit > 9u || number > (UINT32_MAX - digit) / 10u) {
            return false;
        }
        number = number * 10u + digit;
    }
    *value = number;
    return true;
}

static uint32_t hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return (uint32_t)(c - '0');
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10u : 16u;
}

bool hil_unhex(char *text, uint32_t *size)
{
    uint32_t count = 0;
    for (; text[2u * count] != '\0'; count++) {
        const uint32_t high = hex_digit(text[2u * count]);
        const uint32_t low = hex_digit(text[2u * count + 1u]);
        if (high > 15u || low > 15u) {
            return false;
        }
        text[count] = (char)(high << 4 | low);
    }
    *size = count;
    return count > 0u;
}
