"""Probes: small networks that run every kernel variant on shapes that the µNAS space does not have.

The time of a layer is explained by the trips of its kernel's loops, and a loop's cost is only known as well as it was
exercised. Networks of the search space have no padding, square windows, few strides and no dilation, and leave out
half of the kernels. A probe is one image with many layers: its input is read as a tensor of another shape by every arm
(RESHAPE costs nothing), each arm runs one operator, and their results are joined. A probe is a pure function of seed
and index, as samples are (hil.calibration.sample), and is written without TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from munas.cost.kernels import KernelVariant
from munas.tflite.file import (
    PAD_OPTIONS,
    PER_CHANNEL_DENSE_VERSION,
    QUANTIZE_OPTIONS,
    Code,
    Fused,
    TfliteFile,
    add_options,
    concat_options,
    conv_options,
    dense_options,
    depthwise_options,
    pool_options,
    reducer_options,
    softmax_options,
)

PROBES = 48
ARMS = 10  # operators of a probe
MAX_OUTPUTS = 2048  # elements of an arm's result: all of them wait in the arena to be joined
MAX_ELEMENTS = 8192  # of an operator's result before that
MAX_WEIGHTS = 3072
MAX_MACS = 250_000
SIZES = (720, 1260, 1680, 2310, 2520, 3003, 3360, 4096, 5040, 5544, 7560)
"""Elements of a probe's input: numbers with many divisors, so that every arm finds a shape of its own."""

Shape = tuple[int, int, int]
Pair = tuple[int, int]


@dataclass(slots=True)
class Probe:
    """A .tflite under construction. All activations have one quantisation, so that everything can be joined."""

    rng: Generator
    elements: int
    scale: float = 1 / 256
    zero_point: int = -128
    file: TfliteFile = field(default_factory=TfliteFile)
    input: int = field(init=False)

    def __post_init__(self) -> None:
        self.input = self.tensor((self.elements,))

    def tensor(self, shape: tuple[int, ...]) -> int:
        """An activation, batch of one."""
        return self.file.activation("t", (1, *shape), self.scale, self.zero_point)

    def viewed(self, shape: tuple[int, ...]) -> int:
        """The input in another shape."""
        tensor = self.tensor(shape)
        self.file.operator(Code.RESHAPE, [self.input, self.file.constant("s", np.array([1, *shape], "<i4"))], tensor)
        return tensor

    def weights(self, shape: tuple[int, ...], axis: int, columns: int, *, per_channel: bool = True) -> list[int]:
        """Weights and biases with which the results use their range."""
        rows = shape[axis]
        spread = 1.4 / (73 * 73 * math.sqrt(columns) * self.scale)  # of int8 products
        scales = (spread * self.rng.uniform(0.7, 1.4, rows if per_channel else 1)).astype(np.float32)
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        biases = self.rng.integers(-5000, 5000, rows).astype("<i4")
        weights = self.file.constant("w", values, scales, axis if per_channel else 0)
        return [weights, self.file.constant("b", biases, scales * np.float32(self.scale))]

    def shape(self, channels: Callable[[int], bool] = lambda _: True) -> Shape:
        """A random (H, W, C) of the input's elements whose channels are acceptable; small and large C alike."""
        fit = [c for c in range(1, min(257, self.elements + 1)) if self.elements % c == 0 and channels(c)]
        wanted = math.exp(self.rng.uniform(0, math.log(fit[-1] + 1)))
        c = min(fit, key=lambda value: abs(math.log(value / wanted)))
        pixels = self.elements // c
        heights = [h for h in range(1, pixels + 1) if pixels % h == 0]
        near = math.sqrt(pixels) * math.exp(self.rng.normal(0, 0.5))
        h = min(heights, key=lambda value: abs(math.log(value / near)))
        return h, pixels // h, c

    def finish(self, results: list[int], shapes: list[tuple[int, ...]]) -> bytes:
        """The file, with all results joined to one output."""
        flat = []
        for tensor, shape in zip(results, shapes, strict=True):
            flat.append(self.tensor((math.prod(shape),)))
            target = self.file.constant("s", np.array([1, math.prod(shape)], "<i4"))
            self.file.operator(Code.RESHAPE, [tensor, target], flat[-1])
        output = self.tensor((sum(math.prod(shape) for shape in shapes),))
        self.file.operator(Code.CONCATENATION, flat, output, concat_options(1))
        return self.file.finish([self.input], [output])


Result = tuple[int, tuple[int, ...]]
Arm = Callable[[Probe], Result]
"""Adds operators that read the probe's input; gives their result and its shape without the batch."""

FUSED = (Fused.NONE, Fused.NONE, Fused.RELU, Fused.RELU6)


