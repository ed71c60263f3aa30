/* Decoded blocks, and what all cores ask about an instruction. */
#include <stdlib.h>

#include "model.h"
#include "thumb2_tables.h"

_Static_assert((int)GROUP_COUNT <= (int)GROUP_MAX, "a block counts at most GROUP_MAX groups");

const class_info_t *class_info(const insn_t *insn)
{
    return &classes[insn->cls];
}

const char *group_name(unsigned group)
{
    return group < GROUP_COUNT ? group_names[group] : NULL;
}

bool is_branch(const insn_t *insn)
{
    return classes[insn->cls].group == GROUP_BRANCH;
}

bool is_conditional(const insn_t *insn)
{
    return is_branch(insn) && (insn->in_it || insn->cls == CLASS_BCOND || insn->cls == CLASS_CBZ);
}

bool is_call(const insn_t *insn)
{
    return insn->cls == CLASS_BL || insn->cls == CLASS_BLX;
}

static uint16_t half_word(const uint8_t *data)
{
    return (uint16_t)(data[0] | data[1] << 8);
}

int code_decode(code_t *code, uint32_t pc, const uint8_t *data, size_t bytes)
{
    *code = (code_t){ .pc = pc, .end = pc + (uint32_t)bytes };
    code->insns = calloc(bytes / 2 + 1, sizeof *code->insns);
    if (code->insns == NULL) {
        return -1;
    }
    int unknown = 0;
    unsigned in_it = 0;
    for (size_t at = 0; at + 1 < bytes;) {
        uint16_t first = half_word(data + at);
        uint16_t second = insn_bytes(first) == 4 && at + 3 < bytes ? half_word(data + at + 2) : 0;
        insn_t *insn = &code->insns[code->count++];
        unknown += !decode(insn, first, second, in_it > 0);
        in_it = insn->cls == CLASS_IT ? it_length(first) : in_it - (in_it > 0);
        at += insn->bytes;
    }
    return unknown;
}

void code_free(code_t *code)
{
    free(code->insns);
    *code = (code_t){ 0 };
}
