"""Campaigns: many samples by several workers, stored as they finish, resumable after kill -9.

The main process hands out sample numbers and is the only one that writes to the store. A sample is therefore either
stored, once, or it is done again by the next run with the same key. Where the samples are done is a place that runs
jobs (`munas.jobs`): a worker that dies, hangs or takes all memory costs the sample it was on, and is replaced.

A board that does not work (DeviceLost) is no sample's fault: the sample is done again, by workers that leave that board
alone. When none is left the campaign ends, and a resume goes on.
"""

from __future__ import annotations

import errno
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from hil.errors import (
    DeviceBusy,
    DeviceLost,
    HilError,
    InfrastructureError,
    NeverBooted,
    StoreError,
    TargetFaultError,
    ToolMissing,
)
from hil.jobs.store import Result, Status, Store
from hil.logs import as_the_parent_does
from munas.errors import JobsError
from munas.jobs.base import ONE_CORE, Finished, JobBackend, Jobs, Limits, Needs, Workers
from munas.jobs.base import Job as OneJob
from munas.jobs.local import LOCAL

Job = Callable[[int], Result]
"""Does one sample. Runs in a worker; a HilError of the sample's own (ModelError, BudgetError, TargetFaultError, ...)
becomes a failed result."""

JobFactory = Callable[[], Job]
"""Makes the job inside a worker (must pickle: a top-level function, a partial of one, or a dataclass)."""


@runtime_checkable
class UsesDevices(Protocol):
    """A JobFactory whose jobs need one of several devices."""

    def without(self, device: str) -> JobFactory | None:
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
_HOPELESS = (ToolMissing, StoreError, DeviceBusy, NeverBooted)  # no use in trying another sample


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts after a campaign. `resumed` were stored before it began; `seconds` is its own wall time."""

    ok: int
    failed: int
    resumed: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Samples finished a minute in this campaign, failed ones included."""
        return 60.0 * (self.ok + self.failed) / self.seconds if self.seconds > 0 else 0.0


class Progress(Protocol):
    """Told about every finished sample; see `hil.cli.progress`."""

    def start(self, total: int, resumed: int) -> None: ...

    def advance(self, result: Result) -> None: ...

    def tell(self, message: str) -> None: ...

    def stop(self) -> None: ...


