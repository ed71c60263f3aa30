"""The arithmetic of TFLite's int8 reference kernels in numpy, written from a `Model`: a second opinion for tests.

If the importer misread a stride, a padding, a scale or an axis, `evaluate` and LiteRT would differ.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hil.model.network import (
    Activation,
    AddParams,
    ConcatParams,
    ConvParams,
    DenseParams,
    DepthwiseParams,
    Model,
    Op,
    OpKind,
    Padding,
    PadParams,
    PoolParams,
    Quantization,
    ReduceParams,
    ReshapeParams,
    SoftmaxParams,
)

Ints = NDArray[np.int64]


def evaluate(model: Model, op: Op, inputs: list[NDArray[np.int8]]) -> NDArray[np.int8]:
    """The output of one operator for its activation inputs."""
    output = model.tensors[op.outputs[0]]
    values = [array.astype(np.int64) for array in inputs]
    source = model.tensors[op.inputs[0]].quant
    match op.params:
        case ConvParams() | DepthwiseParams():
            result = _convolution(model, op, values[0])
        case DenseParams():
            result = _dense(model, op, values[0])
        case PoolParams():
            result = _pool(op.kind, op.params, values[0])
            result = _clamp(result, op.params.activation, output.quant)
        case AddParams():
            result = _add(model, op, values)
        case PadParams():
            pairs = list(zip(op.params.before, op.params.after, strict=True))
            result = np.pad(values[0], pairs, constant_values=source.zero_point)
        case ReshapeParams():
            result = values[0].reshape(op.params.shape)
        case ConcatParams():
            result = np.concatenate(values, axis=op.params.axis)
        case ReduceParams():
            real = (values[0].mean(axis=op.params.axes) - source.zero_point) * source.scale / output.quant.scale
            result = np.rint(real).astype(np.int64) + output.quant.zero_point
        case SoftmaxParams():
            real = op.params.beta * source.scale * (values[0] - values[0].max(axis=-1, keepdims=True))
            shares = np.exp(real) / np.exp(real).sum(axis=-1, keepdims=True)
            result = np.rint(shares * 256).astype(np.int64) - 128
        case _:
            result = _rescaled(op.kind, values[0], source, output.quant)
    return np.clip(result, -128, 127).astype(np.int8).reshape(output.shape)


def _requantized(sums: Ints, real: float) -> Ints:
    """MultiplyByQuantizedMultiplier with two roundings (gemmlowp)."""
    mantissa, shift = math.frexp(real)
    significand = math.floor(mantissa * 2**31 + 0.5)
    if significand == 2**31:
        significand, shift = significand // 2, shift + 1
    if shift < -31:
        return np.zeros_like(sums)
    product = (sums << max(shift, 0)) * significand
    high = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(high) * (np.abs(high) >> 31)
    mask = (1 << max(-shift, 0)) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> max(-shift, 0)) + ((high & mask) > threshold)


def _clamp(values: Ints, activation: Activation, output: Quantization) -> Ints:
    def quantized(real: float) -> int:
        step = float(np.float32(real) / np.float32(output.scale))
        return output.zero_point + int(math.copysign(math.floor(abs(step) + 0.5), step))

    low, high = {
        Activation.NONE: (-128, 127),
        Activation.RELU: (quantized(0), 127),
        Activation.RELU6: (quantized(0), quantized(6)),
        Activation.RELU_N1_TO_1: (quantized(-1), quantized(1)),
    }[activation]
    return np.minimum(np.maximum(values, max(low, -128)), min(high, 127))


def _windows(image: Ints, window: tuple[int, int], stride: tuple[int, int], padding: Padding, fill: int) -> Ints:
    """(rows, columns, channels, window height, window width) of an image (1, H, W, C)."""
    sides = ((padding.top, padding.bottom), (padding.left, padding.right), (0, 0))
    padded = np.pad(image[0], sides, constant_values=fill)
    every = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(0, 1))
    return every[:: stride[0], :: stride[1]]


def _convolution(model: Model, op: Op, image: Ints) -> Ints:
    assert isinstance(op.params, ConvParams | DepthwiseParams)
    source, weights, output = (model.tensors[i] for i in (*op.inputs[:2], op.outputs[0]))
    assert weights.data is not None
    kernel = np.frombuffer(weights.data, np.int8).reshape(weights.shape).astype(np.int64)
    (rows, columns), (down, right) = weights.shape[1:3], op.params.dilation
    extent = ((rows - 1) * down + 1, (columns - 1) * right + 1)
    taps = _windows(image - source.quant.zero_point, extent, op.params.stride, op.params.padding, 0)
    taps = taps[..., ::down, ::right]
    if isinstance(op.params, DepthwiseParams):
        sums = np.einsum("rcokl,klo->rco", np.repeat(taps, op.params.depth_multiplier, axis=2), kernel[0])
    else:
        sums = np.einsum("rcikl,okli->rco", taps, kernel, optimize=True)
    sums = sums + _bias(model, op)
    scales = weights.quant.scales * (1 if weights.quant.per_channel else sums.shape[-1])
    reals = [source.quant.scale * scale / output.quant.scale for scale in scales]
    result = np.stack([_requantized(sums[..., o], real) for o, real in enumerate(reals)], axis=-1)
    return _clamp(result + output.quant.zero_point, op.params.activation, output.quant)


def _dense(model: Model, op: Op, values: Ints) -> Ints:
    assert isinstance(op.params, DenseParams)
    source, weights, output = (model.tensors[i] for i in (*op.inputs[:2], op.outputs[0]))
    assert weights.data is not None
    kernel = np.frombuffer(weights.data, np.int8).reshape(weights.shape).astype(np.int64)
    sums = kernel @ (values.reshape(-1) - source.quant.zero_point) + _bias(model, op)
    real = sums * (source.quant.scale * np.array(weights.quant.scales) / output.quant.scale)
    result = (np.sign(real) * np.floor(np.abs(real) + 0.5)).astype(np.int64) + output.quant.zero_point
    return _clamp(result, op.params.activation, output.quant)


def _bias(model: Model, op: Op) -> Ints | int:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return 0
    data = model.tensors[op.inputs[2]].data
    assert data is not None
    return np.frombuffer(data, "<i4").astype(np.int64)


def _pool(kind: OpKind, params: PoolParams, image: Ints) -> Ints:
    if kind is OpKind.MAX_POOL_2D:
        return _windows(image, params.window, params.stride, params.padding, -128).max(axis=(3, 4))
    sums = _windows(image, params.window, params.stride, params.padding, 0).sum(axis=(3, 4))
    counts = _windows(np.ones_like(image), params.window, params.stride, params.padding, 0).sum(axis=(3, 4))
    return np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)


def _add(model: Model, op: Op, values: list[Ints]) -> Ints:
    assert isinstance(op.params, AddParams)
    sources, output = [model.tensors[i].quant for i in op.inputs], model.tensors[op.outputs[0]].quant
    twice = 2 * max(source.scale for source in sources)
    total = sum(
        _requantized((array - source.zero_point) << 20, source.scale / twice)
        for array, source in zip(values, sources, strict=True)
    )
    result = _requantized(np.asarray(total), twice / (2**20 * output.scale)) + output.zero_point
    return _clamp(result, op.params.activation, output)


def _rescaled(kind: OpKind, values: Ints, source: Quantization, output: Quantization) -> Ints:
    """RELU, RELU6 and int8 QUANTIZE."""
    real = source.scale / output.scale
    if kind is not OpKind.QUANTIZE:
        real = float(np.float32(source.scale) / np.float32(output.scale))
    result = _requantized(values - source.zero_point, real) + output.zero_point
    limits = {OpKind.RELU: Activation.RELU, OpKind.RELU6: Activation.RELU6}
    return _clamp(result, limits.get(kind, Activation.NONE), output)
