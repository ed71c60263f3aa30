"""Operators of probes: windows, dense layers, pools, and what networks of the µNAS space have besides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from hil.calibration.probe import Pair, Probe, Result, Shape
from munas.tflite.file import (
    PAD_OPTIONS,
    PER_CHANNEL_DENSE_VERSION,
    QUANTIZE_OPTIONS,
    Code,
    Fused,
    add_options,
    concat_options,
    conv_options,
    dense_options,
    depthwise_options,
    pool_options,
    reducer_options,
    softmax_options,
)

MAX_MACS = 250_000  # of an operator

Arm = Callable[[Probe], Result]
"""Adds operators that read the probe's input; gives their result and its shape without the batch."""

FUSED = (Fused.NONE, Fused.NONE, Fused.RELU, Fused.RELU6)


def pair(rng: Generator, low: int, high: int) -> Pair:
    """Two numbers from `low` to `high`, equal half of the time."""
    first, second = (int(value) for value in rng.integers(low, high + 1, 2))
    return first, first if rng.random() < 0.5 else second


@dataclass(frozen=True, slots=True)
class Sliding:
    """A window over an image, as converters state it."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    same: bool

    def outputs(self, size: Sequence[int]) -> Pair:
        """Output height and width."""
        found = []
        for extent, kernel, stride, dilation in zip(size, self.kernel, self.stride, self.dilation, strict=True):
            reach = (kernel - 1) * dilation + 1
            found.append(-(-extent // stride) if self.same else (extent - reach) // stride + 1)
        return found[0], found[1]


def sliding(probe: Probe, shape: Shape, top: int, *, dilated: bool = False, multiplier: int = 1) -> Sliding:
    """A random window up to `top` that fits the image, and whose outputs (`multiplier` a channel) fit the arena."""
    rng = probe.rng
    while True:
        kernel = pair(rng, 1, top)
        stride = pair(rng, 1, 3) if rng.random() < 0.5 else (1, 1)
        dilation = pair(rng, 1, 3) if dilated else (1, 1)
        window = Sliding(kernel, stride if dilation == (1, 1) else (1, 1), dilation, bool(rng.random() < 0.5))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        outputs = math.prod(window.outputs(shape[:2])) * shape[2] * multiplier
        if all(r <= s for r, s in zip(reach, shape, strict=False)) and outputs <= probe.room.elements:
            return window


def _fused(rng: Generator) -> Fused:
    return FUSED[rng.integers(len(FUSED))]


def filters_of(probe: Probe, pixels: int, columns: int) -> int:
    """Output channels that keep a convolution small, 1 at least; odd ones as often as even ones."""
    room = probe.room
    most = min(room.outputs // pixels, room.weights // columns, MAX_MACS // (pixels * columns), 96)
    return max(1, round(math.exp(probe.rng.uniform(0, math.log(max(1, most) + 0.5)))))


def _convolution(
    probe: Probe, window: Sliding, shape: Shape, *, coarse: bool = False, filters: int | None = None
) -> Result:
    rng, size = probe.rng, window.outputs(shape[:2])
    columns = math.prod(window.kernel) * shape[2]
    filters = filters_of(probe, math.prod(size), columns) if filters is None else filters
    output = probe.tensor((*size, filters))
    operands = probe.weights((filters, *window.kernel, shape[2]), 0, columns, coarse=coarse)
    options = conv_options(window.stride, same=window.same, activation=_fused(rng), dilation=window.dilation)
    probe.file.operator(Code.CONV_2D, [probe.viewed(shape), *operands], output, options)
    return output, (*size, filters)


def conv_pointwise(probe: Probe) -> Result:
    """1x1, strided or not."""
    stride = (1, 1) if probe.rng.random() < 0.6 else pair(probe.rng, 1, 3)
    return _convolution(probe, Sliding((1, 1), stride, (1, 1), False), probe.shape())


def conv(probe: Probe) -> Result:
    """Any window, padded or not, dilated now and then."""
    shape = probe.shape(lambda c: c <= 64)
    return _convolution(probe, sliding(probe, shape, 5, dilated=bool(probe.rng.random() < 0.25)), shape)


def conv_along_one_axis(probe: Probe) -> Result:
    """As one-dimensional networks have it: an image of height one."""
    rng, shape = probe.rng, probe.shape(lambda c: c <= 64)
    line = (1, shape[0] * shape[1], shape[2])
    kernel = (1, int(rng.integers(2, min(9, line[1] + 1))))
    return _convolution(probe, Sliding(kernel, (1, int(rng.integers(1, 3))), (1, 1), bool(rng.random() < 0.5)), line)


def conv_of_one_channel(probe: Probe) -> Result:
    """As a first layer: few input channels, a large image."""
    shape = probe.shape(lambda c: c <= 3)
    return _convolution(probe, sliding(probe, shape, 7), shape)


def conv_deep(probe: Probe) -> Result:
    """Of many channels: more products for one output than have room on the stack."""
    shape = probe.shape(lambda c: 57 <= c <= 128)
    kernel = (min(3, shape[0]), min(3, shape[1]))
    window = Sliding(kernel, pair(probe.rng, 1, 2), (1, 1), bool(probe.rng.random() < 0.5))
    most = max(1, 2 * probe.room.weights // (math.prod(kernel) * shape[2]))
    return _convolution(probe, window, shape, filters=int(probe.rng.integers(1, min(most, 9) + 1)))


def conv_coarse(probe: Probe) -> Result:
    """With weights of few steps, whose results are scaled by a half or more."""
    shape = probe.shape(lambda c: c <= 64)
    return _convolution(probe, sliding(probe, shape, 4), shape, coarse=True)


def depthwise_coarse(probe: Probe) -> Result:
    """As `conv_coarse`."""
    shape = probe.shape(lambda c: c <= 64)
    return _depthwise(probe, sliding(probe, shape, 4), 1, shape, coarse=True)


def dense_coarse(probe: Probe) -> Result:
    """As `conv_coarse`, and with sums of few elements."""
    shape = probe.shape(lambda c: 1 < c <= 128)
    source, small = shrunk(probe, shape)
    units = int(probe.rng.integers(1, 12))
    return _dense(probe, source, math.prod(small), units, bool(probe.rng.random() < 0.7), coarse=True)


def _depthwise(probe: Probe, window: Sliding, multiplier: int, shape: Shape, *, coarse: bool = False) -> Result:
    size, rows = window.outputs(shape[:2]), shape[2] * multiplier
    output = probe.tensor((*size, rows))
    operands = probe.weights((1, *window.kernel, rows), 3, math.prod(window.kernel), coarse=coarse)
    fused = _fused(probe.rng)
    options = depthwise_options(window.stride, multiplier, same=window.same, activation=fused, dilation=window.dilation)
    probe.file.operator(Code.DEPTHWISE_CONV_2D, [probe.viewed(shape), *operands], output, options)
    return output, (*size, rows)


def depthwise_3x3(probe: Probe) -> Result:
    """The kernel of its own that 3x3 has."""
    rng, shape = probe.rng, probe.shape()
    same = min(shape[:2]) < 3 or bool(rng.random() < 0.5)
    return _depthwise(probe, Sliding((3, 3), (1, 1) if rng.random() < 0.5 else pair(rng, 1, 3), (1, 1), same), 1, shape)


def depthwise(probe: Probe) -> Result:
    """Any window."""
    shape = probe.shape(lambda c: c <= 128)
    return _depthwise(probe, sliding(probe, shape, 7), 1, shape)


def depthwise_multiplied(probe: Probe) -> Result:
    """Several outputs for each channel, also of a network's first layer."""
    multiplier = int(probe.rng.choice([2, 3, 4, 5, 8]))
    shape = probe.shape(lambda c: c <= 32)
    window = sliding(probe, shape, 5, multiplier=multiplier)
    return _depthwise(probe, window, multiplier, shape)


