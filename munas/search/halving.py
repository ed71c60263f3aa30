"""Successive halving: trials that are hopeless after a few epochs are not trained to the end.

There are no brackets to fill, as trials finish out of order: each is compared with all that came before it. It is
compared by all objectives: only those that cost no more than it can be better. What a network costs is the largest
share that it takes of any bound on a resource, as in the fitness. A small network, or one that is pruned to be small,
need not be as good as a large one to be trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from munas.search.trial import Rung, TrialResult

MIN_SEEN = 8
"""Trials that a rung must have seen, of those that cost no more, before it stops anyone."""

COSTS_NO_MORE = 1.1
"""Times the cost, up to which another network counts as no dearer."""


class Halving:
    """A trial goes on past a rung when its error is within the best half of those seen there of networks that cost no
    more."""

    def __init__(self, epochs: Iterable[int]) -> None:
        """`epochs`: the rungs, as numbers of finished epochs; none, and nobody is ever stopped."""
        self._seen: dict[int, list[tuple[float, float]]] = {epoch: [] for epoch in sorted(set(epochs))}

    def tell(self, trial_result: TrialResult, cost: float = 0.0) -> None:
        """Take in the errors that a finished trial of that cost had at the rungs it reached."""
        history = trial_result.trained.history if trial_result.trained is not None else ()
        for epoch, seen in self._seen.items():
            if 1 <= epoch <= len(history) and math.isfinite(history[epoch - 1].error):
                seen.append((history[epoch - 1].error, cost))

    def rungs(self, cost: float = 0.0) -> tuple[Rung, ...]:
        """The rungs for a trial of that cost that starts now."""
        found = []
        for epoch, seen in self._seen.items():
            errors = sorted(error for error, other in seen if other <= COSTS_NO_MORE * cost)
            if len(errors) >= MIN_SEEN:
                found.append(Rung(epoch, errors[(len(errors) - 1) // 2]))
        return tuple(found)
