"""Random single-operator networks of every kind, path and corner that the planner lets through."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from munas.tflite.file import ABSENT, PER_CHANNEL_DENSE_VERSION, QUANTIZE_OPTIONS, Code, Fused, dense_options
from tests.firmware import random_plain, random_wide
from tests.firmware.operators import Network, Pair

FUSED = (Fused.NONE, Fused.RELU, Fused.RELU6, Fused.RELU_N1_TO_1)


def _size(rng: np.random.Generator, top: int = 9) -> tuple[int, int, int]:
    return int(rng.integers(1, top)), int(rng.integers(1, top)), int(rng.integers(1, 19))


def _pair(rng: np.random.Generator, low: int, high: int) -> Pair:
    """A pair below `high`, square half of the time."""
    first, second = rng.integers(low, high, 2)
    return (int(first), int(first if rng.random() < 0.5 else second))


def _window(rng: np.random.Generator, shape: tuple[int, ...], top: int = 8) -> tuple[Pair, Pair, bool]:
    """Kernel, stride and whether the padding is SAME; a VALID kernel fits the input."""
    same = bool(rng.random() < 0.5)
    kernel = _pair(rng, 1, top)
    if not same:
        kernel = (min(kernel[0], shape[0]), min(kernel[1], shape[1]))
    return kernel, _pair(rng, 1, 4), same


def _dilated(rng: np.random.Generator, shape: tuple[int, ...], kernel: Pair, same: bool) -> Pair:
    dilation = _pair(rng, 1, 4)
    fits = all((k - 1) * d < size for k, d, size in zip(kernel, dilation, shape, strict=False))
    return dilation if same or fits else (1, 1)


def _fused(rng: np.random.Generator) -> Fused:
    return FUSED[rng.integers(len(FUSED))]


def conv(n: Network) -> int:
    rng, shape = n.rng, n.shapes[n.input]
    kernel, stride, same = _window(rng, shape)
    return n.conv(n.input, int(rng.integers(1, 12)), kernel, stride, same=same, fused=_fused(rng),
                  per_channel=bool(rng.random() < 0.8))  # fmt: skip


def conv_dilated(n: Network) -> int:
    rng, shape = n.rng, n.shapes[n.input]
    kernel, _, same = _window(rng, shape, 4)
    return n.conv(n.input, int(rng.integers(1, 9)), kernel, same=same, dilation=_dilated(rng, shape, kernel, same))


def conv_pointwise(n: Network) -> int:
    rng = n.rng
    stride = (1, 1) if rng.random() < 0.6 else _pair(rng, 1, 4)
    return n.conv(n.input, int(rng.integers(1, 40)), (1, 1), stride, fused=_fused(rng))


def depthwise(n: Network) -> int:
    rng = n.rng
    kernel, stride, same = _window(rng, n.shapes[n.input])
    return n.depthwise(n.input, 1, kernel, stride, same=same, fused=_fused(rng), bias=bool(rng.random() < 0.8))


def depthwise_3x3(n: Network) -> int:
    rng, shape = n.rng, n.shapes[n.input]
    same = min(shape[:2]) < 3 or rng.random() < 0.6
    return n.depthwise(n.input, 1, (3, 3), _pair(rng, 1, 4), same=bool(same), fused=_fused(rng))


def depthwise_multiplier(n: Network) -> int:
    rng = n.rng
    kernel, stride, same = _window(rng, n.shapes[n.input], 5)
    return n.depthwise(n.input, int(rng.choice([2, 3, 4, 8])), kernel, stride, same=same, fused=_fused(rng))


def depthwise_dilated(n: Network) -> int:
    rng, shape = n.rng, n.shapes[n.input]
    kernel, _, same = _window(rng, shape, 4)
    dilation = _dilated(rng, shape, kernel, same)
    return n.depthwise(n.input, int(rng.choice([1, 2, 4])), kernel, same=same, dilation=dilation)


def dense(n: Network) -> int:
    rng = n.rng
    return n.dense(
        n.input, int(rng.integers(1, 24)), per_channel=False, bias=bool(rng.random() < 0.5), fused=_fused(rng)
    )


def dense_per_channel(n: Network) -> int:
    rng = n.rng
    return n.dense(n.input, int(rng.integers(2, 24)), bias=bool(rng.random() < 0.8), fused=_fused(rng))


def dense_ties(n: Network) -> int:
    """Scales whose ratio is a small fraction: sums fall on halves, exactly or but for the last bit of a double."""
    depth, units = math.prod(n.shapes[n.input]), int(n.rng.integers(1, 9))
    source = n.activation(n.shapes[n.input], 1.0, int(n.rng.integers(-128, 128)))
    n.file.operator(Code.QUANTIZE, [n.input], source, QUANTIZE_OPTIONS)
    values = n.rng.integers(-3, 4, (units, depth)).astype(np.int8)
    output = n.activation((units,), float(n.rng.choice([2, 6, 14, 49, 96, 98])))
    operands = [source, n.file.constant("w", values, [float(n.rng.choice([1, 3, 7]))]), ABSENT]
    n.file.operator(Code.FULLY_CONNECTED, operands, output, dense_options())
    return output


def dense_accumulators(n: Network) -> int:
    """Sums over the full range of accumulators, most of them next to a half of what they are rescaled to; random scales
    of every size that there is; a third of the rows are at the ends of the range, or anywhere."""
    rng, depth = n.rng, math.prod(n.shapes[n.input])
    units = max(100, min(1500, 60_000 // depth))
    source = n.activation(n.shapes[n.input], 1.0, int(rng.integers(-128, 128)))
    n.file.operator(Code.QUANTIZE, [n.input], source, QUANTIZE_OPTIONS)
    values = np.zeros((units, depth), np.int8)
    values[:, :2] = rng.integers(-1, 2, (units, min(2, depth)))
    step = np.float32(np.exp2(rng.uniform(-3, 3)))
    scales = (step * np.exp2(rng.uniform(-30.5, -0.05, units))).astype(np.float32)
    scales[::5] = step * np.exp2(rng.integers(-30, 0, len(scales[::5])))  # sums that are halves, exactly
    halves = (rng.integers(-128, 128, units) + 0.5) * float(step) / scales.astype(np.float64)
    bias = np.rint(halves) + rng.integers(-2, 3, units)
    bias[::6] = rng.integers(-(2**31), 2**31, len(bias[::6]))
    bias[::7] = rng.choice([-(2**31), -(2**31) + 1, 2**31 - 1, -1, 0, 1], len(bias[::7]))
    bounded = np.clip(bias, -(2**31) + 1536, 2**31 - 1536).astype(np.int32)  # importers want room for the products
    output = n.activation((units,), float(step), int(rng.integers(-128, 128)))
    operands = [source, n.file.constant("w", values, scales), n.file.constant("b", bounded, scales)]
    n.file.operator(Code.FULLY_CONNECTED, operands, output, dense_options(), PER_CHANNEL_DENSE_VERSION)
    return output


def _pool(n: Network, average: bool) -> int:
    kernel, stride, same = _window(n.rng, n.shapes[n.input])
    return n.pool(n.input, kernel, stride, average=average, same=same, fused=_fused(n.rng))


def max_pool(n: Network) -> int:
    return _pool(n, average=False)


def avg_pool(n: Network) -> int:
    return _pool(n, average=True)


def add(n: Network) -> int:
    """In place in the second addition; the input itself is read twice in the first."""
    other = n.requantize(n.input)
    first = n.add(n.input, other, _fused(n.rng))
    return n.add(other, first) if n.rng.random() < 0.5 else n.add(first, first)


def add_padded(n: Network) -> int:
    """One or both inputs smaller than the sum, padded at the bottom, the right and (sometimes) behind the channels."""
    rng, shape = n.rng, n.shapes[n.input]
    grow = [int(rng.integers(0, 3)), int(rng.integers(0, 3)), int(rng.integers(0, 3)) if rng.random() < 0.3 else 0]
    small = n.pad(n.input, tuple((0, extra) for extra in grow))
    if rng.random() < 0.5:  # the other one has full size, and may be overwritten
        other = n.requantize(n.pad(n.requantize(n.input), tuple((0, extra) for extra in grow)))
    else:
        cut = n.pool(n.input, (min(2, shape[0]), min(2, shape[1])), (2, 2), average=False)
        want = [size + extra for size, extra in zip(shape, grow, strict=True)]
        other = n.pad(cut, tuple((0, size - have) for size, have in zip(want, n.shapes[cut], strict=True)))
    pair = (small, other) if rng.random() < 0.5 else (other, small)
    return n.add(*pair, _fused(rng))


def pad(n: Network) -> int:
    rng = n.rng
    channels = _pair(rng, 0, 3) if rng.random() < 0.3 else (0, 0)
    sides = [_pair(rng, 0, 4) if rng.random() < 0.8 else (0, 0) for _ in range(2)]
    return n.pad(n.input, (*sides, channels))


def pad_conv(n: Network) -> int:
    """A PAD that the convolution may or may not absorb."""
    rng = n.rng
    padded = n.pad(n.input, (_pair(rng, 0, 4), _pair(rng, 0, 4), (0, 0)))
    shape = n.shapes[padded]
    kernel = (min(int(rng.integers(1, 5)), shape[0]), min(int(rng.integers(1, 5)), shape[1]))
    same = bool(rng.random() < 0.3)
    if rng.random() < 0.5:
        return n.conv(padded, int(rng.integers(1, 6)), kernel, _pair(rng, 1, 3), same=same)
    return n.depthwise(padded, int(rng.integers(1, 3)), kernel, _pair(rng, 1, 3), same=same)


def mean(n: Network) -> int:
    return n.mean(n.input, keep_dims=bool(n.rng.random() < 0.5))


def softmax(n: Network) -> int:
    scale = float(np.exp(n.rng.uniform(-9, 3)))
    source = n.activation(n.shapes[n.input], scale)
    n.file.operator(Code.QUANTIZE, [n.input], source, QUANTIZE_OPTIONS)
    return n.softmax(source, float(n.rng.choice([1.0, 0.5, 2.0])))


def relu(n: Network) -> int:
    return n.requantize(n.input, Code.RELU if n.rng.random() < 0.5 else Code.RELU6)


def requantize(n: Network) -> int:
    return n.requantize(n.input)


def concat(n: Network) -> int:
    rng = n.rng
    axis = int(rng.integers(1, 4))
    other = n.pool(n.input, (1, 1), (1, 1), average=False)
    return n.concat([other, n.input, n.input][: int(rng.integers(1, 4))], axis)


def conv_coarse(n: Network) -> int:
    n.coarse = True
    return conv(n) if n.rng.random() < 0.6 else conv_pointwise(n)


def conv_deep(n: Network) -> int:
    """More products than two rows can sum up in one register."""
    rng = n.rng
    wide = n.conv(n.input, int(rng.integers(60, 70)), (1, 1))
    kernel = (min(3, n.shapes[wide][0]), 3)
    grown = n.conv(wide, 520, (1, 1)) if kernel[0] < 3 else wide
    return n.conv(grown, int(rng.integers(1, 12)), kernel, same=True)


def conv_extreme(n: Network) -> int:
    """The largest sums that there can be, of either sign, with as many products as two rows can sum up, and more."""
    rng = n.rng
    wide = n.conv(n.input, int(rng.choice([73, 109, 145, 217])), (1, 1), fused=Fused.NONE)
    n.extreme = True
    return n.conv(wide, int(rng.integers(4, 9)), (1, 7), same=True)


def dense_extreme(n: Network) -> int:
    """The largest sums, over more columns than are summed up in one go."""
    wide = n.conv(n.input, 140, (1, 1), fused=Fused.NONE)
    n.extreme = True
    return n.dense(wide, int(n.rng.integers(4, 9)), per_channel=bool(n.rng.random() < 0.5))


def unpackable(n: Network) -> int:
    n.extreme = n.unpackable = True
    rng = n.rng
    if rng.random() < 0.3:
        return random_plain.dense_rows(n)
    if rng.random() < 0.5:
        return n.dense(n.input, int(rng.integers(1, 12)), per_channel=bool(rng.random() < 0.5))
    return n.conv(n.input, int(rng.integers(1, 12)), (1, 1))


def constant_channels(n: Network) -> int:
    """Convolutions many of whose channels do not depend on the input, and all that reads them."""
    rng = n.rng
    n.dead = True
    first = n.conv(n.input, int(rng.integers(1, 12)), (3, 3), same=True, fused=Fused.RELU)
    second = n.depthwise(first, 1, (3, 3), same=True, fused=_fused(rng))
    third = n.conv(second, int(rng.integers(1, 12)), (1, 1), fused=Fused.RELU)
    size = n.shapes[third][:2]
    pooled = n.pool(third, (size[0], size[1]), (1, 1), average=bool(rng.random() < 0.5))
    n.dead = False
    return n.dense(pooled, int(rng.integers(1, 8))) if rng.random() < 0.7 else n.conv(third, 3, (3, 3), same=True)


def depthwise_coarse(n: Network) -> int:
    n.coarse = True
    return depthwise(n) if n.rng.random() < 0.5 else depthwise_dilated(n)


def conv_of_one_channel(n: Network) -> int:
    """A depthwise convolution that is a full one: its only channel makes all outputs."""
    rng = n.rng
    kernel, stride, same = _window(rng, n.shapes[n.input])
    one = n.conv(n.input, 1, (1, 1))
    return n.depthwise(one, int(rng.integers(1, 12)), kernel, stride, same=same, fused=_fused(rng))


SPACE_KINDS: tuple[Callable[[Network], int], ...] = (
    conv, conv_dilated, conv_pointwise, depthwise, depthwise_3x3, depthwise_multiplier, depthwise_dilated, dense,
    dense_per_channel, dense_ties, max_pool, avg_pool, add, add_padded, pad, pad_conv, mean, softmax, relu, requantize,
    concat, conv_coarse, depthwise_coarse, conv_of_one_channel,
    constant_channels, conv_deep, conv_extreme, dense_extreme, unpackable,
)  # fmt: skip


KINDS = (
    *SPACE_KINDS, *random_plain.KINDS, *random_wide.KINDS, random_plain.dilated_row, random_plain.reverse,
    random_plain.log_softmax, *random_wide.LATER_KINDS, dense_accumulators,
    random_wide.wide_dilated,
)  # fmt: skip
"""New ones come last: the networks that are drawn of a kind go by its place."""


def network(kind: Callable[[Network], int], seed: int) -> bytes:
    """A file of this kind."""
    rng = np.random.default_rng([seed, 7])
    built = Network(seed, _size(rng, 4 if seed % 4 == 0 else 9))
    return built.finish(kind(built))
