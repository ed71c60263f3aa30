"""Runs an image under Renode: a generated script, our own platform file, the UART as a pty.

Renode cannot be installed where this project is developed, so this file is kept thin: what it says to Renode is tested
with a stand-in, what Renode makes of the platform files is not.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import serial

from hil.boards.board import Board
from hil.errors import BoardError, HilError, LinkError, LinkTimeout, ProtocolError, RunnerError, ToolMissing
from hil.link.device import POLL_S, Timeouts
from hil.link.transport import open_port
from hil.logs import command_line
from hil.resources import firmware_dir
from hil.targets.process import GUARD, GUARD_INSTALL
from hil.targets.runners.base import Session
from hil.timers import TIMERS
from munas.scratch import scratch_folder

_log = logging.getLogger("hil.targets")

VARIABLE = "RENODE_PATH"
# Not in the package index; 1.16 is the first whose cycle counter is exact (firmware/renode/README.md).
INSTALL = (
    "pip install git+https://github.com/antmicro/renode-run && renode-run download (or Renode 1.16 or later from its "
    "release page; set RENODE_PATH to its folder)"
)
START_TIMEOUT_S = 60.0  # a cold .NET runtime, platform description and ELF
STOP_TIMEOUT_S = 5.0
ARGUMENTS = ("--disable-xwt", "--console", "--plain")
# The host may be several times slower than the core that Renode emulates.
EMULATED = Timeouts(boot_s=30.0, command_s=20.0, inference_s=120.0, host_per_device=20.0)
_LINK = "uart"


def find_renode(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command that starts Renode: ``$RENODE_PATH`` (program or its folder), ``renode`` or ``renode-run``.

    Raises ToolMissing; also when RENODE_PATH leads nowhere.
    """
    named = environment.get(VARIABLE)
    if named:
        for path in (Path(named), Path(named) / "renode"):
            if path.is_file() and os.access(path, os.X_OK):
                return [str(path)]
        raise ToolMissing(f"Renode (RENODE_PATH={named} is neither a program nor a folder with one)", INSTALL)
    search = environment.get("PATH")
    if (program := shutil.which("renode", path=search)) is not None:
        return [program]
    if (program := shutil.which("renode-run", path=search)) is not None:
        return [program, "exec", "--"]
    raise ToolMissing("renode", INSTALL)


def platform_file(board: Board) -> Path:
    """Renode's description of `board`. Raises BoardError when there is none."""
    path = firmware_dir() / "renode" / f"{board.name}.repl"
    if not path.is_file():
        raise BoardError(f"board {board.name} has no Renode platform: firmware/renode/{board.name}.repl does not exist")
    return path


def script_text(folder: Path, board: Board) -> str:
    """The .resc: machine, UART as the pty `folder`/uart, image `folder`/image.elf. It does not start yet."""
    origin = board.target("renode").flash.origin
    return "\n".join(
        [
            "using sysbus",
            'mach create "munas-hil"',
            f"machine LoadPlatformDescription @{folder}/platform.repl",
            f'emulation CreateUartPtyTerminal "{_LINK}" "{folder}/{_LINK}"',
            f"connector Connect sysbus.vcp {_LINK}",
            "emulation SetAdvanceImmediately true",
            f"sysbus LoadELF @{folder}/image.elf",
            f"cpu VectorTableOffset 0x{origin:08x}",
            "",
        ]
    )


class RenodeRunner:
    """Runner for boards with a platform file in firmware/renode. `command` replaces the Renode that is found."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        timeouts: Timeouts = EMULATED,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._command = list(command) if command is not None else None
        self._timeouts = timeouts
        self._start_timeout_s = start_timeout_s

    @contextmanager
    def open(self, image: Path, board: Board) -> Iterator[Session]:
        """See `Runner.open`. Raises ToolMissing, RunnerError, BoardError."""
        target = board.target("renode")
        platform = platform_file(board)
        if not image.is_file():
            raise RunnerError(f"the image {image.name} does not exist")
        command = self._command or find_renode()
        with scratch_folder("renode") as folder:
            shutil.copyfile(platform, folder / "platform.repl")
            shutil.copyfile(image, folder / "image.elf")
            (folder / "run.resc").write_text(script_text(folder, board), encoding="utf-8")
            emulator = _Renode(command, folder, f"{image.name} on {board.name}")
            port: serial.Serial | None = None
            try:
                port = emulator.port(self._start_timeout_s)
                emulator.say("start")
                yield Session(
                    port, "renode", TIMERS[target.timer].simulated, target.timer, timeouts=self._timeouts,
                    ticks_hz=board.clock_hz
                )  # fmt: skip
            except LinkError as error:
                better = emulator.explain(error)
                if better is error:
                    raise
                raise better from error
            finally:
                if port is not None:
                    port.close()
                emulator.stop()


class _Renode:
    """The process, its monitor on standard input."""

    def __init__(self, command: Sequence[str], folder: Path, what: str) -> None:
        self._what = what
        self._link = folder / _LINK
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        if shutil.which(GUARD[0]) is None:
            self._output.close()
            raise ToolMissing(GUARD[0], GUARD_INSTALL)
        words = [*GUARD, str(os.getpid()), *command, *ARGUMENTS, "-e", f"include @{folder}/run.resc"]
        _log.info("%s", command_line(words))
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.STDOUT, bufsize=0,
                cwd=folder, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._output.close()
            raise RunnerError(f"Renode cannot be started: {error}") from error

    def port(self, timeout_s: float) -> serial.Serial:
        """The open pty, which Renode makes when its script gets there."""
        deadline = time.monotonic() + timeout_s
        while not self._link.exists():
            if self._process.poll() is not None:
                raise self._died()
            if time.monotonic() > deadline:
                raise RunnerError(f"Renode made no serial port within {timeout_s:g} s ({self._what}): {self._said()}")
            time.sleep(POLL_S)
        try:
            return open_port(str(self._link.resolve()))
        except (serial.SerialException, OSError) as error:
            raise RunnerError(f"Renode's serial port cannot be opened: {error}") from error

    def say(self, line: str) -> None:
        """A line to the monitor. Raises RunnerError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except OSError as error:
            raise self._died() from error

    def explain(self, error: LinkError) -> HilError:
        """What is behind a failed link: Renode's death, or, when it lives, `error` itself."""
        if isinstance(error, (LinkTimeout, ProtocolError)) and self._process.poll() is None:
            return error
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)  # its pty closes before the process, with .NET around it, is gone
            return self._died()
        return error

    def _died(self) -> RunnerError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return RunnerError(f"Renode ended with status {self._process.poll()} ({self._what}): {self._said()}")

    def _said(self) -> str:
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 4096))
        lines = self._output.read().decode("utf-8", "replace").split("\n")
        errors = [line.strip() for line in lines if "error" in line.lower()]
        return "; ".join(errors or [line.strip() for line in lines if line.strip()][-3:])[:400] or "it said nothing"

    def stop(self) -> None:
        """`quit`, then kill what is left of its process group (`renode` is a script around the real program)."""
        with suppress(RunnerError, subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self.say("quit")
                self._process.wait(STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._output.close()
