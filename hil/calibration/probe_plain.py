"""Operators of probes that no network of the µNAS space has: arithmetic, functions, movements, reductions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hil.calibration.probe import Probe, Result, Shape
from hil.calibration.probe_arms import pair, shrunk, sliding
from hil.model.network import OpKind
from hil.model.tflite.schema import OPERATORS
from munas.tflite.file import (
    PER_CHANNEL_DENSE_VERSION,
    Code,
    Element,
    Options,
    conv_options,
    dense_options,
    lstm_options,
    reducer_options,
    svdf_options,
)

_MAX_CHANNELS = 64
_SLICE = Options(48)


def _ints(probe: Probe, values: object) -> int:
    return probe.file.constant("i", np.array(values, "<i4"))


def image(probe: Probe) -> tuple[int, Shape]:
    """A small image of few to many channels."""
    source, (height, width, channels) = shrunk(probe, probe.shape(lambda c: c <= _MAX_CHANNELS))
    return source, (height, width, channels)


def lookup(probe: Probe) -> Result:
    """A function of one int8."""
    source, shape = image(probe)
    output = probe.other(shape, 1 / 256, -128)
    probe.file.operator(Code.LOGISTIC, [source], output)
    return probe.converted(output, shape)


def log_softmax(probe: Probe) -> Result:
    """Of few to many classes."""
    source, shape = image(probe)
    output = probe.other(shape, 1 / 16, 127)
    probe.file.operator(Code.LOG_SOFTMAX, [source], output, Options(36))
    return probe.converted(output, shape)


def copy(probe: Probe) -> Result:
    """Axes in another order: runs of one element, or of a whole pixel."""
    source, shape = image(probe)
    order = [(2, 1, 3), (3, 1, 2), (1, 3, 2)][int(probe.rng.integers(3))]
    result = tuple(shape[axis - 1] for axis in order)
    output = probe.tensor(result)
    probe.file.operator(Code.TRANSPOSE, [source, _ints(probe, [0, *order])], output, Options(26))
    return output, result


def slices(probe: Probe) -> Result:
    """A part of an image."""
    source, shape = image(probe)
    begins = [int(probe.rng.integers(0, (size + 1) // 2)) for size in shape]
    sizes = tuple(int(probe.rng.integers(1, size - begin + 1)) for size, begin in zip(shape, begins, strict=True))
    output = probe.tensor(sizes)
    operands = [source, _ints(probe, [0, *begins]), _ints(probe, [1, *sizes])]
    probe.file.operator(Code.SLICE, operands, output, Options(48))
    return output, sizes


def select(probe: Probe) -> Result:
    """Rows, columns or channels by a list."""
    source, shape = image(probe)
    axis = int(probe.rng.integers(3))
    picked = probe.rng.integers(0, shape[axis], int(probe.rng.integers(2, 12)))
    result = tuple(len(picked) if at == axis else size for at, size in enumerate(shape))
    output = probe.tensor(result)
    options = Options(23, ((0, "Int32", axis + 1),))
    probe.file.operator(Code.GATHER, [source, _ints(probe, picked)], output, options)
    return output, result


def binary(code: Code) -> Callable[[Probe], Result]:
    """Arithmetic with a constant a channel, a scalar, or another image."""

    def arm(probe: Probe) -> Result:
        source, shape = image(probe)
        is_extreme = code in (Code.MAXIMUM, Code.MINIMUM)
        kind = int(probe.rng.integers(3))
        if kind == 2 and code is not Code.ADD:
            second = probe.tensor(shape) if is_extreme else probe.other(shape)
            probe.file.operator(Code.RELU, [source], second)
        else:
            scale = probe.scale if is_extreme else probe.scale * float(probe.rng.uniform(0.3, 2))
            zero_point = probe.zero_point if is_extreme else int(probe.rng.integers(-128, 128))
            values = probe.rng.integers(-128, 128, shape[2:] if kind else (1,)).astype(np.int8)
            second = probe.file.constant("c", values, [scale], zero_point=zero_point)
        output = probe.tensor(shape) if is_extreme else probe.other(shape)
        probe.file.operator(code, [source, second], output, Options(OPERATORS[OpKind[code.name]].options))
        return (output, shape) if is_extreme else probe.converted(output, shape)

    return arm


def prelu(probe: Probe) -> Result:
    """A slope a channel for what is negative."""
    source, shape = image(probe)
    values = probe.rng.integers(-128, 128, (1, 1, shape[2])).astype(np.int8)
    slopes = probe.file.constant("c", values, [1 / 256], zero_point=int(probe.rng.integers(-20, 20)))
    output = probe.other(shape)
    probe.file.operator(Code.PRELU, [source, slopes], output)
    return probe.converted(output, shape)


def reduced(code: Code) -> Callable[[Probe], Result]:
    """Over one axis or two."""

    def arm(probe: Probe) -> Result:
        source, shape = image(probe)
        choices = ([2], [3]) if code is Code.MEAN else ([1], [2], [3], [1, 2], [2, 3])
        axes = choices[int(probe.rng.integers(len(choices)))]
        result = tuple(1 if at in axes else size for at, size in enumerate(shape, start=1))
        output = probe.other(result, probe.scale * 0.4) if code is Code.MEAN else probe.tensor(result)
        probe.file.operator(code, [source, _ints(probe, axes)], output, reducer_options(True))
        return probe.converted(output, result) if code is Code.MEAN else (output, result)

    return arm


def dense_rows_coarse(probe: Probe) -> Result:
    """A dense layer over every pixel, whose results are scaled by a half or more."""
    return dense_rows(probe, coarse=True)


def dense_rows(probe: Probe, *, coarse: bool = False) -> Result:
    """A dense layer over every pixel."""
    source, shape = image(probe)
    pixels = shape[0] * shape[1]
    most = max(1, min(probe.room.weights // shape[2], probe.room.outputs // pixels, 60))
    units = round(math.exp(probe.rng.uniform(0, math.log(most + 0.5))))
    per_channel = bool(probe.rng.random() < 0.6)
    operands = probe.weights((units, shape[2]), 0, shape[2], per_channel=per_channel, coarse=coarse)
    output = probe.tensor((*shape[:2], units))
    version = PER_CHANNEL_DENSE_VERSION if per_channel else 0
    options = dense_options(keep_num_dims=True)
    probe.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, options, version)
    return output, (*shape[:2], units)


def _factor(number: int) -> int:
    """The smallest factor above one; of one, one."""
    return next((factor for factor in range(2, number + 1) if number % factor == 0), 1)


def grouped(probe: Probe) -> Result:
    """A convolution in groups, padded or not."""
    rng = probe.rng
    source, shape = shrunk(probe, probe.shape(lambda c: c <= _MAX_CHANNELS and _factor(c) < c))
    height, width, channels = shape
    groups, window = _factor(channels), sliding(probe, (height, width, channels), 3, multiplier=2)
    filters, depth = groups * int(rng.integers(1, 5)), channels // groups
    filters = min(filters, 2 * channels)  # as many as `sliding` was asked for
    operands = probe.weights((filters, *window.kernel, depth), 0, math.prod(window.kernel) * depth)
    size = window.outputs(shape[:2])
    output = probe.tensor((*size, filters))
    options = conv_options(window.stride, same=window.same)
    probe.file.operator(Code.CONV_2D, [source, *operands], output, options)
    return output, (*size, filters)


def transposed(probe: Probe) -> Result:
    """A convolution that enlarges, padded or not."""
    rng = probe.rng
    source, shape = image(probe)
    kernel, stride, filters = pair(rng, 1, 4), pair(rng, 1, 3), int(rng.integers(1, 6))
    same = bool(rng.random() < 0.6)
    beyond = [0 if same else reach - step for reach, step in zip(kernel, stride, strict=True)]
    size = (shape[0] * stride[0] + beyond[0], shape[1] * stride[1] + beyond[1])
    weights, bias = probe.weights((filters, *kernel, shape[2]), 0, math.prod(kernel) * shape[2])
    output = probe.tensor((*size, filters))
    options = Options(49, ((0, "Int8", 0 if same else 1), (1, "Int32", stride[1]), (2, "Int32", stride[0])))
    inputs = [_ints(probe, [1, *size, filters]), weights, source, bias]
    probe.file.operator(Code.TRANSPOSE_CONV, inputs, output, options, 3)
    return output, (*size, filters)


def lstm(probe: Probe) -> Result:
    """An LSTM over a few steps of few to many inputs."""
    rng = probe.rng
    source, (height, width, channels) = shrunk(probe, probe.shape(lambda c: c <= _MAX_CHANNELS))
    steps = min(height * width, int(rng.integers(1, 7)))
    part = probe.tensor((steps, channels))
    flat = probe.tensor((height * width, channels))
    probe.file.operator(Code.RESHAPE, [source, _ints(probe, [1, height * width, channels])], flat)
    probe.file.operator(Code.SLICE, [flat, _ints(probe, [0, 0, 0]), _ints(probe, [1, steps, channels])], part, _SLICE)
    room = 2 * probe.room.weights  # of 4 c (c + channels)
    most = max(1, int(math.sqrt(channels * channels / 4 + room / 4) - channels / 2))
    cells = round(math.exp(rng.uniform(0, math.log(most + 0.5))))
    own = (0.0078, int(rng.integers(-10, 10)))
    weights = [_gate(probe, cells, channels, probe.scale) for _ in range(4)]
    weights += [_gate(probe, cells, cells, own[0]) for _ in range(4)]
    biases = [probe.file.constant("b", rng.integers(-5000, 5000, cells).astype("<i4"), [1e-4]) for _ in range(4)]
    hidden = probe.file.variable("h", (1, cells), *own, Element.INT8)
    cell = probe.file.variable("c", (1, cells), 2.0 ** int(rng.integers(-13, -9)), 0, Element.INT16)
    output = probe.other((steps, cells), *own)
    probe.file.lstm(part, weights, biases, (hidden, cell), output, own, lstm_options(10.0))
    return probe.converted(output, (steps, cells))


def _gate(probe: Probe, cells: int, length: int, scale: float) -> int:
    values = probe.rng.integers(-127, 128, (cells, length)).astype(np.int8)
    return probe.file.constant("w", values, [1.4 / (73 * 73 * math.sqrt(length) * scale)])


def svdf(probe: Probe) -> Result:
    """An SVDF whose memory is short or long."""
    rng = probe.rng
    source, (height, width, channels) = shrunk(probe, probe.shape(lambda c: c <= _MAX_CHANNELS))
    inputs = min(height * width * channels, int(rng.integers(4, 65)))
    flat, part = probe.tensor((height * width * channels,)), probe.tensor((inputs,))
    probe.file.operator(Code.RESHAPE, [source, _ints(probe, [1, height * width * channels])], flat)
    probe.file.operator(Code.SLICE, [flat, _ints(probe, [0, 0]), _ints(probe, [1, inputs])], part, _SLICE)
    memory, rank = int(rng.integers(1, 25)), int(rng.integers(1, 3))
    units = max(1, min(probe.room.weights // (inputs + 2 * memory) // rank, int(rng.integers(1, 24))))
    filters, state_scale = units * rank, probe.scale * 0.01
    weights = probe.file.constant("w", rng.integers(-127, 128, (filters, inputs)).astype(np.int8), [0.002])
    in_time = probe.file.constant("t", rng.integers(-9999, 9999, (filters, memory)).astype("<i2"), [2.0**-15])
    bias = probe.file.constant("b", rng.integers(-5000, 5000, units).astype("<i4"), [state_scale * 2.0**-15])
    state = probe.file.variable("s", (1, filters * memory), state_scale, 0, Element.INT16)
    output = probe.other((units,), state_scale * 200)
    probe.file.operator(Code.SVDF, [part, weights, in_time, bias, state], output, svdf_options(rank))
    return probe.converted(output, (units,))


def resized(probe: Probe) -> Result:
    """Bilinear, to a larger or a smaller image."""
    source, shape = image(probe)
    size = tuple(max(1, round(extent * float(probe.rng.uniform(0.5, 2)))) for extent in shape[:2])
    output = probe.tensor((*size, shape[2]))
    half_pixel = bool(probe.rng.random() < 0.5)
    options = Options(15, ((3, "Bool", half_pixel),))
    probe.file.operator(Code.RESIZE_BILINEAR, [source, _ints(probe, size)], output, options)
    return output, (*size, shape[2])
