"""Operators of probes with 16-bit activations: an image is quantised to 16 bits, and the result to 8 again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hil.calibration.probe import Probe, Result, Shape
from hil.calibration.probe_arms import filters_of, sliding
from hil.calibration.probe_plain import image
from hil.model.network import OpKind
from hil.model.tflite.schema import OPERATORS
from munas.tflite.file import (
    PER_CHANNEL_DENSE_VERSION,
    Code,
    Options,
    conv_options,
    dense_options,
    depthwise_options,
    pool_options,
    reducer_options,
    softmax_options,
)

_SCALE = 3e-4
_STEPS = 20000  # of a typical activation


def _wide_image(probe: Probe, scale: float = _SCALE) -> tuple[int, Shape]:
    source, shape = image(probe)
    return probe.widened(source, shape, scale), shape


def _operands(probe: Probe, shape: tuple[int, ...], axis: int, columns: int) -> tuple[list[int], float]:
    """Weights and biases, and the scale of what they make."""
    rows = shape[axis]
    scales = (0.01 * probe.rng.uniform(0.7, 1.4, rows)).astype(np.float32)
    weights = probe.file.constant("w", probe.rng.integers(-127, 128, shape).astype(np.int8), scales, axis)
    biases = probe.rng.integers(-(2**20), 2**20, rows).astype("<i8")
    bias = probe.file.constant("b", biases, scales * np.float32(_SCALE))
    return [weights, bias], 0.01 * _SCALE * 73 * math.sqrt(columns)


def conv(probe: Probe) -> Result:
    """Any window over all channels."""
    source, shape = _wide_image(probe)
    window = sliding(probe, shape, 4)
    size, columns = window.outputs(shape[:2]), math.prod(window.kernel) * shape[2]
    filters = filters_of(probe, math.prod(size), columns)
    operands, scale = _operands(probe, (filters, *window.kernel, shape[2]), 0, columns)
    output = probe.wide((*size, filters), scale)
    options = conv_options(window.stride, same=window.same)
    probe.file.operator(Code.CONV_2D, [source, *operands], output, options, 8)
    return probe.converted(output, (*size, filters))


def depthwise(probe: Probe) -> Result:
    """A window for each channel."""
    source, shape = _wide_image(probe)
    window = sliding(probe, shape, 4)
    size = window.outputs(shape[:2])
    operands, scale = _operands(probe, (1, *window.kernel, shape[2]), 3, math.prod(window.kernel))
    output = probe.wide((*size, shape[2]), scale)
    options = depthwise_options(window.stride, same=window.same)
    probe.file.operator(Code.DEPTHWISE_CONV_2D, [source, *operands], output, options, 5)
    return probe.converted(output, (*size, shape[2]))


def dense(probe: Probe) -> Result:
    """Over every pixel."""
    source, shape = _wide_image(probe)
    pixels = shape[0] * shape[1]
    most = max(1, min(probe.room.weights // shape[2], probe.room.outputs // pixels, 40))
    units = round(math.exp(probe.rng.uniform(0, math.log(most + 0.5))))
    operands, scale = _operands(probe, (units, shape[2]), 0, shape[2])
    output = probe.wide((*shape[:2], units), scale)
    options = dense_options(keep_num_dims=True)
    probe.file.operator(Code.FULLY_CONNECTED, [source, *operands], output, options, PER_CHANNEL_DENSE_VERSION)
    return probe.converted(output, (*shape[:2], units))


def binary(code: Code) -> Callable[[Probe], Result]:
    """With a constant a channel, or a scalar."""

    def arm(probe: Probe) -> Result:
        source, shape = _wide_image(probe)
        values = probe.rng.integers(-32768, 32768, shape[2:] if probe.rng.random() < 0.5 else (1,)).astype("<i2")
        other = probe.file.constant("c", values, [_SCALE])
        factor = {Code.MUL: _SCALE * _STEPS, Code.ADD: 2.0, Code.SUB: 2.0}.get(code, 1.0)
        output = probe.wide(shape, _SCALE * factor)
        # A sum says that it is not one of scales that are powers of two.
        fields = ((1, "Bool", False),) if code in (Code.ADD, Code.SUB) else ()
        options = Options(OPERATORS[OpKind[code.name]].options, fields)
        probe.file.operator(code, [source, other], output, options, {Code.ADD: 3, Code.MUL: 4}.get(code, 2))
        return probe.converted(output, shape)

    return arm


def pool(code: Code) -> Callable[[Probe], Result]:
    """Any window."""

    def arm(probe: Probe) -> Result:
        source, shape = _wide_image(probe)
        window = sliding(probe, shape, 4)
        size = window.outputs(shape[:2])
        output = probe.wide((*size, shape[2]), _SCALE)
        options = pool_options(window.kernel, window.stride, same=window.same)
        probe.file.operator(code, [source], output, options, 3)
        return probe.converted(output, (*size, shape[2]))

    return arm


def function(code: Code) -> Callable[[Probe], Result]:
    """A function that is read off a table."""

    def arm(probe: Probe) -> Result:
        source, shape = _wide_image(probe)
        output = probe.wide(shape, 2.0**-15)
        probe.file.operator(code, [source], output, None, 3)
        return probe.converted(output, shape)

    return arm


def reduced(code: Code) -> Callable[[Probe], Result]:
    """Over one axis or two."""

    def arm(probe: Probe) -> Result:
        source, shape = _wide_image(probe)
        axes = ([1], [2], [3], [1, 2], [2, 3])[int(probe.rng.integers(5))]
        result = tuple(1 if at in axes else size for at, size in enumerate(shape, start=1))
        output = probe.wide(result, _SCALE)
        places = probe.file.constant("a", np.array(axes, "<i4"))
        probe.file.operator(code, [source, places], output, reducer_options(True))
        return probe.converted(output, result)

    return arm


def resized(probe: Probe) -> Result:
    """Bilinear, to a larger or a smaller image."""
    source, shape = _wide_image(probe)
    size = tuple(max(1, round(extent * float(probe.rng.uniform(0.5, 2)))) for extent in shape[:2])
    output = probe.wide((*size, shape[2]), _SCALE)
    extents = probe.file.constant("e", np.array(size, "<i4"))
    probe.file.operator(Code.RESIZE_BILINEAR, [source, extents], output, Options(15))
    return probe.converted(output, (*size, shape[2]))


def softmax(probe: Probe) -> Result:
    """Of few to many classes."""
    source, shape = _wide_image(probe)
    output = probe.wide(shape, 2.0**-15)
    probe.file.operator(Code.SOFTMAX, [source], output, softmax_options(), 3)
    return probe.converted(output, shape)


def softmax_to_16(probe: Probe) -> Result:
    """The same, of 8 bits."""
    source, shape = image(probe)
    output = probe.wide(shape, 2.0**-16, -32768)
    probe.file.operator(Code.SOFTMAX, [source], output, softmax_options(), 3)
    return probe.converted(output, shape)


def requantize(probe: Probe) -> Result:
    """To 16 bits and back."""
    source, shape = _wide_image(probe, probe.scale / 200)
    return probe.converted(source, shape)
