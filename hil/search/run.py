"""`munas-hil search`: µNAS against a board's budget, and the export of what it finds.

A run folder holds ``search.sqlite`` (every trial with weights and history), ``networks/`` (what is exported),
``search.json`` (what `report` renders), and ``calibration.toml`` after `--recalibrate`. The same
command goes on where an earlier one was stopped, at each stage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hil.errors import InfrastructureError, StoreError, UsageError
from hil.files import sweep, write_text
from hil.measure.measurement import Identity
from hil.search.bounds import Limits
from hil.search.drift import drift_text
from hil.search.emit import NETWORKS, ExportHarness
from hil.search.errors import mapped
from hil.search.export import (
    Criteria,
    Export,
    ExportContext,
    RetrainingSetup,
    choose,
    export_networks,
    retrain_finalists,
    tested,
)
from hil.search.finals import FinalsPlan, FinalsRequest, RetrainedTrial
from hil.search.recalibrate import Verified, recalibrated
from hil.search.request import STORE_FILE, Request
from hil.search.result import RESULT_FILE, Finalist, SearchResult
from hil.search.scale import pruning_note
from hil.search.summary import summarise
from munas.cost.calibration_file import write_calibration
from munas.search.metrics import Metric
from munas.search.pace import LEAST_LIMIT_S
from munas.search.store import SearchStore
from munas.search.study import FinalsWatcher, Outcome, Watcher, run_search
from munas.search.trial import TrialResult

__all__ = ["CALIBRATION_FILE", "NETWORKS", "STORE_FILE", "Callbacks", "Found", "failure_of", "search"]

CALIBRATION_FILE = "calibration.toml"
_SLACK = 5.0  # times what a re-training is expected to take, before it has hung
_LEARNT = 0.95  # of the error of guessing: a network above that knows nothing
_ENDED = "search"  # key of the document that says how the search phase ended


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who is told how things go; `tell` gets a line for people now and then."""

    search: Watcher | None
    finals: FinalsWatcher | None
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A finished search. `failure` is empty, or says which checks failed."""

    result: SearchResult
    failure: str


def search(request: Request, harness: ExportHarness, callbacks: Callbacks) -> Found:
    """Run, or go on with, the search and its export; all files are written, also when a check fails.

    Raises UsageError for the store of another search, CheckFailed when nothing can be exported, and
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
        outcome = _searched(request, harness, store, callbacks)
        return _conclude(request, harness, store, outcome, callbacks)


