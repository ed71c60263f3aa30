/* The MLPerf Tiny command protocol. Every command, failed or not, ends with the line m-ready. */
#include <stddef.h>

#include "hil_port.h"
#include "hil_runtime.h"
#include "hil_wire.h"

#define MAX_WORDS 6u

static char line[HIL_WIRE_LINE_MAX + 1u];
static uint32_t line_size;
static bool line_spoilt; /* too long, or a byte that is not text */

static void message(const char *text)
{
    hil_text(text);
    hil_text_end();
}

static void message_u64(const char *text, uint64_t value)
{
    hil_text(text);
    hil_text_u64(value);
    hil_text_end();
}

static void print_results(void)
{
    const int8_t *output = hil_output();
    if (output == NULL) {
        return;
    }
    hil_text("m-results-[");
    for (uint32_t i = 0; i < hil_model.output_size; i++) {
        float value = (float)(output[i] - hil_model.output_zero_point) * hil_model.output_scale;
        if (i != 0u) {
            hil_text(",");
        }
        if (value < 0.0f) {
            hil_text("-");
            value = -value;
        }
        /* Three decimals; no network of sense has outputs beyond four million. */
        hil_text_number(value < 4000000.0f ? (uint32_t)(value * 1000.0f + 0.5f) : 4000000000u, 4, 3);
    }
    hil_text("]\r\n");
}

/* N timed inferences between two time stamps. The second is the first plus the inferences alone: putting the input
 * back in between is not theirs. */
static void run_infer(uint32_t n, uint32_t warmup)
{
    uint64_t ticks;
    if (!hil_input_ready(n + warmup < n ? n : n + warmup)) {
        return;
    }
    message_u64("m-warmup-start-", warmup);
    for (uint32_t i = 0; i < warmup; i++) {
        hil_input_place();
        if (!hil_infer(&ticks)) {
            return;
        }
    }
    message("m-warmup-done");
    message_u64("m-infer-start-", n);
    uint64_t now = hil_port_ticks();
    message_u64("m-lap-us-", hil_microseconds(now));
    for (uint32_t i = 0; i < n; i++) {
        hil_input_place();
        if (!hil_infer(&ticks)) {
            return;
        }
        now += ticks;
    }
    message_u64("m-lap-us-", hil_microseconds(now));
    message("m-infer-done");
    print_results();
}

static void on_infer(uint32_t count, char **words)
{
    uint32_t n = 1;
    uint32_t warmup = 10;
    if (count > 1u && (!hil_number(words[1], &n) || n == 0u)) {
        hil_error("Bad iterations");
    } else if (count > 2u && !hil_number(words[2], &warmup)) {
        hil_error("Bad warmup");
    } else {
        run_infer(n, warmup);
    }
}

static void db_print(void)
{
    uint32_t size;
    const uint8_t *data = hil_input_raw(&size);
    for (uint32_t i = 0; i < size; i++) {
        hil_text(i % 8u == 0u ? "m-buffer-" : "-");
        hil_text_hex(data[i], 2);
        if (i % 8u == 7u || i + 1u == size) {
            hil_text_end();
        }
    }
}

static void db_load(uint32_t count, char **words)
{
    uint32_t size;
    if (count < 3u || !hil_number(words[2], &size) || !hil_input_expect(size)) {
        hil_error_number("Input bytes: ", hil_model.input_size);
    } else {
        hil_text("m-[Expecting ");
        hil_text_u64(size);
        hil_text(" bytes]\r\n");
    }
}

static void on_db(uint32_t count, char **words)
{
    uint32_t size;
    if (count < 2u) {
        hil_error("Bad db");
    } else if (hil_same(words[1], "load")) {
        db_load(count, words);
    } else if (hil_same(words[1], "print")) {
        db_print();
    } else if (!hil_unhex(words[1], &size)) {
        hil_error("Bad hex");
    } else if (!hil_input_append((const uint8_t *)words[1], size)) {
        hil_error("Past db load");
    } else if (hil_input_complete()) {
        message("m-load-done");
    }
}

