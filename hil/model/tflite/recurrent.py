"""Importers of UNIDIRECTIONAL_SEQUENCE_LSTM and SVDF, which keep their state in variable tensors.

What they need of scales follows LiteRT's Prepare, where products and quotients of scales are float32. Sources:
tflite/kernels/{unidirectional_sequence_lstm,lstm_eval,svdf}.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hil.model.network import DType, LstmParams, Quantization, SvdfParams, Tensor
from hil.model.tflite import quantisation
from hil.model.tflite.checks import Imported, expect_shape, options_of
from hil.model.tflite.container import RawOperator
from hil.model.tflite.tensors import CoreTensors

_TANH, _RELU = 4, 1  # of the schema's ActivationFunctionType
_GATES = 4
_GATE_SCALE = np.float32(2.0**-12)  # of sums before a gate's function: Q3.12
_UNIT = 2.0**-15
_MOST_INTEGER_BITS = 6
_HIDDEN_STATE, _CELL_STATE = 18, 19
_PEEPHOLES, _PROJECTION, _NORMS = range(9, 12), range(16, 18), range(20, 24)
_HIDDEN_INTERMEDIATE = 4


def lstm(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """An LSTM of int8 with 16-bit cells, as Keras' layer is converted: all four gates, and nothing besides."""
    options, source = options_of(operator), tensors.source(operator)
    for positions, what in ((_PEEPHOLES, "peepholes"), (_PROJECTION, "a projection"), (_NORMS, "a normalisation")):
        if any(tensors.has(operator, position) for position in positions):
            raise operator.refuse(f"an LSTM with {what} is not supported")
    if options.int8(0) != _TANH or options.flag(5):
        raise operator.refuse("an LSTM with another activation than tanh, or diagonal weights, is not supported")
    if len(source.shape) != 3:
        raise operator.refuse(f"its input has shape {list(source.shape)}; supported: 3 dimensions")
    batch, steps = (source.shape[1], source.shape[0]) if options.flag(3) else source.shape[:2]
    if batch != 1:
        raise operator.refuse(f"its batch is {batch}; convert the model with batch size 1")
    inputs = [_gate_weights(operator, tensors, 1 + gate) for gate in range(_GATES)]
    hidden = [_gate_weights(operator, tensors, 1 + _GATES + gate) for gate in range(_GATES)]
    cells = inputs[0].shape[0]
    for group, length in ((inputs, source.shape[2]), (hidden, cells)):
        if any(weights.shape != (cells, length) for weights in group):
            raise operator.refuse("the shapes of its weights do not suit each other")
    expect_shape(operator, tensors, (*source.shape[:2], cells))
    tensors.count_work(operator, _GATES * steps * cells * (source.shape[2] + cells))
    output_state = tensors.own_state(operator, _HIDDEN_STATE, DType.INT8, cells)
    cell_state = tensors.own_state(operator, _CELL_STATE, DType.INT16, cells)
    biases = [tensors.bias(operator, cells, 12 + gate) for gate in range(_GATES)]
    params = _lstm_params(operator, tensors, steps, source, inputs, hidden, output_state, cell_state)
    _check_sums(operator, source.quant, inputs, biases, params.input_scales)
    _check_sums(operator, output_state.quant, hidden, [None] * _GATES, params.hidden_scales)
    constants = _stacked(tensors, inputs), _stacked(tensors, hidden), _stacked_biases(tensors, biases, cells)
    return (source.index, output_state.index, cell_state.index, *(item.index for item in constants)), params


def _gate_weights(operator: RawOperator, tensors: CoreTensors, position: int) -> Tensor:
    if not tensors.has(operator, position):
        raise operator.refuse("an LSTM without a gate for its input (CIFG) is not supported")
    weights = tensors.weights(operator, axis=0, rank=2, position=position)
    if weights.quant.per_channel:
        raise operator.refuse("its weights have several scales, which TFLite's kernel does not look at")
    return weights


