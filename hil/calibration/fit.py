"""Fits of latency: MACs only (µNAS's proxy) and per kernel loop, cross-validated by architecture.

Both minimise the relative error with coefficients that cannot be negative. Times are in the timer's unit throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hil.calibration.result import Metrics, PathError
from hil.errors import UsageError
from munas.cost.calibration import Latency, Prediction
from munas.cost.certainty import Certainty, whitening_of
from munas.cost.kernels import KernelVariant, Work
from munas.cost.variants import cost_leader, known_by, loop_counts, loop_names, same_cost

Array = NDArray[np.float64]

FOLDS = 10
LEVEL = 0.95  # of the prediction interval
MIN_OBSERVATIONS = 20
MIN_SPREAD = 1e-4  # of a kernel whose time is explained to the last instruction


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured network: `times` and `works` are parallel, one entry an executed step; `total` is one inference.

    `timed` is the inference on the input whose layers were timed, where that is known: time varies with the data.
    """

    index: int
    works: tuple[Work, ...]
    times: tuple[float, ...]
    total: float
    timed: float | None = None

    @property
    def rest(self) -> float:
        """What the inference took beside its layers."""
        return (self.total if self.timed is None else self.timed) - sum(self.times)

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
    """`latency` is fitted on everything; `held` is parallel to the networks, `held_probes` to the probes.

    Metrics and `coverage` (part of the intervals that hold what was measured) are of the networks' `held`.
    """

    latency: Latency
    held: tuple[Held, ...]
    mac_only: Metrics
    per_operator: Metrics
    coverage: float
    folds: int
    held_probes: tuple[Held, ...] = ()


def fit_latency(
    observations: Sequence[Observation],
    unit: str,
    seed: int,
    folds: int = FOLDS,
    probes: Sequence[Observation] = (),
) -> LatencyFit:
    """Fit on networks and probes and cross-validate. Raises UsageError for fewer than 20 networks.

    The interval holds a network with probability `LEVEL` if it is drawn as the networks or as the probes are, whichever
    takes the wider one: split conformal prediction with scores in units of the expected error (munas.cost.certainty).
    """
    if len(observations) < MIN_OBSERVATIONS:
        raise UsageError(
            f"{len(observations)} networks measured, but a fit needs {MIN_OBSERVATIONS}: calibrate with more samples"
        )
    count, both = len(observations), [*observations, *probes]
    table = _Table(both, count)
    fold_of = np.array(folds_of(count, seed, folds) + folds_of(len(probes), seed, folds))
    models = [table.fit(fold_of != fold, unit) for fold in range(folds)]
    guesses = [models[fold].predict(item.works) for fold, item in zip(fold_of.tolist(), both, strict=True)]
    spreads = _spreads(both, [models[fold] for fold in fold_of.tolist()], guesses, count)
    frame_spread = _frame_spread(both, models, fold_of, count)
    models = [_with_spreads(model, spreads, frame_spread) for model in models]
    guesses = [models[fold].predict(item.works) for fold, item in zip(fold_of.tolist(), both, strict=True)]
    expected = np.array([guess.error for guess in guesses])
    operator = np.array([guess.latency for guess in guesses])
    scores = (table.totals - operator) / np.maximum(expected, np.finfo(float).tiny)
    bounds = np.array([_interval(scores[fold_of != fold], (fold_of != fold)[:count].sum()) for fold in range(folds)])
    low, high = operator + bounds[fold_of, 0] * expected, operator + bounds[fold_of, 1] * expected
    mac = [models[fold].mac_only(item.macs) for fold, item in zip(fold_of.tolist(), both, strict=True)]
    held = tuple(
        Held(int(fold_of[i]), mac[i], guesses[i].latency, float(low[i]), float(high[i]), guesses[i].layers)
        for i in range(len(both))
    )
    everything = _with_spreads(table.fit(np.ones(len(both), dtype=np.bool_), unit), spreads, frame_spread)
    bottom, top = _interval(scores, count)
    totals = table.totals[:count]
    return LatencyFit(
        latency=replace(everything, low=bottom, high=top),
        held=held[:count],
        mac_only=metrics(totals, np.array(mac[:count])),
        per_operator=metrics(totals, operator[:count]),
        coverage=float(np.mean((low[:count] <= totals) & (totals <= high[:count]))),
        folds=folds,
        held_probes=held[count:],
    )


def folds_of(count: int, seed: int, folds: int = FOLDS) -> list[int]:
    """Fold of each of `count` observations; folds differ in size by one at most."""
    order: list[int] = (np.random.default_rng(seed).permutation(count) % folds).tolist()
    return order


def fit_once(observations: Sequence[Observation], unit: str) -> Latency:
    """Both fits on all `observations`, without validation: the interval is empty."""
    return _Table(observations, len(observations)).fit(np.ones(len(observations), dtype=np.bool_), unit)


