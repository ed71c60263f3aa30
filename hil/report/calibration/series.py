"""What the figures draw: the samples of a result as arrays, and the few statistics the report itself computes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.calibration.result import CalibrationResult, SampleResult

Array = NDArray[np.float64]
SMALLEST, LARGEST = 1e-9, 1e18  # what lies outside is no time and no MAC count, and would overflow an axis


@dataclass(frozen=True, slots=True)
class Series:
    """Samples that can be drawn. All arrays float64, shape (n,), positive and finite, except `low` >= 0.

    `low` and `high` equal `predicted_op` where the sample has no finite interval. `dropped` samples had a time, MACs
    or prediction that is not a positive number.
    """

    samples: tuple[SampleResult, ...]
    macs: Array
    measured: Array
    predicted_mac: Array
    predicted_op: Array
    low: Array
    high: Array
    dropped: int

    @property
    def error_mac(self) -> Array:
        """Signed relative error of the MACs-only fit."""
        return self.predicted_mac / self.measured - 1.0

    @property
    def error_op(self) -> Array:
        """Signed relative error of the per-operator fit."""
        return self.predicted_op / self.measured - 1.0

    def __len__(self) -> int:
        return len(self.samples)


def series_of(result: CalibrationResult) -> Series:
    """The drawable samples of `result`, in its order."""
    kept = tuple(sample for sample in result.samples if _drawable(sample))

    def column(values: Sequence[float]) -> Array:
        return np.array(values, dtype=np.float64)

    predicted = column([item.predicted_op for item in kept])
    low, high = column([item.low for item in kept]), column([item.high for item in kept])
    known = np.isfinite(low) & np.isfinite(high)
    return Series(
        samples=kept,
        macs=column([item.macs for item in kept]),
        measured=column([item.measured for item in kept]),
        predicted_mac=column([item.predicted_mac for item in kept]),
        predicted_op=predicted,
        low=np.where(known, np.maximum(low, 0.0), predicted),
        high=np.where(known, np.maximum(high, 0.0), predicted),
        dropped=len(result.samples) - len(kept),
    )


def _drawable(sample: SampleResult) -> bool:
    values = (sample.macs, sample.measured, sample.predicted_mac, sample.predicted_op)
    return all(SMALLEST < value < LARGEST for value in values)  # NaN is neither


def linear_r2(x: Array, y: Array) -> float:
    """R^2 of ordinary least squares of `y` on `x` (both shape (n,)), what µNAS reports; NaN below three points."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1] ** 2)


@dataclass(frozen=True, slots=True)
class Group:
    """Networks of one input shape: how many, the range of their times, and the mean absolute errors of both fits."""

    input_shape: tuple[int, ...]
    networks: int
    fastest: float
    slowest: float
    mape_mac: float
    mape_op: float
    within_10pct: float


def by_input_shape(series: Series) -> tuple[Group, ...]:
    """One group for each input shape, most networks first."""
    members: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, sample in enumerate(series.samples):
        members[sample.input_shape].append(position)
    error_mac, error_op = np.abs(series.error_mac), np.abs(series.error_op)
    groups = [
        Group(
            input_shape=key,
            networks=len(rows),
            fastest=float(series.measured[rows].min()),
            slowest=float(series.measured[rows].max()),
            mape_mac=float(error_mac[rows].mean()),
            mape_op=float(error_op[rows].mean()),
            within_10pct=float((error_op[rows] <= 0.1).mean()),
        )
        for key, rows in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: (-group.networks, group.input_shape)))
