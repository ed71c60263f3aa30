"""Successive halving: trials that are hopeless after a few epochs are not trained to the end.

There are no brackets to fill, as trials finish out of order: each is compared with all that came before it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

from munas.search.trial import Rung, TrialResult

MIN_SEEN = 8
"""Errors that a rung must have seen before it stops anyone."""


class Halving:
    """A trial goes on past a rung when its error is within the best half of those seen there."""

    def __init__(self, epochs: Iterable[int]) -> None:
        """`epochs`: the rungs, as numbers of finished epochs; none, and nobody is ever stopped."""
        self._seen: dict[int, list[float]] = {epoch: [] for epoch in sorted(set(epochs))}

    def tell(self, trial_result: TrialResult) -> None:
        """Take in the errors that a finished trial had at the rungs it reached."""
        history = trial_result.trained.history if trial_result.trained is not None else ()
        for epoch, errors in self._seen.items():
            if 1 <= epoch <= len(history) and math.isfinite(history[epoch - 1].error):
                bisect.insort(errors, history[epoch - 1].error)

    def rungs(self) -> tuple[Rung, ...]:
        """The rungs for a trial that starts now."""
        return tuple(
            Rung(epoch, errors[(len(errors) - 1) // 2])
            for epoch, errors in self._seen.items()
            if len(errors) >= MIN_SEEN
        )
