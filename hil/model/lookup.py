"""Functions of one int8 as tables of 256 int8, computed as LiteRT's reference kernels compute each value.

LiteRT itself makes such a table for most of these when it prepares a model (`LUTPopulate`): it dequantises in float32,
applies the function of the C library, multiplies by the inverse of the output's scale and rounds half away from zero.
Others (LEAKY_RELU, HARD_SWISH, ABS, RELU_N1_TO_1) are integer arithmetic. tests/unit/test_lookup.py compares all 256
values with LiteRT. Sources: tflite/kernels/{activations,elementwise,exp,dequantize,quantize}.cc, internal/common.h and
internal/reference/{hard_swish,leaky_relu}.h of LiteRT 2.x.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import Activation, OpKind, Quantization

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_CODES = np.arange(-128, 128, dtype=np.int64)
_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1


def lookup_table(kind: OpKind, source: Quantization, output: Quantization, alpha: float = 0.0) -> bytes:
    """The table of an operator, for -128 first. `alpha` is LEAKY_RELU's slope; GELU is approximated where it is not 0.

    Raises ModelError for scales with which it cannot be computed.
    """
    if kind in _FLOAT_FUNCTIONS:
        return _bytes(_populated(_FLOAT_FUNCTIONS[kind], source, output))
    match kind:
        case OpKind.GELU:
            return _bytes(_populated(_gelu_by_tanh if alpha else _gelu, source, output))
        case OpKind.LOG:
            return _bytes(_populated(_log_from(output), source, output))
        case OpKind.LEAKY_RELU:
            return _bytes(_leaky_relu(source, output, alpha))
        case OpKind.HARD_SWISH:
            return _bytes(_hard_swish(source, output))
        case OpKind.ABS:
            return _bytes(_absolute(source, output))
        case OpKind.RELU_N1_TO_1:
            return _bytes(_clamped_rescale(source, output, Activation.RELU_N1_TO_1))
    raise ValueError(f"{kind} is no function of one int8")


def requantised_float(source: Quantization, output: Quantization) -> bytes:
    """QUANTIZE of what DEQUANTIZE made: float32 in between, as LiteRT's two kernels compute it."""
    values = np.float32(source.scale) * (_CODES - source.zero_point).astype(np.float32)
    quotients = values / np.float32(output.scale)
    return _bytes(_rounded(quotients) + output.zero_point)


def _bytes(values: Int64) -> bytes:
    return bytes(np.clip(values, -128, 127).astype(np.int8).tobytes())


def _rounded(values: Float32) -> Int64:
    """C's round() of float32 values, which saturate where an int32 would overflow."""
    wide = values.astype(np.float64)
    whole = np.trunc(wide)
    away = whole + np.where(np.abs(wide - whole) >= 0.5, np.sign(wide), 0.0)
    result: Int64 = np.clip(away, -(2.0**31), 2.0**31 - 1).astype(np.int64)
    return result


@cache
def _c_function(name: str) -> Callable[[float], float]:
    """A float32 function of the C library that LiteRT calls; where there is none to load, the nearest float32."""
    try:
        function = getattr(ctypes.CDLL("libm.so.6"), name)
    except (OSError, AttributeError):
        exact: Callable[[float], float] = getattr(math, name.removesuffix("f"))
        return lambda value: float(np.float32(exact(value)))
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    called: Callable[[float], float] = function
    return called


def _logistic(value: float) -> float:
    exponential = np.float32(_c_function("expf")(-value))
    return float(np.float32(1.0) / (np.float32(1.0) + exponential))


def _tanh(value: float) -> float:
    return _c_function("tanhf")(value)


def _exp(value: float) -> float:
    return _c_function("expf")(value)


def _gelu(value: float) -> float:
    x = np.float32(value)
    half = np.float32(0.5) * x
    return float(half * np.float32(_c_function("erfcf")(float(x * np.float32(-math.sqrt(0.5))))))


