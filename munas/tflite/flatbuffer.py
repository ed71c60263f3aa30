"""An int8 .tflite out of an operator graph, without TensorFlow: random weights, sound scales, milliseconds.

The file is what TensorFlow's converter would emit for the same Keras network: RESHAPE before the first dense layer, PAD
before an addition of a smaller feature map, additions of two inputs with a scale of their own, fused ReLU, weights per
channel, int32 biases of scale input * weight, pooling that keeps its input's scale.

A verification on constant or saturated activations proves nothing, so scales and biases are chosen by a probe: a few
random inputs run through the network as it is written, and each layer's weight scales and biases bring its sums to a
known spread. The probe's sums are exact integers in floating point, so that a file depends on graph and seed only, not
on the machine's BLAS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from munas.arch.graph import INPUT, Graph, Kind, Operator, Shape
from munas.tflite.file import (
    PAD_OPTIONS,
    PER_CHANNEL_DENSE_VERSION,
    Code,
    Fused,
    TfliteFile,
    add_options,
    conv_options,
    dense_options,
    depthwise_options,
    pool_options,
)

Sums = NDArray[Any]
"""Integers as float32 or, where their sums need it, float64: (batch, H, W, channels) or (batch, units)."""

Values = NDArray[np.float32]
"""Integers of int8 range (batch, H, W, C) or (batch, N), as float32 because BLAS has no integer product."""

_INPUT_SCALE, _INPUT_ZERO_POINT = 1 / 127.5, -1  # an image normalised to [-1, 1]
_EXACT_FLOAT32 = 2**24  # sums of integers below it are exact in float32
_PROBE_MACS = 12_000_000  # what the probe may spend, over all its inputs, before it takes fewer of them
_PROBE_INPUTS = (2, 6)
_PATCH_ELEMENTS = 2**21
_RELU_MEAN = 1.2  # of a sum before ReLU, in standard deviations: 12 % of the outputs are zero
_WEIGHT_VARIANCE = (255**2 - 1) / 12  # of uniform integers from -127 to 127
_LEAST_WEIGHT, _USUAL_WEIGHT = 16, 64  # magnitudes: of a channel's largest weight, and the mean of all
_LEAST_VARIANCE = 1 / 64  # of an input, in steps; that of one that hardly ever changes
_SPREAD = 3.0  # standard deviations that an output's range covers at least


@dataclass(frozen=True, slots=True)
class _Feature:
    """An activation: its tensor in the file, and its values for the probe's inputs."""

    tensor: int
    values: Values
    scale: float
    zero_point: int

    @property
    def offsets(self) -> Values:
        """The values minus the zero point."""
        return self.values - np.float32(self.zero_point)


@dataclass(frozen=True, slots=True)
class _Sums:
    """A layer's integer sums (batch, ..., channels) without bias, and its weights."""

    sums: Sums
    weights: NDArray[np.int8]
    axis: int  # of the weights' channels in the file
    per_channel: bool = True


def write_tflite(graph: Graph, seed: int, *, dense_per_channel: bool = True) -> bytes:
    """The .tflite file of a `deployed` graph; the same graph and seed give the same bytes.

    `dense_per_channel=False` gives dense layers one weight scale, as older converters did. Raises ValueError for a
    graph in paper mode, which no converter can emit.
    """
    if graph.mode != "deployed":
        raise ValueError("only a graph in deployed mode can be written: TFLite rounds pooling down and adds two by two")
    return _Writer(graph, seed, dense_per_channel).finish()


