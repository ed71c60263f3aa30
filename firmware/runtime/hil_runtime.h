/* Between the runtime's own files. core.c and start.c apart, they know no hardware and compile for the host as well
 * (tests). A file uses what stands above its own part here, and nothing below. */
#ifndef HIL_RUNTIME_H
#define HIL_RUNTIME_H

#include <stdbool.h>
#include <stdint.h>

#include "hil_model.h"

/* core.c: where the linker put things. */
typedef struct {
    uint8_t *stack_start;
    uint8_t *stack_end;
    uint8_t *static_start; /* .data, .bss and the handlers' stack */
    uint8_t *static_end;
    uint8_t *spare_start; /* RAM that neither the image nor the network's budget uses; may be empty */
    uint8_t *spare_end;
    uint32_t flash_bytes;
} hil_memory_t;

extern HIL_MODEL_CONST hil_memory_t hil_memory;

#define HIL_STACK_PAINT 0xA5A5A5A5u

/* References for the cost of measuring, in assembly in core.c: a lone return, one instruction more, and a network of
 * two empty layers. */
int hil_bare_return(hil_mark_fn mark);
int hil_bare_nop_return(hil_mark_fn mark);
int hil_bare_marks(hil_mark_fn mark);

/* The stack pointer, for painting what lies below it. In core.c. */
uint32_t *hil_stack_pointer(void);

/* text.c: one line at a time to the port, with a CRC-32 of the line so far. */
void hil_text(const char *text);
void hil_text_number(uint64_t value, uint32_t least_digits, uint32_t decimals);
void hil_text_u64(uint64_t value);
void hil_text_hex(uint32_t value, uint32_t digits);
void hil_text_bytes(const uint8_t *data, uint32_t size);
void hil_text_end(void); /* CR LF */
void hil_error(const char *text);
void hil_error_at(const char *text, const char *what);
void hil_error_number(const char *text, uint32_t number);
void hil_reply_sequence(uint32_t sequence); /* of the command that the next replies answer */
void hil_reply(const char *key);  /* m-hil-KEY-[ */
void hil_field_i32(int32_t value);
void hil_field_u64(uint64_t value);
void hil_field_text(const char *text);
void hil_field_bytes(const uint8_t *data, uint32_t size);
void hil_reply_end(void); /* ]-CRC */
bool hil_same(const char *a, const char *b); /* strcmp: newlib's is 700 bytes of speed */
uint32_t hil_crc32(const uint8_t *data, uint32_t size);
uint32_t hil_crc32_from(uint32_t start, const uint8_t *data, uint32_t size);
void hil_line_crc_start(uint32_t start);
uint32_t hil_line_crc(void);
uint64_t hil_divide(uint64_t dividend, uint32_t divisor, uint32_t *remainder);

/* words.c */
bool hil_number(const char *text, uint32_t *value);
bool hil_unhex(char *text, uint32_t *size); /* in place; false when it is not an even number of hex digits */

/* input.c: the present input, by name (a pattern) or as bytes. */
void hil_input_pattern(uint32_t kind, uint32_t seed);
bool hil_input_expect(uint32_t size);                                /* db load */
bool hil_input_append(const uint8_t *data, uint32_t size);           /* db HEX: false when past the end */
bool hil_input_complete(void);
bool hil_input_put(uint32_t offset, const uint8_t *data, uint32_t size); /* hil put */
const uint8_t *hil_input_raw(uint32_t *size);                        /* as loaded, for db print */
bool hil_input_ready(uint32_t runs); /* false, and an e-[...], when the input would not last for `runs` inferences */
void hil_input_place(void);          /* into the arena, before each inference */
void hil_input_spent(bool answered); /* an inference has run on it, and the arena has an output to show for it, or not */
bool hil_input_answered(void);       /* the output in the arena is that of the present input */
uint32_t hil_input_crc(void);        /* of the input in the arena */
void hil_reply_input(void);          /* the same as a reply, with its size */

/* measure.c */
void hil_measure_init(void);
bool hil_infer(uint64_t *ticks); /* false, and an e-[...], when a kernel refused */
uint64_t hil_estimate_us(void);  /* how long an inference takes; 0 when none has run */
uint64_t hil_microseconds(uint64_t ticks);
const int8_t *hil_output(void); /* NULL, and an e-[...], without an inference to show for */
void hil_profile(void);
void hil_memory_report(void);

/* extension.c: the command `hil ...` */
void hil_extension(uint32_t count, char **words);

/* command.c */
void hil_greet(void);
void hil_feed(uint8_t byte); /* one received byte */

#endif
