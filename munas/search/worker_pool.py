"""Trials in parallel, each in a fresh process with a limit on time and memory.

Nothing that a trial does can harm the search or the next trial: what leaks goes with its process, and a crash,
a hang or too much memory is a failed trial with a message. Processes are forked from one that has TensorFlow
imported already (`munas.search.fork_server`). However the main process ends, kill -9 included, the kernel ends that
one, and with it the workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from munas.errors import SearchError, SearchStoreError
from munas.search import fork_server, worker
from munas.search.trial import Task, Trained, TrainerFactory

POLL_S = 0.2
"""How often time and memory are looked at. A worker that allocates fast goes over its limit by what it can touch in
this time, about a GB."""

LAST_LINES = 40  # a crash prints its stack below what was printed before
_CHUNK = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNKNOWN_EXIT = 255  # what multiprocessing says when the fork server could not tell it

_ENVIRONMENT = {
    # One thread a worker: networks this small gain nothing from more, sums keep their order, and a process without
    # thread pools can be forked.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",  # errors only
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """For one trial: wall time in seconds, and bytes of memory that are the worker's own (pages of files, which the
    kernel can drop, and so the data set, do not count)."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A task that is over. `trained` is None when it failed, and `message` says why; `seconds` is its wall time."""

    task: Task
    trained: Trained | None
    message: str
    seconds: float


@dataclass(slots=True)
class _Running:
    task: Task
    process: BaseProcess
    pipe: Connection
    log: Path
    started: float
    limit_s: float
    received: bytearray = field(default_factory=bytearray)
    at_end: bool = False  # nothing more will come through the pipe
    verdict: str = ""  # why we killed it


class WorkerPool:
    """At most `count` workers. Use it as a context manager, in the main thread, one at a time.

    Raises SearchError for what no trial can cure (TensorFlow is not installed, the data set is missing), and
    SearchStoreError for a host that fails (no space for a log, no process can be started).
    """

    def __init__(
        self, factory: TrainerFactory, count: int, limits: Limits, logs: Path, preload: Sequence[str] = ()
    ) -> None:
        """`logs` is the folder for what workers print; the logs of failed tasks stay there. `preload` names modules
        to import before forking."""
        self._factory, self._count, self._limits, self._logs = factory, max(1, count), limits, logs
        self._running: list[_Running] = []
        self._fatal: Exception | None = None
        self._context = multiprocessing.get_context("forkserver")
        # The script that runs is imported in the fork server too, or every worker would do it.
        self._context.set_forkserver_preload(["__main__", fork_server.__name__])
        try:
            logs.mkdir(parents=True, exist_ok=True)
            (self._logs / "fork-server.log").write_text("")
        except OSError as error:
            raise SearchStoreError(f"cannot write to the folder of logs: {error}") from error
        self._environment = {
            **_ENVIRONMENT,
            fork_server.LOG: str((logs / "fork-server.log").resolve()),
            fork_server.MODULES: ",".join(preload),
            # The fork server has to find what this process finds, wherever that was started.
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def busy(self) -> int:
        """Tasks under way."""
        return len(self._running)

    @property
    def idle(self) -> int:
        """Tasks that can be started now."""
        return self._count - len(self._running)

    def start(self, task: Task, limit_s: float | None = None) -> None:
        """Start a task in a process of its own; `limit_s` is its own limit of time, instead of the pool's. The first
        start waits for the imports, some seconds."""
        log = self._logs / f"trial-{task.trial.index:05d}-{task.trial.seed}.log"
        ours, theirs = self._context.Pipe(duplex=False)
        try:
            process = self._context.Process(
                target=worker.main, args=(theirs, str(log.resolve()), self._factory, task), daemon=True
            )
            with _environment(self._environment):
                process.start()
        except (OSError, EOFError) as error:
            ours.close()
            text = _last_lines(self._logs / "fork-server.log")
            raise SearchStoreError(f"cannot start a worker: {type(error).__name__}: {error}{text}") from error
        finally:
            theirs.close()
        self._running.append(_Running(task, process, ours, log, time.monotonic(), limit_s or self._limits.seconds))

    def wait(self, timeout_s: float) -> list[Finished]:
        """The tasks that have finished, in that order; waits for at least one, but no longer than the time-out."""
        deadline = time.monotonic() + timeout_s
        finished: list[Finished] = []
        while not finished and self._running and self._fatal is None:
            remaining = deadline - time.monotonic()
            self._listen(max(0.0, min(POLL_S, remaining)))
            finished = self._collect()
            if remaining <= 0:
                break
        if self._fatal is not None and not finished:
            raise self._fatal
        return finished

    def close(self) -> None:
        """Kill what runs, and the process that workers are forked from."""
        for running in self._running:
            _kill(running.process)
        for running in self._running:
            running.process.join()
            running.process.close()
            running.pipe.close()
        self._running.clear()
        _stop_fork_server()

    def _listen(self, timeout_s: float) -> None:
        """Wait for an answer or an end; take in what came; enforce the limits."""
        items: list[Any] = [running.process.sentinel for running in self._running]
        items += [running.pipe for running in self._running if not running.at_end]
        ready = wait(items, timeout_s)
        for running in self._running:
            if running.pipe in ready:
                _read(running)
        for running in self._running:
            if not running.verdict and (verdict := _over_limit(running, self._limits)):
                running.verdict = verdict
                _kill(running.process)

    def _collect(self) -> list[Finished]:
        """Take the workers that have ended off the list."""
        ended = [running for running in self._running if wait([running.process.sentinel], 0)]
        finished = []
        for running in ended:
            self._running.remove(running)
            while not running.at_end and running.pipe.poll():
                _read(running)
            seconds = time.monotonic() - running.started
            running.process.join()
            reply = _reply(running, self._logs)
            running.pipe.close()
            running.process.close()
            if reply.trained is not None:
                running.log.unlink(missing_ok=True)
            elif reply.blame != "trial":
                kind = SearchError if reply.blame == "request" else SearchStoreError
                self._fatal = kind(f"trial {running.task.trial.index}: {reply.message}")
                continue
            finished.append(Finished(running.task, reply.trained, reply.message, seconds))
        return finished


def _stop_fork_server() -> None:
    """End the fork server, and with it a worker whose start was interrupted.

    There is no public way: it would stay as long as this process, and the next pool could not preload anything else.
    """
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server._forkserver_pid, signal.SIGKILL)
    server._stop()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The environment of a process that is started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _kill(process: BaseProcess) -> None:
    """SIGKILL for a worker and what it may have started: it leads a process group, once it has come so far."""
    with contextlib.suppress(OSError):
        if process.pid is not None and process.exitcode is None and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _read(running: _Running) -> None:
    # In pieces, and not with recv(): a worker that stops in the middle of its answer must not stop us.
    try:
        piece = os.read(running.pipe.fileno(), _CHUNK)
    except OSError:
        piece = b""
    running.received += piece
    running.at_end = not piece


