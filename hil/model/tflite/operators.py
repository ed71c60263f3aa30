"""One importer for each kind of operator: options to parameters, and every check that the kind needs.

An importer gets the operator and the tensors so far and returns (core indices of the inputs, parameters), or raises
ModelError. It compares the output's shape with the one that LiteRT computes, so that both see the same network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hil.model.network import (
    Activation,
    AddParams,
    ConcatParams,
    ConvParams,
    DenseParams,
    DepthwiseParams,
    MeanParams,
    NoParams,
    OpKind,
    PadParams,
    Params,
    PoolParams,
    ReshapeParams,
    SoftmaxParams,
    Tensor,
)
from hil.model.tflite import limits, quantisation, schema
from hil.model.tflite.container import RawOperator
from hil.model.tflite.flatbuffer import Table
from hil.model.tflite.geometry import positive_pair, resolve_padding
from hil.model.tflite.tensors import CoreTensors

Imported = tuple[tuple[int, ...], Params]


def _options(operator: RawOperator) -> Table:
    if operator.options is None:
        raise operator.refuse("it has no options")
    return operator.options


def _activation(operator: RawOperator, code: int) -> Activation:
    activation = schema.ACTIVATIONS.get(code)
    if activation is None:
        supported = ", ".join(schema.ACTIVATIONS.values())
        raise operator.refuse(f"fused activation {code} is not supported; supported: {supported}")
    return activation


def _expect_shape(operator: RawOperator, tensors: CoreTensors, shape: tuple[int, ...]) -> None:
    stated = tensors.output(operator)[0].shape
    if stated != shape:
        raise operator.refuse(f"its output has shape {list(stated)}, but its inputs and options give {list(shape)}")


def _image(operator: RawOperator, tensors: CoreTensors) -> Tensor:
    source = tensors.source(operator)
    if len(source.shape) != 4:
        raise operator.refuse(f"its input has shape {list(source.shape)}; supported: 4 dimensions")
    return source


def _with_bias(source: Tensor, weights: Tensor, bias: Tensor | None) -> tuple[int, ...]:
    return source.index, weights.index, -1 if bias is None else bias.index


def _convolution(operator: RawOperator, tensors: CoreTensors) -> Imported:
    options, source = _options(operator), _image(operator, tensors)
    weights = tensors.weights(operator, axis=0, rank=4)
    filters, rows, columns, depth = weights.shape
    bias = tensors.bias(operator, filters)
    if depth != source.shape[3]:
        raise operator.refuse(
            f"weights for {depth} channels on an input of {source.shape[3]} (groups) are not supported"
        )
    if bias is None:
        raise operator.refuse("it has no bias, which LiteRT's kernel needs")
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    dilation = positive_pair(operator, options.int32(5, 1), options.int32(4, 1), "dilation")
    sizes, window = source.shape[1:3], (rows, columns)
    output, padding = resolve_padding(operator, options.int8(0), (sizes[0], sizes[1]), window, stride, dilation)
    _expect_shape(operator, tensors, (1, *output, filters))
    tensors.count_work(operator, math.prod(output) * weights.elements)
    quantisation.check_weights(operator, source.quant, weights, bias, tensors.output(operator)[1])
    params = ConvParams(stride, dilation, padding, _activation(operator, options.int8(3)))
    return _with_bias(source, weights, bias), params


def _depthwise(operator: RawOperator, tensors: CoreTensors) -> Imported:
    options, source = _options(operator), _image(operator, tensors)
    weights = tensors.weights(operator, axis=3, rank=4)
    one, rows, columns, channels = weights.shape
    bias = tensors.bias(operator, channels)
    multiplier = options.int32(3)
    if one != 1 or multiplier < 1 or source.shape[3] * multiplier != channels:
        raise operator.refuse(f"{channels} weights a tap do not suit {source.shape[3]} channels times {multiplier}")
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    dilation = positive_pair(operator, options.int32(6, 1), options.int32(5, 1), "dilation")
    sizes, window = source.shape[1:3], (rows, columns)
    output, padding = resolve_padding(operator, options.int8(0), (sizes[0], sizes[1]), window, stride, dilation)
    _expect_shape(operator, tensors, (1, *output, channels))
    tensors.count_work(operator, math.prod(output) * weights.elements)
    quantisation.check_weights(operator, source.quant, weights, bias, tensors.output(operator)[1])
    params = DepthwiseParams(stride, dilation, padding, _activation(operator, options.int8(4)), multiplier)
    return _with_bias(source, weights, bias), params


def _dense(operator: RawOperator, tensors: CoreTensors) -> Imported:
    source, weights = tensors.source(operator), tensors.weights(operator, axis=0, rank=2)
    units, length = weights.shape
    bias = tensors.bias(operator, units)
    activation, keep_dims = Activation.NONE, False
    if operator.options is not None:
        activation, keep_dims = _activation(operator, operator.options.int8(0)), operator.options.flag(2)
        if operator.options.int8(1):
            raise operator.refuse("shuffled weights are not supported")
    if source.elements != length:
        raise operator.refuse(f"{length} weights a unit do not suit an input of {source.elements} elements, batch 1")
    if keep_dims and source.shape[-1] != length:
        raise operator.refuse(f"keep_num_dims needs a last dimension of {length}")
    _expect_shape(operator, tensors, (*source.shape[:-1], units) if keep_dims else (1, units))
    tensors.count_work(operator, weights.elements)
    quantisation.check_weights(operator, source.quant, weights, bias, tensors.output(operator)[1])
    return _with_bias(source, weights, bias), DenseParams(activation)


def _pool(operator: RawOperator, tensors: CoreTensors) -> Imported:
    options, source = _options(operator), _image(operator, tensors)
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    window = positive_pair(operator, options.int32(4), options.int32(3), "window")
    sizes = source.shape[1:3]
    output, padding = resolve_padding(operator, options.int8(0), (sizes[0], sizes[1]), window, stride)
    _expect_shape(operator, tensors, (1, *output, source.shape[3]))
    covered = min(window[0], sizes[0]) * min(window[1], sizes[1])
    tensors.count_work(operator, math.prod(output) * source.shape[3] * covered)
    quantisation.same(operator, [source.quant, tensors.output(operator)[1]])
    return (source.index,), PoolParams(window, stride, padding, _activation(operator, options.int8(5)))


def _add(operator: RawOperator, tensors: CoreTensors) -> Imported:
    first, second = tensors.source(operator, 0), tensors.source(operator, 1)
    if first.shape != second.shape:
        shapes = f"{list(first.shape)} and {list(second.shape)}"
        raise operator.refuse(f"inputs of shape {shapes} are not supported (broadcasting); supported: equal shapes")
    _expect_shape(operator, tensors, first.shape)
    tensors.count_work(operator, first.elements)
    quantisation.check_add(operator, [first.quant, second.quant], tensors.output(operator)[1])
    code = operator.options.int8(0) if operator.options is not None else 0
    return (first.index, second.index), AddParams(_activation(operator, code))


def _pad(operator: RawOperator, tensors: CoreTensors) -> Imported:
    source = tensors.source(operator)
    rank = len(source.shape)
    values = tensors.integers(operator, 1, 2 * limits.MAX_RANK)
    if tensors.raw(operator, 1).shape != (rank, 2) or not all(0 <= value <= limits.MAX_DIMENSION for value in values):
        raise operator.refuse(f"paddings have to be {rank} pairs from 0 to {limits.MAX_DIMENSION}")
    before, after = values[0::2], values[1::2]
    shape = tuple(low + size + high for low, size, high in zip(before, source.shape, after, strict=True))
    _expect_shape(operator, tensors, shape)
    tensors.count_work(operator, math.prod(shape))
    quantisation.same(operator, [source.quant, tensors.output(operator)[1]])
    return (source.index,), PadParams(before, after)


def _reshape(operator: RawOperator, tensors: CoreTensors) -> Imported:
    source = tensors.source(operator)
    if len(operator.inputs) == 2:
        raw = tensors.raw(operator, 1)
        if raw.type != 2 or len(raw.shape) != 1:
            raise operator.refuse("its shape has to be a list of int32")
        target = tensors.integers(operator, 1, limits.MAX_RANK)
    elif operator.options is not None:
        target = operator.options.int32s(0)
    else:
        raise operator.refuse("it has neither a shape tensor nor options")
    known = math.prod(size for size in target if size != -1)
    if target.count(-1) == 1 and known > 0 and source.elements % known == 0:
        target = tuple(source.elements // known if size == -1 else size for size in target)
    if not target or min(target) < 1 or math.prod(target) != source.elements:
        raise operator.refuse(f"a tensor of {source.elements} elements has no shape {list(target)}")
    _expect_shape(operator, tensors, target)
    tensors.count_work(operator, source.elements)
    quantisation.same(operator, [source.quant, tensors.output(operator)[1]])
    return (source.index,), ReshapeParams(target)


def _mean(operator: RawOperator, tensors: CoreTensors) -> Imported:
    source = _image(operator, tensors)
    keep_dims = operator.options is not None and operator.options.flag(0)
    values = tensors.integers(operator, 1, limits.MAX_RANK)
    axes = tuple(sorted(axis + 4 if axis < 0 else axis for axis in values))
    if axes != (1, 2) or tensors.raw(operator, 1).type != 2:
        raise operator.refuse(f"axes {list(values)} are not supported; supported: height and width together (1, 2)")
    channels = source.shape[3]
    _expect_shape(operator, tensors, (1, 1, 1, channels) if keep_dims else (1, channels))
    tensors.count_work(operator, source.elements)
    window = source.shape[1] * source.shape[2]
    quantisation.check_rescale(operator, source.quant, tensors.output(operator)[1], summed=window)
    return (source.index,), MeanParams(axes, keep_dims)


def _softmax(operator: RawOperator, tensors: CoreTensors) -> Imported:
    source, beta = tensors.source(operator), _options(operator).float32(0)
    _expect_shape(operator, tensors, source.shape)
    if source.shape[-1] > limits.MAX_CLASSES:
        raise operator.refuse(f"{source.shape[-1]} classes are not supported; supported: {limits.MAX_CLASSES}")
    tensors.count_work(operator, source.elements)
    quantisation.check_softmax(operator, source.quant, beta, tensors.output(operator)[1])
    return (source.index,), SoftmaxParams(beta)


def _elementwise(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """RELU, RELU6, and QUANTIZE of int8 to int8."""
    source = tensors.source(operator)
    _expect_shape(operator, tensors, source.shape)
    tensors.count_work(operator, source.elements)
    quantisation.check_rescale(operator, source.quant, tensors.output(operator)[1])
    return (source.index,), NoParams()


def _concatenation(operator: RawOperator, tensors: CoreTensors) -> Imported:
    options = _options(operator)
    sources = [tensors.source(operator, position) for position in range(len(operator.inputs))]
    rank = len(sources[0].shape)
    axis = options.int32(0) + (rank if options.int32(0) < 0 else 0)
    if not 0 < axis < rank or options.int8(1):
        raise operator.refuse(f"axis {options.int32(0)} or a fused activation is not supported")
    shape = list(sources[0].shape)
    for source in sources[1:]:
        if len(source.shape) != rank or any(source.shape[i] != shape[i] for i in range(rank) if i != axis):
            raise operator.refuse("its inputs have different shapes")
        shape[axis] += source.shape[axis]
    _expect_shape(operator, tensors, tuple(shape))
    tensors.count_work(operator, math.prod(shape))
    quantisation.same(operator, [source.quant for source in sources] + [tensors.output(operator)[1]])
    return tuple(source.index for source in sources), ConcatParams(axis)


IMPORTERS: dict[OpKind, Callable[[RawOperator, CoreTensors], Imported]] = {
    OpKind.CONV_2D: _convolution,
    OpKind.DEPTHWISE_CONV_2D: _depthwise,
    OpKind.FULLY_CONNECTED: _dense,
    OpKind.MAX_POOL_2D: _pool,
    OpKind.AVERAGE_POOL_2D: _pool,
    OpKind.ADD: _add,
    OpKind.PAD: _pad,
    OpKind.RESHAPE: _reshape,
    OpKind.MEAN: _mean,
    OpKind.SOFTMAX: _softmax,
    OpKind.RELU: _elementwise,
    OpKind.RELU6: _elementwise,
    OpKind.QUANTIZE: _elementwise,
    OpKind.CONCATENATION: _concatenation,
}
