/* Kernels that only move data: PAD and CONCATENATION. */
#include "hil_kernels.h"

#include <string.h>

int hil_pad(const void *data)
{
    const hil_pad_t *const op = data;
    const uint16_t *const out = op->output_size;
    const uint32_t run = op->input_size[2];
    const int8_t *input = op->input;
    memset(op->output, op->value, (uint32_t)out[0] * out[1] * out[2]);
    for (uint32_t y = 0; y < op->input_size[0]; ++y) {
        int8_t *output = op->output + ((op->before[0] + y) * out[1] + op->before[1]) * out[2] + op->before[2];
        for (uint32_t x = 0; x < op->input_size[1]; ++x) {
            memcpy(output, input, run);
            output += out[2];
            input += run;
        }
    }
    return 0;
}

int hil_concat(const void *data)
{
    const hil_concat_t *const op = data;
    int8_t *output = op->output;
    for (uint32_t i = 0; i < op->runs; ++i) {
        for (uint32_t part = 0; part < op->count; ++part) {
            const uint32_t bytes = op->parts[part].run_bytes;
            memcpy(output, op->parts[part].data + i * bytes, bytes);
            output += bytes;
        }
    }
    return 0;
}