def _gelu_by_tanh(value: float) -> float:
    x = np.float32(value)
    inner = np.float32(math.sqrt(2.0 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return float(np.float32(0.5) * x * (np.float32(1.0) + np.float32(_tanh(float(inner)))))


def _log_from(output: Quantization) -> Callable[[float], float]:
    """The logarithm; of what has none, the least that the output can be."""
    least = float(np.float32(-128 - output.zero_point) * np.float32(output.scale))
    return lambda value: _c_function("logf")(value) if value > 0 else least


_FLOAT_FUNCTIONS: dict[OpKind, Callable[[float], float]] = {
    OpKind.LOGISTIC: _logistic,
    OpKind.TANH: _tanh,
    OpKind.EXP: _exp,
}


def _populated(function: Callable[[float], float], source: Quantization, output: Quantization) -> Int64:
    """LUTPopulate of internal/common.h."""
    inverse = np.float32(1.0) / np.float32(output.scale)
    arguments = np.float32(source.scale) * (_CODES - source.zero_point).astype(np.float32)
    with np.errstate(over="ignore"):
        results = np.array([function(float(value)) for value in arguments], np.float32) * inverse
    if not np.isfinite(results).all() or float(np.abs(results).max()) >= 2.0**31 - 512:
        raise ModelError(f"the output's scale {output.scale:g} is too small for the function's values")
    return _rounded(results) + output.zero_point


def rescaled(values: Int64, multiplier: quantise.Multiplier) -> Int64:
    """MultiplyByQuantizedMultiplier of int32 values: a doubling high product and a shift, each rounded."""
    left, right = max(multiplier.shift, 0), max(-multiplier.shift, 0)
    product = (values << left) * multiplier.significand
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    shifted = product + nudge
    high = np.where(shifted >= 0, shifted >> 31, -((-shifted) >> 31))  # gemmlowp divides, which rounds towards zero
    return _divided_by_power(high, right)


def _divided_by_power(values: Int64, exponent: int) -> Int64:
    """gemmlowp's RoundingDivideByPOT: half away from zero."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (values < 0)
    result: Int64 = (values >> exponent) + ((values & mask) > threshold)
    return result


def _clamped_rescale(source: Quantization, output: Quantization, activation: Activation) -> Int64:
    low, high = quantise.activation_range(activation, output)
    values = rescaled(_CODES - source.zero_point, quantise.relu_multiplier(source, output)) + output.zero_point
    limited: Int64 = np.clip(values, low, high)
    return limited


def _leaky_relu(source: Quantization, output: Quantization, alpha: float) -> Int64:
    centred = _CODES - source.zero_point
    # The products are taken in float32, as the kernel's operands are.
    slope = np.float32(source.scale) * np.float32(alpha) / np.float32(output.scale)
    identity = np.float32(source.scale) / np.float32(output.scale)
    below = rescaled(centred, quantise.quantize_multiplier(abs(float(slope))))
    above = rescaled(centred, quantise.quantize_multiplier(float(identity)))
    return np.where(centred >= 0, above, -below if slope < 0 else below) + output.zero_point


def _absolute(source: Quantization, output: Quantization) -> Int64:
    magnitude = np.abs(_CODES - source.zero_point)
    if source.scale != output.scale:
        ratio = float(np.float32(source.scale) / np.float32(output.scale))
        magnitude = rescaled(magnitude, quantise.quantize_multiplier(ratio))
    return magnitude + output.zero_point


def _half_multiplier(real: float) -> tuple[int, int]:
    """(16-bit significand, exponent) of a multiplier: DownScaleInt32ToInt16Multiplier."""
    multiplier = quantise.quantize_multiplier(real)
    if multiplier.significand >= 2**31 - (1 << 15):
        return _INT16_MAX, multiplier.shift
    return (multiplier.significand + (1 << 15)) >> 16, multiplier.shift


def _hard_swish(source: Quantization, output: Quantization) -> Int64:
    """16-bit fixed point throughout; every step is the reference's."""
    fine = np.float32(1.0 / 128.0) * np.float32(source.scale)
    output_factor, output_exponent = _half_multiplier(float(fine / np.float32(output.scale)))
    relu_factor, relu_exponent = _half_multiplier(float(fine / np.float32(3.0 / 32768.0)))
    if output_exponent > 0:
        raise ModelError(f"HARD_SWISH: the output's scale {output.scale:g} is too small for TFLite's kernel")
    values = (_CODES - source.zero_point) << 7
    preshift = _rounding_high_product(values, output_factor)
    relu = values
    if relu_exponent > 0:
        relu = _saturated(relu << (relu_exponent - 1))
    relu = _rounding_high_product(relu, relu_factor)
    if relu_exponent > 0:
        relu = _saturated(relu << 1)
    if relu_exponent < 0:
        relu = _divided_by_power(relu, -relu_exponent)
    relu = (relu + (1 << 15)) >> 1
    product = relu * preshift
    truncated = np.where(product >= 0, product >> 15, -((-product) >> 15))
    return _divided_by_power(truncated, -output_exponent) + output.zero_point


def _rounding_high_product(values: Int64, factor: int) -> Int64:
    product = values * factor
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return _saturated(np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15)))


def _saturated(values: Int64) -> Int64:
    return np.clip(values, _INT16_MIN, _INT16_MAX)
