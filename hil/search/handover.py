"""The hand-over of a search: its front re-trained with several seeds, emitted, verified on the device, judged.

Every stage keeps what it has done in the search's store, by the .tflite's sha256 or by trial, seed and effort: the
same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hil.errors import CheckFailed, StoreError
from hil.search.drift import figures_of, outside_of
from hil.search.emit import NETWORKS, Bench, Network, emit, prune_folders, verified
from hil.search.finals import Ask, Contender, Costs, FinalsPlan, contenders_of, plan_finals, plan_from_json
from hil.search.front import Front, front_of
from hil.search.recalibrate import Verified
from hil.search.result import MeasuredFigures, Member, boxes_of
from munas.arch.graph import Shape, build_graph
from munas.arch.space import to_dict
from munas.cost.resources import Assessor, Resources
from munas.search.objective import Bounds, features, meets
from munas.search.store import SearchStore
from munas.search.study import FinalJob, FinalsWatcher, run_finals
from munas.search.trial import TrainerFactory, TrialResult

Score = Callable[[bytes], float]
"""Accuracy of an int8 .tflite on the test set."""


@dataclass(frozen=True, slots=True)
class Training:
    """How the re-trainings run."""

    trainer: TrainerFactory
    workers: int
    time_limit_s: float
    memory_limit_bytes: int
    preload: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Handover:
    """What was handed over; `seconds` is the wall time of re-training, measuring and testing."""

    front: Front
    plan: FinalsPlan
    members: tuple[Member, ...]
    winner: int | None
    is_recalibrated: bool
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Judge:
    """What networks are judged by: predictions, the objective's bounds and the hard budget."""

    assessor: Assessor
    bounds: Bounds
    hard: Bounds

    def member(self, member: Member, checked: Verified | None) -> Member:
        """The member with predictions of this judge's assessor, and its measurement held against them."""
        if checked is None:
            return member
        predicted = self.assessor.assess(checked.architecture)
        measured = figures_of(checked.measurement)
        return replace(member, predicted=predicted, measured=measured, outside=outside_of(predicted, measured))

    def winner(self, members: Sequence[Member]) -> int | None:
        """Lowest mean error of those that were verified and are within every bound, the error's left out.

        If any is within the error's bound then this one is.
        """
        bounds = {**self.hard.values, **self.bounds.resources.values}
        allowed = [item for item in members if _is_sound(item) and _within(item, Bounds(bounds))]
        return min(allowed, key=lambda item: (item.mean_error, item.index)).index if allowed else None


def _within(member: Member, bounds: Bounds) -> bool:
    assert member.measured is not None
    return meets(features(member.mean_error, as_measured(member.predicted, member.measured)), bounds)


def _is_sound(member: Member) -> bool:
    return member.measured is not None and member.measured.mismatched == 0


def as_measured(predicted: Resources, measured: MeasuredFigures) -> Resources:
    """The resources with measured figures in the places of predicted ones."""
    latency = None if predicted.latency is None else measured.latency
    return replace(
        predicted, ram=measured.ram, flash=measured.flash, flash_weights=measured.flash_weights, latency=latency
    )


def choose(
    store: SearchStore, trials: Sequence[TrialResult], judge: Judge, count: int, ask: Ask, costs: Costs
) -> tuple[Front, FinalsPlan]:
    """The front of a finished search, and what of it is trained again: the stored plan, where this end had one.

    Raises CheckFailed when no network fits the budget.
    """
    front = front_of(trials, judge.bounds, judge.hard, count)
    if not front.chosen:
        raise CheckFailed(_nothing(trials))
    # Of this very end: a search that went on, or another wish, gets a plan of its own.
    wish = [len(trials), count, list(ask.seeds), ask.effort, judge.bounds.to_json()]
    stored = store.document("handover")
    if isinstance(stored, dict) and stored.get("wish") == wish:
        plan = plan_from_json(stored.get("plan"))
        if all(item in {one.trial.index for one in trials} for item in plan.members):
            return front, plan
    plan = plan_finals(front.chosen, ask, costs)
    store.put_document("handover", {"wish": wish, "plan": plan.to_json()})
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


