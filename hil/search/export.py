"""The export of a search: its front re-trained with several seeds, emitted, verified on the device, and the winner
named.

Every stage keeps what it has done in the search's store, by the .tflite's sha256 or by trial, seed and effort: the
same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hil.errors import CheckFailed, StoreError
from hil.search.drift import figures_of, outside_of
from hil.search.emit import NETWORKS, ExportHarness, Network, emit, prune_folders, verified
from hil.search.finals import (
    Costs,
    FinalsPlan,
    FinalsRequest,
    RetrainedTrial,
    plan_finals,
    plan_from_json,
    retrained_trials,
)
from hil.search.front import Front, front_of
from hil.search.recalibrate import Verified
from hil.search.result import Finalist, MeasuredFigures, boxes_of
from munas.arch.graph import build_graph
from munas.arch.space import to_dict
from munas.cost.resources import Assessor, Resources
from munas.data.dataset import Dataset
from munas.jobs.base import JobBackend
from munas.jobs.local import LOCAL
from munas.search.metrics import features
from munas.search.objective import Bounds, meets
from munas.search.store import SearchStore
from munas.search.study import FinalJob, FinalsWatcher, run_finals
from munas.search.trial import TrainerFactory, TrialResult

Score = Callable[[bytes], float]
"""Accuracy of an int8 .tflite on the test set."""


@dataclass(frozen=True, slots=True)
class RetrainingSetup:
    """How the re-trainings run."""

    trainer: TrainerFactory
    workers: int
    time_limit_s: float
    memory_limit_bytes: int
    preload: Sequence[str] = ()
    backend: JobBackend = LOCAL
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Export:
    """What was exported; `seconds` is the wall time of re-training, measuring and testing."""

    front: Front
    plan: FinalsPlan
    finalists: tuple[Finalist, ...]
    winner: int | None
    is_recalibrated: bool
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Criteria:
    """What networks are judged by: predictions, the objective's bounds and the hard budget."""

    assessor: Assessor
    bounds: Bounds
    hard: Bounds

    def finalist(self, finalist: Finalist, checked: Verified | None) -> Finalist:
        """The finalist with predictions of these criteria's assessor, and its measurement held against them."""
        if checked is None:
            return finalist
        predicted = self.assessor.assess(checked.architecture, checked.tflite)
        measured = figures_of(checked.measurement)
        return replace(finalist, predicted=predicted, measured=measured, outside=outside_of(predicted, measured))

    def winner(self, finalists: Sequence[Finalist]) -> int | None:
        """Lowest mean error of those that were verified and are within every bound, the error's left out.

        If any is within the error's bound then this one is.
        """
        bounds = {**self.hard.values, **self.bounds.resources.values}
        allowed = [item for item in finalists if _is_sound(item) and _within(item, Bounds(bounds))]
        return min(allowed, key=lambda item: (item.mean_error, item.index)).index if allowed else None


def _within(finalist: Finalist, bounds: Bounds) -> bool:
    assert finalist.measured is not None
    return meets(features(finalist.mean_error, as_measured(finalist.predicted, finalist.measured)), bounds)


def _is_sound(finalist: Finalist) -> bool:
    return finalist.measured is not None and finalist.measured.mismatched == 0


def as_measured(predicted: Resources, measured: MeasuredFigures) -> Resources:
    """The resources with measured figures in the places of predicted ones."""
    latency = None if predicted.latency is None else measured.latency
    return replace(
        predicted, ram=measured.ram, flash=measured.flash, flash_weights=measured.flash_weights, latency=latency
    )


def choose(
    store: SearchStore,
    trials: Sequence[TrialResult],
    criteria: Criteria,
    count: int,
    wanted: FinalsRequest,
    costs: Costs,
) -> tuple[Front, FinalsPlan]:
    """The front of a finished search, and what of it is trained again: the stored plan, where this end had one.

    Raises CheckFailed when no network fits the budget.
    """
    front = front_of(trials, criteria.bounds, criteria.hard, count, criteria.assessor.num_classes)
    if not front.chosen:
        raise CheckFailed(_nothing(trials))
    # Of this very end: a search that went on, or another wish, gets a plan of its own.
    wish = [len(trials), count, list(wanted.seeds), wanted.effort, criteria.bounds.to_json()]
    stored = store.document("export") or store.document("handover")  # older versions wrote the second
    if isinstance(stored, dict) and stored.get("wish") == wish:
        plan = plan_from_json(stored.get("plan"))
        if all(item in {one.trial.index for one in trials} for item in plan.finalists):
            return front, plan
    plan = plan_finals(front.chosen, wanted, costs)
    store.put_document("export", {"wish": wish, "plan": plan.to_json()})
    return front, plan


def _nothing(trials: Sequence[TrialResult]) -> str:
    if not trials:
        return "no trial was finished in time; search longer (--minutes)"
    failures = [item.message for item in trials if item.status == "failed"]
    if failures and len(failures) == len(trials):
        return f"none of {len(trials)} trials could be trained; the first one: {failures[0]}"
    return (
        f"none of {len(trials)} trials fits the RAM and flash bounds; search longer (--trials, --minutes)"
        " or raise the bounds"
    )


