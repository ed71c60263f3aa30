/* UNIDIRECTIONAL_SEQUENCE_LSTM: int8 inputs, outputs and weights, 16-bit cells and gates. The four gates of a cell are four
 * rows of weights. A step's output is the hidden state of the next one, so that the state is only written at the end. */
#include "hil_dot.h"
#include "hil_fixed16.h"
#include "hil_kernels.h"
#include "hil_scale.h"

#include <string.h>

enum { GATES = HIL_LSTM_GATES, INPUT_GATE = 0, FORGET_GATE, CELL_GATE, OUTPUT_GATE };

static inline int32_t saturated(int32_t value)
{
    return __SSAT(value, 16);
}

/* Both parts of the gates of one cell, before their functions, Q3.12; gives the end of the cell's weights. */
static const int8_t *gates_of(const hil_lstm_t *op, const int8_t *weights, const int32_t *biases, const int8_t *input,
                              const int8_t *hidden, int32_t gates[GATES])
{
    int32_t first[GATES], second[GATES];
    memcpy(first, biases, sizeof first);
    memcpy(second, biases + GATES, sizeof second);
    weights = hil_dot_four(weights, input, op->inputs, first);
    weights = hil_dot_four(weights, hidden, op->cells, second);
    for (uint32_t i = 0; i < GATES; ++i) {
        const int32_t from_input = saturated(hil_scaled(first[i], op->significands[i], op->shifts[i]));
        const int32_t from_hidden = hil_scaled(second[i], op->significands[GATES + i], op->shifts[GATES + i]);
        gates[i] = saturated(from_input + from_hidden);
    }
    return weights;
}

/* The new content of a cell. */
static int16_t updated(const hil_lstm_t *op, int32_t cell, const int32_t gates[GATES])
{
    const int32_t kept = arm_nn_divide_by_power_of_two(hil_logistic_q3((int16_t)gates[FORGET_GATE]) * cell, 15);
    const int32_t added = hil_logistic_q3((int16_t)gates[INPUT_GATE]) * hil_tanh_q((int16_t)gates[CELL_GATE], 3);
    const int32_t sum = saturated(kept + (int16_t)arm_nn_divide_by_power_of_two(added, 15 + op->integer_bits));
    return (int16_t)(op->clip > 0 ? MAX(-op->clip, MIN(op->clip, sum)) : sum);
}

int hil_lstm(const void *data)
{
    const hil_lstm_t *const op = data;
    const int8_t *input = op->input, *hidden = op->hidden;
    int8_t *output = op->output;
    int16_t *const cells = op->cells_state;
    for (uint32_t step = op->steps; step != 0; --step) {
        const int8_t *weights = op->weights;
        const int32_t *biases = op->biases;
        for (uint32_t i = 0; i < op->cells; ++i, biases += 2 * GATES) {
            int32_t gates[GATES];
            weights = gates_of(op, weights, biases, input, hidden, gates);
            cells[i] = updated(op, cells[i], gates);
            const int32_t open = hil_logistic_q3((int16_t)gates[OUTPUT_GATE]);
            const int32_t product = open * hil_tanh_q(cells[i], (uint32_t)op->integer_bits);
            const int32_t value = hil_scaled(product, op->significands[2 * GATES], op->shifts[2 * GATES]);
            output[i] = hil_clamped(value + op->output_zero_point, INT8_MIN, INT8_MAX);
        }
        hidden = output;
        input += op->inputs;
        output += op->cells;
    }
    memcpy(op->hidden, hidden, op->cells);
    return 0;
}
