"""Trials that fit and promise something: what a strategy proposes and the device cannot hold is dropped before it is
trained, and of several that fit the one with the best prospects is taken."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from munas.arch.graph import Graph, build_graph
from munas.arch.morphs import far_child
from munas.arch.space import ArchitectureError, narrowed
from munas.cost.resources import Assessor, Resources
from munas.errors import SearchError
from munas.search.evolve import RandomSearch, Space, Strategy
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, draw_lambdas, fitness
from munas.search.surrogate import Surrogate, Vector
from munas.search.trial import Trial

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_DRAWS = 100
"""Proposals in a row that may be rejected before the closest of them is made smaller instead."""

MAX_STEPS = 3_000
"""Morphs tried to make a trial fit, some seconds, before another one is taken."""

LEAST_WIDTH = 1 / 64
"""Of the width that a network was drawn with, which makes 128 filters 2."""

FIRST_MORPHS, CHILD_MORPHS = 100, 20
"""Morphs by which a random network, and a child, may come to promise more before it is trained. On MNIST within 2.8 KB
and 2 KB, trained for 0.75 passes, what random networks shrunk by morphs had left was a first layer of one channel: of
37 trials the best had 7.1 % of errors. The best of the narrow ones of 200 draws, with 100 such morphs, have a median of
6.4 % (8 networks; 4.7 % the best); a good network made by hand has 3.0 %."""

ANEW = 3
"""Where a surrogate chooses, each trial of an index that this divides is drawn at random. Within little time there are
few to begin with, and children alone stay where the first ones were: of 46 trials of a search on MNIST with a
population of 8, 26 were of one network."""

_HOPELESS = (-math.inf, -math.inf)

MAX_STARTS = 2
"""Trials that could not be made to fit before the budget counts as out of reach."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Of every `pool` trials that fit, the fittest is improved by morphs, then trained: by its resources and the error
    that the `surrogate` holds possible (without `curious`: holds likeliest), under `bounds` with weights drawn for that
    choice. Where the error is far from its bound that is the one of lowest predicted error. Some trials are drawn from
    `space` anew."""

    surrogate: Surrogate
    bounds: Bounds
    pool: int
    space: Space
    curious: bool = True


@dataclass(frozen=True, slots=True)
class _View:
    """Under which the proposals for one trial are compared: the surrogate's weights (None: the likeliest ones) and
    those of the objectives."""

    weights: Vector | None
    lambdas: Mapping[Metric, float]


@dataclass(slots=True)
class Proposer:
    """Asks a strategy for trials. What is drawn at random and does not fit `budget` (None = any network does) is made
    narrower, all layers alike, by a share left to chance; what is still too large after many draws is made smaller by
    morphs. `rejected` counts what did not fit as the strategy proposed it.

    A trial is judged as it is drawn, and so as it is trained: what pruning takes away comes on top.
    """

    strategy: Strategy
    assessor: Assessor
    budget: Bounds | None
    rng: Generator
    rejected: int = 0
    ranking: Ranking | None = None
    _known: set[tuple[Graph, float]] = field(default_factory=set)

    def propose(self, index: int) -> Trial:
        """The trial of that index. Raises SearchError when none that fits is found."""
        trial = self._proposed(index)
        self.drawn(trial)
        return trial

    def drawn(self, trial: Trial) -> None:
        """A trial of this search: its network is not proposed again."""
        with contextlib.suppress(ArchitectureError):
            self._known.add(self._network(trial))

    def _network(self, trial: Trial) -> tuple[Graph, float]:
        """What is trained. Many a morph changes nothing of it: the filters of a branch's last layer, for one."""
        graph = build_graph(trial.architecture, self.assessor.input_shape, self.assessor.num_classes)
        return graph, round(trial.sparsity, 1)

    def _proposed(self, index: int) -> Trial:
        ranking = self.ranking
        if ranking is None or ranking.pool <= 1:
            return self._fitting(index, self.strategy)
        strategy = RandomSearch(ranking.space) if index % ANEW == 0 else self.strategy
        trials = [self._fitting(index, strategy)]
        rejected = self.rejected  # of what is only looked at, nothing is counted
        trials += [self._fitting(index, strategy) for _ in range(ranking.pool - 1)]
        self.rejected = rejected
        weights = ranking.surrogate.drawn(self.rng) if ranking.curious else None
        view = _View(weights, draw_lambdas(ranking.bounds, self.rng))
        return self._improved(max(trials, key=lambda trial: self._prospects(trial, ranking, view)), ranking, view)

    def _improved(self, trial: Trial, ranking: Ranking, view: _View) -> Trial:
        """A trial after those of some morphs that make it promise more."""
        best = self._prospects(trial, ranking, view)
        for _ in range(FIRST_MORPHS if trial.parent is None else CHILD_MORPHS):
            child = replace(trial, architecture=far_child(trial.architecture, self.rng))
            if (found := self._prospects(child, ranking, view, best)) > best:
                trial, best = (child, found) if self._network(child) not in self._known else (trial, best)
        return trial

    def _prospects(
        self, trial: Trial, ranking: Ranking, view: _View, best: tuple[float, float] = _HOPELESS
    ) -> tuple[float, float]:
        """(fitness, minus the error that is predicted); `_HOPELESS` for what does not fit, or is no better than `best`
        by its error alone: what a network needs takes ten times as long to tell."""
        try:
            error = ranking.surrogate.predict(trial, view.weights)
            if (fitness({Metric.ERROR: error}, ranking.bounds.error_alone, view.lambdas), -error) <= best:
                return _HOPELESS
            resources = self.assessor.assess(trial.architecture)
        except ArchitectureError:
            return _HOPELESS
        if self._over(resources):
            return _HOPELESS
        return fitness(features(error, resources), ranking.bounds, view.lambdas), -error

    def _fitting(self, index: int, strategy: Strategy) -> Trial:
        """A trial that fits, as the strategy proposes it or made smaller, and has not been tried; if there is none
        such, one that has been."""
        nearest, again = math.inf, None
        for _ in range(MAX_STARTS):
            closest: Trial | None = None
            least = math.inf
            for _ in range(MAX_DRAWS):
                trial = strategy.ask(self.rng, index)
                if (excess := self._excess(trial)) == 0:
                    if self._network(trial) not in self._known:
                        return trial
                    again = trial
                    continue
                self.rejected += 1
                if trial.parent is None:
                    width = LEAST_WIDTH ** self.rng.random()
                    trial = replace(
                        trial,
                        architecture=narrowed(trial.architecture, width),
                        change=f"{trial.change}, made narrower",
                    )
                    if (excess := self._excess(trial)) == 0:
                        return trial
                if closest is None or excess < least:
                    closest, least = trial, excess
            if again is not None:
                return again
            if closest is None or math.isinf(least):
                continue
            smaller, left = self._made_smaller(closest, least)
            if left == 0:
                return smaller
            nearest = min(nearest, left)
        raise SearchError(
            f"no network within the hard budget was found: the closest needs {math.exp(nearest):.2f} times what there"
            " is; allow more, or do not reject infeasible networks"
        )

    def _made_smaller(self, trial: Trial, excess: float) -> tuple[Trial, float]:
        """(trial, excess) after morphs, none of which leads further off: small budgets admit next to no random one."""
        changed = replace(trial, change=f"{trial.change}, made smaller")
        for _ in range(MAX_STEPS):
            child = replace(changed, architecture=far_child(changed.architecture, self.rng))
            if (found := self._excess(child)) <= excess:
                changed, excess = child, found
            if excess == 0:
                break
        return changed, excess

    def _excess(self, trial: Trial) -> float:
        """How far a trial is from the budget, 0 when it fits."""
        try:
            return self._over(self.assessor.assess(trial.architecture))
        except ArchitectureError:  # an input this small has no such network
            return math.inf

    def _over(self, resources: Resources) -> float:
        """The logarithms of the shares of the budget that are used, where they are above 1, together."""
        figures = features(None, resources)
        bounds = {} if self.budget is None else self.budget.values
        return sum(math.log(figures[metric] / bound) for metric, bound in bounds.items() if figures[metric] > bound)