def _lstm_params(
    operator: RawOperator,
    tensors: CoreTensors,
    steps: int,
    source: Tensor,
    inputs: Sequence[Tensor],
    hidden: Sequence[Tensor],
    output_state: Tensor,
    cell_state: Tensor,
) -> LstmParams:
    if len(operator.intermediates) != 5:
        raise operator.refuse("it needs five intermediate tensors")
    result = tensors.intermediate(operator, _HIDDEN_INTERMEDIATE)
    mantissa, exponent = math.frexp(cell_state.quant.scale)
    integer_bits = 14 + exponent
    if mantissa != 0.5 or not 0 <= integer_bits <= _MOST_INTEGER_BITS:
        raise operator.refuse(
            f"the scale {cell_state.quant.scale:g} of its cells is not supported; supported: powers of two from 2^-15 "
            f"to 2^{_MOST_INTEGER_BITS - 15}"
        )
    clip = options_of(operator).float32(1)
    if not 0 <= clip < math.inf:
        raise operator.refuse(f"a clip of {clip:g} is not supported")
    limit = min(float(np.float32(clip) / np.float32(cell_state.quant.scale)), 32767.0)
    return LstmParams(
        steps=steps,
        input_scales=tuple(_gate_scale(item, source) for item in inputs),
        hidden_scales=tuple(_gate_scale(item, output_state) for item in hidden),
        output_scale=float(np.float32(_UNIT / result.scale * _UNIT)),
        output_zero_point=result.zero_point,
        integer_bits=integer_bits,
        clip=int(limit),
    )


def _gate_scale(weights: Tensor, source: Tensor) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(weights.quant.scale) * np.float32(source.quant.scale) / _GATE_SCALE)


def _check_sums(
    operator: RawOperator,
    source: Quantization,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    scales: Sequence[float],
) -> None:
    for matrix, bias, scale in zip(weights, biases, scales, strict=True):
        assert matrix.data is not None
        values = np.frombuffer(matrix.data, np.int8).reshape(matrix.shape)
        quantisation.check_sums(operator, source, values, None if bias is None else bias.data, scale)


def _stacked(tensors: CoreTensors, parts: Sequence[Tensor]) -> Tensor:
    """The weights of all gates as one constant."""
    data = b"".join(part.data or b"" for part in parts)
    return tensors.derived((len(parts), *parts[0].shape), parts[0].quant, data, parts[0].name)


def _stacked_biases(tensors: CoreTensors, parts: Sequence[Tensor | None], cells: int) -> Tensor:
    data = b"".join(bytes(4 * cells) if part is None or part.data is None else part.data for part in parts)
    return tensors.derived((len(parts), cells), Quantization((1.0,), (0,)), data, "biases", DType.INT32)


def svdf(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """An SVDF of int8, whose state and weights in time have 16 bits."""
    options, source = options_of(operator), tensors.source(operator)
    rank, activation = options.int32(0), options.int8(1)
    weights = tensors.weights(operator, axis=0, rank=2)
    in_time = tensors.wide_weights(operator, 2, rank=2)
    filters, length = weights.shape
    if source.shape != (1, length) or in_time.shape[0] != filters or rank < 1 or filters % rank:
        raise operator.refuse("its input, weights and rank do not suit each other; its batch has to be 1")
    if activation != _RELU or weights.quant.per_channel:
        raise operator.refuse("supported: the activation RELU, and one scale for all weights")
    units, memory = filters // rank, in_time.shape[1]
    expect_shape(operator, tensors, (1, units))
    tensors.count_work(operator, filters * (length + 2 * memory))
    bias, output = tensors.bias(operator, units, 3), tensors.output(operator)[1]
    state = tensors.own_state(operator, 4, DType.INT16, filters * memory)
    feature = _quotient(source.quant.scale, weights.quant.scale, state.quant.scale)
    after = _quotient(state.quant.scale, in_time.quant.scale, output.scale)
    assert weights.data is not None
    values = np.frombuffer(weights.data, np.int8).reshape(weights.shape)
    quantisation.check_sums(operator, source.quant, values, None, feature)
    if not 0 < after < 1:  # sums in time may wrap around, which they do on the device as well
        raise operator.refuse(f"the output's scale {output.scale:g} is too small for its state's")
    if bias is None:
        bias = tensors.derived((units,), Quantization((1.0,), (0,)), bytes(4 * units), "bias", DType.INT32)
    return (source.index, state.index, weights.index, in_time.index, bias.index), SvdfParams(rank, feature, after)


def _quotient(first: float, second: float, third: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(first) * np.float32(second) / np.float32(third))
