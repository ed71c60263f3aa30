"""The search: trials proposed, trained in parallel, stored, and told to the strategy.

The main process holds no weights and no data: what it knows of a finished trial is a few figures. Everything that
decides what comes next (the trials, their trials in the order in which they finished, the state of the random
generator) is in the store before it is acted on, so that a search can be killed at any moment and resumed.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from munas.arch.graph import build_graph
from munas.arch.prune import expected_architecture
from munas.arch.space import ArchitectureError
from munas.cost.resources import Assessor, Resources
from munas.errors import SearchError, SearchStoreError
from munas.jobs.base import Finished, Job, JobBackend, Jobs, Limits
from munas.jobs.local import LOCAL
from munas.search.evolve import Space
from munas.search.halving import Halving
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, unreachable
from munas.search.pace import Pace, Work
from munas.search.proposals import Proposer, Ranking
from munas.search.store import SearchStore, State
from munas.search.strategies import STRATEGIES, StrategySettings
from munas.search.study_summary import StudySummary, Tally
from munas.search.surrogate import Surrogate
from munas.search.training_jobs import task_of, trained_of, training_job, training_jobs
from munas.search.trial import Inherited, Task, Trained, TrainerFactory, Trial, TrialResult

__all__ = [
    "Final", "FinalJob", "FinalsWatcher", "Outcome", "SearchSettings", "StudySummary", "Watcher",
    "run_finals", "run_search",
]  # fmt: skip

MAX_FAILURES_IN_A_ROW = 20
"""So many are no bad luck: a limit is too tight, or something is broken that no trial can cure."""

DEFAULT_LIMIT_S = 3600.0  # of a trial whose work nobody knows

_ELAPSED = "elapsed_s"  # a document: the last trial may have ended well before the time was over
_ELSEWHERE = "name another run folder"
_FREE = ("trials", "seconds", "workers", "time_limit_s", "memory_limit_bytes")


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What a search is.

    `bounds` are the objective; what exceeds `hard_budget` is rejected before it is trained. `rung_epochs` are the
    epochs at which hopeless trials stop (successive halving; empty = never). `sparsity` is the range of pruning
    (None = no pruning). Of every `pool` proposals the one that the surrogate thinks most of is trained (1 = there is no
    surrogate). With `inherit` a child starts from its parent's weights, with `gpu` workers see the machine's GPUs.
    `seconds` ends the search, counted over all resumes. `trials`, `seconds`, `workers` and the two limits, which hold
    for each trial, may change when a search is resumed; with anything else changed it is another search. Without
    `time_limit_s` a trial's limit follows from its MACs and the pace of those before it.
    """

    dataset: str
    bounds: Bounds
    hard_budget: Bounds | None = None
    strategy: str = "evolution"
    population: int = 100
    sample: int = 25
    trials: int = 2000
    seconds: float | None = None
    effort: float = 1.0
    rung_epochs: tuple[int, ...] = ()
    sparsity: tuple[float, float] | None = None
    mlp: bool = False
    pool: int = 1
    inherit: bool = False
    gpu: bool = False
    workers: int = 2
    time_limit_s: float | None = None
    memory_limit_bytes: int = 4 << 30
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """What makes it this search and no other, as JSON."""
        fields = {key: value for key, value in asdict(self).items() if key not in _FREE}
        for name in ("inherit", "gpu"):  # which older versions did not have
            if not fields[name]:
                del fields[name]
        hard = None if self.hard_budget is None else self.hard_budget.to_json()
        return fields | {"bounds": self.bounds.to_json(), "hard_budget": hard}


class Watcher(Protocol):
    """Told how a search goes, in the main process. `resumed` were stored before; none carries tflite or weights."""

    def started(self, settings: SearchSettings, resumed: Sequence[TrialResult], summary: StudySummary) -> None:
        """Before the first trial."""
        ...

    def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
        """A trial is stored."""
        ...

    def finished(self) -> None:
        """Called at every kind of end."""
        ...