def _pair(rng: Generator, low: int, high: int) -> Pair:
    """Two numbers from `low` to `high`, equal half of the time."""
    first, second = (int(value) for value in rng.integers(low, high + 1, 2))
    return first, first if rng.random() < 0.5 else second


@dataclass(frozen=True, slots=True)
class _Sliding:
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


def _sliding(rng: Generator, shape: Shape, top: int, *, dilated: bool = False, multiplier: int = 1) -> _Sliding:
    """A random window up to `top` that fits the image, and whose outputs (`multiplier` a channel) fit the arena."""
    while True:
        kernel = _pair(rng, 1, top)
        stride = _pair(rng, 1, 3) if rng.random() < 0.5 else (1, 1)
        dilation = _pair(rng, 1, 3) if dilated else (1, 1)
        window = _Sliding(kernel, stride if dilation == (1, 1) else (1, 1), dilation, bool(rng.random() < 0.5))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        outputs = math.prod(window.outputs(shape[:2])) * shape[2] * multiplier
        if all(r <= s for r, s in zip(reach, shape, strict=False)) and outputs <= MAX_ELEMENTS:
            return window


def _fused(rng: Generator) -> Fused:
    return FUSED[rng.integers(len(FUSED))]


def _filters(rng: Generator, pixels: int, columns: int) -> int:
    """Output channels that keep a convolution small, 1 at least; odd ones as often as even ones."""
    most = min(MAX_OUTPUTS // max(1, pixels), MAX_WEIGHTS // columns, MAX_MACS // max(1, pixels * columns), 96)
    return max(1, round(math.exp(rng.uniform(0, math.log(max(1, most) + 0.5)))))


def _convolution(probe: Probe, window: _Sliding, shape: Shape) -> Result:
    rng, size = probe.rng, window.outputs(shape[:2])
    columns = math.prod(window.kernel) * shape[2]
    filters = _filters(rng, math.prod(size), columns)
    output = probe.tensor((*size, filters))
    operands = probe.weights((filters, *window.kernel, shape[2]), 0, columns)
    options = conv_options(window.stride, same=window.same, activation=_fused(rng), dilation=window.dilation)
    probe.file.operator(Code.CONV_2D, [probe.viewed(shape), *operands], output, options)
    return output, (*size, filters)


def conv_pointwise(probe: Probe) -> Result:
    """1x1, strided or not."""
    stride = (1, 1) if probe.rng.random() < 0.6 else _pair(probe.rng, 1, 3)
    return _convolution(probe, _Sliding((1, 1), stride, (1, 1), False), probe.shape())


def conv(probe: Probe) -> Result:
    """Any window, padded or not, dilated now and then."""
    shape = probe.shape(lambda c: c <= 64)
    return _convolution(probe, _sliding(probe.rng, shape, 5, dilated=bool(probe.rng.random() < 0.25)), shape)


def conv_along_one_axis(probe: Probe) -> Result:
    """As one-dimensional networks have it: an image of height one."""
    rng, shape = probe.rng, probe.shape(lambda c: c <= 64)
    line = (1, shape[0] * shape[1], shape[2])
    kernel = (1, int(rng.integers(2, min(9, line[1] + 1))))
    return _convolution(probe, _Sliding(kernel, (1, int(rng.integers(1, 3))), (1, 1), bool(rng.random() < 0.5)), line)


def conv_of_one_channel(probe: Probe) -> Result:
    """As a first layer: few input channels, a large image."""
    shape = probe.shape(lambda c: c <= 3)
    return _convolution(probe, _sliding(probe.rng, shape, 7), shape)


def _depthwise(probe: Probe, window: _Sliding, multiplier: int, shape: Shape) -> Result:
    size, rows = window.outputs(shape[:2]), shape[2] * multiplier
    output = probe.tensor((*size, rows))
    operands = probe.weights((1, *window.kernel, rows), 3, math.prod(window.kernel))
    fused = _fused(probe.rng)
    options = depthwise_options(window.stride, multiplier, same=window.same, activation=fused, dilation=window.dilation)
    probe.file.operator(Code.DEPTHWISE_CONV_2D, [probe.viewed(shape), *operands], output, options)
    return output, (*size, rows)


def depthwise_3x3(probe: Probe) -> Result:
    """The kernel of its own that 3x3 has."""
    rng, shape = probe.rng, probe.shape()
    same = min(shape[:2]) < 3 or bool(rng.random() < 0.5)
    return _depthwise(
        probe, _Sliding((3, 3), (1, 1) if rng.random() < 0.5 else _pair(rng, 1, 3), (1, 1), same), 1, shape
    )


def depthwise(probe: Probe) -> Result:
    """Any window."""
    shape = probe.shape(lambda c: c <= 128)
    return _depthwise(probe, _sliding(probe.rng, shape, 7), 1, shape)


def depthwise_multiplied(probe: Probe) -> Result:
    """Several outputs for each channel, also of a network's first layer."""
    multiplier = int(probe.rng.choice([2, 3, 4, 5, 8]))
    shape = probe.shape(lambda c: c <= 32)
    window = _sliding(probe.rng, shape, 5, multiplier=multiplier)
    return _depthwise(probe, window, multiplier, shape)


def depthwise_dilated(probe: Probe) -> Result:
    """Dilation."""
    shape = probe.shape(lambda c: c <= 64)
    return _depthwise(probe, _sliding(probe.rng, shape, 3, dilated=True), 1, shape)


def dense(probe: Probe) -> Result:
    """Few to many units on all elements, per tensor or per channel."""
    per_channel = bool(probe.rng.random() < 0.7)
    units = round(math.exp(probe.rng.uniform(0, math.log(3.5))))
    return _dense(probe, probe.input, probe.elements, units, per_channel)


def dense_small(probe: Probe) -> Result:
    """Few inputs and many units: the mean of an image first, as networks end."""
    shape = probe.shape(lambda c: 1 < c <= 128)
    pooled = probe.tensor((shape[2],))
    axes = probe.file.constant("a", np.array([1, 2], "<i4"))
    probe.file.operator(Code.MEAN, [probe.viewed(shape), axes], pooled, reducer_options(False))
    units = round(math.exp(probe.rng.uniform(0.7, math.log(min(300, MAX_WEIGHTS // shape[2])))))
    return _dense(probe, pooled, shape[2], max(1, units), bool(probe.rng.random() < 0.7))


def _dense(probe: Probe, source: int, columns: int, units: int, per_channel: bool) -> Result:
    output = probe.tensor((units,))
    operands = probe.weights((units, columns), 0, columns, per_channel=per_channel)
    version = PER_CHANNEL_DENSE_VERSION if per_channel else 0
    options = dense_options(_fused(probe.rng))
    probe.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, options, version)
    return output, (units,)


def _pool(probe: Probe, code: Code) -> Result:
    rng, shape = probe.rng, probe.shape()
    if rng.random() < 0.2:  # all of the image
        window = _Sliding((shape[0], shape[1]), (1, 1), (1, 1), False)
    else:
        window = _sliding(rng, shape, 6)
        if rng.random() < 0.5:  # side by side
            window = _Sliding(window.kernel, window.kernel, (1, 1), window.same)
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


def _shrunk(probe: Probe, shape: Shape) -> Result:
    """A pool that leaves few elements, for what is to be done to some of them."""
    return _thinned(probe, probe.viewed(shape), shape)


def _thinned(probe: Probe, source: int, shape: Shape) -> Result:
    """Some pixels of an image, so that `MAX_OUTPUTS` or fewer elements are left (or a single pixel)."""
    factor = math.prod(shape) / MAX_OUTPUTS
    if factor <= 1:
        return source, shape
    down = min(shape[0], max(1, math.ceil(math.sqrt(factor))))
    step = (down, min(shape[1], math.ceil(factor / down)))
    size = _Sliding((1, 1), step, (1, 1), False).outputs(shape[:2])
    output = probe.tensor((*size, shape[2]))
    probe.file.operator(Code.MAX_POOL_2D, [source], output, pool_options((1, 1), step))
    return output, (*size, shape[2])


def add(probe: Probe) -> Result:
    """Of two tensors of one shape."""
    first, shape = _shrunk(probe, probe.shape(lambda c: c <= 64))
    second, _ = requantize_of(probe, first, shape, Code.RELU)
    output = probe.tensor(shape)
    probe.file.operator(Code.ADD, [first, second], output, add_options(_fused(probe.rng)))
    return output, shape


def add_padded(probe: Probe) -> Result:
    """Of tensors of which one is smaller: µNAS's merge of branches."""
    rng = probe.rng
    first, shape = _shrunk(probe, probe.shape(lambda c: c <= 64))
    grow = [int(rng.integers(0, 3)), int(rng.integers(0, 3)), int(rng.integers(0, 4)) if rng.random() < 0.4 else 0]
    large = tuple(size + extra for size, extra in zip(shape, grow, strict=True))
    padded = [_padded(probe, first, large, [(0, extra) for extra in grow])]
    other, _ = requantize_of(probe, first, shape, Code.RELU6)
    padded.append(_padded(probe, other, large, [(0, extra) for extra in grow]))
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
    source, shape = _shrunk(probe, probe.shape(lambda c: c <= 128))
    amounts = [_pair(rng, 0, 3) if rng.random() < 0.8 else (0, 0) for _ in range(2)]
    amounts.append(_pair(rng, 0, 3) if rng.random() < 0.3 else (0, 0))
    large = tuple(size + sum(pair) for size, pair in zip(shape, amounts, strict=True))
    return _padded(probe, source, large, amounts), large


def mean(probe: Probe) -> Result:
    """Over height and width."""
    shape = probe.shape()
    output = probe.tensor((shape[2],))
    axes = probe.file.constant("a", np.array([1, 2], "<i4"))
    probe.file.operator(Code.MEAN, [probe.viewed(shape), axes], output, reducer_options(False))
    return output, (shape[2],)


def softmax(probe: Probe) -> Result:
    """Of few to many classes, in one row or several."""
    source, shape = _shrunk(probe, probe.shape(lambda c: 2 <= c <= 128))
    output = probe.tensor(shape)
    probe.file.operator(Code.SOFTMAX, [source], output, softmax_options(float(probe.rng.choice([0.5, 1, 8, 24]))))
    return output, shape


def requantize_of(probe: Probe, source: int, shape: tuple[int, ...], code: Code) -> Result:
    output = probe.tensor(shape)
    probe.file.operator(code, [source], output, QUANTIZE_OPTIONS if code is Code.QUANTIZE else None)
    return output, shape


def relu(probe: Probe) -> Result:
    """Behind something that has none."""
    source, shape = _shrunk(probe, probe.shape(lambda c: c <= 128))
    return requantize_of(probe, source, shape, Code.RELU if probe.rng.random() < 0.5 else Code.RELU6)


def requantize(probe: Probe) -> Result:
    """From one scale to another."""
    source, shape = _shrunk(probe, probe.shape(lambda c: c <= 128))
    return requantize_of(probe, source, shape, Code.QUANTIZE)


def concat(probe: Probe) -> Result:
    """Of two to four images along channels, or one of the other axes."""
    rng = probe.rng
    source, shape = _shrunk(probe, probe.shape(lambda c: c <= 64))
    count, axis = int(rng.integers(2, 5)), int(rng.choice([0, 1, 2], p=[0.2, 0.2, 0.6]))
    joined = tuple(size * count if position == axis else size for position, size in enumerate(shape))
    output = probe.tensor(joined)
    probe.file.operator(Code.CONCATENATION, [source] * count, output, concat_options(axis + 1))
    return output, joined


ARMS_OF: Mapping[KernelVariant, tuple[Arm, ...]] = {
    KernelVariant.CONV_1X1: (conv_pointwise,),
    KernelVariant.CONV_1X1_STRIDED: (conv_pointwise,),
    KernelVariant.CONV_IM2COL: (conv, conv_along_one_axis, conv_of_one_channel),
    KernelVariant.DW_3X3: (depthwise_3x3,),
    KernelVariant.DW_IM2COL: (depthwise,),
    KernelVariant.DW_MULT4: (depthwise_multiplied,),
    KernelVariant.DW_GENERIC: (depthwise_dilated, depthwise_multiplied),
    KernelVariant.FC: (dense, dense_small),
    KernelVariant.FC_PER_CHANNEL: (dense, dense_small),
    KernelVariant.MAX_POOL: (max_pool,),
    KernelVariant.AVG_POOL: (avg_pool,),
    KernelVariant.ADD: (add,),
    KernelVariant.ADD_PADDED: (add_padded,),
    KernelVariant.PAD: (pad,),
    KernelVariant.MEAN: (mean,),
    KernelVariant.SOFTMAX: (softmax,),
    KernelVariant.RELU: (relu,),
    KernelVariant.CONCAT: (concat,),
    KernelVariant.REQUANTIZE: (requantize,),
}
"""What exercises each kernel variant; a test demands an entry, and that probes run it, for every row of the table."""

_ALL: tuple[Arm, ...] = tuple(arm for variant in KernelVariant for arm in ARMS_OF.get(variant, ()))


def probe_tflite(seed: int, index: int) -> bytes:
    """The .tflite of probe `index` of `seed`; every arm comes in turn."""
    rng = np.random.default_rng([seed, index, 0x9807E])
    probe = Probe(rng, int(rng.choice(SIZES)))
    results, shapes = [], []
    for number in range(ARMS):
        result, shape = _ALL[(index * ARMS + number) % len(_ALL)](probe)
        if len(shape) == 3:
            result, shape = _thinned(probe, result, shape)
        results.append(result)
        shapes.append(shape)
    return probe.finish(results, shapes)
