"""Small .tflite files for tests, built without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from munas.tflite.file import (
    DEQUANTIZE_OPTIONS,
    PAD_OPTIONS,
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
    pool_options,
    reducer_options,
    softmax_options,
)

UNIT = 1 / 64  # a scale that keeps everything in range


@dataclass
class Chain:
    """Builds a network operator by operator; every method returns the tensor it made."""

    file: TfliteFile = field(default_factory=TfliteFile)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def tensor(self, shape: Sequence[int], scale: float = UNIT, zero_point: int = 3, name: str = "t") -> int:
        index = self.file.activation(name, shape, scale, zero_point)
        self.shapes[index] = tuple(shape)
        return index

    def convolution(self, source: int, filters: int, kernel: int, **options: object) -> int:
        depth = self.shapes[source][3]
        weights = self._weights((filters, kernel, kernel, depth), filters, axis=0)
        shape = _slide(self.shapes[source], kernel, filters, options)
        output = self.tensor(shape, scale=0.05, zero_point=-7)
        self.file.operator(Code.CONV_2D, [source, *weights], output, conv_options(**options))  # type: ignore[arg-type]
        return output

    def depthwise(self, source: int, kernel: int, multiplier: int = 1, **options: object) -> int:
        channels = self.shapes[source][3] * multiplier
        weights = self._weights((1, kernel, kernel, channels), channels, axis=3, scale_in=0.05)
        output = self.tensor(_slide(self.shapes[source], kernel, channels, options), scale=0.04, zero_point=5)
        settings = depthwise_options(multiplier=multiplier, **options)  # type: ignore[arg-type]
        self.file.operator(Code.DEPTHWISE_CONV_2D, [source, *weights], output, settings)
        return output

    def dense(self, source: int, units: int, per_channel: bool = True, scale_in: float = UNIT) -> int:
        length = int(np.prod(self.shapes[source]))
        weights = self._weights((units, length), units if per_channel else 1, axis=0, scale_in=scale_in)
        output = self.tensor((1, units), scale=0.1, zero_point=11)
        self.file.operator(Code.FULLY_CONNECTED, [source, *weights], output, dense_options(), 12 if per_channel else 4)
        return output

    def same_scale(
        self, code: Code, sources: Sequence[int], shape: Sequence[int], options: Options | None, scale: float, zero: int
    ) -> int:
        output = self.tensor(shape, scale, zero)
        self.file.operator(code, sources, output, options)
        return output

    def integers(self, values: object) -> int:
        return self.file.constant("integers", np.array(values, np.int32))

    def _weights(self, shape: tuple[int, ...], scales: int, axis: int, scale_in: float = UNIT) -> tuple[int, int]:
        values = self.rng.integers(-127, 128, shape, dtype=np.int8)
        weight_scales = self.rng.uniform(0.002, 0.01, scales).astype(np.float32)
        channels = shape[axis]
        bias = self.rng.integers(-500, 500, channels, dtype=np.int32)
        products = np.float32(scale_in) * weight_scales
        return self.file.constant("w", values, weight_scales, axis), self.file.constant("b", bias, products)


def _slide(shape: tuple[int, ...], kernel: int, channels: int, options: dict[str, object]) -> tuple[int, ...]:
    stride = options.get("stride", (1, 1))
    assert isinstance(stride, tuple)
    reduced = 0 if options.get("same") else kernel - 1
    return (1, *(-(-(size - reduced) // step) for size, step in zip(shape[1:3], stride, strict=True)), channels)


def every_operator(edge: Element = Element.INT8) -> bytes:
    """A network that uses every supported operator; with float32 or uint8 edges where asked for."""
    chain = Chain()
    file = chain.file
    entry = chain.tensor((1, 12, 10, 2), name="image")
    inputs = [entry]
    if edge is not Element.INT8:
        inputs = [file.activation("outer", (1, 12, 10, 2), None if edge is Element.FLOAT32 else UNIT, 131, edge)]
        file.operator(Code.QUANTIZE, inputs, entry, QUANTIZE_OPTIONS, 1)
    conv = chain.convolution(entry, 4, 3, same=True, stride=(2, 1), activation=Fused.RELU6)
    wide = chain.depthwise(conv, 3, multiplier=2, same=True)
    large = chain.same_scale(Code.MAX_POOL_2D, [wide], (1, 3, 5, 8), pool_options((2, 2), (2, 2)), 0.04, 5)
    small = chain.same_scale(
        Code.AVERAGE_POOL_2D, [large], (1, 2, 3, 8), pool_options((2, 2), (2, 2), same=True), 0.04, 5
    )
    paddings = chain.integers([(0, 0), (0, 1), (0, 2), (0, 0)])
    padded = chain.same_scale(Code.PAD, [small, paddings], (1, 3, 5, 8), PAD_OPTIONS, 0.04, 5)
    total = chain.same_scale(Code.ADD, [large, padded], (1, 3, 5, 8), add_options(Fused.RELU), 0.06, -20)
    rectified = chain.same_scale(Code.RELU, [total], (1, 3, 5, 8), None, 0.05, -128)
    clipped = chain.same_scale(Code.RELU6, [rectified], (1, 3, 5, 8), None, 6 / 255, -128)
    rescaled = chain.same_scale(Code.QUANTIZE, [clipped], (1, 3, 5, 8), QUANTIZE_OPTIONS, 0.04, 5)
    joined = chain.same_scale(Code.CONCATENATION, [rescaled, padded], (1, 3, 5, 16), concat_options(-1), 0.04, 5)
    kept = chain.same_scale(Code.MEAN, [joined, chain.integers([1, 2])], (1, 1, 1, 16), reducer_options(True), 0.03, 1)
    flat = chain.same_scale(Code.RESHAPE, [kept, chain.integers([-1, 16])], (1, 16), None, 0.03, 1)
    hidden = chain.dense(flat, 9, scale_in=0.03)
    logits = chain.dense(hidden, 5, per_channel=False, scale_in=0.1)
    softmax = chain.same_scale(Code.SOFTMAX, [logits], (1, 5), softmax_options(), 1 / 256, -128)
    outputs = [softmax]
    if edge is not Element.INT8:
        scale = None if edge is Element.FLOAT32 else 1 / 256
        outputs = [file.activation("outer_result", (1, 5), scale, 0, edge)]
        is_float = edge is Element.FLOAT32
        code, options = (Code.DEQUANTIZE, DEQUANTIZE_OPTIONS) if is_float else (Code.QUANTIZE, QUANTIZE_OPTIONS)
        file.operator(code, [softmax], outputs[0], options, 2 if is_float else 1)
    return file.finish(inputs, outputs)


def single(code: Code, shape: Sequence[int], options: Options | None, extra: Sequence[np.ndarray] = ()) -> bytes:
    """A network of one operator that keeps shape and scale; `extra` are constant inputs after the first."""
    file = TfliteFile()
    source = file.activation("x", shape, UNIT, 0)
    constants = [file.constant(f"c{i}", values) for i, values in enumerate(extra)]
    result = file.activation("y", shape, UNIT, 0)
    file.operator(code, [source, *constants], result, options)
    return file.finish([source], [result])


def convolution(
    source: tuple[int, ...],
    weights: tuple[int, ...],
    result: tuple[int, ...],
    options: Options | None,
    *,
    bias: bool = True,
    code: Code = Code.CONV_2D,
    axis: int = 0,
    scales: object = 0.01,
    zero_point: int = 0,
    bias_scale: float | None = None,
    bias_elements: int | None = None,
    fill: int = 1,
) -> bytes:
    file = TfliteFile()
    x, y = file.activation("x", source, UNIT), file.activation("y", result, UNIT)
    w = file.constant("w", np.full(weights, fill, np.int8), scales, axis, zero_point)  # type: ignore[arg-type]
    inputs = [x, w]
    if bias:
        scale = bias_scale if bias_scale is not None else UNIT * float(np.ravel(scales)[0])
        inputs.append(file.constant("b", np.zeros(bias_elements or weights[axis], np.int32), [scale]))
    file.operator(code, inputs, y, options)
    return file.finish([x], [y])


def dense(
    *,
    inputs: list[int] | None = None,
    source: tuple[int, ...] = (1, 8),
    result: tuple[int, ...] = (1, 5),
    options: Options | None = None,
    **changes: object,
) -> bytes:
    file = TfliteFile()
    values = np.ones((5, 8), np.int8)
    x = file.activation("x", source, changes.get("scale_in", UNIT), 0)  # type: ignore[arg-type]
    w = file.constant("w", changes.get("weights", values), changes.get("scales", [0.01]))  # type: ignore[arg-type]
    b = file.constant("b", changes.get("bias", np.zeros(5, np.int32)), [changes.get("bias_scale", UNIT * 0.01)])  # type: ignore[arg-type]
    y = file.activation("y", result, changes.get("scale_out", UNIT), 0)  # type: ignore[arg-type]
    file.operator(Code.FULLY_CONNECTED, [x, w, b] if inputs is None else inputs, y, options)
    return file.finish([x], [y])


def whole_numbers() -> bytes:
    """RELU of uint8 inputs (1, 4) that are cast to float32 and quantised to int8 with scale 1."""
    file = TfliteFile()
    x = file.activation("x", (1, 4), None, element=Element.UINT8)
    real = file.activation("f", (1, 4), None, element=Element.FLOAT32)
    y, z = file.activation("y", (1, 4), 1.0, -128), file.activation("z", (1, 4), 1.0, -128)
    file.operator(Code.CAST, [x], real, Options(37, ((0, "Int8", 3), (1, "Int8", 0))), 1)
    file.operator(Code.QUANTIZE, [real], y)
    file.operator(Code.RELU, [y], z)
    return file.finish([x], [z])
