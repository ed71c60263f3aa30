"""Integer parameters of the int8 kernels, computed exactly as TensorFlow Lite's reference kernels compute them.

Which products are taken in float32 and which in double is part of the arithmetic: it decides the last bit of a
multiplier, and with it output bits. Source: tflite/kernels/{kernel_util,fully_connected,add,activations,reduce,
quantize}.cc and internal/quantization_util.cc of LiteRT 2.x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hil.errors import ModelError
from hil.model.network import Activation, Quantization

_INT32_MAX = 2**31 - 1
_ADD_LEFT_SHIFT = 20  # int8 inputs of ADD are scaled up by 2**20 before they meet
_SOFTMAX_INTEGER_BITS = 5  # exp() of the reference takes a Q5.26
_DENSE_SCALE_LIMIT = 2.0**20


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A positive real as significand / 2**31 * 2**shift; significand is an int32, shift -31 ... 31."""

    significand: int
    shift: int


@dataclass(frozen=True, slots=True)
class AddParameters:
    """Requantisation of ADD: both inputs to twice the larger scale, the sum to the output's."""

    first: Multiplier
    second: Multiplier
    output: Multiplier


@dataclass(frozen=True, slots=True)
class LogSoftmaxParameters:
    """`multiplier` and `diff_min` are as in SoftmaxParameters, `reverse` takes a Q5.26 to an input difference."""

    multiplier: Multiplier
    reverse: Multiplier
    diff_min: int


@dataclass(frozen=True, slots=True)
class SoftmaxParameters:
    """`multiplier` takes an input difference to Q5.26; differences below `diff_min` count as exp() = 0."""

    multiplier: Multiplier
    diff_min: int


def quantize_multiplier(real: float) -> Multiplier:
    """The fixed-point form of `real` >= 0; one below 2**-32 becomes 0. Raises ModelError from 2**31 on."""
    if real == 0.0:
        return Multiplier(0, 0)
    if not (math.isfinite(real) and real > 0):
        raise ModelError(f"a quantisation needs the multiplier {real!r}, which is not a positive number")
    mantissa, shift = math.frexp(real)
    significand = math.floor(mantissa * 2.0**31 + 0.5)  # exact: half rounds up, and no value is negative
    if significand == 2**31:
        significand, shift = significand // 2, shift + 1
    if shift < -31:
        return Multiplier(0, 0)
    if shift > 31:
        raise ModelError(f"a quantisation needs the multiplier {real:g}, which is too large for int8 kernels")
    return Multiplier(significand, shift)


def conv_multipliers(
    source: Quantization, weights: Quantization, output: Quantization, channels: int
) -> list[Multiplier]:
    """One multiplier a channel for (depthwise) convolutions: double arithmetic."""
    scales = weights.scales if weights.per_channel else weights.scales * channels
    return [quantize_multiplier(source.scale * scale / output.scale) for scale in scales]


def dense_scales(source: Quantization, weights: Quantization, output: Quantization) -> list[tuple[int, int]]:
    """Scales of a dense layer's rows (one for all when the weights have one scale), as pairs of int32 for hil_dense.

    The reference rescales in double; the device does the same in integers, so it gets all 53 bits. Raises ModelError
    for a scale beyond the kernel.
    """
    return [_dense_scale(source.scale * scale / output.scale) for scale in weights.scales]


def _dense_scale(scale: float) -> tuple[int, int]:
    if scale >= _DENSE_SCALE_LIMIT:
        raise ModelError(f"a dense layer needs the multiplier {scale:g}, which is too large")
    mantissa, exponent = math.frexp(scale)
    shift = 31 - exponent
    if shift > 63:  # no sum of 32 bits rounds to anything but 0
        return 0, 1
    significand = int(mantissa * 2.0**53) << 10
    low = (significand & 0xFFFFFFC0) | shift
    return significand >> 32, low - 2**32 if low >= 2**31 else low


def round_half_away(value: float) -> int:
    """C's round()."""
    whole = math.floor(abs(value))
    return int(math.copysign(whole + (abs(value) - whole >= 0.5), value))


def ratio_multiplier(source: Quantization, output: Quantization) -> Multiplier:
    """The multiplier of QUANTIZE from int8 to int8."""
    return quantize_multiplier(source.scale / output.scale)