class Silent:
    """Progress that shows nothing."""

    def start(self, total: int, resumed: int) -> None:
        """Nothing."""

    def advance(self, result: Result) -> None:
        """Nothing."""

    def tell(self, message: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a sample. `error` is an infrastructure error, which may end the campaign."""

    sample: int
    result: Result
    error: HilError | None = None


@dataclass(frozen=True, slots=True)
class _Logged:
    """The work of a factory, which shows what the main process shows."""

    factory: JobFactory

    def __call__(self) -> Job:
        as_the_parent_does()
        return self.factory()


@dataclass(slots=True)
class _Ledger:
    """What is still to do, by which jobs, and what went wrong in a row.

    An infrastructure error need not be the sample's fault: the sample is tried again later, more than once, and what
    failed in a row that ends the campaign is not stored, so that a resume does it.
    """

    todo: deque[int]
    factory: JobFactory
    tell: Callable[[str], None]
    lost: set[str] = field(default_factory=set)
    attempts: Counter[int] = field(default_factory=Counter)
    streak: int = 0

    def keep(self, outcome: _Outcome) -> bool:
        """Whether the outcome is final. Raises its error when it is hopeless, or one too many in a row."""
        if outcome.error is None:
            self.streak = 0
            return True
        if isinstance(outcome.error, _HOPELESS):
            raise outcome.error
        if isinstance(outcome.error, DeviceLost):
            self.todo.appendleft(outcome.sample)
            self._drop(outcome.error)
            return False
        self.attempts[outcome.sample] += 1
        if self.attempts[outcome.sample] == ATTEMPTS:
            return True
        self.streak += 1
        if self.streak >= INFRASTRUCTURE_LIMIT:
            raise outcome.error
        self.todo.append(outcome.sample)
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


def run_campaign(
    store: Store,
    run_id: int,
    samples: Iterable[int],
    factory: JobFactory,
    *,
    workers: int = 2,
    progress: Progress | None = None,
    execution: Execution | None = None,
) -> Summary:
    """Do every sample of `samples` that `run_id` does not have yet, with `workers` processes, or as `execution` says.

    Results are stored as they finish. A failed sample is stored with its error. Raises the worker's InfrastructureError
    when five follow each other, a tool is missing, or the last board is lost or taken by others; StoreError when the
    store or the disk fails; KeyboardInterrupt on Ctrl-C. Whatever was finished by then is stored, and the same call
    goes on from there.
    """
    started = time.monotonic()
    wanted = list(dict.fromkeys(samples))
    done = store.samples(run_id)
    resumed = [sample for sample in wanted if sample in done]
    shown = progress or Silent()
    ledger = _Ledger(deque(sample for sample in wanted if sample not in done), factory, shown.tell)
    counts: dict[Status, int] = {"ok": 0, "failed": 0}
    shown.start(len(wanted), len(resumed))
    try:
        for outcome in _outcomes(ledger, execution or Execution(workers)):
            if ledger.keep(outcome) and store.insert(run_id, outcome.result):
                counts[outcome.result.status] += 1
                shown.advance(outcome.result)
    except JobsError as error:
        raise InfrastructureError(str(error)) from error
    finally:
        shown.stop()
    return Summary(counts["ok"], counts["failed"], len(resumed), time.monotonic() - started)


def _outcomes(ledger: _Ledger, execution: Execution) -> Generator[_Outcome, None, None]:
    """Outcomes in the order in which they finish. The consumer may change todo and factory between two of them."""
    if not ledger.todo:
        return
    count = max(1, min(execution.workers, len(ledger.todo)))
    workers = Workers(count, preload=execution.preload, needs=execution.needs)
    with execution.backend.open(workers) as jobs:
        work = _Logged(ledger.factory)
        while ledger.todo or jobs.busy:
            if work.factory is not ledger.factory:
                work = _Logged(ledger.factory)
            _hand_out(ledger, jobs, work, execution.limits)
            outcomes = [_outcome(finished) for finished in jobs.wait()]
            if all(outcome.error is None for outcome in outcomes):
                _hand_out(
                    ledger, jobs, work, execution.limits
                )  # now: storing an outcome takes as long as a disk's sync
            yield from outcomes


def _hand_out(ledger: _Ledger, jobs: Jobs, work: _Logged, limits: Limits) -> None:
    """Give everyone who is idle a sample."""
    while ledger.todo and jobs.idle:
        sample = ledger.todo.popleft()
        jobs.submit(OneJob(f"sample {sample}", work, sample, limits))


def _outcome(finished: Finished) -> _Outcome:
    """A sample's own error fails the sample. Errors of the host may end the campaign, and so may bugs of ours: both
    come in rows, and a stored failure would outlive the repair."""
    sample, error = finished.job.argument, finished.error
    if not finished.trouble:
        assert isinstance(finished.value, Result)
        return _Outcome(sample, finished.value)
    if error is None:
        text = f"sample {sample}: {finished.message}"
        return _Outcome(sample, Result(sample, "failed", error=text), InfrastructureError(text))
    text = str(error) if isinstance(error, HilError) else finished.message
    result = Result(sample, "failed", error=text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = f"sample {sample}: {text}; free space and run the same command again"
        return _Outcome(sample, result, StoreError(full))
    if not isinstance(error, HilError):
        return _Outcome(sample, result, InfrastructureError(f"sample {sample}: {text}"))
    if isinstance(error, InfrastructureError) and not isinstance(error, TargetFaultError):
        return _Outcome(sample, result, error)
    return _Outcome(sample, result)