def retrained(
    store: SearchStore,
    trials: Mapping[int, TrialResult],
    plan: FinalsPlan,
    training: Training,
    judge: Judge,
    watcher: FinalsWatcher | None,
) -> tuple[list[Contender], list[str]]:
    """The plan's networks trained again, and notes. Raises CheckFailed when no training succeeds."""
    jobs = [FinalJob(trials[index].trial, seed, plan.effort) for index in plan.members for seed in plan.seeds]
    finals = run_finals(
        store,
        jobs,
        training.trainer,
        workers=training.workers,
        time_limit_s=training.time_limit_s,
        memory_limit_bytes=training.memory_limit_bytes,
        preload=training.preload,
        watcher=watcher,
    )
    return contenders_of(plan, trials, finals, judge.assessor, judge.hard)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where networks are handed over: `folder` is the run's, `task` the input shape and number of classes."""

    folder: Path
    dataset: str
    task: tuple[Shape, int]
    bench: Bench
    store: SearchStore


def hand_over(
    desk: Desk, contenders: Sequence[Contender], judge: Judge, tell: Callable[[str], None]
) -> tuple[list[Member], list[Verified | None]]:
    """Emit and measure every contender; members without test accuracy. Raises HilError of the surroundings."""
    members, checked = list[Member](), list[Verified | None]()
    for contender in contenders:
        network = _network(desk, contender)
        tell(f"network {contender.index}: writing and measuring it")
        emit(network, _about(desk, contender))
        found = verified(network, desk.bench, desk.store)
        member = _member(desk, contender, network)
        if isinstance(found, str):
            members.append(replace(member, message=found))
            checked.append(None)
        else:
            members.append(judge.member(member, found))
            checked.append(found)
    prune_folders(desk.folder / NETWORKS, {Path(item.folder).name for item in members})
    return members, checked


def _network(desk: Desk, contender: Contender) -> Network:
    name, trained = f"{contender.index:05d}", contender.trained
    shape, num_classes = desk.task
    folder = desk.folder / NETWORKS / name
    return Network(f"{desk.dataset}-{name}", trained.architecture, shape, num_classes, trained.tflite, folder)


def _about(desk: Desk, contender: Contender) -> dict[str, object]:
    trial = contender.trial_result.trial
    return {
        "dataset": desk.dataset, "trial": trial.index, "seed": contender.chosen_seed,
        "validation_error": contender.trained.error, "sparsity": trial.sparsity,
        "drawn": to_dict(trial.architecture),
    }  # fmt: skip


def _member(desk: Desk, contender: Contender, network: Network) -> Member:
    return Member(
        index=contender.index,
        architecture=to_dict(network.architecture),
        layers=boxes_of(build_graph(network.architecture, network.input_shape, network.num_classes)),
        seed_errors=contender.seed_errors,
        chosen_seed=contender.chosen_seed,
        mean_error=contender.mean_error,
        sd_error=contender.sd_error,
        test_accuracy=None,
        predicted=contender.predicted,
        measured=None,
        outside=(),
        folder=network.folder.relative_to(desk.folder).as_posix(),
        sparsity=contender.trial_result.trial.sparsity,
    )


def tested(
    desk: Desk, contenders: Sequence[Contender], members: Sequence[Member], winner: int | None, score: Score,
    has_time: Callable[[], bool], tell: Callable[[str], None],
) -> list[Member]:  # fmt: skip
    """The members with their accuracy on the test set, which nothing before has looked at: the winner's, and those of
    the others while there is time. Each is scored once, whatever is resumed."""
    found = list(members)
    for place in sorted(range(len(members)), key=lambda place: members[place].index != winner):
        network = _network(desk, contenders[place])
        key = f"test:{network.sha256}"
        accuracy = desk.store.document(key)
        if accuracy is None and members[place].index != winner and not has_time():
            found[place] = replace(found[place], message=found[place].message or "no time was left to test it")
            continue
        if accuracy is None:
            tell(f"network {members[place].index}: test set, int8, reference kernels")
            accuracy = score(network.tflite)
            desk.store.put_document(key, accuracy)
        if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
            raise StoreError(f"the search store holds a damaged test accuracy ({accuracy!r}); name another folder")
        found[place] = replace(found[place], test_accuracy=accuracy)
    return found
