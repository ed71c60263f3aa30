/* Mean over height and width. */
#include "hil_kernels.h"
#include "hil_scale.h"

int hil_mean(const void *data)
{
    const hil_mean_t *const op = data;
    const uint32_t channels = op->channels;
    for (uint32_t channel = 0; channel < channels; ++channel) {
        const int8_t *input = op->input + channel;
        int32_t sum = -op->input_zero_point * (int32_t)op->pixels;
        for (uint32_t n = op->pixels; n != 0; --n) {
            sum += *input;
            input += channels;
        }
        const int32_t value = hil_scaled(sum, op->significand, op->shift) + op->output_zero_point;
        op->output[channel] = hil_clamped(value, INT8_MIN, INT8_MAX);
    }
    return 0;
}
