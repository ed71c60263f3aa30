"""The process out of which workers are forked: ``python -m munas.jobs.fork_server FD [MODULE...]``.

What workers need takes seconds to import (TensorFlow does), so it is imported once here, and a worker costs
milliseconds. That is safe as long as this process has no thread but its own when it forks, and as long as nothing of
TensorFlow has been initialised (its thread pools start with the first operation). FD is a socket to the process that
wants workers. When that process is gone, however it went, so is the other end, and this one ends all workers. It is
nobody's child: a place that kills its children (Ray does) would not let it do so.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from munas.jobs import worker

GRACE_S = 5.0
"""For workers that are asked to end."""

_MESSAGE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for worker `number`; the descriptor that comes with it is the worker's channel."""

    number: int
    log: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """The first message back, with the pidfd of this process. `failure` says why workers cannot be forked from here, if
    they cannot."""

    failure: str


@dataclass(frozen=True, slots=True)
class Born:
    """Worker `number` runs; the descriptor that comes with it is its pidfd. `failure`: it does not."""

    number: int
    process_id: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """Worker `number` is gone: its exit status, or minus the signal that killed it."""

    number: int
    status: int


@dataclass(frozen=True, slots=True)
class _Child:
    number: int
    process_id: int
    fresh: bool


def send(control: socket.socket, message: Any, *descriptors: int) -> None:
    """Send one message over the control socket. Raises OSError when the other side is gone."""
    socket.send_fds(control, [pickle.dumps(message)], descriptors)


def receive(control: socket.socket) -> tuple[Any, list[int]] | None:
    """The next message with its descriptors; None when the other side is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
    except ConnectionError:
        return None
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return (pickle.loads(data), descriptors) if data else None


def main(arguments: Sequence[str]) -> None:
    """Serve until the other side of the socket is gone."""
    if os.fork():
        os._exit(0)
    os.setpgid(0, 0)  # what a terminal sends is the business of the process that wants workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    server = os.getpid()
    with contextlib.suppress(BrokenPipeError):
        send(control, Ready(_load(arguments[1:])), os.pidfd_open(server))
        _Server(control).serve()
    if os.getpid() == server:
        os._exit(0)  # without the threads that a module may have started; workers end as programs do


def _load(modules: Sequence[str]) -> str:
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # any: it decides whether jobs can run, and must reach who wants them
            return f"cannot import {name}: {type(error).__name__}: {error}"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"{', '.join(modules)} started {threads - 1} threads on import, so forking may dead-lock"
    return ""


class _Server:
    """Forks, and tells of ends."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}  # by pidfd

    def serve(self) -> None:
        """Until nobody is left who wants workers. Returns in workers too, when they have done their jobs."""
        while True:
            for descriptor in self._ready(None):
                if descriptor != self._control.fileno():
                    child, status = self._reaped(descriptor)
                    self._tell(Ended(child.number, status))
                    continue
                if (message := receive(self._control)) is None:
                    return self._end()
                wanted, (channel,) = message
                if self._fork(wanted, socket.socket(fileno=channel)):
                    return None

    def _ready(self, timeout_s: float | None) -> list[int]:
        poll = select.poll()
        for descriptor in (self._control.fileno(), *self._children):
            poll.register(descriptor, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(None if timeout_s is None else 1000 * timeout_s)]

    def _fork(self, wanted: Wanted, channel: socket.socket) -> bool:
        """Start a worker. Returns once here and once, with True, in the worker when that has done its jobs."""
        parent = os.getpid()
        try:
            process_id = os.fork()
        except OSError as error:
            self._tell(Born(wanted.number, 0, f"{type(error).__name__}: {error}"))
            return False
        if process_id == 0:
            os.setpgid(0, 0)
            self._control.close()
            for descriptor in self._children:
                os.close(descriptor)
            worker.serve(channel, wanted.log, wanted.fresh, parent)
            return True
        channel.close()
        with contextlib.suppress(OSError):  # it has done so itself, and may have ended
            os.setpgid(process_id, process_id)  # here too, or what it starts could be missed when it is killed
        pidfd = os.pidfd_open(process_id)
        self._children[pidfd] = _Child(wanted.number, process_id, wanted.fresh)
        self._tell(Born(wanted.number, process_id), pidfd)
        return False

    def _reaped(self, pidfd: int) -> tuple[_Child, int]:
        """A worker that has ended, and how. What it had started and left behind goes with it."""
        child = self._children.pop(pidfd)
        _kill_group(child.process_id)  # before the wait: until then nobody else can have its number
        _, status = os.waitpid(child.process_id, 0)
        os.close(pidfd)
        return child, os.waitstatus_to_exitcode(status)

    def _tell(self, message: Any, *descriptors: int) -> None:
        with contextlib.suppress(OSError):  # the next look at the control socket says the same
            send(self._control, message, *descriptors)

    def _end(self) -> None:
        """End all workers: fresh ones at once, others after they had time to clean up."""
        self._control.close()
        for pidfd, child in self._children.items():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL if child.fresh else signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while self._children and (remaining := deadline - time.monotonic()) > 0:
            poll = select.poll()
            for pidfd in self._children:
                poll.register(pidfd, select.POLLIN)
            for pidfd, _ in poll.poll(1000 * remaining):
                self._reaped(pidfd)
        for child in self._children.values():
            _kill_group(child.process_id)


def _kill_group(process_id: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process_id, signal.SIGKILL)


if __name__ == "__main__":
    from munas.jobs.fork_server import main as _main  # not this copy: messages pickle by the module's name

    _main(sys.argv[1:])
