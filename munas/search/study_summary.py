"""Where a search stands: counts, and the best network so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, exceeded
from munas.search.trial import TrialResult


@dataclass(frozen=True, slots=True)
class StudySummary:
    """Where a search stands.

    `best` has the lowest error of all that meet every bound but the error's; `best_under` has the same for each such
    bound alone. Their trials carry no tflite and no weights. `elapsed_s` counts over all resumes.
    """

    ok: int
    failed: int
    rejected: int
    elapsed_s: float
    best: TrialResult | None
    best_under: Mapping[Metric, TrialResult]


class Tally:
    """Keeps the summary up to date, trial by trial."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds.resources
        self._ok = self._failed = 0
        self._best: TrialResult | None = None
        self._best_under: dict[Metric, TrialResult] = {}

    def tell(self, trial_result: TrialResult) -> None:
        """A trial is finished."""
        trained, resources = trial_result.trained, trial_result.resources
        if trial_result.status == "failed" or trained is None or resources is None:
            self._failed += 1
            return
        self._ok += 1
        missed = exceeded(features(trained.error, resources), self._bounds)
        if not missed and _is_better(trial_result, self._best):
            self._best = trial_result
        for metric in self._bounds.values:
            if metric not in missed and _is_better(trial_result, self._best_under.get(metric)):
                self._best_under[metric] = trial_result

    def summary(self, rejected: int, elapsed_s: float) -> StudySummary:
        """The summary now."""
        return StudySummary(self._ok, self._failed, rejected, elapsed_s, self._best, dict(self._best_under))


def _is_better(trial_result: TrialResult, other: TrialResult | None) -> bool:
    if other is None or other.trained is None or trial_result.trained is None:
        return True
    return trial_result.trained.error < other.trained.error
