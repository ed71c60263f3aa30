"""Random networks of 16-bit activations with 8-bit weights (16x8 quantisation), one operator each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from munas.tflite.file import (
    ABSENT,
    PER_CHANNEL_DENSE_VERSION,
    QUANTIZE_OPTIONS,
    Code,
    Element,
    Fused,
    Options,
    conv_options,
    dense_options,
    depthwise_options,
    pool_options,
    softmax_options,
)
from tests.firmware.operators import Network, Pair, window_outputs

_FUSED = (Fused.NONE, Fused.RELU, Fused.RELU6, Fused.RELU_N1_TO_1)
_WIDTH = 32768.0


def activation(n: Network, shape: tuple[int, ...], scale: float, zero_point: int = 0) -> int:
    scale = float(np.float32(scale))
    tensor = n.file.activation("w", (1, *shape), scale, zero_point, Element.INT16)
    n.shapes[tensor], n.scales[tensor] = shape, (scale, zero_point)
    return tensor


def widened(n: Network, scale: float | None = None) -> int:
    """The network's input in 16 bits: at random the input itself is, or int8 that is quantised again."""
    scale = float(n.rng.uniform(1e-4, 1e-3)) if scale is None else scale
    output = activation(n, n.shapes[n.input], scale)
    if n.rng.random() < 0.5:
        n.input = output
        return output
    n.file.operator(Code.QUANTIZE, [n.input], output, QUANTIZE_OPTIONS)
    return output


def _weights(n: Network, source: int, shape: tuple[int, ...], axis: int, depth: int) -> tuple[list[int], float]:
    per_channel = bool(n.rng.random() < 0.7)
    count = shape[axis]
    values = n.rng.integers(-127, 128, shape).astype(np.int8)
    scales = np.exp(n.rng.uniform(-6, -4, count if per_channel else 1)).astype(np.float32)
    scale = n.scales[source][0]
    biases = n.rng.integers(-(2**33), 2**33, count).astype("<i8") if n.rng.random() < 0.3 else None
    if biases is None:
        biases = n.rng.integers(-(2**24), 2**24, count).astype("<i8")
    bias = n.file.constant("b", biases, scales * np.float32(scale))
    size = float(np.median(scales)) * scale * 73 * 18000 * math.sqrt(depth)
    return [n.file.constant("w", values, scales, axis if per_channel else 0), bias], size / _WIDTH * n.rng.uniform(
        0.5, 2
    )


def _window(n: Network, shape: tuple[int, ...]) -> tuple[Pair, Pair, bool]:
    rng = n.rng
    kernel = (min(int(rng.integers(1, 4)), shape[0]), min(int(rng.integers(1, 4)), shape[1]))
    return kernel, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), bool(rng.random() < 0.5)


def wide_conv(n: Network) -> int:
    source = widened(n)
    shape = n.shapes[source]
    kernel, stride, same = _window(n, shape)
    filters = int(n.rng.integers(1, 7))
    operands, scale = _weights(n, source, (filters, *kernel, shape[2]), 0, math.prod(kernel) * shape[2])
    size = window_outputs((shape[0], shape[1]), kernel, stride, (1, 1), same)
    output = activation(n, (*size, filters), scale)
    options = conv_options(stride, same=same, activation=Fused(n.rng.choice(_FUSED)))
    n.file.operator(Code.CONV_2D, [source, *operands], output, options, 8)
    return output


def wide_depthwise(n: Network) -> int:
    source = widened(n)
    shape = n.shapes[source]
    kernel, stride, same = _window(n, shape)
    multiplier = int(n.rng.integers(1, 3))
    operands, scale = _weights(n, source, (1, *kernel, shape[2] * multiplier), 3, math.prod(kernel))
    size = window_outputs((shape[0], shape[1]), kernel, stride, (1, 1), same)
    output = activation(n, (*size, shape[2] * multiplier), scale)
    options = depthwise_options(stride, multiplier, same=same, activation=Fused(n.rng.choice(_FUSED)))
    n.file.operator(Code.DEPTHWISE_CONV_2D, [source, *operands], output, options, 5)
    return output


def wide_dense(n: Network) -> int:
    source = widened(n)
    length = n.shapes[source][2] if n.rng.random() < 0.5 else math.prod(n.shapes[source])
    rows, units = math.prod(n.shapes[source]) // length, int(n.rng.integers(1, 9))
    operands, scale = _weights(n, source, (units, length), 0, length)
    if n.rng.random() < 0.3:
        operands[1] = ABSENT
    output = n.file.activation("dense", (rows, units), float(np.float32(scale)), 0, Element.INT16)
    n.shapes[output], n.scales[output] = (rows, units), (float(np.float32(scale)), 0)
    options = dense_options(Fused(n.rng.choice(_FUSED)))
    n.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, options, PER_CHANNEL_DENSE_VERSION)
    return output