static void on_name(uint32_t count, char **words)
{
    (void)count;
    (void)words;
    message("m-name-dut-[munas-hil]");
}

static void on_timestamp(uint32_t count, char **words)
{
    (void)count;
    (void)words;
    message_u64("m-lap-us-", hil_microseconds(hil_port_ticks()));
}

static void on_profile(uint32_t count, char **words)
{
    (void)count;
    (void)words;
    message("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    hil_text("m-model-[");
    hil_text(hil_model.profile);
    hil_text("]\r\n");
}

static void on_results(uint32_t count, char **words)
{
    (void)count;
    (void)words;
    print_results();
}

static void on_help(uint32_t count, char **words)
{
    (void)count;
    (void)words;
    message("name timestamp profile db infer results hil");
}

static const struct {
    const char *name;
    void (*run)(uint32_t count, char **words);
} commands[] = {
    {"hil", hil_extension}, {"name", on_name},   {"timestamp", on_timestamp}, {"profile", on_profile},
    {"db", on_db},          {"infer", on_infer}, {"results", on_results},     {"help", on_help},
};

/* Takes the frame off a command of ours: ` #`, a sequence number (2 bytes) and the CRC-32 of what is before, started
 * from that number. false when it does not fit. Other commands keep whatever they contain: the base protocol knows no
 * frames. */
static bool unframe(void)
{
    uint32_t end = line_size;
    uint32_t size;
    hil_reply_sequence(0);
    if (line[0] != 'h' || line[1] != 'i' || line[2] != 'l' || line[3] != ' ') {
        return true;
    }
    while (line[end] != HIL_WIRE_FRAME_MARK) {
        if (end-- == 0u) {
            return true;
        }
    }
    if (line[end - 1u] != ' ' || !hil_unhex(line + end + 1u, &size) || size != 6u) {
        return false;
    }
    const uint8_t *frame = (const uint8_t *)line + end + 1u;
    const uint32_t sequence = (uint32_t)frame[0] << 8 | frame[1];
    const uint32_t crc = (uint32_t)frame[2] << 24 | (uint32_t)frame[3] << 16 | (uint32_t)frame[4] << 8 | frame[5];
    if (hil_crc32_from(sequence, (const uint8_t *)line, end - 1u) != crc) {
        return false;
    }
    line[end - 1u] = '\0';
    hil_reply_sequence(sequence);
    return true;
}

static void execute(void)
{
    char *words[MAX_WORDS];
    uint32_t count = 0;
    char *next = line;
    words[count++] = next;
    for (; *next != '\0' && count < MAX_WORDS; next++) {
        if (*next == ' ') {
            *next = '\0';
            words[count++] = next + 1;
        }
    }
    for (uint32_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (hil_same(words[0], commands[i].name)) {
            commands[i].run(count, words);
            return;
        }
    }
    hil_error_at(HIL_WIRE_UNKNOWN_COMMAND, words[0]);
}

void hil_feed(uint8_t byte)
{
    if (byte == (uint8_t)HIL_WIRE_TERMINATOR) {
        line[line_size] = '\0';
        if (line_spoilt) {
            hil_error(HIL_WIRE_UNREADABLE);
        } else if (!unframe()) {
            hil_error(HIL_WIRE_DAMAGED);
        } else {
            execute();
        }
        line_size = 0;
        line_spoilt = false;
        message(HIL_WIRE_READY);
    } else if (byte == '\r' || byte == '\n') {
        /* a terminal's line ends mean nothing */
    } else if (byte < ' ' || byte > '~' || line_size == HIL_WIRE_LINE_MAX) {
        line_spoilt = true;
    } else {
        line[line_size++] = (char)byte;
    }
}

void hil_greet(void)
{
    hil_input_pattern(HIL_WIRE_PATTERN_RANDOM, 1);
    hil_measure_init();
    message("m-timestamp-mode-performance");
    on_timestamp(0, NULL);
    message("m-init-done");
    message(HIL_WIRE_READY);
}