def relu_multiplier(source: Quantization, output: Quantization) -> Multiplier:
    """The multiplier of RELU and RELU6: the quotient is taken in float32."""
    with np.errstate(over="ignore"):
        return quantize_multiplier(float(np.float32(source.scale) / np.float32(output.scale)))


def product_multiplier(first: Quantization, second: Quantization, output: Quantization) -> Multiplier:
    """The multiplier of MUL (and of PRELU's negative side): products and quotients of scales in float32."""
    with np.errstate(over="ignore"):
        product = np.float32(first.scale) * np.float32(second.scale)
        return quantize_multiplier(float(product / np.float32(output.scale)))


def mean_multiplier(source: Quantization, output: Quantization, count: int) -> Multiplier:
    """The multiplier of MEAN over `count` elements: 1/count is folded in with as many bits as fit."""
    base = quantize_multiplier(source.scale / output.scale)
    shift = min(count.bit_length() - 1, 32, 31 + base.shift)
    return Multiplier((base.significand << shift) // count, base.shift - shift)


def add_parameters(
    first: Quantization, second: Quantization, output: Quantization, left_shift: int = _ADD_LEFT_SHIFT
) -> AddParameters:
    """Multipliers of ADD, whose inputs are scaled up by 2**`left_shift`.

    Raises ModelError when the output's scale is too small for them (the reference aborts).
    """
    twice = 2.0 * max(first.scale, second.scale)
    real_output = twice / (2.0**left_shift * output.scale)
    if real_output >= 1.0:
        raise ModelError(
            f"ADD: the output's scale {output.scale:g} is more than 2^{left_shift - 1} times smaller than the inputs' "
            f"({first.scale:g}, {second.scale:g}); TFLite's kernel does not support that"
        )
    return AddParameters(
        quantize_multiplier(first.scale / twice),
        quantize_multiplier(second.scale / twice),
        quantize_multiplier(real_output),
    )


def softmax_parameters(source: Quantization, beta: float) -> SoftmaxParameters:
    """Parameters of SOFTMAX. Raises ModelError for a scale so small that the reference aborts."""
    bits = 31 - _SOFTMAX_INTEGER_BITS
    real = min(beta * source.scale * 2.0**bits, 2.0**31 - 1.0)
    if real <= 1.0:
        raise ModelError(f"SOFTMAX: input scale {source.scale:g} with beta {beta:g} is too small for TFLite's kernel")
    multiplier = quantize_multiplier(real)
    radius = (2**_SOFTMAX_INTEGER_BITS - 1) * 2**bits / 2**multiplier.shift
    return SoftmaxParameters(multiplier, -math.floor(radius))


def log_softmax_parameters(source: Quantization) -> LogSoftmaxParameters:
    """Parameters of LOG_SOFTMAX."""
    forth = softmax_parameters(source, 1.0)
    back = 2.0 ** (31 - forth.multiplier.shift) / forth.multiplier.significand
    return LogSoftmaxParameters(forth.multiplier, quantize_multiplier(back), forth.diff_min)


def activation_range(activation: Activation, output: Quantization, bits: int = 8) -> tuple[int, int]:
    """The range (min, max) of `bits` that a fused activation leaves."""
    low: float | None
    high: float | None
    low, high = {
        Activation.NONE: (None, None),
        Activation.RELU: (0.0, None),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
        Activation.RELU6: (0.0, 6.0),
    }[activation]
    least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    minimum = least if low is None else max(least, _quantize(low, output))
    maximum = most if high is None else min(most, _quantize(high, output))
    if minimum > maximum:
        raise ModelError(f"the activation {activation} leaves nothing of the output's range")
    return minimum, maximum


def _quantize(value: float, output: Quantization) -> int:
    """`value` as the reference quantises an activation's bound: a float32 quotient, half rounded away from zero."""
    with np.errstate(over="ignore"):
        quotient = float(np.float32(value) / np.float32(output.scale))
    rounded = round_half_away(quotient) if abs(quotient) < 2.0**32 else 2**32
    if abs(rounded) > _INT32_MAX:
        raise ModelError(f"the output's scale {output.scale:g} is too small for its activation")
    return output.zero_point + rounded
