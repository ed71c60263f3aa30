"""Small random .tflite files, one operator or a few, for tests of kernels and plans."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from munas.tflite.file import (
    ABSENT,
    PAD_OPTIONS,
    PER_CHANNEL_DENSE_VERSION,
    QUANTIZE_OPTIONS,
    Code,
    Element,
    Fused,
    Options,
    TfliteFile,
    add_options,
    concat_options,
    conv_options,
    dense_options,
    depthwise_options,
    lstm_options,
    pool_options,
    reducer_options,
    softmax_options,
    svdf_options,
)

Pair = tuple[int, int]


class Network:
    """Builds a file op by op; every method returns a tensor. Scales are drawn so that outputs use their range."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(seed)
        self.file = TfliteFile()
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.scales: dict[int, tuple[float, int]] = {}
        self.wide: set[int] = set()  # activations of 16 bits
        self.turns_signs = False  # of some scales of weights
        self.coarse = False  # small weights, outputs of about the scale of a product: multipliers around 1
        self.extreme = False  # weights at their limits
        self.dead = False  # biases that keep some channels at their limits
        self.unpackable = False  # and one of -128
        self.input = self.activation(shape)

    def activation(
        self, shape: tuple[int, ...], scale: float | None = None, zero_point: int | None = None, *, wide: bool = False
    ) -> int:
        scale = float(np.float32(self.rng.uniform(0.01, 0.1) if scale is None else scale))
        zero_point = int(self.rng.integers(-128, 128)) if zero_point is None else zero_point
        element = Element.INT16 if wide else Element.INT8
        tensor = self.file.activation(f"t{len(self.shapes)}", (1, *shape), scale, zero_point, element)
        self.shapes[tensor], self.scales[tensor] = shape, (scale, zero_point)
        self.wide |= {tensor} if wide else set()
        return tensor

    def like(self, tensor: int, shape: tuple[int, ...]) -> int:
        """A tensor with the type and quantisation of another one."""
        return self.activation(shape, *self.scales[tensor], wide=tensor in self.wide)

    def finish(self, output: int) -> bytes:
        return self.file.finish([self.input], [output])

    def weights(
        self, source: int, shape: tuple[int, ...], axis: int | None, bias: bool, depth: int
    ) -> tuple[list[int], float]:
        """Weights (and bias) as operands, and a scale at which the outputs fill about their range."""
        most = 2 if self.coarse else 127
        values = self.rng.integers(-most, most + 1, shape).astype(np.int8)
        if self.extreme:
            values = np.where(values < 0, -127, 127).astype(np.int8)
            values[: shape[0] // 2] = 127
            values.flat[-1] = -128 if self.unpackable else 127
        count = shape[axis if axis is not None else 0]
        scales = np.exp(self.rng.uniform(-6, -4, count if axis is not None else 1)).astype(np.float32)
        size = float(np.median(scales))
        if self.turns_signs:
            scales *= self.rng.choice(np.array([-1, 1], np.float32), scales.shape)
        scale = self.scales[source][0]
        operands = [self.file.constant("w", values, scales, axis or 0)]
        if bias:
            limit = 100 if self.coarse else int(75 * 75 * math.sqrt(depth)) + 1
            biases = self.rng.integers(-limit, limit, count).astype("<i4")
            if self.dead:
                biases[self.rng.random(count) < 0.5] = self.rng.choice([-(2**24), 2**24], p=[0.8, 0.2])
            operands.append(self.file.constant("b", biases, scales * np.float32(scale)))
        product = size * scale
        if self.coarse:
            return operands, product * float(np.exp(self.rng.uniform(-1.5, 1.5)))
        return operands, product * 75 * math.sqrt(depth) * self.rng.uniform(0.5, 2)

    def conv(self, source: int, filters: int, kernel: Pair, stride: Pair = (1, 1), *, same: bool = False,
             dilation: Pair = (1, 1), fused: Fused = Fused.NONE, per_channel: bool = True,
             groups: int = 1) -> int:  # fmt: skip
        height, width, channels = self.shapes[source]
        depth, inside = kernel[0] * kernel[1] * channels // groups, channels // groups
        operands, scale = self.weights(source, (filters, *kernel, inside), 0 if per_channel else None, True, depth)
        size = window_outputs((height, width), kernel, stride, dilation, same)
        output = self.activation((*size, filters), scale)
        options = conv_options(stride, same=same, activation=fused, dilation=dilation)
        self.file.operator(Code.CONV_2D, [source, *operands], output, options)
        return output

    def depthwise(self, source: int, multiplier: int, kernel: Pair, stride: Pair = (1, 1), *, same: bool = False,
                  dilation: Pair = (1, 1), fused: Fused = Fused.NONE, bias: bool = True) -> int:  # fmt: skip
        height, width, channels = self.shapes[source]
        shape = (1, *kernel, channels * multiplier)
        operands, scale = self.weights(source, shape, 3, bias, kernel[0] * kernel[1])
        size = window_outputs((height, width), kernel, stride, dilation, same)
        output = self.activation((*size, channels * multiplier), scale)
        options = depthwise_options(stride, multiplier, same=same, activation=fused, dilation=dilation)
        self.file.operator(Code.DEPTHWISE_CONV_2D, [source, *operands], output, options)
        return output

    def dense(
        self, source: int, units: int, *, per_channel: bool = True, bias: bool = True, fused: Fused = Fused.NONE
    ) -> int:
        depth = math.prod(self.shapes[source])
        operands, scale = self.weights(source, (units, depth), 0 if per_channel else None, bias, depth)
        if not bias:
            operands.append(ABSENT)  # a dense layer keeps the place of a bias that it does not have
        output = self.activation((units,), scale)
        version = PER_CHANNEL_DENSE_VERSION if per_channel else 0
        self.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, dense_options(fused), version)
        return output

    def dense_rows(
        self, source: int, units: int, length: int, *, keep: bool, per_channel: bool, fused: Fused = Fused.NONE
    ) -> int:
        """A dense layer over every `length` elements; `keep` keeps the dimensions before the last one."""
        rows = math.prod(self.shapes[source]) // length
        operands, scale = self.weights(source, (units, length), 0 if per_channel else None, True, length)
        if keep:
            output = self.activation((*self.shapes[source][:-1], units), scale)
        else:
            scale, point = float(np.float32(scale)), int(self.rng.integers(-128, 128))
            output = self.file.activation("rows", (rows, units), scale, point)
            self.shapes[output], self.scales[output] = (rows, units), (scale, point)
        version = PER_CHANNEL_DENSE_VERSION if per_channel else 0
        options = dense_options(fused, keep_num_dims=keep)
        self.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, options, version)
        return output

    def transpose_conv(self, source: int, filters: int, kernel: Pair, stride: Pair, *, same: bool, bias: bool) -> int:
        height, width, channels = self.shapes[source]
        depth = kernel[0] * kernel[1] * channels // (stride[0] * stride[1]) + 1
        operands, scale = self.weights(source, (filters, *kernel, channels), 0, bias, depth)
        size = tuple(
            extent * step if same else (extent - 1) * step + taps
            for extent, step, taps in zip((height, width), stride, kernel, strict=True)
        )
        shape = self.file.constant("o", np.array([1, *size, filters], "<i4"))
        output = self.activation((*size, filters), scale)
        fields = ((0, "Int8", 0 if same else 1), (1, "Int32", stride[1]), (2, "Int32", stride[0]))
        weights, *more = operands
        self.file.operator(Code.TRANSPOSE_CONV, [shape, weights, source, *more], output, Options(49, fields), 3)
        return output

    def lstm(self, source: int, cells: int, *, time_major: bool = False) -> int:
        """An LSTM over the rows of `source` ((steps, inputs))."""
        rng, file = self.rng, self.file
        steps, inputs = self.shapes[source]
        scale = self.scales[source][0]
        own = (float(np.float32(rng.uniform(0.004, 0.009))), int(rng.integers(-20, 20)))
        weights, biases = [], []
        for length, step in ((inputs, scale), (cells, own[0])):
            for _ in range(4):
                each = float(np.float32(np.exp(rng.uniform(-1.5, 1)) / (73 * 73 * math.sqrt(length) * step)))
                weights.append(file.constant("w", rng.integers(-127, 128, (cells, length)).astype(np.int8), [each]))
                if len(biases) < 4:
                    values = rng.integers(-5000, 5000, cells).astype("<i4")
                    biases.append(file.constant("b", values, [each * scale]))
        power = int(rng.integers(-15, -8))
        hidden = file.variable("h", (1, cells), *own, Element.INT8)
        cell = file.variable("c", (1, cells), 2.0**power, 0, Element.INT16)
        result = (steps, 1, cells) if time_major else (1, steps, cells)
        output = file.activation("lstm", result, *own)
        self.shapes[output], self.scales[output] = result[1:], own
        clip = float(rng.choice([0.0, 10.0, 0.4]))
        file.lstm(source, weights, biases, (hidden, cell), output, own, lstm_options(clip, time_major=time_major))
        return output

    def svdf(self, source: int, units: int, rank: int, memory: int) -> int:
        """An SVDF over all of `source` ((inputs,))."""
        rng, file = self.rng, self.file
        (inputs,) = self.shapes[source]
        scale, filters = self.scales[source][0], units * rank
        weights = file.constant(
            "w", rng.integers(-127, 128, (filters, inputs)).astype(np.int8), [rng.uniform(0.002, 0.02)]
        )
        in_time = file.constant("t", rng.integers(-32767, 32768, (filters, memory)).astype("<i2"), [2.0**-18])
        spread = 73 * 73 * math.sqrt(inputs)
        state_scale = float(np.float32(scale * 0.01 * spread / 12000 * rng.uniform(0.3, 2)))
        bias = file.constant("b", rng.integers(-(2**24), 2**24, units).astype("<i4"), [state_scale * 2.0**-18])
        state = file.variable("s", (1, filters * memory), state_scale, 0, Element.INT16)
        output = self.activation((units,), state_scale * 2.0**-18 * 2.0**27 * math.sqrt(rank * memory) / 80)
        file.operator(Code.SVDF, [source, weights, in_time, bias, state], output, svdf_options(rank))
        return output

    def reduce(self, code: Code, source: int, axes: Sequence[int], keep_dims: bool = True) -> int:
        """A reduction; axes count the batch."""
        full = (1, *self.shapes[source])
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(full) if keep_dims or axis not in axes)
        scale, zero_point = self.scales[source]
        scale *= 0.4 if code is Code.MEAN else 1.0
        wide = source in self.wide
        point = None if code is Code.MEAN and not wide else zero_point
        output = self.activation(shape[1:], scale, point, wide=wide)
        table = self.file.constant("a", np.array(axes, "<i4"))
        self.file.operator(code, [source, table], output, reducer_options(keep_dims))
        return output

    def tile(self, source: int, times: Sequence[int]) -> int:
        shape = tuple(size * count for size, count in zip(self.shapes[source], times, strict=True))
        output = self.like(source, shape)
        table = self.file.constant("m", np.array([1, *times], "<i4"))
        self.file.operator(Code.TILE, [source, table], output, Options(51))
        return output

    def pool(self, source: int, window: Pair, stride: Pair, *, average: bool, same: bool = False,
             fused: Fused = Fused.NONE) -> int:  # fmt: skip
        height, width, channels = self.shapes[source]
        size = window_outputs((height, width), window, stride, (1, 1), same)
        output = self.like(source, (*size, channels))
        code = Code.AVERAGE_POOL_2D if average else Code.MAX_POOL_2D
        self.file.operator(code, [source], output, pool_options(window, stride, same=same, activation=fused))
        return output

    def add(self, first: int, second: int, fused: Fused = Fused.NONE) -> int:
        scale = (self.scales[first][0] + self.scales[second][0]) * self.rng.uniform(0.6, 1.5)
        output = self.activation(self.shapes[first], scale)
        self.file.operator(Code.ADD, [first, second], output, add_options(fused))
        return output

    def pad(self, source: int, amounts: tuple[Pair, ...]) -> int:
        shape = tuple(size + sum(pair) for size, pair in zip(self.shapes[source], amounts, strict=True))
        output = self.like(source, shape)
        table = self.file.constant("p", np.array([(0, 0), *amounts], "<i4"))
        self.file.operator(Code.PAD, [source, table], output, PAD_OPTIONS)
        return output

    def mean(self, source: int, keep_dims: bool) -> int:
        channels = self.shapes[source][2]
        output = self.activation((1, 1, channels) if keep_dims else (channels,), self.scales[source][0] / 3)
        axes = self.file.constant("a", np.array([1, 2], "<i4"))
        self.file.operator(Code.MEAN, [source, axes], output, reducer_options(keep_dims))
        return output

    def softmax(self, source: int, beta: float = 1.0) -> int:
        output = self.activation(self.shapes[source], 1 / 256, -128)
        self.file.operator(Code.SOFTMAX, [source], output, softmax_options(beta))
        return output

    def requantize(self, source: int, code: Code = Code.QUANTIZE) -> int:
        output = self.activation(self.shapes[source], self.scales[source][0] * self.rng.uniform(0.4, 2))
        self.file.operator(code, [source], output, QUANTIZE_OPTIONS if code is Code.QUANTIZE else None)
        return output

    def reshape(self, source: int, shape: tuple[int, ...]) -> int:
        output = self.like(source, shape)
        target = self.file.constant("s", np.array([1, *shape], "<i4"))
        self.file.operator(Code.RESHAPE, [source, target], output)
        return output

    def concat(self, sources: list[int], axis: int) -> int:
        shape = list(self.shapes[sources[0]])
        shape[axis - 1] = sum(self.shapes[source][axis - 1] for source in sources)
        output = self.like(sources[0], tuple(shape))
        self.file.operator(Code.CONCATENATION, sources, output, concat_options(axis))
        return output


def window_outputs(size: Pair, kernel: Pair, stride: Pair, dilation: Pair, same: bool) -> Pair:
    """Output height and width of a window."""
    reach = [(extent - 1) * step + 1 for extent, step in zip(kernel, dilation, strict=True)]
    pairs = [
        -(-extent // step) if same else (extent - window + step) // step
        for extent, window, step in zip(size, reach, stride, strict=True)
    ]
    return pairs[0], pairs[1]
