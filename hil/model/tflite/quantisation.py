"""Checks of scales and zero points: what TFLite demands, and what keeps integer arithmetic from overflowing.

Sources: PopulateConvolutionQuantizationParams and GetQuantizedConvolutionMultipler in
tensorflow/lite/kernels/kernel_util.cc, QuantizeMultiplier in kernels/internal/quantization_util.cc, add.cc, softmax.cc.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hil.model.network import DType, OpKind, Quantization, Tensor
from hil.model.tflite import limits, schema
from hil.model.tflite.container import RawOperator, RawTensor

_INT32_LIMIT = 2.0**31 - 2.0**9  # room for zero points and rounding
_BIAS_TOLERANCE = 0.02  # of an output step, as kernel_util.cc has it
_MAX_SHIFT = 30
_SOFTMAX_OUTPUTS = {
    (DType.INT8, False): (1 / 256, -128),
    (DType.INT8, True): (1 / 65536, -(2**15)),
    (DType.INT16, True): (1 / 32768, 0),
}
"""Scale and zero point by the input's type, and whether the output has 16 bits."""


def activation_quantization(raw: RawTensor, operator: RawOperator, what: str) -> Quantization:
    """Per-tensor quantisation of an int8 or uint8 activation. Raises ModelError naming the operator."""
    if len(raw.scales) != 1 or len(raw.zero_points) != 1:
        raise operator.refuse(f"{what} has {len(raw.scales)} scales; supported: one scale and one zero point")
    scale, zero_point = raw.scales[0], raw.zero_points[0]
    if not limits.MIN_ACTIVATION_SCALE <= scale <= limits.MAX_ACTIVATION_SCALE:
        raise operator.refuse(f"the scale {scale:g} of {what} is not usable")
    low = 0 if raw.type == 3 else -128
    if raw.type == schema.INT16:
        if zero_point not in (0, -(2**15)):
            raise operator.refuse(f"the zero point {zero_point} of {what}, which is int16, is not 0")
        return Quantization(raw.scales, raw.zero_points)
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
    operator: RawOperator, source: Tensor, weights: Tensor, bias: Tensor | None, output: Quantization
) -> None:
    """Refuse a bias in other units than input * weight, and sums or products that could leave 32 bits.

    `weights` is (M, ...) with the output channel first, or (1, KH, KW, M) of a depthwise convolution; it has one scale
    or M scales.
    """
    largest = _largest_sums(operator, source, weights, bias)
    products = source.quant.scale * np.array(weights.quant.scales, np.float64)
    if bias is not None:
        error = np.abs(products - np.array(bias.quant.scales, np.float64))
        # LiteRT looks at the bias' scale only where a dense layer has one scale for all.
        checked = operator.kind is OpKind.FULLY_CONNECTED and not weights.quant.per_channel
        if checked and bool(np.any(error > _BIAS_TOLERANCE * output.scale)):
            raise operator.refuse("the scale of the bias is not input scale * weight scale")
    ratios = products / output.scale
    exponents = np.frexp(ratios)[1]
    if source.dtype is DType.INT16:  # sums have 64 bits, of which 47 may be used; what they are rescaled to has 32
        fits = np.isfinite(ratios).all() and bool(np.all(exponents < 8)) and bool(np.all(largest < 2.0**47))
        fits = fits and bool(np.all(largest * np.maximum(ratios, 0.0) < _INT32_LIMIT))
    else:
        fits = np.isfinite(ratios).all() and not bool(np.any(exponents > _MAX_SHIFT))
        fits = fits and not bool(np.any(np.ldexp(largest, np.maximum(exponents, 0)) >= _INT32_LIMIT))
    if not fits:
        raise operator.refuse("its sums can overflow 32 bits; weights, bias or scales are not those of a real network")


