"""From a finished search to its result: every trial a point, every network exported a finalist."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hil.calibration.result import Failure
from hil.calibration.sample import summary
from hil.measure.measurement import Identity
from hil.search.bounds import clock_of
from hil.search.export import Export
from hil.search.request import UNLIMITED, Request
from hil.search.result import Point, SearchResult
from munas.arch.space import Architecture
from munas.cost.resources import Assessor
from munas.search.metrics import features
from munas.search.objective import Bounds, meets
from munas.search.store import SearchStore
from munas.search.study import Outcome
from munas.search.surrogate import Surrogate
from munas.search.trial import Trial, TrialResult


def summarise(
    request: Request,
    identity: Identity,
    store: SearchStore,
    trials: Sequence[TrialResult],
    outcome: Outcome,
    export: Export,
) -> SearchResult:
    """The result of a search that was exported."""
    settings, data, calibration = request.settings, request.dataset, request.calibration
    clock = None if calibration is None else clock_of(request.board, calibration)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    hard = settings.hard_budget
    rates = [item.trained.images_per_second for item in trials if item.trained is not None]
    return SearchResult(
        dataset=data.name,
        dataset_sha256=data.sha256,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        board=request.board.name,
        identity=identity,
        unit="" if clock is None else clock.unit,
        milliseconds_per_unit=None if clock is None else clock.ms_per_unit,
        bounds=request.limits.bounds.to_json(),
        hard_budget=None if hard is None else hard.to_json(),
        preset=request.preset,
        strategy=settings.strategy,
        seed=settings.seed,
        settings=_settings(request, export, trials),
        points=tuple(_point(item, request.assessor, request.limits.bounds) for item in trials),
        front=export.front.indices,
        finalists=export.finalists,
        winner=export.winner,
        ok=outcome.summary.ok,
        failed=outcome.summary.failed,
        rejected=outcome.summary.rejected,
        failures=tuple(
            Failure(item.trial.index, _describe(item.trial, data.input_shape), item.message)
            for item in trials
            if item.status == "failed"
        ),
        stop_reason=outcome.stopped,
        seconds=outcome.summary.elapsed_s,
        finals_seconds=export.seconds,
        images_per_second=statistics.median(rates) if rates else None,
        workers=settings.workers,
        started=store.started() or finished,
        finished=finished,
        command=request.command,
        train_examples=len(data.train),
        validation_examples=len(data.validation),
        test_examples=len(data.test),
        calibrated=calibration is not None,
        recalibrated=export.is_recalibrated,
        notes=export.notes,
    )


def _surrogate_rank(request: Request, trials: Sequence[TrialResult]) -> str:
    """How well errors were told beforehand: each by what was known when the one before it was finished."""
    data = request.dataset
    surrogate = Surrogate(data.input_shape, data.num_classes)
    for item in trials:
        surrogate.tell(item)
    found = surrogate.record.rank_correlation()
    return "unknown" if found is None else f"{found:.2f} over {len(surrogate.record)} trials"


def _settings(request: Request, export: Export, trials: Sequence[TrialResult]) -> dict[str, Any]:
    settings = request.settings
    return {
        "trials": settings.trials if settings.trials < UNLIMITED else None,
        "minutes": None if request.seconds is None else request.seconds / 60,
        "mode": request.assessor.mode, "effort": settings.effort, "halving": bool(settings.rung_epochs),
        "rung_epochs": list(settings.rung_epochs),
        "sparsity": None if settings.sparsity is None else list(settings.sparsity),
        "inherit": settings.inherit, "pool": settings.pool, "surrogate_rank": _surrogate_rank(request, trials),
        "population": settings.population, "sample": settings.sample, "mlp": settings.mlp,
        "time_limit_s": settings.time_limit_s, "expected_trials": request.expected_trials,
        "memory_limit_bytes": settings.memory_limit_bytes,
        "front": request.export.front, "final_seeds": len(export.plan.seeds), "final_effort": export.plan.effort,
        **request.training.identity,
    }  # fmt: skip


def _describe(trial: Trial, input_shape: tuple[int, ...]) -> str:
    architecture = trial.architecture
    if isinstance(architecture, Architecture):
        return summary(architecture, input_shape)
    return f"{'x'.join(map(str, input_shape))}: MLP {' '.join(map(str, architecture.units))}"


def _point(trial_result: TrialResult, assessor: Assessor, bounds: Bounds) -> Point:
    trial, trained, resources = trial_result.trial, trial_result.trained, trial_result.resources
    figures = None if trained is None or resources is None else features(trained.error, resources)
    drawn = None
    if trained is not None and trained.architecture != trial.architecture:
        drawn = assessor.assess(trial.architecture)
    return Point(
        index=trial.index,
        finished_s=trial_result.finished_s,
        error=None if trained is None else trained.error,
        float_error=None if trained is None else trained.float_error,
        sparsity=trial.sparsity,
        status=trial_result.status,
        epochs=0 if trained is None else trained.epochs,
        stopped=trained is not None and trained.stopped,
        feasible=figures is not None and meets(figures, bounds),
        resources=resources,
        drawn=drawn,
        parent=trial.parent,
        change=trial.change,
    )
