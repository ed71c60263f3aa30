/* Change of scale with clamping: RELU, RELU6 and QUANTIZE between int8 tensors. */
#include "hil_kernels.h"
#include "hil_scale.h"

int hil_requantize(const void *data)
{
    const hil_requantize_t *const op = data;
    for (uint32_t i = 0; i < op->count; ++i) {
        const int32_t centred = op->input[i] - op->input_zero_point;
        const int32_t value = hil_scaled(centred, op->significand, op->shift) + op->output_zero_point;
        op->output[i] = hil_clamped(value, op->act_min, op->act_max);
    }
    return 0;
}
