/* `hil ...`: what MLPerf's protocol lacks. Replies are lines with a CRC-32; see hil/link/protocol.py. */
#include <stddef.h>

#include "hil_port.h"
#include "hil_runtime.h"
#include "hil_wire.h"

#define MAX_NUMBERS 2u

static uint32_t bytes_between(const uint8_t *start, const uint8_t *end)
{
    return (uint32_t)((uintptr_t)end - (uintptr_t)start);
}

static void on_id(const uint32_t *numbers)
{
    (void)numbers;
    hil_reply(HIL_WIRE_KEY_ID);
    hil_field_u64(HIL_WIRE_VERSION);
    hil_field_text(hil_model.build_id);
    hil_field_text(hil_model.profile);
    hil_field_text(hil_port_timer_kind);
    hil_field_u64(hil_port_ticks_hz());
    hil_field_u64(hil_model.layers);
    hil_field_u64(hil_model.arena_size);
    hil_field_u64(hil_model.input_size);
    hil_field_u64(hil_model.output_size);
    hil_field_i32(hil_model.input_zero_point);
    hil_field_i32(hil_model.output_zero_point);
    hil_reply_end();
    hil_reply(HIL_WIRE_KEY_MAP);
    hil_field_u64(hil_memory.flash_bytes);
    hil_field_u64((uint32_t)(uintptr_t)hil_memory.stack_start);
    hil_field_u64(bytes_between(hil_memory.stack_start, hil_memory.stack_end));
    hil_field_u64(bytes_between(hil_memory.static_start, hil_memory.static_end));
    hil_field_u64((uint32_t)(uintptr_t)hil_arena);
    hil_field_u64(bytes_between(hil_memory.spare_start, hil_memory.spare_end));
    hil_reply_end();
}

static void on_fill(const uint32_t *numbers)
{
    hil_input_pattern(numbers[1], numbers[0]);
    hil_input_place();
    hil_reply_input();
}

static void on_input(const uint32_t *numbers)
{
    (void)numbers;
    if (hil_input_ready(1)) {
        hil_input_place();
        hil_reply_input();
    }
}

/* How long the port may stay silent, so that the host need not guess. 0: not known yet. */
static void announce_silence(uint32_t inferences)
{
    hil_reply(HIL_WIRE_KEY_SILENCE);
    hil_field_u64(hil_estimate_us() * inferences);
    hil_reply_end();
}

static void run(void)
{
    uint64_t ticks;
    if (!hil_input_ready(1)) {
        return;
    }
    hil_input_place();
    const uint32_t input_crc = hil_input_crc();
    if (!hil_infer(&ticks)) {
        return;
    }
    const uint8_t *output = (const uint8_t *)hil_output();
    hil_reply(HIL_WIRE_KEY_RUN);
    hil_field_u64(ticks);
    hil_field_u64(input_crc);
    hil_field_u64(hil_crc32(output, hil_model.output_size));
    hil_field_bytes(output, hil_model.output_size <= HIL_WIRE_INLINE_OUTPUT_BYTES ? hil_model.output_size : 0u);
    hil_reply_end();
}

static void on_run(const uint32_t *numbers)
{
    (void)numbers;
    run();
}

static void on_run_pattern(const uint32_t *numbers)
{
    hil_input_pattern(numbers[1], numbers[0]);
    run();
}

static void on_infer(const uint32_t *numbers)
{
    const uint32_t count = numbers[0];
    const uint32_t warmup = numbers[1];
    uint64_t ticks;
    if (count == 0u) {
        hil_error("Bad iterations");
        return;
    }
    if (!hil_input_ready(count > 1u || warmup > 0u ? 2u : 1u)) {
        return;
    }
    hil_input_place();
    hil_reply_input();
    for (uint32_t i = 0; i < warmup; i++) {
        announce_silence(1);
        hil_input_place();
        if (!hil_infer(&ticks)) {
            return;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i % HIL_WIRE_SAMPLES_PER_LINE == 0u) {
            if (i != 0u) {
                hil_reply_end();
            }
            announce_silence(HIL_WIRE_SAMPLES_PER_LINE);
            hil_reply(HIL_WIRE_KEY_TICKS);
            hil_field_u64(i);
        }
        hil_input_place();
        if (!hil_infer(&ticks)) {
            return;
        }
        hil_field_u64(ticks);
    }
    hil_reply_end();
}

static void on_profile(const uint32_t *numbers)
{
    (void)numbers;
    announce_silence(1);
    hil_profile();
}

static void on_memory(const uint32_t *numbers)
{
    (void)numbers;
    announce_silence(2);
    hil_memory_report();
}

static void on_get(const uint32_t *numbers)
{
    const uint32_t offset = numbers[0];
    const uint32_t size = numbers[1];
    if (offset > hil_model.output_size || size > hil_model.output_size - offset) {
        hil_error("Out of range");
        return;
    }
    const uint8_t *output = (const uint8_t *)hil_output();
    if (output != NULL) {
        hil_reply(HIL_WIRE_KEY_DATA);
        hil_field_u64(offset);
        hil_field_bytes(output + offset, size);
        hil_reply_end();
    }
}

/* hil put OFFSET HEX CRC */
static void on_put(char **words)
{
    uint32_t offset;
    uint32_t size;
    uint32_t crc_size;
    if (!hil_number(words[0], &offset) || !hil_unhex(words[1], &size) || !hil_unhex(words[2], &crc_size) ||
        crc_size != 4u) {
        hil_error("Bad put");
        return;
    }
    const uint8_t *crc = (const uint8_t *)words[2];
    const uint8_t *data = (const uint8_t *)words[1];
    if (hil_crc32(data, size) != ((uint32_t)crc[0] << 24 | (uint32_t)crc[1] << 16 | (uint32_t)crc[2] << 8 | crc[3])) {
        hil_error("Wrong CRC");
    } else if (!hil_input_put(offset, data, size)) {
        hil_error("Out of range");
    } else {
        hil_reply(HIL_WIRE_KEY_PUT);
        hil_field_u64(offset);
        hil_field_u64(size);
        hil_reply_end();
    }
}

static const struct {
    const char *name;
    uint32_t numbers;
    void (*run)(const uint32_t *numbers);
} commands[] = {
    {HIL_WIRE_CMD_ID, 0, on_id},       {HIL_WIRE_CMD_FILL, 2, on_fill},       {HIL_WIRE_CMD_INPUT, 0, on_input},
    {HIL_WIRE_CMD_RUN, 0, on_run},     {HIL_WIRE_CMD_RUN, 2, on_run_pattern}, {HIL_WIRE_CMD_INFER, 2, on_infer},
    {HIL_WIRE_CMD_MEMORY, 0, on_memory}, {HIL_WIRE_CMD_PROFILE, 0, on_profile}, {HIL_WIRE_CMD_GET, 2, on_get},
};

void hil_extension(uint32_t count, char **words)
{
    uint32_t numbers[MAX_NUMBERS];
    if (count == 5u && hil_same(words[1], HIL_WIRE_CMD_PUT)) {
        on_put(words + 2);
        return;
    }
    for (uint32_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (count == 2u + commands[i].numbers && hil_same(words[1], commands[i].name)) {
            for (uint32_t k = 0; k < commands[i].numbers; k++) {
                if (!hil_number(words[2u + k], &numbers[k])) {
                    hil_error_at("Bad number: ", words[2u + k]);
                    return;
                }
            }
            commands[i].run(numbers);
            return;
        }
    }
    hil_error_at("Bad hil command: ", count > 1u ? words[1] : "");
}
