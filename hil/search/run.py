"""`munas-hil search`: µNAS against a board's budget, and the hand-over of what it finds.

A run folder holds ``search.sqlite`` (every trial with weights and history), ``networks/`` (what is handed over),
``search.json`` (what `report` renders), and ``calibration.toml`` after `--recalibrate`. The same
command goes on where an earlier one was stopped, at each stage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hil.errors import InfrastructureError, StoreError, UsageError
from hil.files import sweep, write_text
from hil.measure.measurement import Identity
from hil.search.bounds import Limits
from hil.search.drift import drift_text
from hil.search.emit import NETWORKS, Bench
from hil.search.errors import mapped
from hil.search.finals import Ask
from hil.search.handover import Desk, Handover, Judge, Training, choose, hand_over, retrained, tested
from hil.search.recalibrate import Verified, recalibrated
from hil.search.request import Request
from hil.search.result import RESULT_FILE, Member, SearchResult
from hil.search.summary import summarise
from munas.cost.calibration import write_calibration
from munas.search.objective import Metric
from munas.search.store import SearchStore
from munas.search.study import FinalsWatcher, Outcome, Watcher, run_search

__all__ = ["CALIBRATION_FILE", "NETWORKS", "STORE_FILE", "Displays", "Found", "failure_of", "search"]

STORE_FILE = "search.sqlite"
CALIBRATION_FILE = "calibration.toml"
_ENDED = "search"  # key of the document that says how the search phase ended


@dataclass(frozen=True, slots=True)
class Displays:
    """Who is told how things go; `tell` gets a line for people now and then."""

    search: Watcher | None
    finals: FinalsWatcher | None
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A finished search. `failure` is empty, or says which checks failed."""

    result: SearchResult
    failure: str


def search(request: Request, bench: Bench, displays: Displays) -> Found:
    """Run, or go on with, the search and its hand-over; all files are written, also when a check fails.

    Raises UsageError for the store of another search, CheckFailed when nothing can be handed over, and
    InfrastructureError; whatever was finished is stored.
    """
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"run folder {request.folder}: {error.strerror}; name another folder") from error
    path = request.folder / STORE_FILE
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise UsageError(f"{path} is not a file; name another run folder")
    with mapped(), SearchStore(path) as store:
        outcome = _searched(request, bench, store, displays)
        return _conclude(request, bench, store, outcome, displays)


def _searched(request: Request, bench: Bench, store: SearchStore, displays: Displays) -> Outcome:
    """The search phase. One that has ended does not begin again while its hand-over is resumed.

    What was under way at its end was dropped, so that it has not used up its time to the last second.
    """
    settings = request.settings
    wish = [settings.trials, settings.seconds]
    ended = _ended(store, wish)
    outcome = run_search(
        settings if ended is None else replace(settings, trials=ended[0]),
        store,
        request.assessor,
        request.teaching.trainer,
        displays.search,
        identity=request.identity(bench.identity),
        preload=request.teaching.preload,
    )
    if ended is not None:
        return replace(outcome, stopped=ended[1])
    store.put_document(_ENDED, {"wish": wish, "trials": outcome.trials, "stopped": outcome.stopped})
    return outcome


def _ended(store: SearchStore, wish: list[Any]) -> tuple[int, Literal["trials", "time"]] | None:
    """After how many trials, and why, the search phase of that wish has ended; None when it has not."""
    ended = store.document(_ENDED)
    if not isinstance(ended, dict) or ended.get("wish") != wish:
        return None
    trials = ended.get("trials", ended.get("evaluations"))  # older versions wrote evaluations
    stopped: Any = "trials" if ended.get("stopped") == "evaluations" else ended.get("stopped")
    if not isinstance(trials, int) or stopped not in ("trials", "time"):
        raise StoreError(f"the search store holds a damaged end of the search ({ended!r:.80}); name another folder")
    return (trials, stopped) if trials > 0 else None


def _conclude(request: Request, bench: Bench, store: SearchStore, outcome: Outcome, displays: Displays) -> Found:
    started, trials = time.monotonic(), list(store.results())
    judge = Judge(request.assessor, request.limits.bounds, request.limits.hard)
    front, plan = choose(store, trials, judge, request.handover.front, _ask(request, outcome), request.teaching.costs)
    notes = [plan.note] if plan.note else []
    by_index = {item.trial.index: item for item in trials}
    contenders, failures = retrained(store, by_index, plan, _training(request), judge, displays.finals)
    task = request.dataset.input_shape, request.dataset.num_classes
    desk = Desk(request.folder, request.dataset.name, task, bench, store)
    members, checked = hand_over(desk, contenders, judge, displays.tell)
    if request.handover.recalibrate:
        judge = _recalibrated(request, bench.identity, judge, checked, displays.tell)
        members = [judge.member(member, found) for member, found in zip(members, checked, strict=True)]
    winner = judge.winner(members)
    clock = _Deadline(request, outcome.summary.elapsed_s, started)
    members = tested(desk, contenders, members, winner, request.teaching.score, clock.has_time, displays.tell)
    notes += [*failures, *_remarks(request.limits, members, winner)]
    is_new, seconds = judge.assessor is not request.assessor, time.monotonic() - started
    handover = Handover(front, plan, tuple(members), winner, is_new, tuple(notes), seconds)
    result = summarise(request, bench.identity, store, trials, outcome, handover)
    write_search(request.folder, result)
    level = 1.0 if request.calibration is None else request.calibration.latency.level
    return Found(result, failure_of(request.limits, members, winner, level))


