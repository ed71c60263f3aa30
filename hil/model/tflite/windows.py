"""Importers of operators with weights or windows: convolutions, dense layers, pools, resizing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hil.model.network import (
    Activation,
    ConvParams,
    DenseParams,
    DepthwiseParams,
    DType,
    PoolParams,
    Quantization,
    ResizeParams,
    Tensor,
    TransposeConvParams,
)
from hil.model.tflite import limits, quantisation
from hil.model.tflite.checks import Imported, activation_of, expect_shape, image, options_of
from hil.model.tflite.container import RawOperator
from hil.model.tflite.geometry import positive_pair, resolve_padding
from hil.model.tflite.tensors import CoreTensors


def _with_bias(source: Tensor, weights: Tensor, bias: Tensor | None) -> tuple[int, ...]:
    return source.index, weights.index, -1 if bias is None else bias.index


def _positive(
    operator: RawOperator, tensors: CoreTensors, weights: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The same layer without negative scales: channels that have one get weights and bias of the other sign.

    Raises ModelError where a weight of -128 has none.
    """
    signs = np.where(np.array(weights.quant.scales) < 0, -1, 1)
    if (signs > 0).all():
        return weights, bias
    if bias is not None and bias.dtype is DType.INT64:
        raise operator.refuse("its weights have a negative scale, which is not supported with 16-bit activations")
    assert weights.data is not None
    values = np.frombuffer(weights.data, np.int8).reshape(weights.shape).astype(np.int16)
    along = [1] * values.ndim
    along[weights.quant.axis] = len(signs)
    turned = values * signs.reshape(along)
    if turned.max(initial=0) > 127:
        raise operator.refuse("its weights have a negative scale and a value of -128")
    scales = tuple(abs(scale) for scale in weights.quant.scales)
    quantization = replace(weights.quant, scales=scales)
    positive = tensors.derived(weights.shape, quantization, turned.astype(np.int8).tobytes(), weights.name)
    if bias is None:
        return positive, None
    assert bias.data is not None
    sums = np.frombuffer(bias.data, "<i4").astype(np.int64) * signs
    if sums.max(initial=0) > 2**31 - 1:
        raise operator.refuse("its bias has no value of the other sign")
    plain = replace(bias.quant, scales=tuple(abs(scale) for scale in bias.quant.scales))
    data = sums.astype("<i4").tobytes()
    return positive, tensors.derived(bias.shape, plain, data, bias.name, DType.INT32)


