"""Checks of scales and zero points: what TFLite demands, and what keeps integer arithmetic from overflowing.

Sources: PopulateConvolutionQuantizationParams and GetQuantizedConvolutionMultipler in
tensorflow/lite/kernels/kernel_util.cc, QuantizeMultiplier in kernels/internal/quantization_util.cc, add.cc, softmax.cc.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hil.model.network import OpKind, Quantization, Tensor
from hil.model.tflite import limits
from hil.model.tflite.container import RawOperator, RawTensor

_INT32_LIMIT = 2.0**31 - 2.0**9  # room for zero points and rounding
_BIAS_TOLERANCE = 0.02  # of an output step, as kernel_util.cc has it
_MAX_SHIFT = 30


def activation_quantization(raw: RawTensor, operator: RawOperator, what: str) -> Quantization:
    """Per-tensor quantisation of an int8 or uint8 activation. Raises ModelError naming the operator."""
    if len(raw.scales) != 1 or len(raw.zero_points) != 1:
        raise operator.refuse(f"{what} has {len(raw.scales)} scales; supported: one scale and one zero point")
    scale, zero_point = raw.scales[0], raw.zero_points[0]
    if not limits.MIN_ACTIVATION_SCALE <= scale <= limits.MAX_ACTIVATION_SCALE:
        raise operator.refuse(f"the scale {scale:g} of {what} is not usable")
    low = 0 if raw.type == 3 else -128
    if not low <= zero_point <= low + 255:
        raise operator.refuse(f"the zero point {zero_point} of {what} is outside [{low}, {low + 255}]")
    return Quantization(raw.scales, raw.zero_points)


def constant_quantization(
    raw: RawTensor, operator: RawOperator, what: str, axis: int, least: float = 0.0
) -> Quantization:
    """Quantisation of weights or bias: zero points 0; scales of `least` (0: a dead channel's) or more, one or as many
    as along `axis`.
    """
    count = len(raw.scales)
    if count == 0:
        raise operator.refuse(f"{what} has no scale; only int8 networks are supported")
    if count > 1 and (raw.axis != axis or count != raw.shape[axis]):
        raise operator.refuse(
            f"{what} has {count} scales along axis {raw.axis}; supported: 1, or {raw.shape[axis]} along axis {axis}"
        )
    if any(raw.zero_points):
        raise operator.refuse(f"{what} has a zero point other than 0")
    if not all(least <= scale < math.inf and scale > -math.inf for scale in raw.scales):
        raise operator.refuse(f"{what} has a scale that is not a positive number")
    return Quantization(raw.scales, raw.zero_points, axis if count > 1 else 0)


def check_weights(
    operator: RawOperator, source: Quantization, weights: Tensor, bias: Tensor | None, output: Quantization
) -> None:
    """Refuse a bias in other units than input * weight, and sums or products that could leave 32 bits.

    `weights` is (M, ...) with the output channel first, or (1, KH, KW, M) of a depthwise convolution; it has one scale
    or M scales.
    """
    assert weights.data is not None
    depthwise = operator.kind is OpKind.DEPTHWISE_CONV_2D
    magnitude = np.abs(np.frombuffer(weights.data, np.int8).astype(np.int32))
    sums = (
        magnitude.reshape(-1, weights.shape[-1]).sum(0) if depthwise else magnitude.reshape(weights.shape[0], -1).sum(1)
    )
    largest = sums.astype(np.float64) * max(127 - source.zero_point, 128 + source.zero_point)
    products = source.scale * np.array(weights.quant.scales, np.float64)
    if bias is not None:
        assert bias.data is not None
        largest += np.abs(np.frombuffer(bias.data, "<i4").astype(np.float64))
        error = np.abs(products - np.array(bias.quant.scales, np.float64))
        # LiteRT looks at the bias' scale only where a dense layer has one scale for all.
        checked = operator.kind is OpKind.FULLY_CONNECTED and not weights.quant.per_channel
        if checked and bool(np.any(error > _BIAS_TOLERANCE * output.scale)):
            raise operator.refuse("the scale of the bias is not input scale * weight scale")
    ratios = products / output.scale
    exponents = np.frexp(ratios)[1]
    if (
        not np.isfinite(ratios).all()
        or bool(np.any(exponents > _MAX_SHIFT))
        or bool(np.any(np.ldexp(largest, np.maximum(exponents, 0)) >= _INT32_LIMIT))
    ):
        raise operator.refuse("its sums can overflow 32 bits; weights, bias or scales are not those of a real network")


def check_sums(
    operator: RawOperator,
    source: Quantization,
    weights: NDArray[np.int8],
    bias: bytes | None,
    scale: float,
) -> None:
    """Refuse sums of int8 inputs over (rows, columns) `weights` that leave 32 bits, before or after their shift."""
    largest = np.abs(weights.astype(np.float64)).sum(axis=1) * max(127 - source.zero_point, 128 + source.zero_point)
    if bias is not None:
        largest += np.abs(np.frombuffer(bias, "<i4").astype(np.float64))
    if not 0 < scale < 2.0**_MAX_SHIFT or math.ldexp(largest.max(), max(math.frexp(scale)[1], 0)) >= _INT32_LIMIT:
        raise operator.refuse("its sums can overflow 32 bits; weights, bias or scales are not those of a real network")


def check_rescale(
    operator: RawOperator, source: Quantization, output: Quantization, summed: int = 1, slope: float = 1.0
) -> None:
    """Refuse scale ratios with which `summed` elements of the input, rescaled, could leave 32 bits.

    `slope` is a factor that some of them get on top.
    """
    ratio = max(1.0, slope) * source.scale / output.scale
    exponent = math.frexp(ratio)[1]
    if not ratio < 2.0**30 or math.ldexp(255.0 * summed, max(exponent, 0)) >= _INT32_LIMIT:
        raise operator.refuse(
            f"the output's scale {output.scale:g} is too small for an input of scale {source.scale:g}"
        )


def check_add(operator: RawOperator, inputs: list[Quantization], output: Quantization) -> None:
    """Refuse an output scale for which TFLite has no multiplier (2 * largest input / (2^20 * output) has to be < 1)."""
    if 2 * max(source.scale for source in inputs) >= 2.0**20 * output.scale:
        raise operator.refuse(f"the output's scale {output.scale:g} is too small for its inputs")


def check_product(operator: RawOperator, first: Quantization, second: Quantization, output: Quantization) -> None:
    """Refuse scales with which the product of two elements (PRELU: one as well), rescaled, could leave 32 bits."""
    for factor, limit in ((first.scale * second.scale, 255.0 * 255.0), (first.scale, 255.0)):
        if limit == 255.0 and operator.kind is not OpKind.PRELU:
            continue
        ratio = factor / output.scale
        if not ratio < 2.0**30 or math.ldexp(limit, max(math.frexp(ratio)[1], 0)) >= _INT32_LIMIT:
            raise operator.refuse(f"the output's scale {output.scale:g} is too small for its inputs")


def check_softmax(operator: RawOperator, source: Quantization, beta: float, output: Quantization) -> None:
    """Refuse what TFLite's int8 softmax refuses: output other than 1/256, -128; beta * scale without multiplier."""
    if (output.scale, output.zero_point) != (1 / 256, -128):
        raise operator.refuse("its output needs scale 1/256 and zero point -128")
    if not 0 < beta < 2.0**16 or beta * source.scale * 2.0**26 <= 1:
        raise operator.refuse(f"beta {beta:g} with an input scale of {source.scale:g} is not supported")


def same(operator: RawOperator, tensors: list[Quantization]) -> None:
    """Refuse tensors of different scale or zero point where TFLite only moves or compares numbers."""
    first = tensors[0]
    for other in tensors[1:]:
        if (other.scale, other.zero_point) != (first.scale, first.zero_point):
            raise operator.refuse("its tensors have different scales or zero points; TFLite needs them equal")
