/* Thumb-2 decoder: what an instruction is and which registers it touches. The tables come from thumb2.txt. */
#ifndef HIL_DECODE_H
#define HIL_DECODE_H

#include <stdbool.h>
#include <stdint.h>

/* Bit r: core register r (0-15). Bit 16: flags. Bits 17-48: single-precision registers s0-s31. */
typedef uint64_t registers_t;

enum { REGISTER_FLAGS = 16, REGISTER_S0 = 17, REGISTER_COUNT = 49 };
enum { FLAGS_KEPT, FLAGS_BY_S, FLAGS_ALWAYS };

/* --- rows of the generated tables --- */
typedef struct {
    uint8_t kind, bank;
    uint8_t number, plus; /* a fixed register; what to add to a register field */
    uint8_t field[4];     /* shift, length, shift, length: the higher run first */
    uint8_t upper;        /* bit that extends a VFP field to five bits, 255: none */
} operand_t;

typedef struct {
    uint32_t mask, value;
    const char *mnemonic;
    uint8_t cls, access_bytes, sets_flags, reads_flags;
    uint8_t flag_bit, size_bit; /* bit of fields S and z, 255: none */
    uint8_t operand_count;
    operand_t operands[6];
} encoding_t;

typedef struct {
    const char *name;
    uint8_t group;
    uint8_t m4_base, m4_per_register, m4_refill, m4_rule, m4_accumulates, m4_long;
    uint8_t m7_units[9];
    uint8_t m7_latency, m7_issue, m7_hold;
    uint8_t m7_free_shift, m7_early, m7_load_wait;
    uint8_t m33_base, m33_per_register, m33_rule, m33_latency;
} class_info_t;

/* --- a decoded instruction --- */
typedef struct {
    const char *mnemonic; /* NULL: not in the table */
    uint8_t cls;
    uint8_t bytes;        /* 2 or 4 */
    uint8_t moved;        /* registers moved by a load or store */
    uint8_t access_bytes; /* of one register moved; 0: no memory access */
    bool in_it;           /* executed under a condition of an IT block */
    registers_t writes;   /* results, without the written-back base */
    registers_t base;     /* written-back base */
    registers_t reads;    /* needed where the ALU starts */
    registers_t late;     /* accumulators */
    registers_t early;    /* through the shifter */
    registers_t address;
    registers_t stored;
} insn_t;

/* 2 or 4, from the first half-word. */
unsigned insn_bytes(uint16_t first);

/* Decodes one instruction; `second` matters for 4-byte ones only. False (and mnemonic NULL) when the table lacks it. */
bool decode(insn_t *insn, uint16_t first, uint16_t second, bool in_it);

/* Instructions that an IT instruction covers: 1-4. */
unsigned it_length(uint16_t it);

#endif
