#include "decode.h"

#include <stddef.h>
#include <string.h>

#include "thumb2_tables.h"

unsigned insn_bytes(uint16_t first)
{
    return (first >> 11) >= 0x1d ? 4 : 2;
}

unsigned it_length(uint16_t it)
{
    unsigned length = 4;
    for (unsigned mask = it & 15u; mask != 0 && (mask & 1u) == 0; mask >>= 1) {
        length--;
    }
    return length;
}

static uint32_t field_value(const operand_t *operand, uint32_t word)
{
    uint32_t high = (word >> operand->field[0]) & ((1u << operand->field[1]) - 1u);
    uint32_t low = (word >> operand->field[2]) & ((1u << operand->field[3]) - 1u);
    return (high << operand->field[3]) | low;
}

static registers_t float_registers(uint32_t first, uint32_t count)
{
    registers_t all = 0;
    for (uint32_t s = first; s < first + count && s < 32; s++) {
        all |= (registers_t)1 << (REGISTER_S0 + s);
    }
    return all;
}

/* The registers an operand names, as a set. */
static registers_t operand_registers(const operand_t *operand, const encoding_t *encoding, uint32_t word)
{
    if (operand->bank == BANK_FIXED) {
        return (registers_t)1 << operand->number;
    }
    uint32_t number = field_value(operand, word);
    if (operand->kind == KIND_W_LIST || operand->kind == KIND_V_LIST) {
        return number;
    }
    if (operand->bank == BANK_CORE) {
        return (registers_t)1 << number;
    }
    bool range = operand->kind == KIND_W_RANGE || operand->kind == KIND_V_RANGE;
    bool is_double = operand->bank == BANK_DOUBLE || (operand->bank == BANK_SIZED && (word >> encoding->size_bit & 1u));
    uint32_t upper = operand->upper == 255 ? 0 : word >> operand->upper & 1u;
    uint32_t first = is_double ? 2u * (upper << 4 | number) : (number << 1 | upper) + operand->plus;
    /* A range has its length in bits 7-0. */
    return float_registers(first, range ? (word & 0xffu) : is_double ? 2u : 1u);
}

static void add_operand(insn_t *insn, uint8_t kind, registers_t set)
{
    switch (kind) {
    case KIND_W: case KIND_W_LIST: case KIND_W_RANGE: insn->writes |= set; break;
    case KIND_V: case KIND_V_LIST: case KIND_V_RANGE: insn->stored |= set; break;
    case KIND_R: insn->reads |= set; break;
    case KIND_K: insn->late |= set; break;
    case KIND_S: insn->early |= set; break;
    case KIND_A: insn->address |= set; break;
    default: insn->base |= set; break;
    }
}

static void add_flags(insn_t *insn, const encoding_t *encoding, uint32_t word)
{
    const registers_t flags = (registers_t)1 << REGISTER_FLAGS;
    bool sets = encoding->sets_flags == FLAGS_ALWAYS;
    if (encoding->sets_flags == FLAGS_BY_S) {
        sets = encoding->flag_bit != 255 ? (word >> encoding->flag_bit & 1u) : !insn->in_it;
    }
    if (sets) {
        insn->writes |= flags;
    }
    if (encoding->reads_flags || insn->in_it) {
        insn->reads |= flags;
    }
}

static const encoding_t *find(const encoding_t *table, size_t count, uint32_t word)
{
    for (size_t i = 0; i < count; i++) {
        if ((word & table[i].mask) == table[i].value) {
            return &table[i];
        }
    }
    return NULL;
}

bool decode(insn_t *insn, uint16_t first, uint16_t second, bool in_it)
{
    memset(insn, 0, sizeof *insn);
    insn->bytes = (uint8_t)insn_bytes(first);
    insn->in_it = in_it;
    insn->cls = CLASS_ALU;
    uint32_t word = insn->bytes == 2 ? first : (uint32_t)first << 16 | second;
    const encoding_t *encoding = insn->bytes == 2
        ? find(encodings16, sizeof encodings16 / sizeof *encodings16, word)
        : find(encodings32, sizeof encodings32 / sizeof *encodings32, word);
    if (encoding == NULL) {
        return false;
    }
    insn->mnemonic = encoding->mnemonic;
    insn->cls = encoding->cls;
    insn->access_bytes = encoding->access_bytes;
    for (unsigned i = 0; i < encoding->operand_count; i++) {
        const operand_t *operand = &encoding->operands[i];
        add_operand(insn, operand->kind, operand_registers(operand, encoding, word));
    }
    registers_t moved = classes[insn->cls].group == GROUP_STORE || insn->stored ? insn->stored : insn->writes;
    insn->moved = insn->access_bytes ? (uint8_t)__builtin_popcountll(moved) : 0;
    add_flags(insn, encoding, word);
    return true;
}
