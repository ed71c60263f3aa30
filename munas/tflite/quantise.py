"""Real values -> int8, the one rule of the product: that of LiteRT's QUANTIZE."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FAR = np.float32(1024)  # steps: beyond every int8 value, whatever the zero point


def quantised(values: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.int8]:
    """`values` as the int8 tensor of this scale and zero point holds them (same shape), saturated.

    The quotient is taken in float32 and rounded half away from zero, then the zero point is added:
    tflite/kernels/internal/reference/quantize.h, AffineQuantize.
    """
    return np.asarray(np.clip(_steps(values, scale) + zero_point, -128, 127), np.int8)


def saturated(values: NDArray[Any], scale: float, zero_point: int) -> int:
    """How many of `values` lie beyond what the tensor can hold."""
    steps = _steps(values, scale) + zero_point
    return int(np.count_nonzero((steps < -128) | (steps > 127)))


def real_range(scale: float, zero_point: int) -> tuple[float, float]:
    """The smallest and the largest real value that the tensor can hold."""
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def _steps(values: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Values in steps of the scale, rounded; float32, at most `_FAR`."""
    with np.errstate(over="ignore"):
        exact = np.clip(values.astype(np.float32) / np.float32(scale), -_FAR, _FAR)
    whole = np.trunc(exact)  # adding a half instead would lift the number just below a half
    return np.asarray(whole + np.copysign(np.abs(exact - whole) >= np.float32(0.5), exact), np.float32)
