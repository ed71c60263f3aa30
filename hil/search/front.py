"""Which networks are exported: those of the Pareto front inside the budget, best first, then spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, meets, pareto_front
from munas.search.trial import TrialResult

# What is worse than so many times the lowest error, or has less than this share of the best one's lead over guessing,
# and misses the bound as well, is no network that anybody would deploy.
_USEFUL, _LEAD = 2.5, 0.5


@dataclass(frozen=True, slots=True)
class Front:
    """`indices` of the trials on the front, lowest error first, and the `chosen` ones, in order of interest."""

    indices: tuple[int, ...]
    chosen: tuple[TrialResult, ...]


def front_of(trials: Sequence[TrialResult], bounds: Bounds, hard: Bounds, count: int, classes: int) -> Front:
    """The front over (error, RAM, flash, latency or else MACs) of all that fit `hard`, and up to `count` of it, which
    tell the `classes` apart.

    Networks that meet every resource bound are chosen before others. The first half of the choice are those of lowest
    error; every further one is as far as can be, in the logarithm of all figures, from those chosen before.
    """
    fitting = [item for item in trials if _meets(item, hard)]
    allowed = [item for item in fitting if _meets(item, bounds.resources)]
    front = _front(fitting)
    chosen = _spread(_useful(_front(allowed) or front, bounds, classes), count)
    return Front(tuple(item.trial.index for item in front), tuple(chosen))


def _front(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Those that no other one beats in everything, lowest error first."""
    front = [trials[position] for position in pareto_front([_point(item) for item in trials])]
    return sorted(front, key=lambda item: (_error(item), item.trial.index))


def _useful(front: Sequence[TrialResult], bounds: Bounds, classes: int) -> Sequence[TrialResult]:
    if not front:
        return front
    best, guessing = _error(front[0]), 1 - 1 / classes
    worst = min(_USEFUL * best, best + (1 - _LEAD) * max(0.0, guessing - best))
    return [item for item in front if _error(item) <= max(worst, bounds.values.get(Metric.ERROR, 0.0))]


def _spread(front: Sequence[TrialResult], count: int) -> list[TrialResult]:
    """Up to `count` of `front`, which is sorted by error."""
    chosen = list(front[: math.ceil(count / 2)])
    left = list(front[len(chosen) :])
    while left and len(chosen) < count:
        taken = [_logarithms(item) for item in chosen]
        best = max(left, key=lambda item: min(math.dist(_logarithms(item), other) for other in taken))
        chosen.append(best)
        left.remove(best)
    return chosen


def _logarithms(trial_result: TrialResult) -> tuple[float, ...]:
    return tuple(math.log(max(value, 1e-4)) for value in _point(trial_result))


def _error(trial_result: TrialResult) -> float:
    assert trial_result.trained is not None
    return trial_result.trained.error


def _point(trial_result: TrialResult) -> tuple[float, ...]:
    resources = trial_result.resources
    assert resources is not None
    time = float(resources.macs) if resources.latency is None else resources.latency
    return _error(trial_result), float(resources.ram), float(resources.flash), time


def _meets(trial_result: TrialResult, bounds: Bounds) -> bool:
    if trial_result.trained is None or trial_result.resources is None:
        return False
    return meets(features(trial_result.trained.error, trial_result.resources), bounds)
