"""Fits of latency: MACs only (µNAS's proxy) and per kernel loop, cross-validated by architecture.

Both minimise the relative error with coefficients that cannot be negative. Times are in the timer's unit throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hil.calibration.result import Metrics, PathError
from hil.errors import UsageError
from munas.cost.calibration import Latency
from munas.cost.kernels import KernelVariant, Work
from munas.cost.variants import loop_counts, loop_names, same_cost

Array = NDArray[np.float64]

FOLDS = 10
LEVEL = 0.95  # of the prediction interval
MIN_OBSERVATIONS = 20


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured network: `times` and `works` are parallel, one entry an executed step; `total` is one inference."""

    index: int
    works: tuple[Work, ...]
    times: tuple[float, ...]
    total: float

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all steps."""
        return sum(work.macs for work in self.works)


@dataclass(frozen=True, slots=True)
class Held:
    """Predictions for one network by a fit that did not see it."""

    fold: int
    mac_only: float
    per_operator: float
    low: float
    high: float
    layers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LatencyFit:
    """`latency` is fitted on everything; `held` is parallel to the observations; metrics are of `held`."""

    latency: Latency
    held: tuple[Held, ...]
    mac_only: Metrics
    per_operator: Metrics
    coverage: float
    folds: int


def fit_latency(observations: Sequence[Observation], unit: str, seed: int, folds: int = FOLDS) -> LatencyFit:
    """Fit and cross-validate. Raises UsageError for fewer than 20 observations."""
    if len(observations) < MIN_OBSERVATIONS:
        raise UsageError(
            f"{len(observations)} networks measured, but a fit needs {MIN_OBSERVATIONS}: calibrate with more samples"
        )
    table = _Table(observations)
    fold_of = np.array(folds_of(len(observations), seed, folds))
    mac, operator = np.empty(len(observations)), np.empty(len(observations))
    layers: list[tuple[float, ...]] = [()] * len(observations)
    for fold in range(folds):
        model = table.fit(fold_of != fold, unit)
        for position in np.flatnonzero(fold_of == fold).tolist():
            prediction = model.predict(observations[position].works)
            mac[position] = model.mac_only(observations[position].macs)
            operator[position], layers[position] = prediction.latency, prediction.layers
    residuals = table.totals / operator - 1.0
    bounds = np.array([_interval(residuals[fold_of != fold]) for fold in range(folds)])
    low, high = operator * (1 + bounds[fold_of, 0]), operator * (1 + bounds[fold_of, 1])
    held = tuple(
        Held(int(fold_of[i]), float(mac[i]), float(operator[i]), float(low[i]), float(high[i]), layers[i])
        for i in range(len(observations))
    )
    return LatencyFit(
        latency=fit_once(observations, unit, _interval(residuals)),
        held=held,
        mac_only=metrics(table.totals, mac),
        per_operator=metrics(table.totals, operator),
        coverage=float(np.mean((low <= table.totals) & (table.totals <= high))),
        folds=folds,
    )


def folds_of(count: int, seed: int, folds: int = FOLDS) -> list[int]:
    """Fold of each of `count` observations; folds differ in size by one at most."""
    order: list[int] = (np.random.default_rng(seed).permutation(count) % folds).tolist()
    return order


def fit_once(observations: Sequence[Observation], unit: str, interval: tuple[float, float] = (0.0, 0.0)) -> Latency:
    """Both fits on all `observations`, without validation."""
    return _Table(observations).fit(np.ones(len(observations), dtype=np.bool_), unit, interval)


@dataclass(frozen=True, slots=True)
class _Rows:
    """All layers of one family of paths: loop counts (rows, loops), times (rows,), and whose layers they are."""

    counts: Array
    times: Array
    owners: NDArray[np.int64]


class _Table:
    """The observations as arrays, so that every fold only has to select rows."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.totals: Array = np.array([item.total for item in observations], dtype=np.float64)
        self._macs = np.array([[item.macs, 1.0] for item in observations])
        self._frames = np.array([[1.0, len(item.times)] for item in observations])
        self._rests = np.array([item.total - sum(item.times) for item in observations])
        found: dict[frozenset[KernelVariant], list[tuple[int, Work, float]]] = {}
        for owner, observation in enumerate(observations):
            for work, time in zip(observation.works, observation.times, strict=True):
                found.setdefault(same_cost(work.path), []).append((owner, work, time))
        self._families = {
            related: _Rows(
                np.array([loop_counts(work) for _, work, _ in rows], dtype=np.float64),
                np.array([time for _, _, time in rows], dtype=np.float64),
                np.array([owner for owner, _, _ in rows]),
            )
            for related, rows in found.items()
        }

    def fit(self, chosen: NDArray[np.bool_], unit: str, interval: tuple[float, float] = (0.0, 0.0)) -> Latency:
        """Both fits on the chosen observations."""
        slope, intercept = relative_nnls(self._macs[chosen], self.totals[chosen])
        fixed, per_step = self._fit_frame(chosen)
        paths: dict[KernelVariant, tuple[float, ...]] = {}
        for related, rows in self._families.items():
            mine = chosen[rows.owners]
            if mine.any():
                costs = relative_nnls(rows.counts[mine], rows.times[mine])
                paths |= dict.fromkeys(related, tuple(map(float, costs)))
        return Latency(unit, float(slope), float(intercept), fixed, per_step, paths, LEVEL, *interval)

    def _fit_frame(self, chosen: NDArray[np.bool_]) -> tuple[float, float]:
        """What one inference takes beside its layers: a fixed part and a part for each step; least relative squares.

        Neither is negative, though timing single layers may cost a few units that the plain inference does not have.
        """
        totals = self.totals[chosen]
        frames, rests = self._frames[chosen] / totals[:, None], self._rests[chosen] / totals
        solution, _ = nnls(frames, rests)
        return float(solution[0]), float(solution[1])


