/* Kernels that only move data along strides or by lists of places. */
#include "hil_kernels.h"

#include <string.h>

/* `count` runs that lie `step` apart, one after the other. */
static int8_t *copy_runs(int8_t *output, const int8_t *input, uint32_t count, int32_t step, uint32_t run)
{
    if (run == 1) {
        for (; count != 0; --count) {
            *output++ = *input;
            input += step;
        }
        return output;
    }
    for (; count != 0; --count) {
        memcpy(output, input, run);
        output += run;
        input += step;
    }
    return output;
}

int hil_copy(const void *data)
{
    const hil_copy_t *const op = data;
    enum { OUTER = HIL_COPY_AXES - 1 };
    uint32_t index[OUTER] = {0};
    const int8_t *input = op->input;
    int8_t *output = op->output;
    for (;;) {
        output = copy_runs(output, input, op->counts[OUTER], op->steps[OUTER], op->run);
        uint32_t axis = OUTER;
        for (;;) { /* to the next place of the outer axes, the last of them first */
            if (axis-- == 0) {
                return 0;
            }
            input += op->steps[axis];
            if (++index[axis] < op->counts[axis]) {
                break;
            }
            input -= (int32_t)op->counts[axis] * op->steps[axis];
            index[axis] = 0;
        }
    }
}

int hil_select(const void *data)
{
    const hil_select_t *const op = data;
    int8_t *output = op->output;
    for (uint32_t i = 0; i < op->counts[0]; ++i) {
        for (uint32_t j = 0; j < op->counts[1]; ++j) {
            const int8_t *const input = op->input + op->places[i] + op->places[op->counts[0] + j];
            const int32_t *const inner = op->places + op->counts[0] + op->counts[1];
            for (uint32_t k = 0; k < op->counts[2]; ++k) {
                memcpy(output, input + inner[k], op->run);
                output += op->run;
            }
        }
    }
    return 0;
}