def _spreads(
    observations: Sequence[Observation], models: Sequence[Latency], guesses: Sequence[Prediction], networks: int
) -> dict[KernelVariant, float]:
    """Relative error (root mean square) of each kernel's layers by models that did not see them, leverage divided out.

    The larger of that of the first `networks` observations and that of the others, the probes. The models' own spread
    is 1. `models` and `guesses` are parallel to `observations`.
    """
    found: dict[tuple[KernelVariant, bool], list[float]] = {}
    for index, (item, model, guess) in enumerate(zip(observations, models, guesses, strict=True)):
        for work, time, layer in zip(item.works, item.times, guess.layers, strict=True):
            leader = cost_leader(work.variant)
            if leader in model.certainty:
                expected = model.certainty[leader].error(loop_counts(work), layer)
                found.setdefault((leader, index < networks), []).append((time - layer) / max(expected, 1.0))
    spreads: dict[KernelVariant, float] = {}
    for (leader, _), errors in found.items():
        spread = float(np.sqrt(np.mean(np.square(errors))))
        spreads[leader] = max(spreads.get(leader, MIN_SPREAD), spread)
    return spreads


def _frame_spread(
    observations: Sequence[Observation], models: Sequence[Latency], fold_of: NDArray[np.int64], networks: int
) -> float:
    """Error (root mean square, of the whole) in what an inference takes beside its layers, as `_spreads` has it."""
    errors = []
    for item, fold in zip(observations, fold_of.tolist(), strict=True):
        frame = models[fold].fixed + models[fold].per_step * len(item.times)
        errors.append((item.rest - frame) / item.total)
    parts = [np.square(part) for part in (errors[:networks], errors[networks:]) if part]
    return float(max(np.sqrt(np.mean(part)) for part in parts))


def _with_spreads(model: Latency, spreads: Mapping[KernelVariant, float], frame_spread: float) -> Latency:
    certainty = {leader: replace(known, spread=spreads.get(leader, 1.0)) for leader, known in model.certainty.items()}
    return replace(model, certainty=certainty, frame_spread=frame_spread)


@dataclass(frozen=True, slots=True)
class _Rows:
    """All layers of one family of paths: `counts` (rows, loops), `times`, `paths` and `owners` (rows,)."""

    paths: NDArray[np.object_]
    counts: Array
    times: Array
    owners: NDArray[np.int64]


class _Table:
    """The observations as arrays, so that every fold only has to select rows; the first `networks` are no probes."""

    def __init__(self, observations: Sequence[Observation], networks: int) -> None:
        self.totals: Array = np.array([item.total for item in observations], dtype=np.float64)
        self._is_network = np.arange(len(observations)) < networks
        self._macs = np.array([[item.macs, 1.0] for item in observations])
        self._frames = np.array([[1.0, len(item.times)] for item in observations])
        self._rests = np.array([item.rest for item in observations])
        found: dict[frozenset[KernelVariant], list[tuple[int, Work, float]]] = {}
        for owner, observation in enumerate(observations):
            for work, time in zip(observation.works, observation.times, strict=True):
                found.setdefault(same_cost(work.variant), []).append((owner, work, time))
        self._families = {
            related: _Rows(
                np.array([work.variant for _, work, _ in rows], dtype=np.object_),
                np.array([loop_counts(work) for _, work, _ in rows], dtype=np.float64),
                np.maximum(np.array([time for _, _, time in rows], dtype=np.float64), 1.0),
                np.array([owner for owner, _, _ in rows]),
            )
            for related, rows in found.items()
        }

    def fit(self, chosen: NDArray[np.bool_], unit: str) -> Latency:
        """Both fits on the chosen observations, that of MACs on networks alone; spreads are 1, the interval empty."""
        counted = chosen & self._is_network
        slope, intercept = relative_nnls(self._macs[counted], self.totals[counted])
        fixed, per_step = self._fit_frame(chosen)
        paths: dict[KernelVariant, tuple[float, ...]] = {}
        certainty: dict[KernelVariant, Certainty] = {}
        for related, rows in self._families.items():
            mine = chosen[rows.owners]
            if mine.any():
                costs = relative_nnls(rows.counts[mine], rows.times[mine])
                known = frozenset[KernelVariant]().union(*(known_by(path) for path in set(rows.paths[mine].tolist())))
                paths |= dict.fromkeys(known, tuple(map(float, costs)))
                shares = rows.counts[mine] / rows.times[mine, None]
                certainty[cost_leader(min(related))] = Certainty(1.0, whitening_of(shares))
        return Latency(unit, float(slope), float(intercept), fixed, per_step, paths, LEVEL, 0.0, 0.0, 0.0, certainty)

    def _fit_frame(self, chosen: NDArray[np.bool_]) -> tuple[float, float]:
        """What one inference takes beside its layers: a fixed part and a part for each step; least relative squares.

        Neither is negative, though timing single layers may cost a few units that the plain inference does not have.
        """
        totals = self.totals[chosen]
        frames, rests = self._frames[chosen] / totals[:, None], self._rests[chosen] / totals
        solution = _nnls(frames, rests)
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
    solution = _nnls(upper, target)
    result[used] = solution / lengths[used]
    return result


def _nnls(matrix: Array, target: Array) -> Array:
    from scipy.optimize import nnls  # a third of what workers would import, and they fit nothing

    solution: Array = nnls(matrix, target)[0]
    return solution


def _interval(scores: Array, networks: int) -> tuple[float, float]:
    """Bounds that hold a new score with probability LEVEL, whether of the first `networks` or of the others."""
    bounds = [_quantiles(part) for part in (scores[:networks], scores[networks:]) if len(part)]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _quantiles(scores: Array) -> tuple[float, float]:
    """Bounds that hold a new score with probability LEVEL (split conformal, two-sided)."""
    ordered = np.sort(scores)
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
            pairs.setdefault(work.variant, []).append((time, guess))
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
