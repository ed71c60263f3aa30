/* The present input. An inference may overwrite its input, so each one gets it anew: a pattern is made again, uploaded
 * bytes are kept in spare RAM behind the image (no part of the network's budget). Where there is none they live in the
 * arena itself and last for one inference. */
#include <string.h>

#include "hil_runtime.h"
#include "hil_wire.h"

#define FAR_STEPS 1024.0f /* beyond every int8 value, whatever the zero point */

typedef enum { AS_IT_IS, FROM_UINT8, FROM_FLOAT } conversion_t;

static struct {
    bool is_bytes; /* else a pattern */
    bool in_arena; /* bytes that no inference has touched since they were loaded */
    bool answered; /* the arena has its output */
    conversion_t conversion;
    uint32_t kind;
    uint32_t seed;
    uint32_t expected;
    uint32_t received;
} input;

static uint8_t *arena_input(void)
{
    return (uint8_t *)hil_arena + hil_model.input_offset;
}

/* Behind the bytes that hil_memory_report watches. NULL when `size` bytes do not fit. */
static uint8_t *spare_home(uint32_t size)
{
    const uintptr_t room = (uintptr_t)hil_memory.spare_end - (uintptr_t)hil_memory.spare_start;
    return room >= (uintptr_t)size + HIL_WIRE_ARENA_GUARD_BYTES ? hil_memory.spare_start + HIL_WIRE_ARENA_GUARD_BYTES
                                                                : NULL;
}

static uint8_t *home(void)
{
    uint8_t *spare = spare_home(input.expected);
    return spare != NULL ? spare : arena_input();
}

static void start_bytes(uint32_t size, conversion_t conversion)
{
    input.is_bytes = true;
    input.expected = size;
    input.received = 0;
    input.conversion = conversion;
    input.in_arena = true;
    if (home() == arena_input()) {
        input.answered = false; /* the arena may have the output where the input goes */
    }
}

void hil_input_pattern(uint32_t kind, uint32_t seed)
{
    input.is_bytes = false;
    input.kind = kind;
    input.seed = seed;
}

static bool takes_images(void)
{
    /* MLPerf Tiny's host sends these two models' inputs as uint8 pixels. */
    return hil_same(hil_model.profile, "vww01") || hil_same(hil_model.profile, "ic01");
}

bool hil_input_expect(uint32_t size)
{
    if (size == hil_model.input_size) {
        start_bytes(size, takes_images() ? FROM_UINT8 : AS_IT_IS);
        return true;
    }
    /* ... and those of ad01 as float32, which need a place of their own. */
    if (size == 4u * hil_model.input_size && spare_home(size) != NULL) {
        start_bytes(size, FROM_FLOAT);
        return true;
    }
    return false;
}

bool hil_input_append(const uint8_t *data, uint32_t size)
{
    if (!input.is_bytes || size > input.expected - input.received) {
        return false;
    }
    memcpy(home() + input.received, data, size);
    input.received += size;
    return true;
}

bool hil_input_complete(void)
{
    return !input.is_bytes || input.received == input.expected;
}

bool hil_input_put(uint32_t offset, const uint8_t *data, uint32_t size)
{
    const uint32_t whole = hil_model.input_size;
    if (offset > whole || size > whole - offset) {
        return false;
    }
    if (offset == 0u || !input.is_bytes || input.expected != whole || input.conversion != AS_IT_IS) {
        start_bytes(whole, AS_IT_IS);
    }
    memcpy(home() + offset, data, size);
    input.received = whole; /* which parts came is checked by the CRC that `hil input` answers */
    return true;
}

const uint8_t *hil_input_raw(uint32_t *size)
{
    *size = input.is_bytes ? input.received : 0u;
    return home();
}

bool hil_input_ready(uint32_t runs)
{
    if (!hil_input_complete()) {
        hil_error("Input incomplete");
        return false;
    }
    if (input.is_bytes && home() == arena_input() && (!input.in_arena || runs > 1u)) {
        hil_error("Input spent: no RAM keeps it, load it again");
        return false;
    }
    return true;
}

static uint8_t random_byte(uint32_t index)
{
    uint32_t word = ((index >> 2) + 1u) * 0x9E3779B1u + input.seed;
    word ^= word >> 16;
    word *= 0x85EBCA6Bu;
    word ^= word >> 13;
    word *= 0xC2B2AE35u;
    word ^= word >> 16;
    return (uint8_t)(word >> (8u * (index & 3u)));
}

static void place_pattern(uint8_t *to)
{
    for (uint32_t i = 0; i < hil_model.input_size; i++) {
        switch (input.kind) {
        case HIL_WIRE_PATTERN_MIN:
            to[i] = 0x80u;
            break;
        case HIL_WIRE_PATTERN_MAX:
            to[i] = 0x7Fu;
            break;
        case HIL_WIRE_PATTERN_ZERO_POINT:
            to[i] = (uint8_t)hil_model.input_zero_point;
            break;
        case HIL_WIRE_PATTERN_ALTERNATING:
            to[i] = (i & 1u) != 0u ? 0x7Fu : 0x80u;
            break;
        default:
            to[i] = random_byte(i);
        }
    }
}

/* As LiteRT's QUANTIZE (munas/tflite/quantise.py): rounded half away from zero before the zero point is added. */
static uint8_t quantise(const uint8_t *bytes)
{
    float value;
    memcpy(&value, bytes, sizeof value);
    const float steps = value / hil_model.input_scale;
    if (!(steps > -FAR_STEPS)) { /* NaN as well */
        return 0x80u;
    }
    if (steps > FAR_STEPS) {
        return 0x7Fu;
    }
    int32_t whole = (int32_t)steps;
    const float rest = steps - (float)whole; /* exact; adding a half would lift the number just below a half */
    if (rest >= 0.5f || rest <= -0.5f) {
        whole += steps < 0.0f ? -1 : 1;
    }
    whole += hil_model.input_zero_point;
    return (uint8_t)(whole < -128 ? -128 : whole > 127 ? 127 : whole);
}

static void place_bytes(uint8_t *to)
{
    const uint8_t *from = home();
    for (uint32_t i = 0; i < hil_model.input_size; i++) {
        if (input.conversion == FROM_FLOAT) {
            to[i] = quantise(from + 4u * i);
        } else {
            to[i] = from[i] ^ (input.conversion == FROM_UINT8 ? 0x80u : 0u);
        }
    }
    if (from == to) {
        input.conversion = AS_IT_IS; /* converted where it lies */
    }
}

void hil_input_place(void)
{
    if (hil_model_reset) { /* or an answer would depend on the inferences before it */
        hil_model_reset();
    }
    input.answered = false;
    if (input.is_bytes) {
        place_bytes(arena_input());
    } else {
        place_pattern(arena_input());
    }
#if defined(HIL_MODEL_IN_RAM)
    hil_model_take_input();
#endif
}

void hil_input_spent(bool answered)
{
    input.in_arena = false;
    input.answered = answered;
}

bool hil_input_answered(void)
{
    return input.answered;
}

uint32_t hil_input_crc(void)
{
    return hil_crc32(arena_input(), hil_model.input_size);
}

void hil_reply_input(void)
{
    hil_reply(HIL_WIRE_KEY_INPUT);
    hil_field_u64(hil_model.input_size);
    hil_field_u64(hil_input_crc());
    hil_reply_end();
}