def _over_limit(running: _Running, limits: Limits) -> str:
    seconds = time.monotonic() - running.started
    if seconds > running.limit_s:
        return f"took longer than the limit of {running.limit_s:.4g} s"
    used = _own_memory_bytes(running.process.pid)
    if used > limits.memory_bytes:
        return f"used {used / 2**20:.0f} MiB of memory; the limit is {limits.memory_bytes / 2**20:.0f} MiB"
    return ""


def _own_memory_bytes(process_id: int | None) -> int:
    """Resident bytes of a process that are not pages of files; 0 when it is gone."""
    try:
        resident, of_files = Path(f"/proc/{process_id}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(of_files)) * _PAGE_BYTES


def _reply(running: _Running, logs: Path) -> worker.Reply:
    """What the worker answered, or what its end means."""
    if running.verdict:
        return worker.Reply(None, running.verdict)
    try:
        reply = pickle.loads(running.received)
    except Exception:  # any: a cut pickle raises whatever it likes
        if running.process.exitcode == _UNKNOWN_EXIT and _fork_server_died():
            text = _last_lines(logs / "fork-server.log")
            message = f"the process that workers are forked from has died; run the same command again{text}"
            return worker.Reply(None, message, "host")
        cause = _cause(running.process.exitcode)
        return worker.Reply(None, f"the worker died: {cause}{_last_lines(running.log)}")
    assert isinstance(reply, worker.Reply)
    return reply


def _fork_server_died() -> bool:
    """Whether the fork server is gone, or goes: its pipes close a moment before the kernel calls it dead."""
    server: Any = forkserver._forkserver
    for _ in range(20):
        try:
            state = Path(f"/proc/{server._forkserver_pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = str(-exit_code)
        with contextlib.suppress(ValueError):
            name = signal.Signals(-exit_code).name
        return f"killed by {name}" + (", perhaps because memory ran out" if name == "SIGKILL" else "")
    return f"exit status {exit_code}"


def _last_lines(log: Path) -> str:
    """The end of a log, to go behind a message; empty when there is nothing in it."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "; its last lines:\n" + "\n".join(lines[-LAST_LINES:]) if lines else ""
