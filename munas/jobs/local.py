"""Jobs in processes of this machine, forked from one that has imported what they need (`munas.jobs.fork_server`).

Written here, and not taken from a library: of pebble (5.2) and loky (3.7), which were looked at, neither limits memory
or ends busy workers with their parent; loky gives up all jobs when one worker crashes, and pebble's workers share one
pipe and its lock, which a worker that is killed or stopped in the middle of its answer keeps. Here each worker has a
channel of its own, from which no more is read than there is.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from munas.closing import Closing
from munas.errors import JobsError, PreloadError
from munas.jobs import fork_server
from munas.jobs.base import Finished, Job, JobBackend, Jobs, Work, Workers
from munas.jobs.fork_server import GRACE_S, Born, Ended, Ready, Wanted
from munas.jobs.frames import framed, sendable, take
from munas.jobs.words import cause_of, last_lines, own_memory_bytes, text_of
from munas.jobs.worker import Reply

ENDING_S = 30.0  # for a program's end after its last word; Ray's nodes are niced, and took 14 s on a busy machine
POLL_S = 0.2
"""How often time and memory are looked at. A worker that allocates fast goes over its limit by what it can touch in
this time, about a GB."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""In the environment of workers: there is one for each core, and a process without thread pools can be forked."""

SERVER_LOG = "fork-server.log"
_CHUNK = 1 << 20
_DIED = "the process that workers are forked from has died; run the same command again"


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """Processes of this machine."""

    def open(self, workers: Workers) -> Jobs:
        """See `munas.jobs.base.JobBackend`."""
        return LocalJobs(workers)


LOCAL: JobBackend = LocalBackend()


@dataclass(slots=True)
class _Worker:
    """A worker, from the request for it to its end."""

    number: int
    work: Work
    channel: socket.socket
    log: Path | None
    job: Job | None = None
    started: float = 0.0  # when it began its job
    process_id: int = 0
    pidfd: int = -1
    outgoing: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)
    at_end: float = math.inf  # since when nothing more can come
    verdict: str = ""  # why we killed it
    status: int | None = None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """A signal for it. What it has started is ended by the fork server."""
        if self.pidfd >= 0 and self.status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)