def _largest_sums(operator: RawOperator, source: Tensor, weights: Tensor, bias: Tensor | None) -> NDArray[np.float64]:
    """The largest magnitude of each output's sum."""
    assert weights.data is not None
    depthwise = operator.kind is OpKind.DEPTHWISE_CONV_2D
    magnitude = np.abs(np.frombuffer(weights.data, np.int8).astype(np.int32))
    sums = (
        magnitude.reshape(-1, weights.shape[-1]).sum(0) if depthwise else magnitude.reshape(weights.shape[0], -1).sum(1)
    )
    zero_point = source.quant.zero_point
    most = 2.0**15 if source.dtype is DType.INT16 else max(127 - zero_point, 128 + zero_point)
    largest: NDArray[np.float64] = sums.astype(np.float64) * most
    if bias is not None:
        assert bias.data is not None
        largest += np.abs(np.frombuffer(bias.data, "<i8" if bias.dtype is DType.INT64 else "<i4").astype(np.float64))
    return largest


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
    operator: RawOperator,
    source: Quantization,
    output: Quantization,
    summed: int = 1,
    slope: float = 1.0,
    most: float = 255.0,
) -> None:
    """Refuse scale ratios with which `summed` elements of the input, `most` each, rescaled, could leave 32 bits.

    `slope` is a factor that some of them get on top.
    """
    ratio = max(1.0, slope) * source.scale / output.scale
    exponent = math.frexp(ratio)[1]
    if not ratio < 2.0**30 or math.ldexp(most * summed, max(exponent, 0)) >= _INT32_LIMIT:
        raise operator.refuse(
            f"the output's scale {output.scale:g} is too small for an input of scale {source.scale:g}"
        )


def check_add(operator: RawOperator, inputs: list[Quantization], output: Quantization, left_shift: int = 20) -> None:
    """Refuse an output scale for which TFLite has no multiplier (2 * largest input / (2^20 * output) has to be < 1)."""
    if 2 * max(source.scale for source in inputs) >= 2.0**left_shift * output.scale:
        raise operator.refuse(f"the output's scale {output.scale:g} is too small for its inputs")


def check_product(
    operator: RawOperator, first: Quantization, second: Quantization, output: Quantization, most: float = 255.0
) -> None:
    """Refuse scales with which the product of two elements (PRELU: one as well), rescaled, could leave 32 bits."""
    for factor, limit in ((first.scale * second.scale, most * most), (first.scale, most)):
        if limit == most and operator.kind is not OpKind.PRELU:
            continue
        ratio = factor / output.scale
        if not ratio < 2.0**30 or math.ldexp(limit, max(math.frexp(ratio)[1], 0)) >= _INT32_LIMIT:
            raise operator.refuse(f"the output's scale {output.scale:g} is too small for its inputs")


def check_softmax(
    operator: RawOperator, source: Tensor, beta: float, output: Quantization, *, wide: bool = False
) -> None:
    """Refuse what TFLite's softmax refuses: output other than 1/256, -128 (int8); beta * scale without multiplier.

    `wide`: the output has 16 bits.
    """
    wanted = _SOFTMAX_OUTPUTS[(source.dtype, wide)]
    tolerance = 0.001 * wanted[0] if wide and source.dtype is DType.INT8 else 0.0  # TFLite's, whose kernel has 2^-16
    if abs(output.scale - wanted[0]) > tolerance or output.zero_point != wanted[1]:
        raise operator.refuse(f"its output needs scale 1/{round(1 / wanted[0])} and zero point {wanted[1]}")
    if source.dtype is DType.INT16:
        if not 0 < beta * source.quant.scale < 2.0**10:
            raise operator.refuse(f"beta {beta:g} with an input scale of {source.quant.scale:g} is not supported")
    elif not 0 < beta < 2.0**16 or beta * source.quant.scale * 2.0**26 <= 1:
        raise operator.refuse(f"beta {beta:g} with an input scale of {source.quant.scale:g} is not supported")


def check_log_softmax(operator: RawOperator, source: Quantization, output: Quantization) -> None:
    """Refuse what TFLite's log-softmax refuses: output other than 1/16, 127; a scale without multipliers."""
    if (output.scale, output.zero_point) != (1 / 16, 127):
        raise operator.refuse("its output needs scale 1/16 and zero point 127")
    if source.scale * 2.0**26 < 4:
        raise operator.refuse(f"an input scale of {source.scale:g} is not supported")


def same(operator: RawOperator, tensors: list[Quantization]) -> None:
    """Refuse tensors of different scale or zero point where TFLite only moves or compares numbers."""
    first = tensors[0]
    for other in tensors[1:]:
        if (other.scale, other.zero_point) != (first.scale, first.zero_point):
            raise operator.refuse("its tensors have different scales or zero points; TFLite needs them equal")
