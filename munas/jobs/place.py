"""On a node of a cluster: the actor that does jobs there, and what it sends back. Imports nothing of Ray."""

from __future__ import annotations

import importlib.metadata
import pickle
import platform
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from munas.jobs.base import Do, Job, Limits, Trouble, Workers
from munas.jobs.frames import dumps
from munas.jobs.local import LocalJobs

_LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Versions:
    """What has to be the same here and on a node, or pickles and results are not."""

    python: str
    munas: str

    def difference(self, node: Versions) -> str:
        """What is not the same on a node; empty when nothing is."""
        pairs = (("Python", self.python, node.python), ("munas-hil", self.munas, node.munas))
        return ", ".join(f"{name} {theirs} and not {ours}" for name, ours, theirs in pairs if ours != theirs)


def versions() -> Versions:
    """Of this process."""
    return Versions(platform.python_version(), importlib.metadata.version("munas-hil"))


@dataclass(frozen=True, slots=True)
class Packed:
    """A work that is unpickled in the process that does it, and nowhere else."""

    data: bytes

    def __call__(self) -> Do:
        do: Do = pickle.loads(self.data)()
        return lambda argument: dumps(do(pickle.loads(argument)))


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished job on its way back. `value` and `error` are pickled, `log` is what it printed."""

    value: bytes | None
    trouble: Trouble
    message: str
    error: bytes | None
    seconds: float
    log: bytes = b""


class Place:
    """The actor: does one job at a time."""

    def __init__(self, workers: Workers) -> None:
        # A folder of its own: nodes need not share a file system with whoever wants the jobs done.
        self._logs = None if workers.logs is None else Path(tempfile.mkdtemp(prefix="munas-jobs-"))
        self._jobs = LocalJobs(replace(workers, count=1, logs=self._logs))
        self._work: Packed | None = None

    def about(self) -> tuple[Versions, str]:
        """Versions, and the node's name."""
        return versions(), platform.node()

    def do(self, work: bytes | None, name: str, argument: bytes, limits: Limits) -> Answer:
        """Do a job, of the work of the last one when none is given. Raises JobsError."""
        if work is not None:
            self._work = Packed(work)
        assert self._work is not None, "the first job comes with its work"
        self._jobs.submit(Job(name, self._work, argument, limits))
        (finished,) = self._jobs.wait()
        error = None if finished.error is None else dumps(finished.error)
        return Answer(
            finished.value, finished.trouble, finished.message, error, finished.seconds, self._taken_log(name)
        )  # fmt: skip

    def _taken_log(self, name: str) -> bytes:
        if self._logs is None or not (path := self._logs / f"{name}.log").exists():
            return b""
        data = path.read_bytes()[-_LOG_BYTES:]
        path.unlink()
        return data

    def close(self) -> None:
        """End whoever works here, and remove the logs."""
        self._jobs.close()
        if self._logs is not None:
            shutil.rmtree(self._logs, ignore_errors=True)