def binary(n: Network, code: Code) -> int:
    """Two activations, or one and a constant a channel."""
    rng, source = n.rng, widened(n)
    shape = n.shapes[source]
    scale = n.scales[source][0]
    if rng.random() < 0.5:
        other_scale = float(np.float32(scale * rng.uniform(0.3, 3)))
        values = rng.integers(-32768, 32768, shape[2:] if rng.random() < 0.5 else (1, *shape)).astype("<i2")
        other = n.file.constant("c", values, [other_scale])
    else:
        other_scale = float(np.float32(scale * rng.uniform(0.3, 3)))
        other = activation(n, shape, other_scale)
        n.file.operator(Code.QUANTIZE, [source], other, QUANTIZE_OPTIONS)
    big = scale * other_scale * 12000 if code is Code.MUL else scale + other_scale
    output = activation(n, shape, big * rng.uniform(0.5, 1.5))
    fused = int(rng.choice(_FUSED))
    fields = ((0, "Int8", fused),) if fused else ()
    options = Options(11, (*fields, (1, "Bool", 0))) if code is Code.ADD else Options(21, fields)
    pair = [source, other] if rng.random() < 0.7 else [other, source]
    n.file.operator(code, pair, output, options, 3 if code is Code.ADD else 4)
    return output


def wide_add(n: Network) -> int:
    return binary(n, Code.ADD)


def wide_mul(n: Network) -> int:
    return binary(n, Code.MUL)


def _pool(n: Network, code: Code) -> int:
    source = widened(n)
    shape = n.shapes[source]
    window, stride, same = _window(n, shape)
    size = window_outputs((shape[0], shape[1]), window, stride, (1, 1), same)
    output = activation(n, (*size, shape[2]), *n.scales[source])
    options = pool_options(window, stride, same=same, activation=Fused(n.rng.choice(_FUSED)))
    n.file.operator(code, [source], output, options, 3)
    return output


def wide_max_pool(n: Network) -> int:
    return _pool(n, Code.MAX_POOL_2D)


def wide_avg_pool(n: Network) -> int:
    return _pool(n, Code.AVERAGE_POOL_2D)


def _function(n: Network, code: Code) -> int:
    power = float(n.rng.choice([2.0**-12, 2.0**-11]))
    source = widened(n, power if n.rng.random() < 0.4 else float(np.exp(n.rng.uniform(-10, -3))))
    output = activation(n, n.shapes[source], 2.0**-15)
    n.file.operator(code, [source], output, None, 3)
    return output


def wide_logistic(n: Network) -> int:
    return _function(n, Code.LOGISTIC)


def wide_tanh(n: Network) -> int:
    return _function(n, Code.TANH)


def wide_softmax(n: Network) -> int:
    source = widened(n, float(np.exp(n.rng.uniform(-11, -5))))
    output = activation(n, n.shapes[source], 2.0**-15)
    n.file.operator(Code.SOFTMAX, [source], output, softmax_options(float(n.rng.choice([1.0, 0.5, 2.0]))), 3)
    return output


def softmax_to_16(n: Network) -> int:
    """A softmax of int8 whose result has 16 bits, which old converters' keyword spotters end in."""
    source = n.requantize(n.input)
    output = activation(n, n.shapes[source], 2.0**-16, -32768)
    n.file.operator(Code.SOFTMAX, [source], output, softmax_options(), 3)
    return output


def wide_requantize(n: Network) -> int:
    """int16 to int16, or to int8."""
    source = widened(n)
    scale = n.scales[source][0] * n.rng.uniform(0.4, 2)
    if n.rng.random() < 0.5:
        output = activation(n, n.shapes[source], scale)
    else:
        output = n.activation(n.shapes[source], scale * 256)
    n.file.operator(Code.QUANTIZE, [source], output, QUANTIZE_OPTIONS)
    return output


def wide_reshape(n: Network) -> int:
    source = wide_conv(n)
    shape = (math.prod(n.shapes[source]),)
    output = activation(n, shape, *n.scales[source])
    n.file.operator(Code.RESHAPE, [source, n.file.constant("s", np.array([1, *shape], "<i4"))], output)
    return output


KINDS: tuple[Callable[[Network], int], ...] = (
    wide_conv, wide_depthwise, wide_dense, wide_add, wide_mul, wide_max_pool, wide_avg_pool, wide_logistic, wide_tanh,
    wide_softmax, softmax_to_16, wide_requantize, wide_reshape,
)  # fmt: skip
