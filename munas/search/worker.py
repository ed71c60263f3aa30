"""Inside a worker: one trial, one process. See `munas.search.worker_pool` for the other side."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from munas.errors import MunasError, TrainingError
from munas.search import fork_server
from munas.search.trial import Task, Trained, TrainerFactory

_HOST_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker sends, once. `blame` says whose fault a missing `trained` is: the trial's, the request's (a
    data set is missing, TensorFlow is not installed), or the host's (disk full)."""

    trained: Trained | None
    message: str = ""
    blame: Literal["trial", "request", "host"] = "trial"


def main(pipe: Connection, log: str, factory: TrainerFactory, task: Task) -> None:
    """Train, reply, and end at once: what TensorFlow's threads do at a regular exit is of no interest."""
    fork_server.die_with_parent()
    if os.getppid() != fork_server.process_id != os.getpid():  # it died before the call above
        os._exit(0)
    _leave_the_terminal()
    with contextlib.suppress(OSError):
        # When memory runs out the kernel should take a worker, not the search.
        Path("/proc/self/oom_score_adj").write_text("1000")
    reply = _work(log, factory, task)
    data = memoryview(pickle.dumps(reply, pickle.HIGHEST_PROTOCOL))
    while data:
        data = data[os.write(pipe.fileno(), data) :]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _leave_the_terminal() -> None:
    """Ctrl-C is the main process' business; it, and the kernel, end workers with SIGKILL."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _work(log: str, factory: TrainerFactory, task: Task) -> Reply:
    try:
        fork_server.redirect_output(log)
        faulthandler.enable()
        if fork_server.process_id == os.getpid():
            return Reply(None, "the fork server runs without munas: was it started by something else?", "request")
        if fork_server.failure:
            return Reply(None, fork_server.failure, "request")
        return Reply(factory()(task))
    except BaseException as error:
        traceback.print_exc()
        return _failure(error)


def _failure(error: BaseException) -> Reply:
    text = str(error) if isinstance(error, MunasError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _HOST_ERRORS:
        return Reply(None, f"{text}; free space and run the same command again", "host")
    if isinstance(error, ImportError) or (isinstance(error, MunasError) and not isinstance(error, TrainingError)):
        return Reply(None, text, "request")
    return Reply(None, text)
