"""Scales from data to drawing units, and ticks that a person would have chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.report.charts.numbers import KIB

LOG_FROM_RATIO = 20.0  # a range wider than this is unreadable on a linear axis
_MANTISSAS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0))


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] in data units to [start, stop] in drawing units.

    Linear; or logarithmic (`log`); or, where `stretch` > 0, linear up to about `stretch` on both sides of zero and
    logarithmic beyond, for errors of which both the small and the huge ones matter.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    stretch: float = 0.0

    def __call__(self, value: float) -> float:
        """Drawing coordinate of `value`; finite for every finite `value` (positive where logarithmic)."""
        first, last = self._even(self.low), self._even(self.high)
        return self.start + (self._even(value) - first) / (last - first) * (self.stop - self.start)

    def _even(self, value: float) -> float:
        """`value` in the units in which the axis is even."""
        if self.log:
            return math.log(value)
        return math.asinh(value / self.stretch) if self.stretch else value

    def clamped(self, value: float) -> float:
        """Coordinate of `value`, moved to the nearest end where it lies outside."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, most: int) -> tuple[float, ...]:
        """At most `most` round values inside the range."""
        return log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)


def needs_log(values: list[float]) -> bool:
    """Whether positive `values` span so much that a logarithmic axis is called for."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > LOG_FROM_RATIO


def padded_range(values: list[float], log: bool) -> tuple[float, float]:
    """A range around `values` (at least one) with a margin; starts at 0 where linear."""
    low, high = min(values), max(values)
    if log:
        margin = max((high / low) ** 0.06, 1.15)
        return low / margin, high * margin
    return min(0.0, low * 1.06), (high * 1.06 if high > 0 else 1.0)


def linear_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high]: the finest such step with at most `most`."""
    step = _nice_step((high - low) / most / 2)
    while True:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return tuple(index * step for index in range(first, last + 1))
        step = _nice_step(step * 1.01)


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1.0, 2.0, 5.0) if rough <= factor * power * (1 + 1e-9)), 10 * power)


def log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """The densest of 1, 1-3 or 1-2-5 per decade (or every n-th decade) with at most `most` inside [low, high]."""
    best: tuple[float, ...] = ()
    for mantissas in _MANTISSAS:
        found = _log_candidates(low, high, mantissas)
        if len(best) < len(found) <= most:
            best = found
    if len(best) >= 2:
        return best
    decades = _log_candidates(low, high, (1.0,))
    if len(decades) > most:
        return decades[:: math.ceil(len(decades) / most)]
    return linear_ticks(low, high, most)


def _log_candidates(low: float, high: float, mantissas: tuple[float, ...]) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (mantissa * 10.0**decade for decade in decades for mantissa in mantissas)
    return tuple(value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))


def byte_ticks(high: float, most: int) -> tuple[float, ...]:
    """Multiples of a power of two of bytes in [0, high], at most `most`."""
    step = 16.0
    while high / step > most - 1:
        step *= 2
    return tuple(index * step for index in range(int(high // step) + 1))


def byte_ceiling(high: float) -> float:
    """A round upper end for an axis of bytes that has to show `high`."""
    step = byte_ticks(max(high, KIB), 6)[1] / 2
    return step * math.ceil(max(high, KIB) / step)
