/* The engine as a QEMU TCG plugin. Arguments are key=number (see `option_number`), layer=ADDRESS (repeated), out=FILE;
 * or probe=1 alone, which only says that this QEMU loads the plugin. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "qemu_api.h"

EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

enum { BLOCK_BYTES_MAX = 4096 };

static FILE *out;

/* Written through at once: the guest's answer on the serial line must not overtake its record. */
static void emit(const char *record)
{
    if (fprintf(out, "%s\n", record) < 0 || fflush(out) != 0) {
        fprintf(stderr, "timing plugin: the record cannot be written\n");
        exit(EXIT_FAILURE);
    }
}

static void on_block(unsigned int vcpu, void *block)
{
    (void)vcpu;
    engine_block(block);
}

static void on_read(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *align_mask)
{
    (void)vcpu;
    (void)info;
    engine_read((uint32_t)address, (uint32_t)(uintptr_t)align_mask);
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    uint8_t data[BLOCK_BYTES_MAX];
    size_t bytes = 0, count = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < count; i++) {
        /* QEMU 7.2 reports the half-word behind an instruction as part of it where it looks ahead to the end of a page,
         * so the length comes from the instruction itself. */
        uint8_t insn[4] = { 0 };
        insn_copy(qemu_plugin_tb_get_insn(tb, i), insn, sizeof insn);
        size_t length = insn_bytes((uint16_t)(insn[0] | insn[1] << 8));
        if (bytes + length <= sizeof data) {
            memcpy(data + bytes, insn, length);
            bytes += length;
        }
    }
    uint32_t pc = (uint32_t)qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    block_t *block = engine_translate(pc, data, bytes);
    if (block == NULL || block->code.count != count) {
        fprintf(stderr, "timing plugin: block at 0x%08x does not decode into %zu instructions\n", (unsigned)pc, count);
        exit(EXIT_FAILURE);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, block);
    for (size_t i = 0; i < count; i++) {
        const insn_t *insn = &block->code.insns[i];
        if (engine_wants_reads(insn)) {
            /* Not MEM_R: QEMU 7.2 takes the loads of this machine for writes there. They are all that is asked for. */
            qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_read, QEMU_PLUGIN_CB_NO_REGS,
                                             QEMU_PLUGIN_MEM_RW, (void *)(uintptr_t)engine_align_mask(insn));
        }
    }
}

/* The number that option `name` sets, NULL when there is none. */
static uint32_t *option_number(engine_options_t *options, const char *name)
{
    const struct {
        const char *name;
        uint32_t *number;
    } numbers[] = {
        { "refill", &options->core.refill_cycles },
        { "refill_split", &options->core.refill_split_cycles },
        { "divide", &options->core.divide_cycles },
        { "accumulate", &options->core.accumulate_cycles },
        { "long_multiply", &options->core.long_multiply_cycles },
        { "address_stall", &options->core.address_stall_cycles },
        { "mispredict", &options->core.mispredict_cycles },
        { "unaligned", &options->core.unaligned_cycles },
        { "inference", &options->inference },
        { "flash", &options->flash.origin },
        { "flash_bytes", &options->flash.length },
        { "ram", &options->ram.origin },
        { "ram_bytes", &options->ram.length },
        { "code_line_bytes", &options->code_line_bytes },
        { "code_lines", &options->code_lines },
        { "code_ways", &options->code_ways },
        { "data_line_bytes", &options->data_line_bytes },
        { "data_lines", &options->data_lines },
        { "data_ways", &options->data_ways },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            return numbers[i].number;
        }
    }
    return NULL;
}

static bool set_option(engine_options_t *options, const char *argument)
{
    const char *equals = strchr(argument, '=');
    char name[32] = "", *end = NULL;
    if (equals == NULL || (size_t)(equals - argument) >= sizeof name) {
        return false;
    }
    memcpy(name, argument, (size_t)(equals - argument));
    if (strcmp(name, "out") == 0) {
        out = fopen(equals + 1, "a");
        return out != NULL;
    }
    uint32_t number = (uint32_t)strtoul(equals + 1, &end, 0);
    if (*end != '\0' || end == equals + 1) {
        return false;
    }
    if (strcmp(name, "layer") == 0 && options->layer_count < LAYER_FUNCTIONS_MAX) {
        options->layers[options->layer_count++] = number;
        return true;
    }
    if (strcmp(name, "core") == 0) {
        options->core.core = number == 7 ? CORE_CORTEX_M7 : number == 33 ? CORE_CORTEX_M33 : CORE_CORTEX_M4;
        return number == 4 || number == 7 || number == 33;
    }
    if (strcmp(name, "data_covers_ram") == 0) {
        options->data_covers_ram = number != 0;
        return true;
    }
    if (strcmp(name, "data_random") == 0) {
        options->data_random = number != 0;
        return true;
    }
    uint32_t *target = option_number(options, name);
    if (target != NULL) {
        *target = number;
    }
    return target != NULL;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    engine_options_t options = { .emit = emit };
    const char *error = NULL;
    if (!info->system_emulation || strcmp(info->target_name, "arm") != 0 || info->system.max_vcpus > 1) {
        fprintf(stderr, "timing plugin: this is for a single Arm core under qemu-system-arm\n");
        return 1;
    }
    if (argc == 1 && strcmp(argv[0], "probe=1") == 0) {
        fprintf(stderr, "timing plugin: loads\n");
        return 1;
    }
    for (int i = 0; i < argc; i++) {
        if (!set_option(&options, argv[i])) {
            fprintf(stderr, "timing plugin: argument %s is unknown or cannot be used\n", argv[i]);
            return 1;
        }
    }
    if (out == NULL || !engine_start(&options, &error)) {
        fprintf(stderr, "timing plugin: %s\n", out == NULL ? "out=FILE is missing" : error);
        return 1;
    }
    emit(engine_header());
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    return 0;
}