def depthwise_dilated(probe: Probe) -> Result:
    """Dilation, of several outputs for each channel too."""
    shape = probe.shape(lambda c: c <= 64)
    multiplier = int(probe.rng.choice([1, 1, 2, 3]))
    window = sliding(probe, shape, 3, dilated=True, multiplier=multiplier)
    return _depthwise(probe, window, multiplier, shape)


def dense(probe: Probe) -> Result:
    """Few to many units on all elements, per tensor or per channel."""
    per_channel = bool(probe.rng.random() < 0.7)
    units = round(math.exp(probe.rng.uniform(0, math.log(max(1.2, 3 * probe.room.weights / probe.elements)))))
    return _dense(probe, probe.input, probe.elements, units, per_channel)


def dense_small(probe: Probe) -> Result:
    """Few inputs and many units: the mean of an image first, as networks end."""
    shape = probe.shape(lambda c: 1 < c <= 128)
    pooled = probe.tensor((shape[2],))
    axes = probe.file.constant("a", np.array([1, 2], "<i4"))
    probe.file.operator(Code.MEAN, [probe.viewed(shape), axes], pooled, reducer_options(False))
    units = round(math.exp(probe.rng.uniform(0.7, math.log(max(3, min(300, probe.room.weights // shape[2]))))))
    return _dense(probe, pooled, shape[2], max(1, units), bool(probe.rng.random() < 0.7))


def _dense(probe: Probe, source: int, columns: int, units: int, per_channel: bool, *, coarse: bool = False) -> Result:
    output = probe.tensor((units,))
    operands = probe.weights((units, columns), 0, columns, per_channel=per_channel, coarse=coarse)
    version = PER_CHANNEL_DENSE_VERSION if per_channel else 0
    options = dense_options(_fused(probe.rng))
    probe.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, options, version)
    return output, (units,)


def _pool(probe: Probe, code: Code) -> Result:
    rng, shape = probe.rng, probe.shape()
    if rng.random() < 0.2:  # all of the image
        window = Sliding((shape[0], shape[1]), (1, 1), (1, 1), False)
    else:
        window = sliding(probe, shape, 6)
        if rng.random() < 0.5:  # side by side
            window = Sliding(window.kernel, window.kernel, (1, 1), window.same)
    size = window.outputs(shape[:2])
    output = probe.tensor((*size, shape[2]))
    options = pool_options(window.kernel, window.stride, same=window.same, activation=_fused(rng))
    probe.file.operator(code, [probe.viewed(shape)], output, options)
    return output, (*size, shape[2])


def max_pool(probe: Probe) -> Result:
    """Overlapping, side by side, of the whole image."""
    return _pool(probe, Code.MAX_POOL_2D)


def avg_pool(probe: Probe) -> Result:
    """Overlapping, side by side, of the whole image."""
    return _pool(probe, Code.AVERAGE_POOL_2D)


def shrunk(probe: Probe, shape: Shape) -> Result:
    """A pool that leaves some elements, few or as many as there is room for."""
    most = math.exp(probe.rng.uniform(math.log(4), math.log(probe.room.outputs)))
    return thinned(probe, probe.viewed(shape), shape, most)


def thinned(probe: Probe, source: int, shape: Shape, most: float) -> Result:
    """Some pixels of an image, so that `most` elements or fewer are left (or a single pixel)."""
    factor = math.prod(shape) / most
    if factor <= 1:
        return source, shape
    down = min(shape[0], max(1, math.ceil(math.sqrt(factor))))
    step = (down, min(shape[1], math.ceil(factor / down)))
    size = Sliding((1, 1), step, (1, 1), False).outputs(shape[:2])
    output = probe.tensor((*size, shape[2]))
    probe.file.operator(Code.MAX_POOL_2D, [source], output, pool_options((1, 1), step))
    return output, (*size, shape[2])


def add(probe: Probe) -> Result:
    """Of two tensors of one shape."""
    first, shape = shrunk(probe, probe.shape(lambda c: c <= 64))
    second = probe.other(shape)
    probe.file.operator(Code.RELU, [first], second)
    output = probe.other(shape)
    probe.file.operator(Code.ADD, [first, second], output, add_options(_fused(probe.rng)))
    return probe.converted(output, shape)


def add_padded(probe: Probe) -> Result:
    """Of tensors of which one is smaller: µNAS's merge of branches."""
    rng = probe.rng
    first, shape = shrunk(probe, probe.shape(lambda c: c <= 64))
    grow = [int(rng.integers(0, 3)), int(rng.integers(0, 3)), int(rng.integers(0, 4)) if rng.random() < 0.4 else 0]
    large = tuple(size + extra for size, extra in zip(shape, grow, strict=True))
    padded = [_padded(probe, first, large, [(0, extra) for extra in grow])]
    padded.append(_padded(probe, first, large, [(0, extra) for extra in grow]))
    output = probe.tensor(large)
    probe.file.operator(Code.ADD, padded, output, add_options())
    return output, large


def _padded(probe: Probe, source: int, shape: tuple[int, ...], amounts: Sequence[Pair]) -> int:
    output = probe.tensor(shape)
    table = probe.file.constant("p", np.array([(0, 0), *amounts], "<i4"))
    probe.file.operator(Code.PAD, [source, table], output, PAD_OPTIONS)
    return output


def pad(probe: Probe) -> Result:
    """On some or all sides."""
    rng = probe.rng
    source, shape = shrunk(probe, probe.shape(lambda c: c <= 128))
    amounts = [pair(rng, 0, 3) if rng.random() < 0.8 else (0, 0) for _ in range(2)]
    amounts.append(pair(rng, 0, 3) if rng.random() < 0.3 else (0, 0))
    large = tuple(size + sum(pair) for size, pair in zip(shape, amounts, strict=True))
    return _padded(probe, source, large, amounts), large


def mean(probe: Probe) -> Result:
    """Over height and width."""
    source, shape = shrunk(probe, probe.shape()) if probe.rng.random() < 0.5 else (-1, probe.shape())
    source = probe.viewed(shape) if source < 0 else source
    output = probe.other((shape[2],), probe.scale / math.sqrt(shape[0] * shape[1]))
    axes = probe.file.constant("a", np.array([1, 2], "<i4"))
    probe.file.operator(Code.MEAN, [source, axes], output, reducer_options(False))
    return probe.converted(output, (shape[2],))


def softmax(probe: Probe) -> Result:
    """Of few to many classes, in one row or several; of logits that say little and such that say all."""
    source, shape = shrunk(probe, probe.shape(lambda c: 2 <= c <= 128))
    scale = math.exp(probe.rng.uniform(-4, 1.5))
    logits = probe.other(shape, scale, probe.zero_point)  # the same int8 values: they mean more
    values = probe.file.constant("w", np.full((1, 1, 1, shape[2]), 127, np.int8), [scale / probe.scale / 127])
    biases = probe.file.constant("b", np.zeros(shape[2], "<i4"), [scale / 127])
    probe.file.operator(Code.DEPTHWISE_CONV_2D, [source, values, biases], logits, depthwise_options())
    output = probe.other(shape, 1 / 256, -128)
    probe.file.operator(Code.SOFTMAX, [logits], output, softmax_options())
    return probe.converted(output, shape)


def relu(probe: Probe) -> Result:
    """Behind something that has none."""
    source, shape = shrunk(probe, probe.shape(lambda c: c <= 128))
    output = probe.other(shape)
    probe.file.operator(Code.RELU if probe.rng.random() < 0.5 else Code.RELU6, [source], output)
    return probe.converted(output, shape)


def requantize(probe: Probe) -> Result:
    """From one scale to another, and back."""
    source, shape = shrunk(probe, probe.shape(lambda c: c <= 128))
    output = probe.other(shape)
    probe.file.operator(Code.QUANTIZE, [source], output, QUANTIZE_OPTIONS)
    return probe.converted(output, shape)


def concat(probe: Probe) -> Result:
    """Of two to four images along channels, or one of the other axes."""
    rng = probe.rng
    source, shape = shrunk(probe, probe.shape(lambda c: c <= 64))
    count, axis = int(rng.integers(2, 5)), int(rng.choice([0, 1, 2], p=[0.2, 0.2, 0.6]))
    joined = tuple(size * count if position == axis else size for position, size in enumerate(shape))
    output = probe.tensor(joined)
    probe.file.operator(Code.CONCATENATION, [source] * count, output, concat_options(axis + 1))
    return output, joined
