"""Campaigns: many samples over several worker processes, stored as they finish, resumable after kill -9.

The main process hands out sample numbers and is the only one that writes to the store. A sample is therefore either
stored, once, or it is done again by the next run with the same key. Workers are plain processes with one pipe each, not
a pool: a worker that dies costs the sample it was on, and is replaced.

A board that does not work (DeviceLost) is no sample's fault: the sample is done again, by workers that leave that board
alone. When none is left the campaign ends, and a resume goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Protocol, runtime_checkable

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


INFRASTRUCTURE_LIMIT = 5  # so many in a row are not bad luck: the toolchain, the disk or the emulator is gone
ATTEMPTS = 3  # at a sample whose errors are infrastructure's: a stored failure outlives a cable that is loose
_HOPELESS = (ToolMissing, StoreError, DeviceBusy, NeverBooted)  # no use in trying another sample
STOP_GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1


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
    """What a worker sends back. `error` is an infrastructure error, which may end the campaign."""

    sample: int
    result: Result
    error: HilError | None = None


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    factory: JobFactory
    sample: int | None = None


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
) -> Summary:
    """Do every sample of `samples` that `run_id` does not have yet, with `workers` processes.

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
        with contextlib.closing(_outcomes(ledger, max(1, min(workers, len(ledger.todo))))) as outcomes:
            for outcome in outcomes:
                if ledger.keep(outcome) and store.insert(run_id, outcome.result):
                    counts[outcome.result.status] += 1
                    shown.advance(outcome.result)
    finally:
        shown.stop()
    return Summary(counts["ok"], counts["failed"], len(resumed), time.monotonic() - started)


def _outcomes(ledger: _Ledger, count: int) -> Generator[_Outcome, None, None]:
    """Outcomes in the order in which they finish. The consumer may change todo and factory between two of them."""
    pool: list[_Worker] = []
    try:
        while ledger.todo or any(worker.sample is not None for worker in pool):
            _replace_outdated(ledger, pool)
            while len(pool) < count and sum(worker.sample is None for worker in pool) < len(ledger.todo):
                pool.append(_start_worker(ledger.factory))
            _hand_out(ledger, pool)
            for worker in _ready(pool):
                outcome = _receive(worker)
                if worker.pipe.closed:
                    pool.remove(worker)
                if outcome is not None and outcome.error is None:
                    _hand_out(ledger, pool)  # before the yield: storing an outcome takes as long as a disk's sync
                if outcome is not None:
                    yield outcome
    finally:
        _stop_workers(pool)


def _start_worker(factory: JobFactory) -> _Worker:
    # spawn, not fork: LiteRT and rich have threads, and a forked child of a threaded process may dead-lock.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker_main, args=(theirs, factory, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours, factory)


def _replace_outdated(ledger: _Ledger, pool: list[_Worker]) -> None:
    """Let idle workers go whose jobs use a device that is lost by now."""
    outdated = [worker for worker in pool if worker.sample is None and worker.factory is not ledger.factory]
    pool[:] = [worker for worker in pool if worker not in outdated]
    _stop_workers(outdated)


def _hand_out(ledger: _Ledger, pool: list[_Worker]) -> None:
    """Give every idle worker a sample."""
    for worker in pool:
        if worker.sample is None and ledger.todo and worker.factory is ledger.factory:
            worker.sample = ledger.todo.popleft()
            with contextlib.suppress(OSError):  # it died while idle: _ready sees that next
                worker.pipe.send(worker.sample)


def _ready(pool: list[_Worker]) -> list[_Worker]:
    """Waits until a worker answers or dies; those that did."""
    owner: dict[Any, _Worker] = {}
    for worker in pool:
        owner[worker.pipe] = owner[worker.process.sentinel] = worker
    ready = {id(owner[item]) for item in wait(list(owner))}
    return [worker for worker in pool if id(worker) in ready]


def _receive(worker: _Worker) -> _Outcome | None:
    """The worker's outcome, or what its death means; None when it died without a sample."""
    try:
        if worker.pipe.poll():
            outcome = worker.pipe.recv()
            worker.sample = None
            assert isinstance(outcome, _Outcome)
            return outcome
    except (EOFError, OSError):
        pass
    worker.process.join(STOP_GRACE_S)
    worker.pipe.close()
    sample, worker.sample = worker.sample, None
    if sample is None:
        return None
    message = f"worker process died on sample {sample}: {_cause(worker.process.exitcode)}"
    return _Outcome(sample, Result(sample, "failed", error=message), InfrastructureError(message))


def _cause(exit_code: int | None) -> str:
    if exit_code is None:
        return "it closed its pipe and hangs"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit status {exit_code}"


def _stop_workers(pool: list[_Worker]) -> None:
    """End all workers: idle ones by closing their pipe, busy ones by SIGTERM (their emulators go with them)."""
    for worker in pool:
        if worker.sample is not None and worker.process.is_alive():
            worker.process.terminate()
        worker.pipe.close()
    deadline = time.monotonic() + STOP_GRACE_S
    for worker in pool:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


# -- inside the worker --


def _worker_main(pipe: Connection, factory: JobFactory, parent: int) -> None:
    _die_with_parent(parent)
    as_the_parent_does()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the main process decides
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it is, and the campaign goes on
        signal.signal(signal.SIGHUP, _on_sigterm)
    job: Job | None = None
    while True:
        try:
            sample = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            job = job or factory()
            outcome = _Outcome(sample, job(sample))
        except Exception as error:
            outcome = _failure(sample, error)
        try:
            pipe.send(outcome)
        except (EOFError, OSError):
            return


def _failure(sample: int, error: Exception) -> _Outcome:
    """A sample's own error fails the sample. Errors of the host may end the campaign, and so may bugs of ours: both
    come in rows, and a stored failure would outlive the repair."""
    text = str(error) if isinstance(error, HilError) else f"{type(error).__name__}: {error}"
    result = Result(sample, "failed", error=text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = f"sample {sample}: {text}; free space and run the same command again"
        return _Outcome(sample, result, StoreError(full))
    if not isinstance(error, HilError):
        return _Outcome(sample, result, InfrastructureError(f"sample {sample}: {text}"))
    if isinstance(error, InfrastructureError) and not isinstance(error, TargetFaultError):
        return _Outcome(sample, result, error)
    return _Outcome(sample, result)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # unwinds context managers: emulator, pty and temporary folder go


def _die_with_parent(parent: int) -> None:
    """SIGTERM for this process when the parent dies, however it dies (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        raise SystemExit(0)
