"""Real values -> int8 (or int16), the one rule of the product: that of LiteRT's QUANTIZE."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = type[np.int8] | type[np.int16]
_FAR = np.float32(2**18)  # steps: beyond every value, whatever the zero point


def quantised(values: NDArray[Any], scale: float, zero_point: int, dtype: Whole = np.int8) -> NDArray[Any]:
    """`values` as the tensor of this scale, zero point and type holds them (same shape), saturated.

    The quotient is taken in float32 and rounded half away from zero, then the zero point is added:
    tflite/kernels/internal/reference/quantize.h, AffineQuantize.
    """
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(_steps(values, scale) + zero_point, limits.min, limits.max), dtype)


def saturated(values: NDArray[Any], scale: float, zero_point: int, dtype: Whole = np.int8) -> int:
    """How many of `values` lie beyond what the tensor can hold."""
    steps, limits = _steps(values, scale) + zero_point, np.iinfo(dtype)
    return int(np.count_nonzero((steps < limits.min) | (steps > limits.max)))


def real_range(scale: float, zero_point: int, dtype: Whole = np.int8) -> tuple[float, float]:
    """The smallest and the largest real value that the tensor can hold."""
    limits = np.iinfo(dtype)
    return (limits.min - zero_point) * scale, (limits.max - zero_point) * scale


def _steps(values: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Values in steps of the scale, rounded; float32, at most `_FAR`."""
    with np.errstate(over="ignore"):
        exact = np.clip(values.astype(np.float32) / np.float32(scale), -_FAR, _FAR)
    whole = np.trunc(exact)  # adding a half instead would lift the number just below a half
    return np.asarray(whole + np.copysign(np.abs(exact - whole) >= np.float32(0.5), exact), np.float32)
