"""Where a search stands: counts, and the best network so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from munas.search.candidate import Evaluation
from munas.search.objective import Bounds, Metric, exceeded, features


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a search stands.

    `best` has the lowest error of all that meet every bound but the error's; `best_under` has the same for each such
    bound alone. Their evaluations carry no tflite and no weights. `elapsed_s` counts over all resumes.
    """

    ok: int
    failed: int
    rejected: int
    elapsed_s: float
    best: Evaluation | None
    best_under: Mapping[Metric, Evaluation]


class Tally:
    """Keeps the standing up to date, evaluation by evaluation."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds.resources
        self._ok = self._failed = 0
        self._best: Evaluation | None = None
        self._best_under: dict[Metric, Evaluation] = {}

    def tell(self, evaluation: Evaluation) -> None:
        """A candidate is finished."""
        trained, resources = evaluation.trained, evaluation.resources
        if evaluation.status == "failed" or trained is None or resources is None:
            self._failed += 1
            return
        self._ok += 1
        missed = exceeded(features(trained.error, resources), self._bounds)
        if not missed and _is_better(evaluation, self._best):
            self._best = evaluation
        for metric in self._bounds.values:
            if metric not in missed and _is_better(evaluation, self._best_under.get(metric)):
                self._best_under[metric] = evaluation

    def standing(self, rejected: int, elapsed_s: float) -> Standing:
        """The standing now."""
        return Standing(self._ok, self._failed, rejected, elapsed_s, self._best, dict(self._best_under))


def _is_better(evaluation: Evaluation, other: Evaluation | None) -> bool:
    if other is None or other.trained is None or evaluation.trained is None:
        return True
    return evaluation.trained.error < other.trained.error
