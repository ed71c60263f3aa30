"""Jobs that go well, and jobs that fail in every way that a worker can: for the tests of all places that run jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from munas.errors import PlaceUnfit, TrainingError

PRELOAD = (__name__,)


class Stubborn(Exception):
    """Pickles, but nobody can unpickle it."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Poison:
    """A value that explodes where it arrives."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("poison",)


@dataclass(frozen=True)
class Play:
    """A work. Its argument is (kind, value): what `act` knows, and what comes back.

    `journal` is a folder: each start appends the process id to a file named by the value.
    """

    journal: Path | None = None
    trouble: str = ""  # of making it

    def __call__(self) -> Callable[[tuple[str, Any]], Any]:
        act(self.trouble)
        made = os.getpid()

        def do(argument: tuple[str, Any]) -> Any:
            kind, value = argument
            if self.journal is not None:
                with (self.journal / f"attempts-{value}").open("a") as file:
                    file.write(f"{os.getpid()}\n")
            if kind == "made":
                return made
            if kind == "process":
                return os.getpid()
            if kind == "gpu":
                return os.environ.get("CUDA_VISIBLE_DEVICES")
            if kind == "poison":
                return Poison()
            if kind == "unpicklable":
                return sys._getframe()
            if kind == "child":  # what an emulator is to a campaign
                assert self.journal is not None
                with subprocess.Popen(["sleep", "600"]) as child, contextlib.ExitStack() as opened:
                    opened.callback(child.kill)
                    with (self.journal / f"attempts-{value}").open("a") as file:
                        file.write(f"{child.pid}\n")
                    child.wait()
            if kind == "orphan":  # leaves a process behind and crashes
                assert self.journal is not None
                child = subprocess.Popen(["sleep", "600"])
                with (self.journal / f"attempts-{value}").open("a") as file:
                    file.write(f"{child.pid}\n")
                os.kill(os.getpid(), signal.SIGSEGV)
            act(kind)
            return value

        return do


def act(kind: str) -> None:
    """Fail in the given way; kinds that are not known do nothing."""
    if kind == "raise":
        raise TrainingError("the loss is not a number")
    if kind == "unfit":
        raise PlaceUnfit("no board is connected here any more")
    if kind == "bug":
        raise ZeroDivisionError("division by zero")
    if kind == "stubborn":
        raise Stubborn("one", "two")
    if kind == "full":
        raise OSError(28, "No space left on device")
    if kind == "exit":
        os._exit(3)
    if kind == "leave":
        sys.exit(4)
    if kind == "crash":
        print("about to crash", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(3600)
    if kind == "deaf":  # takes no notice of a request to end
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    if kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "noise":
        os.write(1, b"noise on standard output\n")
        os.write(2, b"noise on standard error\n")
    if kind == "eat":
        hoard: list[bytearray] = []
        with contextlib.suppress(MemoryError):
            while len(hoard) < 400:  # 4 GB, slowly enough to be seen
                hoard.append(bytearray(os.urandom(1024) * 10_240))
                time.sleep(0.01)
