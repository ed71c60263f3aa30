"""Campaigns: many samples by several workers, stored as they finish, resumable after kill -9.

The main process hands out sample numbers and is the only one that writes to the store. A sample is therefore either
stored, once, or it is done again by the next run with the same key. Where the samples are done is a place that runs
jobs (`munas.jobs`): a worker that dies, hangs or takes all memory costs the sample it was on, and is replaced.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from hil.jobs.store import Result, Status, Store
from hil.jobs.supervise import Execution, UsesDevices, supervised

__all__ = ["Execution", "Job", "JobFactory", "Progress", "Silent", "Summary", "UsesDevices", "run_campaign"]

Job = Callable[[int], Result]
"""Does one sample. Runs in a worker; a HilError of the sample's own (ModelError, BudgetError, TargetFaultError, ...)
becomes a failed result."""

JobFactory = Callable[[], Job]
"""Makes the job inside a worker (must pickle: a top-level function, a partial of one, or a dataclass)."""


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

    def start(self, total: int, resumed: int) -> None:
        """Before the first sample; `resumed` of `total` were stored before."""
        ...

    def advance(self, result: Result) -> None:
        """A sample is stored, measured or failed."""
        ...

    def tell(self, message: str) -> None:
        """A line for the user, such as a device that was lost."""
        ...

    def stop(self) -> None:
        """Called at every kind of end."""
        ...


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
    store or the disk fails, or another process runs a campaign of that store; KeyboardInterrupt on Ctrl-C. Whatever was
    finished by then is stored, and the same call goes on from there.
    """
    started = time.monotonic()
    store.lock()
    wanted = list(dict.fromkeys(samples))
    done = store.samples(run_id)
    resumed = [sample for sample in wanted if sample in done]
    shown = progress or Silent()
    todo = [sample for sample in wanted if sample not in done]
    counts: dict[Status, int] = {"ok": 0, "failed": 0}
    shown.start(len(wanted), len(resumed))
    try:
        with contextlib.closing(supervised(todo, factory, execution or Execution(workers), shown.tell)) as outcomes:
            for outcome in outcomes:
                result = Result(outcome.job, "failed", error=outcome.failure) if outcome.failure else outcome.value
                assert isinstance(result, Result)
                if store.insert(run_id, result):
                    counts[result.status] += 1
                    shown.advance(result)
    finally:
        shown.stop()
    return Summary(counts["ok"], counts["failed"], len(resumed), time.monotonic() - started)