class LocalJobs(Closing):
    """See `munas.jobs.base.Jobs`."""

    def __init__(self, workers: Workers) -> None:
        self._settings = workers
        self._workers: list[_Worker] = []
        self._leaving: list[_Worker] = []  # they have no job any more, and will end
        self._count = 0
        self._sent: tuple[Work, bytes] | None = None  # the last work, pickled: it may hold a data set
        self._server = -1  # pidfd of the fork server, once it is ready
        self._server_log = _server_log(workers)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _start_server(workers, theirs, self._server_log)
        except (OSError, subprocess.CalledProcessError) as error:
            self._control.close()
            raise JobsError(f"cannot start a worker: {type(error).__name__}: {error}") from error
        finally:
            theirs.close()

    @property
    def busy(self) -> int:
        """Jobs under way."""
        return sum(worker.job is not None for worker in self._workers)

    @property
    def idle(self) -> int:
        """Jobs that can be begun now."""
        return self._settings.count - self.busy

    def submit(self, job: Job) -> None:
        """Begin a job. Its time counts from when its worker runs; the first one waits for the imports."""
        assert self.idle > 0, "more jobs than workers"
        worker = self._free(job.work) or self._new(job)
        worker.job = job
        worker.outgoing += framed(sendable(job.name, job.argument))
        worker.started = time.monotonic()
        self._write(worker)

    def wait(self, timeout_s: float = math.inf) -> list[Finished]:
        """See `munas.jobs.base.Jobs`."""
        deadline = time.monotonic() + timeout_s
        while not (finished := self._collect()) and self.busy:
            remaining = deadline - time.monotonic()
            self._listen(max(0.0, min(remaining, POLL_S)))
            if remaining <= 0:
                return self._collect()
        return finished

    def close(self) -> None:
        """End everybody: who holds nothing outside is killed, others have some seconds to clean up."""
        if self._control.fileno() < 0:
            return  # it has been done
        everybody = [*self._workers, *self._leaving]
        for worker in everybody:
            if self._settings.fresh:
                worker.kill()
            elif worker.job is not None:
                worker.kill(signal.SIGTERM)
            worker.channel.close()
        deadline = time.monotonic() + GRACE_S
        for worker in everybody:
            while worker.status is None and worker.pidfd >= 0:
                remaining = max(0.1, deadline - time.monotonic())
                if select.select([worker.pidfd], [], [], remaining)[0]:
                    break
                worker.kill()
        with contextlib.suppress(OSError):
            self._control.shutdown(
                socket.SHUT_WR
            )  # the fork server ends by it, and ends whoever it has forked meanwhile
        self._see_the_server_off()
        self._control.close()
        for worker in everybody:
            if worker.pidfd >= 0:
                os.close(worker.pidfd)
        self._workers.clear()
        self._leaving.clear()

    def _see_the_server_off(self) -> None:
        """Wait for the fork server's end. One that is still importing is let go: it ends when it has done that."""
        deadline = time.monotonic() + 2 * GRACE_S
        while self._server < 0:
            ready, _, _ = select.select([self._control], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or (received := fork_server.receive(self._control)) is None:
                return
            if isinstance(received[0], Ready):
                (self._server,) = received[1]
        if not select.select([self._server], [], [], max(0.0, deadline - time.monotonic()))[0]:
            signal.pidfd_send_signal(self._server, signal.SIGKILL)
        os.close(self._server)
        self._server = -1

    # -- workers --

    def _free(self, work: Work) -> _Worker | None:
        """A worker without a job that has made this work already. Room for another one is made by those of others."""
        if self._settings.fresh:
            return None
        for worker in self._workers:
            if worker.job is None and worker.work is work and worker.status is None and worker.at_end == math.inf:
                return worker
        if len(self._workers) >= self._settings.count:
            self._dismiss(next(worker for worker in self._workers if worker.job is None))
        return None

    def _new(self, job: Job) -> _Worker:
        if self._sent is None or self._sent[0] is not job.work:
            self._sent = job.work, framed(sendable(job.name, job.work))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._count += 1
        name = job.name if self._settings.fresh else f"worker-{self._count}"
        log = None if self._settings.logs is None else self._settings.logs / f"{name}.log"
        worker = _Worker(self._count, job.work, ours, log, outgoing=bytearray(self._sent[1]))
        try:
            wanted = Wanted(worker.number, "" if log is None else str(log.resolve()), self._settings.fresh)
            fork_server.send(self._control, wanted, theirs.fileno())
        except OSError as error:
            ours.close()
            raise JobsError(f"{_DIED}{last_lines(self._server_log)}") from error
        finally:
            theirs.close()
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: _Worker) -> None:
        """It is not needed any more: it ends when its channel does."""
        worker.channel.close()
        self._workers.remove(worker)
        if worker.status is None:
            self._leaving.append(worker)
        else:
            os.close(worker.pidfd)

    # -- what they say --

    def _listen(self, timeout_s: float) -> None:
        """Wait until something happens; take in what came; enforce the limits."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        by_channel = {worker.channel.fileno(): worker for worker in self._workers if worker.at_end == math.inf}
        for channel, worker in by_channel.items():
            poll.register(channel, select.POLLIN | (select.POLLOUT if worker.outgoing else 0))
        ready = dict(poll.poll(1000 * timeout_s))
        for channel, events in ready.items():
            if channel in by_channel:
                if events & select.POLLOUT:
                    self._write(by_channel[channel])
                if events & ~select.POLLOUT:
                    _read(by_channel[channel])
        if self._control.fileno() in ready:
            self._hear()
        for worker in self._workers:
            if not worker.verdict and (verdict := _over_limit(worker)):
                worker.verdict = verdict
                worker.kill()

    def _hear(self) -> None:
        """One message of the fork server."""
        if (received := fork_server.receive(self._control)) is None:
            raise JobsError(f"{_DIED}{last_lines(self._server_log)}")
        message, descriptors = received
        if isinstance(message, Ready):
            (self._server,) = descriptors
            if message.failure:
                raise PreloadError(message.failure)
            return
        worker = next(item for item in (*self._workers, *self._leaving) if item.number == message.number)
        if isinstance(message, Born):
            if message.failure:
                raise JobsError(f"cannot start a worker: {message.failure}")
            (worker.pidfd,), worker.process_id = descriptors, message.process_id
            worker.started = time.monotonic()
        elif isinstance(message, Ended):
            worker.status = message.status
            if worker in self._leaving:
                self._leaving.remove(worker)
                os.close(worker.pidfd)

    def _write(self, worker: _Worker) -> None:
        try:
            while worker.outgoing:
                with memoryview(worker.outgoing) as view:
                    sent = worker.channel.send(view[:_CHUNK])
                del worker.outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:  # it has died: what comes of the channel says so
            worker.outgoing.clear()

    def _collect(self) -> list[Finished]:
        """Take jobs off those that have answered, and ended ones off the list."""
        finished = []
        for worker in list(self._workers):
            if worker.status is not None:
                _read(worker)
            answer = take(worker.incoming) if worker.job is not None and not worker.verdict else None
            if answer is not None:
                finished.append(self._answered(worker, answer))
            elif worker.status is not None:
                if worker.job is not None:
                    finished.append(self._ended(worker))
                self._dismiss(worker)
            elif time.monotonic() - worker.at_end > ENDING_S:
                worker.verdict = "the worker closed its channel and hangs"
                worker.kill()
        return finished

    def _answered(self, worker: _Worker, answer: bytes) -> Finished:
        job, seconds = worker.job, time.monotonic() - worker.started
        assert job is not None
        worker.job = None
        try:
            reply = pickle.loads(answer)
            assert isinstance(reply, Reply)
        except Exception as error:  # any: a value unpickles as it likes
            reply = Reply(error=error)
        if self._settings.fresh:
            if reply.error is None and worker.log is not None:
                worker.log.unlink(missing_ok=True)
            self._dismiss(worker)
        if reply.error is None:
            return Finished(job, reply.value, seconds=seconds)
        return Finished(job, None, "raised", text_of(reply.error), reply.error, seconds)

    def _ended(self, worker: _Worker) -> Finished:
        """What the end of a worker means for its job."""
        assert worker.job is not None
        seconds = time.monotonic() - worker.started
        if worker.verdict:
            return Finished(worker.job, None, "limit", worker.verdict, None, seconds)
        text = f"the worker died: {cause_of(worker.status)}{last_lines(worker.log)}"
        return Finished(worker.job, None, "died", text, None, seconds)


def _server_log(workers: Workers) -> Path | None:
    """Where the fork server prints. Raises JobsError when the folder cannot be written."""
    if workers.logs is None:
        return None
    path = workers.logs / SERVER_LOG
    try:
        workers.logs.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    except OSError as error:
        raise JobsError(f"cannot write to the folder of logs: {error}") from error
    return path


def _start_server(workers: Workers, control: socket.socket, log: Path | None) -> None:
    # It has to find what this process finds, wherever that was started.
    path = os.pathsep.join(item or str(Path.cwd()) for item in sys.path)
    command = [sys.executable, "-P", "-m", fork_server.__name__, str(control.fileno()), *workers.preload]
    environment = {**os.environ, **ONE_THREAD, **workers.environment, "PYTHONPATH": path}
    with contextlib.ExitStack() as opened:
        output = None if log is None else opened.enter_context(log.open("ab"))
        subprocess.run(
            command, env=environment, pass_fds=(control.fileno(),), stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, check=True,
        )  # fmt: skip


def _read(worker: _Worker) -> None:
    # No more than there is: a worker that stops in the middle of its answer must not stop us.
    while worker.at_end == math.inf:
        try:
            piece = worker.channel.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        worker.incoming += piece
        if not piece:
            worker.at_end = time.monotonic()


def _over_limit(worker: _Worker) -> str:
    job = worker.job
    if job is None or not worker.process_id:
        return ""
    if time.monotonic() - worker.started > job.limits.seconds:
        return f"took longer than the limit of {job.limits.seconds:.4g} s"
    if job.limits.memory_bytes == math.inf:
        return ""
    used = own_memory_bytes(worker.process_id)
    if used > job.limits.memory_bytes:
        return f"used {used / 2**20:.0f} MiB of memory; the limit is {job.limits.memory_bytes / 2**20:.0f} MiB"
    return ""