def retrain_finalists(
    store: SearchStore,
    trials: Mapping[int, TrialResult],
    plan: FinalsPlan,
    training: RetrainingSetup,
    criteria: Criteria,
    watcher: FinalsWatcher | None,
) -> tuple[list[RetrainedTrial], list[str]]:
    """The plan's networks trained again, and notes. Raises CheckFailed when no training succeeds."""
    jobs = [FinalJob(trials[index].trial, seed, plan.effort) for index in plan.finalists for seed in plan.seeds]
    finals = run_finals(
        store,
        jobs,
        training.trainer,
        workers=training.workers,
        time_limit_s=training.time_limit_s,
        memory_limit_bytes=training.memory_limit_bytes,
        preload=training.preload,
        gpu=training.gpu,
        watcher=watcher,
        backend=training.backend,
    )
    return retrained_trials(plan, trials, finals, criteria.assessor, criteria.hard, store.trained)


@dataclass(frozen=True, slots=True)
class ExportContext:
    """Where networks are exported, `folder` is the run's; and the data set that they are of."""

    folder: Path
    dataset: Dataset
    harness: ExportHarness
    store: SearchStore


def export_networks(
    context: ExportContext, all_retrained: Sequence[RetrainedTrial], criteria: Criteria, tell: Callable[[str], None]
) -> tuple[list[Finalist], list[Verified | None]]:
    """Emit and measure every retrained; finalists without test accuracy. Raises HilError of the surroundings."""
    finalists, checked = list[Finalist](), list[Verified | None]()
    for retrained in all_retrained:
        network = _network(context, retrained)
        tell(f"network {retrained.index}: writing and measuring it")
        emit(network, _about(context, retrained))
        found = verified(network, context.harness, context.store)
        finalist = _finalist(context, retrained, network)
        if isinstance(found, str):
            finalists.append(replace(finalist, message=found))
            checked.append(None)
        else:
            finalists.append(criteria.finalist(finalist, found))
            checked.append(found)
    prune_folders(context.folder / NETWORKS, {Path(item.folder).name for item in finalists})
    return finalists, checked


def _network(context: ExportContext, retrained: RetrainedTrial) -> Network:
    name, trained = f"{retrained.index:05d}", retrained.trained
    data, folder = context.dataset, context.folder / NETWORKS / name
    network = f"{data.name}-{name}"
    return Network(network, trained.architecture, data.input_shape, data.num_classes, trained.tflite, folder)


def _about(context: ExportContext, retrained: RetrainedTrial) -> dict[str, object]:
    """Whose network it is, and what it takes to feed it and to read it."""
    trial, data = retrained.trial_result.trial, context.dataset
    return {
        "dataset": data.name, "dataset_sha256": data.sha256, "classes": list(data.classes),
        "input_scale": list(data.scale), "input_offset": list(data.offset),
        "constants": {name: list(values) for name, values in data.constants.items()},
        "trial": trial.index, "seed": retrained.chosen_seed, "validation_error": retrained.trained.error,
        "sparsity": trial.sparsity, "drawn": to_dict(trial.architecture),
    }  # fmt: skip


def _finalist(context: ExportContext, retrained: RetrainedTrial, network: Network) -> Finalist:
    return Finalist(
        index=retrained.index,
        architecture=to_dict(network.architecture),
        layers=boxes_of(build_graph(network.architecture, network.input_shape, network.num_classes)),
        seed_errors=retrained.seed_errors,
        chosen_seed=retrained.chosen_seed,
        mean_error=retrained.mean_error,
        sd_error=retrained.sd_error,
        test_accuracy=None,
        predicted=retrained.predicted,
        measured=None,
        outside=(),
        folder=network.folder.relative_to(context.folder).as_posix(),
        sparsity=retrained.trial_result.trial.sparsity,
        error=retrained.trained.error,
        float_error=retrained.trained.float_error,
        int8_cause=retrained.trained.int8_cause,
        collapsed=retrained.collapsed,
    )


def tested(
    context: ExportContext, all_retrained: Sequence[RetrainedTrial], finalists: Sequence[Finalist], winner: int | None,
    score: Score, has_time: Callable[[], bool], tell: Callable[[str], None],
) -> list[Finalist]:  # fmt: skip
    """The finalists with their accuracy on the test set, which nothing before has looked at: the winner's, and those of
    the others while there is time. Each is scored once, whatever is resumed."""
    found = list(finalists)
    for place in sorted(range(len(finalists)), key=lambda place: finalists[place].index != winner):
        network = _network(context, all_retrained[place])
        key = f"test:{network.sha256}"
        accuracy = context.store.document(key)
        if accuracy is None and finalists[place].index != winner and not has_time():
            found[place] = replace(found[place], message=found[place].message or "no time was left to test it")
            continue
        if accuracy is None:
            tell(f"network {finalists[place].index}: test set, int8, reference kernels")
            accuracy = score(network.tflite)
            context.store.put_document(key, accuracy)
        if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
            raise StoreError(f"the search store holds a damaged test accuracy ({accuracy!r}); name another folder")
        found[place] = replace(found[place], test_accuracy=accuracy)
    return found