@dataclass(frozen=True, slots=True)
class _Deadline:
    """The end of the user's minutes: the search phase took `search_s`, the hand-over `started` then (monotonic)."""

    request: Request
    search_s: float
    started: float

    def has_time(self) -> bool:
        """Whether any is left."""
        request = self.request
        spent_s = request.setup_s + self.search_s + time.monotonic() - self.started
        return request.seconds is None or spent_s < request.seconds


def _remarks(limits: Limits, members: Sequence[Member], winner: int | None) -> list[str]:
    """What the reader of the result should know and is no failure."""
    best, bound = next((item for item in members if item.index == winner), None), limits.bounds.values[Metric.ERROR]
    if best is None or best.mean_error <= bound or limits.is_error_asked:
        return []
    return [f"no network reached the error that was aimed at: {best.mean_error:.2%}, bound {bound:.2%}"]


def _ask(request: Request, outcome: Outcome) -> Ask:
    """What is wanted of the re-trainings, in the time that the search has left."""
    wishes, settings, seconds = request.handover, request.settings, None
    if request.seconds is not None:
        seconds = request.seconds - request.setup_s - outcome.summary.elapsed_s
    seeds = tuple(settings.seed + offset for offset in range(wishes.seeds))
    return Ask(seeds, wishes.effort, settings.effort, seconds, settings.workers)


def _training(request: Request) -> Training:
    settings, teaching = request.settings, request.teaching
    # A trial's limit holds for the search's effort: what is trained longer may take longer.
    factor = max(1.0, request.handover.effort / settings.effort)
    return Training(
        trainer=teaching.trainer,
        workers=settings.workers,
        time_limit_s=settings.time_limit_s * factor,
        memory_limit_bytes=settings.memory_limit_bytes,
        preload=teaching.preload,
    )


def _recalibrated(
    request: Request, identity: Identity, judge: Judge, checked: Sequence[Verified | None], tell: Callable[[str], None]
) -> Judge:
    """A judge with a new calibration, which is written into the run folder."""
    known = request.calibration
    networks = [item for item in checked if item is not None and item.measurement.outputs.mismatched == 0]
    if known is None or not networks:
        return judge
    task = request.dataset.input_shape, request.dataset.num_classes
    calibration = recalibrated(request.base, networks, task, identity, known.seed, request.code)
    path = request.folder / CALIBRATION_FILE
    write_text(path, write_calibration(calibration))
    tell(f"calibration with {len(networks)} new networks: {path}")
    return replace(judge, assessor=replace(judge.assessor, memory=calibration.memory, calibration=calibration))


def failure_of(limits: Limits, members: Sequence[Member], winner: int | None, level: float) -> str:
    """Why the command fails although everything was written; empty when it does not.

    `level` is that of the intervals of the members' latencies.
    """
    reasons = [f"network {item.index} was not verified: {item.message}" for item in members if item.measured is None]
    differing = [
        f"{item.index} ({item.measured.mismatched} of {item.measured.checked})"
        for item in members
        if item.measured is not None and item.measured.mismatched
    ]
    if differing:
        reasons.append(f"outputs differ from the reference kernels: network {', '.join(differing)}")
    if drifted := drift_text(members, level):
        reasons.append(
            f"predictions and measurements have drifted apart: {drifted}; calibrate again, or use --recalibrate"
        )
    best = next((item for item in members if item.index == winner), None)
    if best is None:
        reasons.append("no verified network is within all bounds on resources")
    elif limits.is_error_asked and best.mean_error > limits.bounds.values[Metric.ERROR]:
        bound = limits.bounds.values[Metric.ERROR]
        reasons.append(f"the best validation error is {best.mean_error:.2%}, above --max-error {bound:.2%}")
    return "; ".join(reasons)


def write_search(folder: Path, result: SearchResult) -> None:
    """Write ``search.json``. Raises StoreError when the folder cannot be written."""
    sweep(folder, RESULT_FILE, CALIBRATION_FILE)
    write_text(folder / RESULT_FILE, json.dumps(result.to_json(), allow_nan=False) + "\n")