def relative_nnls(counts: Array, times: Array) -> Array:
    """Non-negative coefficients c that minimise the sum of ((counts @ c) / times - 1)^2.

    `counts` is (rows, features), `times` (rows,), positive. Columns are scaled to unit length first: trips of inner and
    outer loops differ by six orders of magnitude. A QR decomposition takes the problem down to (features, features).
    """
    times = np.maximum(times, 1.0)
    matrix = counts / times[:, None]
    lengths = np.linalg.norm(matrix, axis=0)
    used = lengths > 0
    result = np.zeros(counts.shape[1])
    if not used.any():
        return result
    scaled = matrix[:, used] / lengths[used]
    upper, target = scaled, np.ones(len(times))
    if len(times) > scaled.shape[1]:
        basis, upper = np.linalg.qr(scaled)
        target = basis.T @ target
    solution, _ = nnls(upper, target)
    result[used] = solution / lengths[used]
    return result


def _interval(residuals: Array) -> tuple[float, float]:
    """Relative bounds that hold a new network's residual with probability LEVEL (split conformal, two-sided)."""
    ordered = np.sort(residuals)
    tail = (1 - LEVEL) / 2
    below = max(0, math.floor((len(ordered) + 1) * tail) - 1)
    above = min(len(ordered) - 1, math.ceil((len(ordered) + 1) * (1 - tail)) - 1)
    return float(ordered[below]), float(ordered[above])


def metrics(measured: Array, predicted: Array) -> Metrics:
    """Errors as fractions of the measured value; r2 against the mean of the measured values."""
    error = np.abs(predicted / measured - 1.0)
    scatter = float(np.sum((measured - measured.mean()) ** 2))
    left = float(np.sum((measured - predicted) ** 2))
    return Metrics(
        mape=float(error.mean()),
        max_ape=float(error.max()),
        within_10pct=float(np.mean(error <= 0.1)),
        r2=1.0 - left / scatter if scatter > 0 else 0.0,
        spearman=spearman(measured, predicted),
    )


def spearman(first: Array, second: Array) -> float:
    """Rank correlation; ties share their mean rank; 0 when one side is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    length = math.sqrt(float(np.sum(centred[0] ** 2)) * float(np.sum(centred[1] ** 2)))
    return float(np.sum(centred[0] * centred[1])) / length if length > 0 else 0.0


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def path_errors(observations: Sequence[Observation], held: Sequence[Held]) -> tuple[PathError, ...]:
    """Cross-validated per-layer errors by kernel path, largest share of time first."""
    pairs: dict[KernelVariant, list[tuple[float, float]]] = {}
    for observation, prediction in zip(observations, held, strict=True):
        for work, time, guess in zip(observation.works, observation.times, prediction.layers, strict=True):
            pairs.setdefault(work.path, []).append((time, guess))
    everything = sum(time for rows in pairs.values() for time, _ in rows)
    errors = [_path_error(path, rows, everything) for path, rows in pairs.items()]
    return tuple(sorted(errors, key=lambda item: -item.time_share))


def _path_error(path: KernelVariant, rows: Sequence[tuple[float, float]], everything: float) -> PathError:
    times, guesses = (np.array(column) for column in zip(*rows, strict=True))
    error = np.abs(guesses / np.maximum(times, 1.0) - 1.0)
    return PathError(
        path=path.value,
        layers=len(rows),
        time_share=float(times.sum() / everything),
        mape=float(error.mean()),
        max_ape=float(error.max()),
        bias=float(guesses.sum() / times.sum() - 1.0),
    )


def named_coefficients(latency: Latency) -> dict[str, float]:
    """``path.loop`` to cost, for reports."""
    costs: Mapping[KernelVariant, tuple[float, ...]] = latency.paths
    named = {
        f"{path.value}.{name}": cost
        for path in sorted(costs)
        for name, cost in zip(loop_names(path), costs[path], strict=True)
    }
    return {"fixed": latency.fixed, "per_step": latency.per_step, **named}
