"""Mean and deviation of each channel of inputs, and the scaling that makes them 0 and 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 22  # values, which take 32 MB in double precision
_ROUNDING = 1e-6  # of the mean: what deviates by less is what 32-bit floats leave of a constant


def chunks(inputs: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """`inputs` (N, ...) in pieces that can be computed with without a copy of all of it."""
    step = max(1, len(inputs) * _CHUNK // max(1, inputs.size))
    return (inputs[start : start + step] for start in range(0, len(inputs), step))


def moments(inputs: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each channel of `inputs` (N, H, W, C); the deviation is 0 where it is but rounding."""
    channels = inputs.shape[-1]
    count = inputs.size // channels
    total, squares = np.zeros(channels), np.zeros(channels)
    for chunk in chunks(inputs):
        values = chunk.reshape(-1, channels).astype(np.float64)
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean, np.where(deviation > _ROUNDING * np.abs(mean), deviation, 0)


def standardise(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset that give each channel of inputs with these moments mean 0 and standard deviation 1.

    A channel that does not vary is divided by its size: other examples of it, if there are, differ by shares of that.
    """
    size = np.where(mean != 0, np.abs(mean), 1)
    divisor = np.where(deviation > 0, deviation, size)
    return tuple((1 / divisor).tolist()), tuple((-mean / divisor).tolist())