class _Writer:
    """Writes operator after operator, carrying the probe's values along."""

    def __init__(self, graph: Graph, seed: int, dense_per_channel: bool) -> None:
        self._graph, self._dense_per_channel = graph, dense_per_channel
        self._rng = np.random.default_rng(seed)
        self._file = TfliteFile("munas int8, random weights")
        self._features: dict[int, _Feature] = {}
        fewest, most = _PROBE_INPUTS
        batch = max(fewest, min(most, _PROBE_MACS // max(graph.macs, 1)))
        values = self._rng.integers(-128, 128, (batch, *graph.input_shape)).astype(np.float32)
        tensor = self._file.activation("input", (1, *graph.input_shape), _INPUT_SCALE, _INPUT_ZERO_POINT)
        self._features[INPUT] = _Feature(tensor, values, float(np.float32(_INPUT_SCALE)), _INPUT_ZERO_POINT)

    def finish(self) -> bytes:
        for index, operator in enumerate(self._graph.operators):
            sources = [self._features[producer] for producer in operator.inputs]
            self._features[index] = self._operator(operator, sources)
        return self._file.finish(
            [self._features[INPUT].tensor], [self._features[len(self._graph.operators) - 1].tensor]
        )

    def _operator(self, operator: Operator, sources: list[_Feature]) -> _Feature:
        match operator.kind:
            case Kind.CONV:
                return self._convolution(operator, sources[0])
            case Kind.DEPTHWISE:
                return self._depthwise(operator, sources[0])
            case Kind.DENSE:
                return self._dense(operator, sources[0])
            case Kind.POOL:
                return self._pool(operator, sources[0])
            case Kind.ADD:
                return self._add(operator, sources[0], sources[1])

    def _convolution(self, operator: Operator, source: _Feature) -> _Feature:
        kernel, depth = operator.kernel, operator.in_shapes[0][-1]
        weights = self._random_weights((operator.out_shape[-1], kernel, kernel, depth), axis=0)
        patches = _windows(source.offsets, kernel, operator.stride)
        flat = weights.reshape(len(weights), -1)
        step = max(1, _PATCH_ELEMENTS // (patches[0, 0].size * len(patches)))  # rows at a time: patches are large
        sums = [_product(patches[:, row : row + step], flat) for row in range(0, patches.shape[1], step)]
        result, inputs = self._weighted(operator, source, _Sums(np.concatenate(sums, axis=1), weights, axis=0))
        options = conv_options((operator.stride, operator.stride), activation=_fused(operator))
        self._file.operator(Code.CONV_2D, inputs, result.tensor, options)
        return result

    def _depthwise(self, operator: Operator, source: _Feature) -> _Feature:
        kernel, channels = operator.kernel, operator.out_shape[-1]
        weights = self._random_weights((1, kernel, kernel, channels), axis=3)
        patches = _windows(source.offsets, kernel, operator.stride)
        sums = np.einsum("brcijd,ijd->brcd", patches, weights[0].astype(np.float32), optimize=False)
        result, inputs = self._weighted(operator, source, _Sums(sums, weights, axis=3))
        options = depthwise_options((operator.stride, operator.stride), activation=_fused(operator))
        self._file.operator(Code.DEPTHWISE_CONV_2D, inputs, result.tensor, options)
        return result

    def _dense(self, operator: Operator, source: _Feature) -> _Feature:
        units = operator.out_shape[-1]
        source = self._flat(operator, source)
        weights = self._random_weights((units, source.values.shape[1]), axis=0)
        layer = _Sums(_product(source.offsets, weights), weights, axis=0, per_channel=self._dense_per_channel)
        result, inputs = self._weighted(operator, source, layer)
        version = PER_CHANNEL_DENSE_VERSION if self._dense_per_channel and units > 1 else 0
        self._file.operator(Code.FULLY_CONNECTED, inputs, result.tensor, dense_options(_fused(operator)), version)
        return result

    def _flat(self, operator: Operator, source: _Feature) -> _Feature:
        """The feature as (batch, N), through a RESHAPE whose shape is a tensor and which has no options."""
        if source.values.ndim == 2:
            return source
        flat = source.values.reshape(len(source.values), -1)
        length = flat.shape[1]
        shape = self._file.constant(f"{operator.name}/shape", np.array([-1, length], np.int32))
        name = f"{operator.name}/flatten"
        tensor = self._file.activation(name, (1, length), source.scale, source.zero_point)
        self._file.operator(Code.RESHAPE, [source.tensor, shape], tensor)
        return _Feature(tensor, flat, source.scale, source.zero_point)

    def _pool(self, operator: Operator, source: _Feature) -> _Feature:
        assert operator.pool is not None
        height, width = operator.pool
        rows, columns = operator.out_shape[:2]
        cut = source.values[:, : rows * height, : columns * width]
        tiles = cut.reshape(len(cut), rows, height, columns, width, -1)
        is_max = operator.pool_type == "max"
        values = tiles.max(axis=(2, 4)) if is_max else np.rint(tiles.mean(axis=(2, 4)))
        result = self._result(operator.name, operator.out_shape, values, source.scale, source.zero_point)
        code = Code.MAX_POOL_2D if is_max else Code.AVERAGE_POOL_2D
        self._file.operator(code, [source.tensor], result.tensor, pool_options(operator.pool, operator.pool))
        return result

    def _add(self, operator: Operator, first: _Feature, second: _Feature) -> _Feature:
        terms = [self._padded(operator, source, number) for number, source in enumerate((first, second))]
        real = sum(term.offsets * np.float64(term.scale) for term in terms)
        scale, zero_point = _affine(float(np.min(real)), float(np.max(real)))
        values = np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.float32)
        result = self._result(operator.name, operator.out_shape, values, scale, zero_point)
        self._file.operator(Code.ADD, [term.tensor for term in terms], result.tensor, add_options(_fused(operator)))
        return result

    def _padded(self, operator: Operator, source: _Feature, number: int) -> _Feature:
        """The feature grown to the operator's output at bottom and right, through a PAD where it is smaller."""
        shape, target = source.values.shape[1:], operator.out_shape
        if shape == target:
            return source
        after = [(0, high - low) for low, high in zip(shape, target, strict=True)]
        values = np.pad(source.values, [(0, 0), *after], constant_values=source.zero_point)
        name = f"{operator.name}/pad_{number}"
        paddings = self._file.constant(f"{name}/paddings", np.array([(0, 0), *after], np.int32))
        result = self._result(name, target, values, source.scale, source.zero_point)
        self._file.operator(Code.PAD, [source.tensor, paddings], result.tensor, PAD_OPTIONS)
        return result

    def _weighted(self, operator: Operator, source: _Feature, layer: _Sums) -> tuple[_Feature, list[int]]:
        """Scales, bias and output of a layer with weights; also the tensors that its operator reads."""
        axes = tuple(range(layer.sums.ndim - 1))
        mean, deviation = _moments(layer, axes, source.values)
        relu = operator.activation == "relu"
        centre = (_RELU_MEAN if relu else 0.0) + self._rng.normal(0.0, 0.25, mean.shape)
        bias = np.rint(centre * deviation - mean)
        jitter = self._rng.uniform(0.7, 1.4, mean.shape) if layer.per_channel else np.ones(1)
        per_step = deviation if layer.per_channel else deviation[:1]
        weight_scales = (jitter / (per_step * source.scale)).astype(np.float32)
        products = source.scale * weight_scales.astype(np.float64)
        real = (layer.sums + bias) * products
        scale, zero_point = _output_range(real, float(np.mean(deviation * products)), relu)
        values = np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.float32)
        result = self._result(operator.name, operator.out_shape, values, scale, zero_point)
        weights = self._file.constant(f"{operator.name}/weights", layer.weights, weight_scales, layer.axis)
        biases = self._file.constant(f"{operator.name}/bias", bias.astype(np.int32), products)
        return result, [source.tensor, weights, biases]

    def _random_weights(self, shape: tuple[int, ...], axis: int) -> NDArray[np.int8]:
        """Uniform; `axis` is that of the output channels.

        A channel of one tap with a weight of next to nothing could be constant, and be left out of a plan: its network
        would be smaller than the graph says.
        """
        weights = self._rng.integers(-127, 128, shape, dtype=np.int8)
        others = tuple(other for other in range(len(shape)) if other != axis)
        weak = np.abs(weights).max(axis=others, keepdims=True) < _LEAST_WEIGHT
        return np.where(weak, np.int8(_USUAL_WEIGHT), weights)

    def _result(self, name: str, shape: Shape, values: Values, scale: float, zero_point: int) -> _Feature:
        tensor = self._file.activation(name, (1, *shape), scale, zero_point)
        return _Feature(tensor, values, scale, zero_point)


def _fused(operator: Operator) -> Fused:
    return Fused.RELU if operator.activation == "relu" else Fused.NONE


def _windows(values: Values, kernel: int, stride: int) -> Values:
    """(batch, rows, columns, kernel, kernel, channels) view of all VALID windows of (batch, H, W, channels)."""
    batch, height, width, channels = values.shape
    rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    image, row, column, channel = values.strides
    shape = (batch, rows, columns, kernel, kernel, channels)
    return as_strided(values, shape, (image, row * stride, column * stride, row, column, channel), writeable=False)


def _product(inputs: Values, weights: NDArray[np.int8]) -> Sums:
    """Each sample of inputs (batch, ..., taps in any shape) times weights (m, taps): exact integers (batch, ..., m)."""
    taps = weights.shape[1]
    exact = np.float32 if 255 * 127 * taps < _EXACT_FLOAT32 else np.float64
    leading = inputs.shape[:-3] if inputs.ndim > 2 else inputs.shape[:-1]
    rows = inputs.astype(exact, copy=False).reshape(-1, taps)
    product: Sums = rows @ weights.T.astype(exact)
    return product.reshape(*leading, -1)


def _moments(layer: _Sums, axes: tuple[int, ...], inputs: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and a usable standard deviation of each channel's sums; one deviation for all when not `per_channel`.

    The layer's deviation is at least what independent inputs of the observed variance would give, which the few sums of
    a 1x1 feature map or a dense layer understate, and never that of constant inputs. A channel's own deviation is kept
    within a factor of four of it.
    """
    mean = layer.sums.mean(axis=axes, dtype=np.float64)
    variance = np.square(layer.sums - mean).mean(axis=axes, dtype=np.float64)
    unbiased = len(inputs) / (len(inputs) - 1)
    input_variance = max(float(inputs.var(axis=0, dtype=np.float64).mean()) * unbiased, _LEAST_VARIANCE)
    taps = layer.weights.size / len(mean)
    expected = taps * _WEIGHT_VARIANCE * input_variance
    typical = math.sqrt(max(float(variance.mean()), expected))
    if not layer.per_channel:
        return mean, _coarse(np.full(mean.shape, typical))
    return mean, _coarse(np.clip(np.sqrt(variance), typical / 4, typical * 4))


def _output_range(real: NDArray[np.float64], typical: float, relu: bool) -> tuple[float, int]:
    """(scale, zero point) for a layer's real outputs before the activation; `typical` is their deviation at least."""
    mean, deviation = float(real.mean()), max(float(real.std()), typical)
    low = 0.0 if relu else min(float(real.min()), mean - _SPREAD * deviation)
    return _affine(low, max(float(real.max()), mean + _SPREAD * deviation))


def _affine(low: float, high: float) -> tuple[float, int]:
    """Scale (a float32 value) and zero point of a range, widened to contain zero, as TFLite's calibration has it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(_coarse(np.array([max(high - low, 1e-3) / 255]))[0]))
    return scale, max(-128, min(127, round(-128 - low / scale)))


def _coarse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded to 12 bits, so that the last bits of a sum's order of summation cannot show in a file."""
    mantissa, exponent = np.frexp(values)
    rounded: NDArray[np.float64] = np.ldexp(np.rint(mantissa * 4096) / 4096, exponent)
    return rounded
