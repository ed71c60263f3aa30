"""What the fork server imports: the process out of which every worker is forked.

TensorFlow takes seconds to import, so it is imported once here, and a fresh process for each trial costs
milliseconds. That is safe as long as this process has no thread but its own when it forks, and as long as nothing of
TensorFlow has been initialised (its thread pools start with the first operation): `failure` says so where it does not
hold. The module is of no use anywhere else: importing it ties the life of the process to its parent's.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal

LOG = "MUNAS_FORK_SERVER_LOG"
MODULES = "MUNAS_FORK_SERVER_MODULES"
_PR_SET_PDEATHSIG = 1

failure = ""
"""Why workers cannot be forked from here, if they cannot."""

process_id = os.getpid()
"""Of the fork server, also in what is forked from it."""


def die_with_parent() -> None:
    """SIGKILL for this process when the thread that started it ends, however it does (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def redirect_output(path: str) -> None:
    """Standard output and error of this process, C libraries included, go to the end of a file from now on."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _load(modules: list[str]) -> str:
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # any: it decides whether a search can run, and must reach its user
            return f"cannot import {name}: {type(error).__name__}: {error}"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"{', '.join(modules)} started {threads - 1} threads on import, so forking may dead-lock"
    return ""


if log := os.environ.get(LOG):  # absent in anything but the fork server
    die_with_parent()
    redirect_output(log)
    failure = _load([name for name in os.environ.get(MODULES, "").split(",") if name])
