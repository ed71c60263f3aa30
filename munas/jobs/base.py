"""What a job is, and what a place that runs jobs has to do; every place passes tests/contract/test_jobs.py.

A crash, a hang or too much memory costs the job that did it and no other. However the process that asks for jobs ends,
kill -9 included, nothing that worked for it stays behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

Do: TypeAlias = Callable[[Any], Any]
"""Does a job: its argument in, its value out. Whatever it raises fails the job."""

Work: TypeAlias = Callable[[], Do]
"""Makes, inside a worker, what does the jobs. It pickles (a frozen dataclass, a partial, a function at the top of a
module); what it makes need not. Jobs of the same work (the same object) share what it has made."""


@dataclass(frozen=True, slots=True)
class Limits:
    """For one job: wall time in seconds, and bytes of memory that are the worker's own (pages of files, which the
    kernel can drop, do not count, and neither do programs that the worker has started)."""

    seconds: float = math.inf
    memory_bytes: float = math.inf


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `name` is for messages, and for its log; of the jobs under way, no two have the same."""

    name: str
    work: Work
    argument: Any
    limits: Limits = NO_LIMITS


Trouble: TypeAlias = Literal["", "raised", "died", "limit"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that is over.

    `trouble` is empty when `value` is what it returned; else it says how the job failed, and `message` why: it
    "raised" `error`, its worker "died", or it went over a "limit". `seconds` is its wall time.
    """

    job: Job
    value: Any = None
    trouble: Trouble = ""
    message: str = ""
    error: Exception | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Needs:
    """What one job occupies on a cluster: shares of processors and GPUs, bytes of memory, and a `board` by its name.

    Processes of this machine do not count it: there, `Workers.count` says it all.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0
    board: str = ""


ONE_CORE = Needs()


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does the jobs: at most `count` at a time.

    `fresh`: a process of its own for each job, which holds nothing outside and is killed when it has to end. Others do
    one job after the other, and are asked to end before they are killed, so that what their jobs hold (emulators,
    scratch folders) goes with them. `preload` names modules that are imported before workers are forked. `logs` is a
    folder for what workers print; the logs of jobs that fail stay there; without it they print where this process does.
    `environment` is added to that of this process.
    """

    count: int
    fresh: bool = False
    preload: tuple[str, ...] = ()
    logs: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Needs = ONE_CORE


class Jobs(Protocol):
    """Jobs under way. A context manager; whatever is under way at its end is dropped."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def busy(self) -> int:
        """Jobs under way."""
        ...

    @property
    def idle(self) -> int:
        """Jobs that can be begun now."""
        ...

    def submit(self, job: Job) -> None:
        """Begin a job; only while `idle` is above 0. Raises JobsError, now or by `wait`."""
        ...

    def wait(self, timeout_s: float = math.inf) -> list[Finished]:
        """The jobs that have finished, in that order: waits for at least one, but no longer than the time-out.

        Raises JobsError when jobs cannot be run here at all.
        """
        ...

    def close(self) -> None:
        """End what is under way, and everyone who works."""
        ...


class JobBackend(Protocol):
    """A place that runs jobs. It pickles."""

    def open(self, workers: Workers) -> Jobs:
        """Take on the workers. Raises JobsError."""
        ...
