"""Random networks of 16-bit activations with 8-bit weights (16x8 quantisation), one operator each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
from tests.firmware import random_plain
from tests.firmware.operators import Network, Pair, window_outputs

_FUSED = (Fused.NONE, Fused.RELU, Fused.RELU6, Fused.RELU_N1_TO_1)
_WIDTH = 32768.0


def activation(n: Network, shape: tuple[int, ...], scale: float, zero_point: int = 0) -> int:
    return n.activation(shape, scale, zero_point, wide=True)


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
    extreme = code in (Code.MAXIMUM, Code.MINIMUM)
    if extreme:
        other_scale = scale
        other = n.file.constant("c", rng.integers(-32768, 32768, shape[2:]).astype("<i2"), [scale])
    elif rng.random() < 0.5:
        other_scale = float(np.float32(scale * rng.uniform(0.3, 3)))
        values = rng.integers(-32768, 32768, shape[2:] if rng.random() < 0.5 else (1, *shape)).astype("<i2")
        other = n.file.constant("c", values, [other_scale])
    else:
        other_scale = float(np.float32(scale * rng.uniform(0.3, 3)))
        other = activation(n, shape, other_scale)
        n.file.operator(Code.QUANTIZE, [source], other, QUANTIZE_OPTIONS)
    big = scale * other_scale * 12000 if code is Code.MUL else scale + other_scale
    output = activation(n, shape, scale if extreme else big * rng.uniform(0.5, 1.5))
    fused = 0 if extreme else int(rng.choice(_FUSED))
    fields = ((0, "Int8", fused),) if fused else ()
    fields = (*fields, (1, "Bool", 0)) if code in (Code.ADD, Code.SUB) else fields
    options = Options({Code.ADD: 11, Code.SUB: 28, Code.MUL: 21}.get(code, 39), fields)
    pair = [source, other] if rng.random() < 0.7 else [other, source]
    n.file.operator(code, pair, output, options, {Code.ADD: 3, Code.MUL: 4}.get(code, 2))
    return output


def wide_add(n: Network) -> int:
    return binary(n, Code.ADD)


def wide_mul(n: Network) -> int:
    return binary(n, Code.MUL)


def wide_sub(n: Network) -> int:
    return binary(n, Code.SUB)


def wide_extreme(n: Network) -> int:
    return binary(n, Code.MAXIMUM if n.rng.random() < 0.5 else Code.MINIMUM)


def as_plain(n: Network, kinds: Sequence[Callable[[Network], int]]) -> int:
    """One of the kinds of networks of int8, of int16."""
    source = widened(n)
    entry, n.input = n.input, source
    made = kinds[int(n.rng.integers(len(kinds)))](n)
    n.input = entry
    return made


def wide_moved(n: Network) -> int:
    return as_plain(n, MOVES)


def wide_padded(n: Network) -> int:
    """Padding, in front of a convolution as well."""
    source = widened(n)
    amounts = tuple((int(n.rng.integers(0, 3)), int(n.rng.integers(0, 3))) for _ in range(3))
    padded = n.pad(source, (amounts[0], amounts[1], amounts[2] if n.rng.random() < 0.5 else (0, 0)))
    if n.rng.random() < 0.5:
        return padded
    entry, n.input = n.input, padded
    operands, scale = _weights(n, padded, (3, 1, 2, n.shapes[padded][2]), 0, 2 * n.shapes[padded][2])
    height, width, _ = n.shapes[padded]
    output = activation(n, (height, width, 3), scale)
    n.file.operator(Code.CONV_2D, [padded, *operands], output, conv_options((1, 1), same=True), 8)
    n.input = entry
    return output


def wide_reduced(n: Network) -> int:
    return as_plain(n, (random_plain.reduce_mean, random_plain.reduce_max, random_plain.reduce_min))


def wide_resized(n: Network) -> int:
    return as_plain(n, (random_plain.resize_bilinear, random_plain.resize_nearest))


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


def wide_dilated(n: Network) -> int:
    """A dilated convolution as converters write it for an open batch: blocks, a convolution, and back."""
    rng, source = n.rng, widened(n)
    (height, width, channels), kind = n.shapes[source], n.scales[source]
    block, taps = (int(rng.integers(1, 4)), int(rng.integers(1, 4))), (int(rng.integers(1, 4)), 2)
    reach = [(count - 1) * step for count, step in zip(taps, block, strict=True)]
    extra = [-(size + far) % step for size, far, step in zip((height, width), reach, block, strict=True)]
    before = [int(rng.integers(0, far + 1)) for far in reach]
    pads = [(low, far - low + more) for low, far, more in zip(before, reach, extra, strict=True)]
    parts = math.prod(block)
    inside = [(size + sum(pad)) // step for size, pad, step in zip((height, width), pads, block, strict=True)]
    split = n.file.activation("blocks", (parts, *inside, channels), *kind, Element.INT16)
    sizes, paddings, crops = (
        n.file.constant("i", np.array(item, "<i4")) for item in (block, pads, [(0, more) for more in extra])
    )
    n.file.operator(Code.SPACE_TO_BATCH_ND, [source, sizes, paddings], split, Options(25), 3)
    depthwise = bool(rng.random() < 0.5)
    filters = channels if depthwise else int(rng.integers(1, 6))
    shape = (1, *taps, channels) if depthwise else (filters, *taps, channels)
    operands, scale = _weights(n, source, shape, 3 if depthwise else 0, math.prod(taps))
    output = activation(n, (height, width, filters), scale)
    left = [size - count + 1 for size, count in zip(inside, taps, strict=True)]
    made = n.file.activation("made", (parts, *left, filters), *n.scales[output], Element.INT16)
    code, options, version = Code.CONV_2D, conv_options(), 8
    if depthwise:
        code, options, version = Code.DEPTHWISE_CONV_2D, depthwise_options(), 5
    n.file.operator(code, [split, *operands], made, options, version)
    n.file.operator(Code.BATCH_TO_SPACE_ND, [made, sizes, crops], output, Options(24), 3)
    return output


KINDS: tuple[Callable[[Network], int], ...] = (
    wide_conv, wide_depthwise, wide_dense, wide_add, wide_mul, wide_max_pool, wide_avg_pool, wide_logistic, wide_tanh,
    wide_softmax, softmax_to_16, wide_requantize, wide_reshape,
)  # fmt: skip
MOVES = (
    random_plain.strided_slice, random_plain.slice_part, random_plain.split, random_plain.split_v,
    random_plain.unpack_pack, random_plain.transpose, random_plain.reverse, random_plain.gather, random_plain.tile,
    random_plain.broadcast_to, random_plain.padv2, random_plain.mirror_pad,
)  # fmt: skip
LATER_KINDS: tuple[Callable[[Network], int], ...] = (
    wide_sub, wide_extreme, wide_moved, wide_padded, wide_reduced, wide_resized,
)  # fmt: skip