def _searched(request: Request, harness: ExportHarness, store: SearchStore, callbacks: Callbacks) -> Outcome:
    """The search phase. One that has ended does not begin again while its export is resumed.

    What was under way at its end was dropped, so that it has not used up its time to the last second.
    """
    settings = request.settings
    wish = [settings.trials, settings.seconds]
    ended = _ended(store, wish)
    outcome = run_search(
        settings if ended is None else replace(settings, trials=ended[0]),
        store,
        request.assessor,
        request.training.trainer,
        callbacks.search,
        identity=request.identity(harness.identity),
        preload=request.training.preload,
        work=request.training.work,
        backend=request.backend,
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


def _conclude(
    request: Request, harness: ExportHarness, store: SearchStore, outcome: Outcome, callbacks: Callbacks
) -> Found:
    started, trials = time.monotonic(), list(store.results())
    criteria = Criteria(request.assessor, request.limits.bounds, request.limits.hard)
    front, plan = choose(
        store, trials, criteria, request.export.front, _finals_request(request, outcome), request.training.costs
    )
    notes = [note for note in (plan.note, pruning_note(trials, request.assessor)) if note]
    by_index = {item.trial.index: item for item in trials}
    all_retrained, failures = retrain_finalists(
        store, by_index, plan, _training(request, by_index, plan), criteria, callbacks.finals
    )
    context = ExportContext(request.folder, request.dataset, harness, store)
    finalists, checked = export_networks(context, all_retrained, criteria, callbacks.tell)
    if request.export.recalibrate:
        criteria = _recalibrated(request, harness.identity, criteria, checked, callbacks.tell)
        finalists = [criteria.finalist(finalist, found) for finalist, found in zip(finalists, checked, strict=True)]
    winner = criteria.winner(finalists)
    clock = _Deadline(request, outcome.summary.elapsed_s, started)
    finalists = tested(
        context, all_retrained, finalists, winner, request.training.score, clock.has_time, callbacks.tell
    )
    notes += [*failures, *_int8_notes(all_retrained), *_remarks(request.limits, finalists, winner)]
    is_new, seconds = criteria.assessor is not request.assessor, time.monotonic() - started
    export = Export(front, plan, tuple(finalists), winner, is_new, tuple(notes), seconds)
    result = summarise(request, harness.identity, store, trials, outcome, export)
    write_search(request.folder, result)
    level = 1.0 if request.calibration is None else request.calibration.latency.level
    guessed = _guessed_error(request.dataset.validation.labels)
    return Found(result, failure_of(request.limits, finalists, winner, level, guessed))


@dataclass(frozen=True, slots=True)
class _Deadline:
    """The end of the user's minutes: the search phase took `search_s`, the export `started` then (monotonic)."""

    request: Request
    search_s: float
    started: float

    def has_time(self) -> bool:
        """Whether any is left."""
        request = self.request
        spent_s = request.setup_s + self.search_s + time.monotonic() - self.started
        return request.seconds is None or spent_s < request.seconds


def _int8_notes(all_retrained: Sequence[RetrainedTrial]) -> list[str]:
    """What the conversion to int8 cost each network that is handed over, in points of validation accuracy."""
    notes = []
    for item in all_retrained:
        trained, loss = item.trained, 100 * (item.trained.error - item.trained.float_error)
        cause = f": {trained.int8_cause}" if trained.int8_cause else ""
        notes.append(f"network {item.index}: int8 costs {loss:+.2f} points of validation accuracy{cause}")
    return notes


def _remarks(limits: Limits, finalists: Sequence[Finalist], winner: int | None) -> list[str]:
    """What the reader of the result should know and is no failure."""
    best, bound = next((item for item in finalists if item.index == winner), None), limits.bounds.values[Metric.ERROR]
    if best is None or best.mean_error <= bound or limits.is_error_asked:
        return []
    return [f"no network reached the error that was aimed at: {best.mean_error:.2%}, bound {bound:.2%}"]


def _finals_request(request: Request, outcome: Outcome) -> FinalsRequest:
    """What is wanted of the re-trainings, in the time that the search has left."""
    export, settings, seconds = request.export, request.settings, None
    if request.seconds is not None:
        seconds = request.seconds - request.setup_s - outcome.summary.elapsed_s
    seeds = tuple(settings.seed + offset for offset in range(export.seeds))
    return FinalsRequest(seeds, export.effort, settings.effort, seconds, settings.workers)


def _training(request: Request, trials: Mapping[int, TrialResult], plan: FinalsPlan) -> RetrainingSetup:
    """How the plan is carried out. A trial's limit holds for the search's effort: what is trained longer may take
    longer; without one, the limit follows from what the trials have taken."""
    settings, training = request.settings, request.training
    if settings.time_limit_s is not None:
        limit_s = settings.time_limit_s * max(1.0, plan.effort / settings.effort)
    else:
        costs = [training.costs.training(trials[index], plan.effort) for index in plan.finalists]
        limit_s = LEAST_LIMIT_S + _SLACK * max(costs, default=0.0)
    return RetrainingSetup(
        trainer=training.trainer,
        workers=settings.workers,
        time_limit_s=limit_s,
        memory_limit_bytes=settings.memory_limit_bytes,
        preload=training.preload,
        backend=request.backend,
        gpu=settings.gpu,
    )


def _recalibrated(
    request: Request,
    identity: Identity,
    criteria: Criteria,
    checked: Sequence[Verified | None],
    tell: Callable[[str], None],
) -> Criteria:
    """Criteria with a new calibration, which is written into the run folder."""
    known = request.calibration
    networks = [item for item in checked if item is not None and item.measurement.outputs.mismatched == 0]
    if known is None or not networks:
        return criteria
    task = request.dataset.input_shape, request.dataset.num_classes
    calibration = recalibrated(request.base, networks, task, identity, known.seed, request.code)
    path = request.folder / CALIBRATION_FILE
    write_text(path, write_calibration(calibration))
    tell(f"calibration with {len(networks)} new networks: {path}")
    return replace(criteria, assessor=replace(criteria.assessor, memory=calibration.memory, calibration=calibration))


def _guessed_error(labels: NDArray[np.int64]) -> float:
    """Of always guessing the most frequent class."""
    return 1.0 - float(np.bincount(labels).max()) / len(labels)


def failure_of(
    limits: Limits, finalists: Sequence[Finalist], winner: int | None, level: float, guessed: float = 1.0
) -> str:
    """Why the command fails although everything was written; empty when it does not.

    `level` is that of the intervals of the finalists' latencies, `guessed` the error without any network.
    """
    reasons = [f"network {item.index} was not verified: {item.message}" for item in finalists if item.measured is None]
    differing = [
        f"{item.index} ({item.measured.mismatched} of {item.measured.checked})"
        for item in finalists
        if item.measured is not None and item.measured.mismatched
    ]
    if differing:
        reasons.append(f"outputs differ from the reference kernels: network {', '.join(differing)}")
    if drifted := drift_text(finalists, level):
        reasons.append(
            f"predictions and measurements have drifted apart: {drifted}; calibrate again, or use --recalibrate"
        )
    best = next((item for item in finalists if item.index == winner), None)
    if best is not None and best.chosen_seed in dict(best.collapsed):
        reasons.append(f"the winner, network {best.index}, collapsed when it was trained again; search longer")
    if best is not None and best.mean_error > _LEARNT * guessed:
        reasons.append(
            f"the winner has learnt nothing: its error is {best.mean_error:.2%}, and guessing has {guessed:.2%}; raise"
            " the bounds, or search longer"
        )
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
