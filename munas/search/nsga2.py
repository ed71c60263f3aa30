"""NSGA-II over all bounded figures at once, with pymoo's sorting and crowding distances (Deb et al., 2002).

In place of generations, which would make workers wait for the slowest trial, every trial that is finished joins the
population, and the worst of it leaves: the fronts are filled up one after the other, the last of them by crowding
distance. Parents win a tournament of two by front, then by crowding distance. A child is one morph away, as in ageing
evolution; there is no crossover, since architectures have none.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from munas.arch.space import draw_integer
from munas.errors import SearchError
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds
from munas.search.trial import Trial, TrialResult

if TYPE_CHECKING:
    from numpy.random import Generator

    from munas.search.evolve import Space


@dataclass(frozen=True, slots=True)
class _Member:
    """A finished trial: its `figures` (M,) over their bounds, and how far it is above those on resources (0: it meets
    them all)."""

    trial: Trial
    figures: tuple[float, ...]
    excess: float


class Nsga2:
    """The first `population` trials are random. One that failed has no place in the population."""

    def __init__(self, space: Space, bounds: Bounds, population: int = 100) -> None:
        """Raises ValueError for an empty population, SearchError where pymoo is not installed."""
        if population < 1:
            raise ValueError(f"population {population} must be 1 or more")
        if importlib.util.find_spec("pymoo") is None:
            raise SearchError("strategy nsga2 needs pymoo, which is not installed: pip install 'munas-hil[search]'")
        self._space, self._bounds, self._size = space, bounds, population
        self._members: list[_Member] = []
        self._places: list[tuple[float, float]] = []  # of each member: (front, minus its crowding distance)

    def ask(self, rng: Generator, index: int) -> Trial:
        """A random trial at first, then a child of the winner of a tournament."""
        if index < self._size or not self._members:
            return self._space.random(rng, index)
        drawn = [draw_integer(rng, 0, len(self._members) - 1) for _ in range(2)]
        return self._space.child(rng, index, self._members[min(drawn, key=self._places.__getitem__)].trial)

    def tell(self, trial_result: TrialResult) -> None:
        """One more member; the worst leaves when the population is full."""
        trained, resources = trial_result.trained, trial_result.resources
        if trial_result.status == "failed" or trained is None or resources is None:
            return
        found = features(trained.error, resources)
        ratios = {metric: found[metric] / bound for metric, bound in self._bounds.values.items() if bound > 0}
        excess = sum(math.log(ratio) for metric, ratio in ratios.items() if ratio > 1 and metric is not Metric.ERROR)
        self._members.append(_Member(trial_result.trial, tuple(ratios.values()) or (trained.error,), excess))
        self._places = _places(self._members)
        if len(self._members) > self._size:
            worst = max(range(len(self._members)), key=lambda place: (self._places[place], -place))
            del self._members[worst]
            self._places = _places(self._members)


def _places(members: Sequence[_Member]) -> list[tuple[float, float]]:
    """(front, minus crowding distance) of each: fronts of those that meet all bounds on resources come first, then the
    others by how far they are above them."""
    inside = [place for place, member in enumerate(members) if member.excess == 0]
    outside = sorted(set(range(len(members))) - set(inside), key=lambda place: (members[place].excess, place))
    places = [(math.inf, 0.0)] * len(members)
    count = 0
    if inside:
        figures = np.array([members[place].figures for place in inside], np.float64)
        for count, front in enumerate(_fronts(figures), start=1):
            for place, distance in zip(front, _distances(figures[front]), strict=True):
                places[inside[place]] = (float(count), -distance)
    for rank, place in enumerate(outside, start=count + 1):
        places[place] = (float(rank), 0.0)
    return places


def _fronts(figures: NDArray[np.float64]) -> list[list[int]]:
    """Indices of the rows of (N, M), the best front first, each ascending."""
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    return [sorted(int(place) for place in front) for front in NonDominatedSorting().do(figures)]


def _distances(figures: NDArray[np.float64]) -> list[float]:
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

    found: Any = get_crowding_function("cd").do(figures, n_remove=0)
    return [float(distance) for distance in found]
