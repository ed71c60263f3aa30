/* SVDF: each filter is a product of the input, kept for `memory` inferences, and a product of these with weights in time.
 * `rank` filters make one output. */
#include "hil_dot.h"
#include "hil_kernels.h"
#include "hil_scale.h"

/* The newest feature goes behind the others, of which the oldest falls out; gives the product of all with `weights`. */
static int32_t in_time(int16_t *state, const int16_t *weights, uint32_t memory, int16_t newest)
{
    uint32_t sum = 0; /* wraps around, as the reference's does */
    for (uint32_t i = 1; i < memory; ++i) {
        state[i - 1] = state[i];
        sum += (uint32_t)(state[i] * *weights++);
    }
    state[memory - 1] = newest;
    return (int32_t)(sum + (uint32_t)(newest * *weights));
}

int hil_svdf(const void *data)
{
    const hil_svdf_t *const op = data;
    const int8_t *weights = op->weights;
    const int16_t *weights_in_time = op->time_weights;
    const int32_t *filter_bias = op->biases, *bias = op->biases + op->units * op->rank;
    int16_t *state = op->state;
    for (uint32_t unit = 0; unit < op->units; ++unit) {
        uint32_t sum = (uint32_t)bias[unit];
        for (uint32_t n = op->rank; n != 0; --n) {
            const int32_t product = hil_dot(weights, op->input, op->inputs, *filter_bias++);
            const int32_t feature = hil_scaled(product, op->feature_significand, op->feature_shift);
            const int32_t limited = MAX(INT16_MIN, MIN(INT16_MAX, feature));
            sum += (uint32_t)in_time(state, weights_in_time, op->memory, (int16_t)limited);
            weights += op->inputs;
            weights_in_time += op->memory;
            state += op->memory;
        }
        const int32_t value = hil_scaled((int32_t)sum, op->output_significand, op->output_shift);
        op->output[unit] = hil_clamped(value + op->output_zero_point, INT8_MIN, INT8_MAX);
    }
    return 0;
}
