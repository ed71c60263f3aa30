"""Re-training of the front: how much of it fits the time that is left, and what the seeds say of each network."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hil.errors import CheckFailed, StoreError
from munas.cost.resources import Assessor, Resources
from munas.search.metrics import features
from munas.search.objective import Bounds, meets
from munas.search.study import Final
from munas.search.trial import Trained, TrialResult

_STEP = 0.9  # between the efforts that are tried
_MARGIN = 0.85  # of the time that is left: predictions of it are not exact

_FINALIST_S = 6.0  # to write, build and measure one network

_GOOD_EFFORT = 0.3  # what a re-training should have before more networks or seeds are worth their time
_FAIR_EFFORT = 0.1  # and what the one network that is left should have before its second seed
_FEW = 2  # networks, and seeds, that are given up for it at most
_COLLAPSED_TIMES, _COLLAPSED_POINTS = 1.5, 0.05  # an error above this of the trial's own, and so much above it


class Costs(Protocol):
    """What an export takes, in seconds."""

    def training(self, trial_result: TrialResult, effort: float) -> float:
        """One re-training of a finished trial."""
        ...

    def test(self, resources: Resources) -> float:
        """The test set, for one network."""
        ...


@dataclass(frozen=True, slots=True)
class FinalsPlan:
    """Which trials (by index) are trained again, with which seeds and effort; `note` says what was cut, if it was.

    The plan is stored before the first re-training, so that a resume does not make another one.
    """

    finalists: tuple[int, ...]
    seeds: tuple[int, ...]
    effort: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the store; `plan_from_json` is the inverse."""
        return {"finalists": list(self.finalists), "seeds": list(self.seeds), "effort": self.effort, "note": self.note}


