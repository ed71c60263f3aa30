"""Trials that fit and promise something: what a strategy proposes and the device cannot hold is dropped before it is
trained, and of several that fit the one with the best prospects is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from munas.arch.morphs import morphs
from munas.arch.space import AnyArchitecture, ArchitectureError, draw_choice
from munas.cost.resources import Assessor
from munas.errors import SearchError
from munas.search.evolve import Strategy
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, draw_lambdas, fitness
from munas.search.surrogate import Surrogate
from munas.search.trial import Trial

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_DRAWS = 100
"""Children in a row that may be rejected before the closest of them is made smaller instead."""

MAX_STEPS = 3_000
"""Morphs tried to make a trial fit, some seconds, before another one is taken."""

_TIMES = (1, 4, 16)
_SMALLER = " -"  # in the name of a morph that does

MAX_STARTS = 2
"""Trials that could not be made to fit before the budget counts as out of reach."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Of every `pool` trials that fit, the fittest is trained: by its resources and the error that the `surrogate`
    predicts, under `bounds` with weights drawn for that choice. Where the error is far from its bound that is the one
    of lowest predicted error."""

    surrogate: Surrogate
    bounds: Bounds
    pool: int


@dataclass(slots=True)
class Proposer:
    """Asks a strategy for trials, and makes what is drawn at random smaller, by morphs, until it fits `budget` (None =
    any network does). `rejected` counts what did not fit as the strategy proposed it.

    A trial is judged as it is drawn, and so as it is trained: what pruning takes away comes on top.
    """

    strategy: Strategy
    assessor: Assessor
    budget: Bounds | None
    rng: Generator
    rejected: int = 0
    ranking: Ranking | None = None

    def propose(self, index: int) -> Trial:
        """The trial of that index. Raises SearchError when none that fits is found."""
        ranking = self.ranking
        if ranking is None or ranking.pool <= 1:
            return self._fitting(index)
        trials = [self._fitting(index)]
        rejected = self.rejected  # of what is only looked at, nothing is counted
        trials += [self._fitting(index) for _ in range(ranking.pool - 1)]
        self.rejected = rejected
        lambdas = draw_lambdas(ranking.bounds, self.rng)
        return max(trials, key=lambda trial: self._prospects(trial, ranking, lambdas))

    def _prospects(self, trial: Trial, ranking: Ranking, lambdas: Mapping[Metric, float]) -> tuple[float, float]:
        try:
            resources = self.assessor.assess(trial.architecture)
        except ArchitectureError:
            return -math.inf, -math.inf
        error = ranking.surrogate.predict(trial)
        return fitness(features(error, resources), ranking.bounds, lambdas), -error

    def _fitting(self, index: int) -> Trial:
        """A trial that fits, as the strategy proposes it or made smaller."""
        closest: Trial | None = None
        least, nearest, starts = math.inf, math.inf, 0
        for draw in range(1, MAX_DRAWS + 1):
            trial = self.strategy.ask(self.rng, index)
            excess = self._excess(trial)
            if excess == 0:
                return trial
            self.rejected += 1
            if closest is None or excess < least:
                closest, least = trial, excess
            if math.isinf(least) or (trial.parent is not None and draw < MAX_DRAWS):
                continue  # another child is better than one that was changed at many places
            smaller, left = self._made_smaller(closest, least)
            if left == 0:
                return smaller
            nearest, starts = min(nearest, left), starts + 1
            if starts == MAX_STARTS:
                break
            closest, least = None, math.inf
        raise SearchError(
            f"no network within the hard budget was found: the closest needs {math.exp(nearest):.2f} times what there"
            " is; allow more, or do not reject infeasible networks"
        )

    def _made_smaller(self, trial: Trial, excess: float) -> tuple[Trial, float]:
        """(trial, excess) after morphs, none of which leads further off: small budgets admit next to no random one."""
        changed = replace(trial, change=f"{trial.change}, made smaller")
        for _ in range(MAX_STEPS):
            child = replace(changed, architecture=self._far_child(changed.architecture))
            if (found := self._excess(child)) <= excess:
                changed, excess = child, found
            if excess == 0:
                break
        return changed, excess

    def _far_child(self, architecture: AnyArchitecture) -> AnyArchitecture:
        """A child by one morph; one that takes a little off a size is done several times, or it would take for ever."""
        first, times = draw_choice(self.rng, morphs(architecture)), draw_choice(self.rng, _TIMES)
        architecture = first.apply(self.rng)
        for _ in range(times - 1 if _SMALLER in first.change else 0):
            again = next((morph for morph in morphs(architecture) if morph.change == first.change), None)
            if again is None:
                break
            architecture = again.apply(self.rng)
        return architecture

    def _excess(self, trial: Trial) -> float:
        """How far a trial is from the budget: the logarithms of the shares of it that are used, where they are above
        1, together; 0 when it fits."""
        try:
            resources = self.assessor.assess(trial.architecture)
        except ArchitectureError:  # an input this small has no such network
            return math.inf
        figures = features(None, resources)
        bounds = {} if self.budget is None else self.budget.values
        return sum(math.log(figures[metric] / bound) for metric, bound in bounds.items() if figures[metric] > bound)
