"""Which evaluated networks are handed over: those of the Pareto front inside the budget, best first, then spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from munas.search.candidate import Evaluation
from munas.search.objective import Bounds, Metric, features, meets, pareto_front

_USEFUL = 2.5  # times the lowest error, or the bound: what is worse is no network that anybody would deploy


@dataclass(frozen=True, slots=True)
class Front:
    """`indices` of the candidates on the front, lowest error first, and the `chosen` ones, in order of interest."""

    indices: tuple[int, ...]
    chosen: tuple[Evaluation, ...]


def front_of(evaluations: Sequence[Evaluation], bounds: Bounds, hard: Bounds, count: int) -> Front:
    """The front over (error, RAM, flash, latency or else MACs) of all that fit `hard`, and up to `count` of it.

    Networks that meet every resource bound are chosen before others. The first half of the choice are those of lowest
    error; every further one is as far as can be, in the logarithm of all figures, from those chosen before.
    """
    fitting = [item for item in evaluations if _meets(item, hard)]
    allowed = [item for item in fitting if _meets(item, bounds.resources)]
    front = _front(fitting)
    chosen = _spread(_useful(_front(allowed) or front, bounds), count)
    return Front(tuple(item.candidate.index for item in front), tuple(chosen))


def _front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that no other one beats in everything, lowest error first."""
    front = [evaluations[position] for position in pareto_front([_point(item) for item in evaluations])]
    return sorted(front, key=lambda item: (_error(item), item.candidate.index))


def _useful(front: Sequence[Evaluation], bounds: Bounds) -> Sequence[Evaluation]:
    if not front:
        return front
    worst = max(_USEFUL * _error(front[0]), bounds.values.get(Metric.ERROR, 0.0))
    return [item for item in front if _error(item) <= worst]


def _spread(front: Sequence[Evaluation], count: int) -> list[Evaluation]:
    """Up to `count` of `front`, which is sorted by error."""
    chosen = list(front[: math.ceil(count / 2)])
    left = list(front[len(chosen) :])
    while left and len(chosen) < count:
        taken = [_logarithms(item) for item in chosen]
        best = max(left, key=lambda item: min(math.dist(_logarithms(item), other) for other in taken))
        chosen.append(best)
        left.remove(best)
    return chosen


def _logarithms(evaluation: Evaluation) -> tuple[float, ...]:
    return tuple(math.log(max(value, 1e-4)) for value in _point(evaluation))


def _error(evaluation: Evaluation) -> float:
    assert evaluation.trained is not None
    return evaluation.trained.error


def _point(evaluation: Evaluation) -> tuple[float, ...]:
    resources = evaluation.resources
    assert resources is not None
    time = float(resources.macs) if resources.latency is None else resources.latency
    return _error(evaluation), float(resources.ram), float(resources.flash), time


def _meets(evaluation: Evaluation, bounds: Bounds) -> bool:
    if evaluation.trained is None or evaluation.resources is None:
        return False
    return meets(features(evaluation.trained.error, evaluation.resources), bounds)
