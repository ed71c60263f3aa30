"""Tables that LiteRT's kernels of 16-bit activations interpolate: the logistic function, exp(x), 1 / (1 + x).

In each step, half of the error that a straight line has in the middle is taken off its beginning. The last two tables
round on the way, as LUTPopulate of internal/common.h (LiteRT 2.x) does; the first one does not, and ends in the largest
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hil.model.quantise import round_half_away

Int16Array = NDArray[np.int16]

_STEPS = 512
_LOW, _HIGH = -(2**15), 2**15 - 1
_RANGE = _HIGH - _LOW


@cache
def logistic() -> NDArray[np.uint16]:
    """1 / (1 + exp(-x)) at 0, 1/24, 2/24, ... 255/24, times 2^16, as 16 bits without a sign."""

    def value(x: float) -> float:
        return 65536.0 / (1.0 + math.exp(-x / 24.0))

    errors = [(value(index) + value(index + 1)) / 2 - value(index + 0.5) for index in range(255)]
    entries = [round_half_away(value(index) - error / 2) for index, error in enumerate(errors)]
    return np.array([*entries, 65535]).astype("<u2")


@cache
def exponential() -> Int16Array:
    """exp(x) of -10 ... 0, as Q0.15."""
    return _populated(math.exp, 10.0 / _RANGE, _HIGH)


@cache
def reciprocal() -> Int16Array:
    """1 / (1 + x) of 0 ... 1, as Q0.15."""
    return _populated(lambda value: 1.0 / (1.0 + value), 1.0 / _RANGE, _LOW)


def _populated(function: Callable[[float], float], scale: float, zero_point: int) -> Int16Array:
    first, last = scale * (_LOW - zero_point), scale * (_HIGH - zero_point)
    step = (last - first) / _STEPS
    output_scale = 2.0 / _RANGE
    inverse = (_RANGE + 1) / (output_scale * _HIGH - output_scale * _LOW)
    table = []
    for index in range(_STEPS):
        value = function(first + index * step) * inverse
        middle = round_half_away(function(first + index * step + step / 2) * inverse)
        behind = function(first + (index + 1) * step) * inverse
        straight = round_half_away((behind + round_half_away(value)) / 2)
        table.append(round_half_away(value) - round_half_away((straight - middle) / 2))
    table.append(round_half_away(function(last) * inverse))
    return np.clip(table, _LOW, _HIGH).astype("<i2")
