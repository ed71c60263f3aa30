"""Trials that fit: what a strategy proposes and the device cannot hold is dropped before it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from munas.arch.morphs import random_child
from munas.arch.prune import expected_architecture
from munas.arch.space import ArchitectureError
from munas.cost.resources import Assessor
from munas.errors import SearchError
from munas.search.evolve import Strategy
from munas.search.metrics import features
from munas.search.objective import Bounds
from munas.search.trial import Trial

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_DRAWS = 100
"""Proposals in a row that may be rejected before the closest of them is made smaller instead."""

MAX_STEPS = 5_000
"""Morphs tried to make a trial fit, some seconds, before the budget counts as out of reach."""


@dataclass(slots=True)
class Proposer:
    """Asks a strategy until a trial fits `budget` (None = any network does). `rejected` counts those that do not.

    A trial with sparsity is judged by what pruning is expected to leave.
    """

    strategy: Strategy
    assessor: Assessor
    budget: Bounds | None
    rng: Generator
    rejected: int = 0

    def propose(self, index: int) -> Trial:
        """The trial of that index. Raises SearchError when none that fits is found."""
        closest, least = None, (math.inf, math.inf)
        for _ in range(MAX_DRAWS):
            trial = self.strategy.ask(self.rng, index)
            excess = self._excess(trial)
            if excess[0] <= 1:
                return trial
            self.rejected += 1
            if closest is None or excess < least:
                closest, least = trial, excess
        assert closest is not None
        return self._made_smaller(closest, least)

    def _made_smaller(self, trial: Trial, excess: tuple[float, float]) -> Trial:
        """Morph until it fits, never to something further off: small budgets admit next to no random network."""
        for _ in range(MAX_STEPS):
            child = replace(trial, architecture=random_child(trial.architecture, self.rng))
            found = self._excess(child)
            if found <= excess:
                trial, excess = child, found
            if excess[0] <= 1:
                return replace(trial, change=f"{trial.change}, made smaller")
        raise SearchError(
            f"no network within the hard budget was found: the closest needs {excess[0]:.2f} times what there is; "
            "allow more, or do not reject infeasible networks"
        )

    def _excess(self, trial: Trial) -> tuple[float, float]:
        """The largest share of a bound that is used, more than 1 when it does not fit, and the sum of the shares."""
        architecture, shape, classes = trial.architecture, self.assessor.input_shape, self.assessor.num_classes
        try:
            if trial.sparsity > 0:
                architecture = expected_architecture(architecture, shape, classes, trial.sparsity)
            resources = self.assessor.assess(architecture)
        except ArchitectureError:  # an input this small has no such network
            return math.inf, math.inf
        figures = features(None, resources)
        bounds = {} if self.budget is None else self.budget.values
        shares = [figures[metric] / bound for metric, bound in bounds.items()]
        return max(shares, default=0.0), sum(shares)
