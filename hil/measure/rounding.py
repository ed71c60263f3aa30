"""How far float32 answers are from LiteRT's. Bits cannot be equal: sums are taken in another order, products and sums
are fused on a core with an FPU, and exp and tanh are another library's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 2.0**-14
"""Largest difference that counts as equal, as a part of the largest absolute value of the same output tensor."""

RULE = "within 2^-14 of the largest value"
BIT_FOR_BIT = "bit for bit"


def largest_error(answer: bytes, wanted: bytes, sizes: Sequence[int]) -> float:
    """The largest difference between outputs of these `sizes` (bytes, one behind the other), as `TOLERANCE` is stated;
    infinite where one has a number and the other has none, or more or fewer bytes."""
    if not len(answer) == len(wanted) == sum(sizes):
        return float("inf")
    errors, start = [0.0], 0
    for size in sizes:
        given, right = (
            np.frombuffer(data[start : start + size], "<f4").astype(np.float64) for data in (answer, wanted)
        )
        start += size
        errors.append(_error(given, right))
    return max(errors)


def _error(given: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    finite = np.isfinite(right)
    if not np.array_equal(given[~finite], right[~finite], equal_nan=True) or not np.isfinite(given[finite]).all():
        return float("inf")
    scale = np.abs(right[finite]).max(initial=0.0)
    difference = np.abs(given[finite] - right[finite]).max(initial=0.0)
    if difference == 0.0:
        return 0.0
    return float(difference / scale) if scale else float("inf")