def plan_from_json(document: Any) -> FinalsPlan:
    """Inverse of `FinalsPlan.to_json`. Raises StoreError."""
    try:
        finalists = tuple(map(int, document.get("finalists", document.get("members"))))  # older versions: members
        seeds = tuple(map(int, document["seeds"]))
        effort = float(document["effort"])
        if not 0 < effort <= 1:
            raise ValueError(f"effort {effort}")
        return FinalsPlan(finalists, seeds, effort, str(document["note"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"the search store holds a damaged plan: {error}; name another folder") from error


@dataclass(frozen=True, slots=True)
class FinalsRequest:
    """What the user wants of the export: `seeds` re-trainings of each network at `effort`.

    With `seconds` left, the effort is lowered until everything fits, first to a third of the recipe's; then networks
    are left out, last ones first, and seeds, down to two each; then the effort goes down to a tenth, networks to one,
    and in the end the effort to `least_effort` and the seeds to one.
    """

    seeds: tuple[int, ...]
    effort: float
    least_effort: float
    seconds: float | None
    workers: int


def plan_finals(chosen: Sequence[TrialResult], wanted: FinalsRequest, costs: Costs) -> FinalsPlan:
    """The plan for the `chosen` trials, the most interesting one first."""
    finalists, seeds = list(chosen), list(wanted.seeds)

    def plan(effort: float, note: str = "") -> FinalsPlan:
        return FinalsPlan(tuple(item.trial.index for item in finalists), tuple(seeds), effort, note)

    if wanted.seconds is None:
        return plan(wanted.effort)
    available_s, least = max(0.0, wanted.seconds) * _MARGIN, min(wanted.least_effort, wanted.effort)
    effort = wanted.effort

    def is_late() -> bool:
        return _seconds(finalists, seeds, effort, costs, wanted.workers) > available_s

    stages = ((_GOOD_EFFORT, _FEW, _FEW), (_FAIR_EFFORT, 1, _FEW), (0.0, 1, 1))
    for lowest, networks, repeats in ((max(least, min(low, wanted.effort)), *few) for low, *few in stages):
        while effort > lowest and is_late():
            effort = max(lowest, effort * _STEP)
        while is_late() and (len(finalists) > networks or len(seeds) > repeats):
            (finalists if len(finalists) > networks else seeds).pop()
    cut = []
    if (effort := float(f"{effort:.4g}")) < float(f"{wanted.effort:.4g}"):
        cut.append(f"at effort {effort:g} instead of {wanted.effort:g}")
    if len(finalists) < len(chosen):
        cut.append(f"{len(finalists)} of {len(chosen)} networks")
    if len(seeds) < len(wanted.seeds):
        cut.append(f"{len(seeds)} of {len(wanted.seeds)} seeds")
    return plan(effort, f"to end in time, the front was trained again {', '.join(cut)}" if cut else "")


def _seconds(
    finalists: Sequence[TrialResult], seeds: Sequence[int], effort: float, costs: Costs, workers: int
) -> float:
    """Until everything is over: each training goes to the worker that is free first; the winner is tested."""
    free_at = [0.0] * max(1, workers)
    for finalist in finalists:
        seconds = costs.training(finalist, effort)
        for _ in seeds:
            heapq.heapreplace(free_at, free_at[0] + seconds)
    tests = [costs.test(finalist.resources) for finalist in finalists if finalist.resources is not None]
    return max(free_at) + len(finalists) * _FINALIST_S + max(tests, default=0.0)


@dataclass(frozen=True, slots=True)
class RetrainedTrial:
    """A network after re-training. `seed_errors` are (seed, int8 validation error); `trained` is the chosen seed's.

    `collapsed` are those of re-trainings that came out much worse than the trial. Where all did, `trained` is the
    trial's own network, if the store has it, and `seed_errors` is that alone.
    """

    trial_result: TrialResult
    seed_errors: tuple[tuple[int, float], ...]
    chosen_seed: int
    trained: Trained
    predicted: Resources
    collapsed: tuple[tuple[int, float], ...] = ()

    @property
    def index(self) -> int:
        """The trial's."""
        return self.trial_result.trial.index

    @property
    def mean_error(self) -> float:
        """Over all seeds."""
        return statistics.fmean(error for _, error in self.seed_errors)

    @property
    def sd_error(self) -> float:
        """Sample standard deviation over the seeds, 0 for one."""
        errors = [error for _, error in self.seed_errors]
        return statistics.stdev(errors) if len(errors) > 1 else 0.0


def retrained_trials(
    plan: FinalsPlan,
    trials: Mapping[int, TrialResult],
    finals: Sequence[Final],
    assessor: Assessor,
    hard: Bounds,
    own: Callable[[int], Trained | None],
) -> tuple[list[RetrainedTrial], list[str]]:
    """What became of each finalist of the plan, and notes on trainings that failed or collapsed. Raises CheckFailed
    when all failed.

    The emitted network of a finalist is the seed of lowest validation error among those that fit `hard`: pruning leaves
    another network for every seed. `own` gives a trial's own network with its blobs.
    """
    all_retrained, notes = [], []
    for index in plan.finalists:
        mine = [item for item in finals if item.job.trial.index == index]
        failed = [item for item in mine if item.trained is None]
        notes += [f"network {index}, seed {item.job.seed}: training failed: {item.message}" for item in failed]
        runs = [(item.job.seed, item.trained) for item in mine if item.trained is not None]
        if runs:
            all_retrained.append(_retrained_trial(trials[index], runs, assessor, hard, own))
            notes += _collapse_note(all_retrained[-1])
    if not all_retrained:
        raise CheckFailed(f"no network of the front could be trained again: {notes[0] if notes else 'there is none'}")
    return all_retrained, notes


def _retrained_trial(
    trial_result: TrialResult,
    runs: Sequence[tuple[int, Trained]],
    assessor: Assessor,
    hard: Bounds,
    own: Callable[[int], Trained | None],
) -> RetrainedTrial:
    before = math.inf if trial_result.trained is None else trial_result.trained.error
    collapsed = tuple((seed, item.error) for seed, item in runs if _has_collapsed(item.error, before))
    if len(collapsed) == len(runs) and (kept := own(trial_result.trial.index)) is not None and kept.tflite:
        runs = [(trial_result.trial.seed, kept)]
    assessed = [(seed, trained, assessor.assess(trained.architecture, trained.tflite)) for seed, trained in runs]
    fitting = [item for item in assessed if meets(features(item[1].error, item[2]), hard)]
    seed, trained, predicted = min(fitting or assessed, key=lambda item: (item[1].error, item[0]))
    errors = tuple((seed, item.error) for seed, item in runs)
    return RetrainedTrial(trial_result, errors, seed, trained, predicted, collapsed)


def _has_collapsed(error: float, before: float) -> bool:
    return error > max(before * _COLLAPSED_TIMES, before + _COLLAPSED_POINTS)


def _collapse_note(retrained: RetrainedTrial) -> list[str]:
    collapsed = retrained.collapsed
    if not collapsed:
        return []
    assert retrained.trial_result.trained is not None
    errors = ", ".join(f"{error:.2%} (seed {seed})" for seed, error in collapsed)
    text = f"network {retrained.index}: re-training collapsed to {errors}; the trial had"
    text += f" {retrained.trial_result.trained.error:.2%}"
    if set(dict(retrained.seed_errors)) & set(dict(collapsed)):
        return [text]
    return [f"{text}: its own network, of that one training, is exported"]
