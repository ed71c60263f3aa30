"""Inside a worker: jobs come through a channel, one at a time, and what became of each goes back through it."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from munas.errors import JobError
from munas.jobs.base import Do
from munas.jobs.frames import dumps, framed, receive

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker sends for a job."""

    value: Any = None
    error: Exception | None = None


def die_with_parent(number: signal.Signals) -> None:
    """Signal `number` for this process when the thread that started it ends, however it does (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def redirect_output(path: str) -> None:
    """Standard output and error of this process, C libraries included, go to the end of a file from now on."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def serve(channel: socket.socket, log: str, fresh: bool, parent: int) -> None:
    """Do jobs until there are no more. A fresh worker does one, and ends without looking back: what libraries' threads
    do at a regular exit is of no interest."""
    die_with_parent(signal.SIGKILL if fresh else signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL if fresh else _leave)
    with contextlib.suppress(OSError):
        # When memory runs out the kernel should take a worker, not the process that waits for it.
        Path("/proc/self/oom_score_adj").write_text("1000")
    if log:
        redirect_output(log)
        faulthandler.enable()
    if (work := receive(channel)) is None:
        return
    made: list[Do] = []
    while (argument := receive(channel)) is not None:
        reply = _reply(work, argument, made, log)
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(ConnectionError):
            channel.sendall(framed(reply))
        if fresh:
            os._exit(0)


def _reply(work: bytes, argument: bytes, made: list[Do], log: str) -> bytes:
    """The reply to one job, pickled. `made` keeps what does the jobs."""
    try:
        if not made:
            made.append(pickle.loads(work)())
        return dumps(Reply(made[0](pickle.loads(argument))))
    except Exception as error:
        if log:
            traceback.print_exc()
        return _failure(error)


def _failure(error: Exception) -> bytes:
    """An error that surely arrives: one that does not survive pickling is told as text."""
    try:
        data = dumps(Reply(error=error))
        pickle.loads(data)
        return data
    except Exception:  # any: constructors of errors take what they like
        return dumps(Reply(error=JobError(f"{type(error).__name__}: {error}")))


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # unwinds context managers: emulator, pty and temporary folder go