class _Silent:
    """A watcher that shows nothing."""

    def started(self, settings: SearchSettings, resumed: Sequence[TrialResult], summary: StudySummary) -> None:
        """Nothing."""

    def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
        """Nothing."""

    def finished(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a search ended; the trials themselves are in the store."""

    summary: StudySummary
    stopped: Literal["trials", "time"]

    @property
    def trials(self) -> int:
        """Finished trials, failed ones included."""
        return self.summary.ok + self.summary.failed


def run_search(
    settings: SearchSettings,
    store: SearchStore,
    assessor: Assessor,
    trainer: TrainerFactory,
    watcher: Watcher | None = None,
    *,
    identity: Mapping[str, Any] | None = None,
    preload: Sequence[str] = (),
    work: Work | None = None,
    backend: JobBackend = LOCAL,
) -> Outcome:
    """Run, or go on with, the search of `store`, in the main thread.

    `identity` (JSON: board, calibration, the data's sha256, ...) belongs to the search as the settings do. `preload`
    names modules that workers are forked with (``munas.training.train``), `work` is what a trial does. What workers
    print goes to ``logs`` beside the store; the logs of failed trials stay there. What is under way when the time is
    over is dropped, and done again if the search is resumed with more time.

    Raises SearchError for settings that cannot work, the store of another search, a data set or package that is
    missing, or too many failures in a row; SearchStoreError when the disk or the host fails. Whatever was finished is
    stored, and the same call goes on from there.
    """
    check(settings, assessor)
    store.begin({**(identity or {}), **settings.identity()})
    pace = None if work is None else Pace(work)
    search = _Search(settings, store, assessor, trainer, watcher or _Silent(), pace)
    search.resume()
    logs = store.path.parent / "logs"
    try:
        with training_jobs(
            backend, settings.workers, settings.memory_limit_bytes, logs, preload, gpu=settings.gpu
        ) as jobs:
            stopped = search.run(jobs)
        store.put_document(_ELAPSED, search.elapsed_s)
    finally:
        search.watcher.finished()
    return Outcome(search.summary(), stopped)


class _Search:
    """A search that is under way."""

    def __init__(
        self,
        settings: SearchSettings,
        store: SearchStore,
        assessor: Assessor,
        trainer: TrainerFactory,
        watcher: Watcher,
        pace: Pace | None,
    ) -> None:
        self.trainer, self.pace = trainer, pace
        self.settings, self.store, self.assessor, self.watcher = settings, store, assessor, watcher
        self.halving = Halving(settings.rung_epochs)
        self.tally = Tally(settings.bounds)
        space = Space(settings.mlp, settings.sparsity)
        self.strategy = STRATEGIES[settings.strategy](
            StrategySettings(space, settings.bounds, settings.population, settings.sample)
        )
        rng = np.random.Generator(np.random.PCG64(settings.seed))
        self.surrogate = Surrogate(assessor.input_shape, assessor.num_classes)
        ranking = Ranking(self.surrogate, settings.bounds, settings.pool, space) if settings.pool > 1 else None
        self.proposer = Proposer(self.strategy, assessor, settings.hard_budget, rng, ranking=ranking)
        self.pending: deque[Task] = deque()
        self.drawn = self.finished = self.failures_in_a_row = 0
        self.before_s, self.started = 0.0, time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds that the search has run, resumes included."""
        return self.before_s + time.monotonic() - self.started

    def summary(self) -> StudySummary:
        """Where it stands now."""
        return self.tally.summary(self.proposer.rejected, self.elapsed_s)

    def resume(self) -> None:
        """Everything as it was after the last transaction of an earlier run."""
        resumed = list(self.store.results())
        for trial_result in resumed:
            self._tell(trial_result)
            self.before_s = max(self.before_s, trial_result.finished_s)
        self.before_s = max(self.before_s, self._stored_elapsed_s())
        self.pending.extend(self.store.pending())
        for trial in (*(item.trial for item in resumed), *(task.trial for task in self.pending)):
            self.proposer.drawn(trial)
        self.drawn = len(resumed) + len(self.pending)
        state = self.store.state()
        if state is not None:
            try:
                self.proposer.rng.bit_generator.state = dict(state.generator)
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise SearchStoreError(f"{self.store.path} holds a damaged generator: {error}; {_ELSEWHERE}") from error
            self.proposer.rejected = state.rejected
        self.started = time.monotonic()
        self.watcher.started(self.settings, resumed, self.summary())

    def _stored_elapsed_s(self) -> float:
        elapsed_s = self.store.document(_ELAPSED) or 0.0
        if not isinstance(elapsed_s, int | float) or not 0 <= elapsed_s < math.inf:
            raise SearchStoreError(f"{self.store.path} holds a damaged time ({elapsed_s!r:.80}); {_ELSEWHERE}")
        return float(elapsed_s)

    def run(self, jobs: Jobs) -> Literal["trials", "time"]:
        """Until the trials are done or the time is over."""
        while self.finished < self.settings.trials:
            remaining_s = math.inf if self.settings.seconds is None else self.settings.seconds - self.elapsed_s
            if remaining_s <= 0:
                return "time"
            while jobs.idle and self.finished + jobs.busy < self.settings.trials:
                jobs.submit(self._job(self._next_task()))
            for finished in jobs.wait(min(remaining_s, 60.0)):
                self._record(finished)
        return "trials"

    def _job(self, task: Task) -> Job:
        seconds = self.settings.time_limit_s
        if seconds is None:
            seconds = DEFAULT_LIMIT_S if self.pace is None else self.pace.limit_s(self._macs(task.trial))
        if self.settings.inherit:
            task = replace(task, inherited=self._inherited(task.trial))
        return training_job(task, self.trainer, Limits(seconds, self.settings.memory_limit_bytes))

    def _inherited(self, trial: Trial) -> Inherited | None:
        """The network of a trial's parent; None where there is none."""
        parent = None if trial.parent is None else self.store.trained(trial.parent)
        return Inherited(parent.architecture, parent.weights) if parent is not None and parent.weights else None

    def _macs(self, trial: Trial) -> int:
        """Of what is trained, which pruning makes smaller only later."""
        return build_graph(trial.architecture, self.assessor.input_shape, self.assessor.num_classes).macs

    def _cost(self, trial: Trial) -> float:
        """The largest share of a bound that a trial is expected to take once it is pruned."""
        bounds, assessor = self.settings.bounds.resources.values, self.assessor
        if not self.settings.rung_epochs:
            return 0.0
        try:
            architecture = trial.architecture
            if trial.sparsity > 0:
                shape, classes = assessor.input_shape, assessor.num_classes
                architecture = expected_architecture(architecture, shape, classes, trial.sparsity)
            known = features(None, assessor.assess(architecture))
        except ArchitectureError:
            return math.inf
        return max((known[metric] / bound for metric, bound in bounds.items() if bound > 0), default=0.0)

    def _next_task(self) -> Task:
        """A task that an earlier run had under way, or a new one."""
        if self.pending:
            return self.pending.popleft()
        trial = self.proposer.propose(self.drawn)
        task = Task(trial, self.halving.rungs(self._cost(trial)), self.settings.effort)
        generator = self.proposer.rng.bit_generator.state
        self.store.add_trial(task, State(generator, self.proposer.rejected))
        self.drawn += 1
        return task

    def _record(self, finished: Finished) -> None:
        """Store a finished task, then act on it."""
        trained, resources, message = self._judged(finished)
        trial_result = TrialResult(
            trial=task_of(finished).trial,
            status="failed" if trained is None else "ok",
            trained=trained,
            resources=resources,
            message=message,
            seconds=finished.seconds,
            finished_s=self.elapsed_s,
        )
        self.store.add_result(trial_result)
        if trained is not None:
            trial_result = replace(trial_result, trained=trained.without_blobs())
        self._tell(trial_result)
        self.watcher.trial_done(trial_result, self.summary())
        self.failures_in_a_row = self.failures_in_a_row + 1 if trained is None else 0
        if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise SearchError(f"{self.failures_in_a_row} trials in a row have failed; the last one: {message}")

    def _judged(self, finished: Finished) -> tuple[Trained | None, Resources | None, str]:
        """The network with its costs; the costs of what was drawn, and why, when there is no network."""
        trained, message = trained_of(finished), finished.message
        if trained is not None and not math.isfinite(trained.error):
            message = f"the validation error is {trained.error}"
            trained = None
        architecture = task_of(finished).trial.architecture if trained is None else trained.architecture
        try:
            return trained, self.assessor.assess(architecture), message
        except ArchitectureError as error:
            return None, None, message or str(error)

    def _tell(self, trial_result: TrialResult) -> None:
        self.finished += 1
        trained, failed = trial_result.trained, trial_result.status == "failed"
        if self.pace is not None and (failed or (trained is not None and not trained.stopped)):
            self._tell_pace(self.pace, trial_result)
        self.strategy.tell(trial_result)
        self.halving.tell(trial_result, self._cost(trial_result.trial))
        self.surrogate.tell(trial_result)
        self.tally.tell(trial_result)

    def _tell_pace(self, pace: Pace, trial_result: TrialResult) -> None:
        """A failure says something only when it took longer than was expected."""
        try:
            macs = self._macs(trial_result.trial)
        except ArchitectureError:
            return
        if trial_result.status == "ok" or trial_result.seconds > pace.expected_s(macs):
            pace.tell(macs, trial_result.seconds)


def check(settings: SearchSettings, assessor: Assessor) -> None:
    """Raises SearchError for settings that cannot work, bounds that no network can meet among them."""
    if settings.strategy not in STRATEGIES:
        raise SearchError(f"unknown strategy {settings.strategy}; known are {', '.join(STRATEGIES)}")
    for name in ("population", "sample", "trials", "pool", "workers", "time_limit_s", "memory_limit_bytes"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise SearchError(f"{name.replace('_', ' ')} must be above 0, not {value}")
    if not 0 < settings.effort <= 1:
        raise SearchError(f"effort must be above 0 and at most 1, not {settings.effort}")
    if settings.sparsity is not None and not 0 <= settings.sparsity[0] <= settings.sparsity[1] < 1:
        raise SearchError(f"sparsity must be a range within 0 and 1, not {settings.sparsity}")
    hard = settings.hard_budget
    if hard is not None and Metric.ERROR in hard.values:
        raise SearchError("a bound on the error cannot reject a network before it is trained")
    for bounds in (settings.bounds, *([hard] if hard else [])):
        if Metric.PEAK_MEMORY in bounds.values and not assessor.proxies:
            raise SearchError("a bound on peak memory needs an assessor that gives the proxies")
        try:
            reason = unreachable(bounds, assessor, mlp=settings.mlp)
        except ValueError as error:
            raise SearchError(str(error)) from error
        if reason is not None:
            raise SearchError(reason)


# ------------------------------------------------------------------------------------- re-training


@dataclass(frozen=True, slots=True)
class FinalJob:
    """A re-training: the trial's architecture and sparsity with another seed and effort, and no rungs."""

    trial: Trial
    seed: int
    effort: float

    @property
    def task(self) -> Task:
        """What a worker gets."""
        return Task(replace(self.trial, seed=self.seed), (), self.effort)


@dataclass(frozen=True, slots=True)
class Final:
    """A finished re-training with its blobs. `trained` is None when it failed."""

    job: FinalJob
    trained: Trained | None
    message: str
    seconds: float


class FinalsWatcher(Protocol):
    """Told how re-trainings go, in the main process."""

    def started(self, total: int, resumed: int) -> None:
        """Before the first one; `resumed` of `total` were stored before."""
        ...

    def trained(self, final: Final) -> None:
        """One is trained and stored, or has failed."""
        ...

    def finished(self) -> None:
        """Called at every kind of end."""
        ...


def run_finals(
    store: SearchStore,
    jobs: Sequence[FinalJob],
    trainer: TrainerFactory,
    *,
    workers: int = 2,
    time_limit_s: float = 3600.0,
    memory_limit_bytes: int = 4 << 30,
    preload: Sequence[str] = (),
    watcher: FinalsWatcher | None = None,
    gpu: bool = False,
    backend: JobBackend = LOCAL,
) -> list[Final]:
    """Do every job that the store does not have yet; all of them, in the order of `jobs`.

    Only successes are stored: a job that failed is tried again by the next call. Raises as `run_search` does.
    """
    store.lock()
    finals = _stored(store, jobs)
    todo = deque(job for job in dict.fromkeys(jobs) if job not in finals)
    if watcher is not None:
        watcher.started(len(finals) + len(todo), len(finals))
    limits = Limits(time_limit_s, memory_limit_bytes)
    try:
        with training_jobs(backend, workers, memory_limit_bytes, store.path.parent / "logs", preload, gpu=gpu) as pool:
            running: dict[Task, FinalJob] = {}
            while todo or running:
                while todo and pool.idle:
                    job = todo.popleft()
                    running[job.task] = job
                    pool.submit(training_job(job.task, trainer, limits))
                for done in pool.wait(60.0):
                    job = running.pop(task_of(done))
                    finals[job] = final = Final(job, trained_of(done), done.message, done.seconds)
                    if final.trained is not None:
                        store.add_final(job.trial.index, job.seed, job.effort, final.trained, final.seconds)
                    if watcher is not None:
                        watcher.trained(final)
    finally:
        if watcher is not None:
            watcher.finished()
    return [finals[job] for job in jobs]


def _stored(store: SearchStore, jobs: Sequence[FinalJob]) -> dict[FinalJob, Final]:
    """The jobs that an earlier call has done."""
    finals: dict[FinalJob, Final] = {}
    for job in jobs:
        if (found := store.final(job.trial.index, job.seed, job.effort)) is not None:
            finals[job] = Final(job, found[0], "", found[1])
    return finals