def convolution(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """CONV_2D, also in groups."""
    options, source = options_of(operator), image(operator, tensors)
    weights = tensors.weights(operator, axis=0, rank=4, least=-math.inf)
    filters, rows, columns, depth = weights.shape
    weights, bias = _positive(operator, tensors, weights, tensors.bias(operator, filters))
    if source.shape[3] % depth or filters % (source.shape[3] // depth):
        raise operator.refuse(f"weights for {depth} channels do not suit an input of {source.shape[3]} channels")
    if bias is None:
        raise operator.refuse("it has no bias, which LiteRT's kernel needs")
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    dilation = positive_pair(operator, options.int32(5, 1), options.int32(4, 1), "dilation")
    sizes, window = source.shape[1:3], (rows, columns)
    output, padding = resolve_padding(operator, options.int8(0), (sizes[0], sizes[1]), window, stride, dilation)
    expect_shape(operator, tensors, (1, *output, filters))
    tensors.count_work(operator, math.prod(output) * weights.elements)
    quantisation.check_weights(operator, source, weights, bias, tensors.output(operator)[1])
    activation, groups = activation_of(operator, options.int8(3)), source.shape[3] // depth
    if depth == 1 and groups > 1:  # one channel a group: a depthwise convolution with its weights in another order
        multiplier = filters // groups
        turned = as_depthwise(tensors, weights)
        return _with_bias(source, turned, bias), DepthwiseParams(stride, dilation, padding, activation, multiplier)
    return _with_bias(source, weights, bias), ConvParams(stride, dilation, padding, activation, groups)


def as_depthwise(tensors: CoreTensors, weights: Tensor) -> Tensor:
    """Weights (M, KH, KW, 1) as (1, KH, KW, M)."""
    assert weights.data is not None
    values = np.frombuffer(weights.data, np.int8).reshape(weights.shape).transpose(3, 1, 2, 0)
    quantization = replace(weights.quant, axis=3) if weights.quant.per_channel else weights.quant
    return tensors.derived(values.shape, quantization, values.tobytes(), weights.name)


def depthwise(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """DEPTHWISE_CONV_2D."""
    options, source = options_of(operator), image(operator, tensors)
    weights = tensors.weights(operator, axis=3, rank=4, least=-math.inf)
    one, rows, columns, channels = weights.shape
    weights, bias = _positive(operator, tensors, weights, tensors.bias(operator, channels))
    multiplier = options.int32(3)
    if one != 1 or multiplier < 1 or source.shape[3] * multiplier != channels:
        raise operator.refuse(f"{channels} weights a tap do not suit {source.shape[3]} channels times {multiplier}")
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    dilation = positive_pair(operator, options.int32(6, 1), options.int32(5, 1), "dilation")
    sizes, window = source.shape[1:3], (rows, columns)
    output, padding = resolve_padding(operator, options.int8(0), (sizes[0], sizes[1]), window, stride, dilation)
    expect_shape(operator, tensors, (1, *output, channels))
    tensors.count_work(operator, math.prod(output) * weights.elements)
    quantisation.check_weights(operator, source, weights, bias, tensors.output(operator)[1])
    params = DepthwiseParams(stride, dilation, padding, activation_of(operator, options.int8(4)), multiplier)
    return _with_bias(source, weights, bias), params


def transpose_convolution(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """TRANSPOSE_CONV: inputs are the output's shape, weights (Cout, KH, KW, Cin), the image, perhaps a bias."""
    options, source = options_of(operator), image(operator, tensors, 2)
    weights = tensors.weights(operator, axis=0, rank=4)
    filters, rows, columns, depth = weights.shape
    bias = tensors.bias(operator, filters, 3)
    shape = tensors.integers(operator, 0, 4)
    if len(shape) != 4 or shape[0] != 1 or shape[3] != filters or min(shape) < 1:
        raise operator.refuse(f"its output shape {list(shape)} does not suit {filters} filters, batch 1")
    if depth != source.shape[3]:
        raise operator.refuse(f"weights for {depth} channels do not suit an input of {source.shape[3]}")
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    # Padding is that of the convolution that it turns around.
    given, padding = resolve_padding(operator, options.int8(0), (shape[1], shape[2]), (rows, columns), stride)
    if given != source.shape[1:3]:
        raise operator.refuse(f"an output of {shape[1]}x{shape[2]} does not follow from its input")
    expect_shape(operator, tensors, shape)
    tensors.count_work(operator, source.elements * filters * rows * columns)
    output = tensors.output(operator)[1]
    quantisation.check_weights(operator, source, weights, bias, output)
    params = TransposeConvParams(stride, padding, activation_of(operator, options.int8(3)))
    return _with_bias(source, weights, bias), params


def dense(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """FULLY_CONNECTED, of one row or several."""
    source, weights = tensors.source(operator), tensors.weights(operator, axis=0, rank=2)
    units, length = weights.shape
    bias = tensors.bias(operator, units)
    activation, keep_dims = Activation.NONE, False
    if operator.options is not None:
        activation, keep_dims = activation_of(operator, operator.options.int8(0)), operator.options.flag(2)
        if operator.options.int8(1):
            raise operator.refuse("shuffled weights are not supported")
    if source.elements % length:
        raise operator.refuse(f"{length} weights a unit do not suit an input of {source.elements} elements")
    if keep_dims and source.shape[-1:] != (length,):
        raise operator.refuse(f"keep_num_dims needs a last dimension of {length}")
    rows = source.elements // length
    expect_shape(operator, tensors, (*source.shape[:-1], units) if keep_dims else (rows, units))
    tensors.count_work(operator, rows * weights.elements)
    quantisation.check_weights(operator, source, weights, bias, tensors.output(operator)[1])
    return _with_bias(source, weights, bias), DenseParams(activation, rows)


def pool(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """MAX_POOL_2D and AVERAGE_POOL_2D."""
    options, source = options_of(operator), image(operator, tensors)
    stride = positive_pair(operator, options.int32(2), options.int32(1), "stride")
    window = positive_pair(operator, options.int32(4), options.int32(3), "window")
    sizes = source.shape[1:3]
    output, padding = resolve_padding(operator, options.int8(0), (sizes[0], sizes[1]), window, stride)
    expect_shape(operator, tensors, (1, *output, source.shape[3]))
    covered = min(window[0], sizes[0]) * min(window[1], sizes[1])
    tensors.count_work(operator, math.prod(output) * source.shape[3] * covered)
    quantisation.same(operator, [source.quant, tensors.output(operator)[1]])
    return (source.index,), PoolParams(window, stride, padding, activation_of(operator, options.int8(5)))


def resize_bilinear(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """RESIZE_BILINEAR in fixed point, as the reference has it for int8."""
    options, source = options_of(operator), image(operator, tensors)
    align, half_pixel = options.flag(2), options.flag(3)
    size = output_size(operator, tensors, align and half_pixel)
    expect_shape(operator, tensors, (1, *size, source.shape[3]))
    tensors.count_work(operator, 4 * math.prod(size) * source.shape[3])
    same_or_refuse(operator, source.quant, tensors.output(operator)[1])
    scales = []
    for have, want in zip(source.shape[1:3], size, strict=True):
        over, under = (have - 1, want - 1) if align and want > 1 else (have, want)
        scales.append(((1 << 10) * over + under // 2) // under)
    return (source.index,), ResizeParams((scales[0], scales[1]), half_pixel)


def output_size(operator: RawOperator, tensors: CoreTensors, contradicts: bool) -> tuple[int, int]:
    """(height, width) that a resizing operator's second input gives. Raises ModelError."""
    size = tensors.integers(operator, 1, 2)
    if len(size) != 2 or not all(1 <= extent <= limits.MAX_DIMENSION for extent in size):
        raise operator.refuse(f"its output size {list(size)} is not supported; supported: 1 to {limits.MAX_DIMENSION}")
    if contradicts:
        raise operator.refuse("align_corners and half_pixel_centers exclude each other")
    return size[0], size[1]


def same_or_refuse(operator: RawOperator, source: Quantization, output: Quantization) -> None:
    """Refuse another scale or zero point where LiteRT only moves numbers."""
    quantisation.same(operator, [source, output])
