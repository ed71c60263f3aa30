"""Jobs by number, done until each has a value or an error of its own: what is the host's fault is done again.

An infrastructure error need not be the job's fault: the job is tried again later, more than once. A board that does not
work (DeviceLost) is no job's fault at all: the job is done again, by workers that leave that board alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from hil.errors import (
    DeviceBusy,
    DeviceLost,
    HilError,
    ImagesDiffer,
    InfrastructureError,
    NeverBooted,
    StoreError,
    TargetFaultError,
    ToolMissing,
)
from hil.files import is_full
from hil.logs import as_the_parent_does
from munas.errors import JobsError
from munas.jobs.base import ONE_CORE, Finished, Job, JobBackend, Jobs, Limits, Needs, Workers
from munas.jobs.local import LOCAL

Do = Callable[[int], Any]
"""Does job `n`. Runs in a worker."""

Factory = Callable[[], Do]
"""Makes, inside a worker, what does the jobs (must pickle: a top-level function, a partial of one, or a dataclass)."""


@runtime_checkable
class UsesDevices(Protocol):
    """A factory whose jobs need one of several devices."""

    def without(self, device: str) -> Factory | None:
        """The factory that leaves `device` alone; None when there is no other one."""
        ...


LIMITS = Limits(1800.0, 4 << 30)


@dataclass(frozen=True, slots=True)
class Execution:
    """Who does the samples: `workers` of them at `backend`, which have imported the modules `preload`.

    `limits` hold for each sample; the link has time-outs of its own, so that they are for what nobody thought of.
    """

    workers: int = 2
    backend: JobBackend = LOCAL
    preload: tuple[str, ...] = ()
    limits: Limits = LIMITS
    needs: Needs = ONE_CORE


INFRASTRUCTURE_LIMIT = 5  # so many in a row are not bad luck: the toolchain, the disk or the emulator is gone
ATTEMPTS = 3  # at a sample whose errors are infrastructure's: a stored failure outlives a cable that is loose
_HOPELESS = (ToolMissing, StoreError, DeviceBusy, NeverBooted, ImagesDiffer)  # no use in trying another sample


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: its `value`, or `failure` says what went wrong and `cause` is the error, if it was one.

    `error` is an infrastructure error, which may end everything.
    """

    job: int
    value: Any = None
    failure: str = ""
    cause: Exception | None = None
    error: HilError | None = None


def supervised(
    todo: Iterable[int], factory: Factory, execution: Execution, tell: Callable[[str], None]
) -> Generator[Outcome, None, None]:
    """The outcome of each job of `todo`, once, in the order in which they finish. `tell` hears of boards that are lost.

    Raises a worker's InfrastructureError when five follow each other, a tool is missing, or the last board is lost or
    taken by others; StoreError when the disk is full.
    """
    ledger = _Ledger(deque(todo), factory, tell)
    if not ledger.todo:
        return
    workers = Workers(
        max(1, min(execution.workers, len(ledger.todo))), preload=execution.preload, needs=execution.needs
    )  # fmt: skip
    try:
        with execution.backend.open(workers) as jobs:
            work = _Logged(ledger.factory)
            while ledger.todo or jobs.busy:
                if work.factory is not ledger.factory:
                    work = _Logged(ledger.factory)
                _hand_out(ledger, jobs, work, execution.limits)
                outcomes = [_outcome(finished) for finished in jobs.wait()]
                if all(outcome.error is None for outcome in outcomes):
                    # Now: what is done with an outcome may take as long as a disk's sync.
                    _hand_out(ledger, jobs, work, execution.limits)
                yield from (outcome for outcome in outcomes if ledger.keep(outcome))
    except JobsError as error:
        raise InfrastructureError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Logged:
    """The work of a factory, which shows what the main process shows."""

    factory: Factory

    def __call__(self) -> Do:
        as_the_parent_does()
        return self.factory()


@dataclass(slots=True)
class _Ledger:
    """What is still to do, by which jobs, and what went wrong in a row.

    An infrastructure error need not be the sample's fault: the sample is tried again later, more than once, and what
    failed in a row that ends the campaign is not stored, so that a resume does it.
    """

    todo: deque[int]
    factory: Factory
    tell: Callable[[str], None]
    lost: set[str] = field(default_factory=set)
    attempts: Counter[int] = field(default_factory=Counter)
    streak: int = 0

    def keep(self, outcome: Outcome) -> bool:
        """Whether the outcome is final. Raises its error when it is hopeless, or one too many in a row."""
        if outcome.error is None:
            self.streak = 0
            return True
        if isinstance(outcome.error, _HOPELESS):
            raise outcome.error
        if isinstance(outcome.error, DeviceLost):
            self.todo.appendleft(outcome.job)
            self._drop(outcome.error)
            return False
        self.attempts[outcome.job] += 1
        if self.attempts[outcome.job] == ATTEMPTS:
            return True
        self.streak += 1
        if self.streak >= INFRASTRUCTURE_LIMIT:
            raise outcome.error
        self.todo.append(outcome.job)
        return False

    def _drop(self, error: DeviceLost) -> None:
        """Go on without a device. Raises its error when there is no other one."""
        if error.device in self.lost:
            return  # by a job that had begun before
        self.lost.add(error.device)
        others = self.factory.without(error.device) if isinstance(self.factory, UsesDevices) else None
        if others is None:
            text = f"{error}; no other board is left: see to it and run the same command again, all results are kept"
            raise DeviceLost(error.device, text) from error
        self.factory = others
        self.tell(f"{error}; going on without it")


def _hand_out(ledger: _Ledger, jobs: Jobs, work: _Logged, limits: Limits) -> None:
    """Give everyone who is idle a job."""
    while ledger.todo and jobs.idle:
        number = ledger.todo.popleft()
        jobs.submit(Job(f"sample {number}", work, number, limits))


def _outcome(finished: Finished) -> Outcome:
    """A job's own error fails the job. Errors of the host may end everything, and so may bugs of ours: both come in
    rows, and a stored failure would outlive the repair."""
    job, error = finished.job.argument, finished.error
    if not finished.trouble:
        return Outcome(job, finished.value)
    if error is None:
        text = f"{finished.job.name}: {finished.message}"
        return Outcome(job, None, text, None, InfrastructureError(text))
    text = (str(error) if isinstance(error, HilError) else finished.message) or type(error).__name__
    if isinstance(error, OSError) and is_full(error):
        full = f"{finished.job.name}: {text}; free space and run the same command again"
        return Outcome(job, None, text, error, StoreError(full))
    if not isinstance(error, HilError):
        return Outcome(job, None, text, error, InfrastructureError(f"{finished.job.name}: {text}"))
    if isinstance(error, InfrastructureError) and not isinstance(error, TargetFaultError):
        return Outcome(job, None, text, error, error)
    return Outcome(job, None, text, error)
