"""Runs an image under Renode: a generated script, our own platform file, the UART as a pty.

A Renode takes seconds to start and a seventh of one to make a machine from its platform file, so a runner keeps the one
that it has started, and the machine in it, for the next image: reset, with empty memories. It ends it after any error.
Verified with Renode 1.16.1 built for Mono; its .NET release was not run.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import serial
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from hil.boards.board import Board
from hil.boards.linked import link_of
from hil.errors import BoardError, HilError, LinkError, LinkTimeout, RunnerError, TargetFaultError, ToolMissing
from hil.link.device import Timeouts
from hil.link.transport import open_port
from hil.resources import firmware_dir
from hil.targets.runners.base import Session
from hil.targets.runners.renode_process import STOP_TIMEOUT_S, RenodeProcess
from hil.timers import is_simulated

VARIABLE = "RENODE_PATH"
# Not in the package index; OLDEST is the first whose cycle counter is exact (firmware/renode/README.md).
INSTALL = (
    "pip install git+https://github.com/antmicro/renode-run && renode-run download (or Renode 1.16 or later from its "
    "release page; set RENODE_PATH to its folder)"
)
OLDEST = (1, 16)
START_TIMEOUT_S = 120.0  # a cold .NET runtime, platform description and ELF: 2 s, 40 s on a machine that is very busy
PAUSE_TIMEOUT_S = CLEAR_TIMEOUT_S = 10.0
# The host may be several times slower than the core that Renode emulates.
EMULATED = Timeouts(boot_s=30.0, command_s=20.0, inference_s=120.0, host_per_device=20.0)
# Seconds of the core's time between two moments at which Renode gives it what came over the line, and at which a core
# that sleeps may wake: what an exchange waits at most. Each moment costs the host more than the 100 us of instructions
# that lie between them by Renode's own choice.
QUANTUM = "0.004"
_LINK, _IMAGE, _PLATFORM = "uart", "image.elf", "platform.repl"
_MACHINE, _LOAD = "machine.resc", "load.resc"  # scripts
_DONE = "all of it was done"
_BANNER = "Renode, version"
_VERSION = re.compile(r"(?<![\d.])(\d+)\.(\d+)")
_PC = re.compile(r"0x([0-9A-Fa-f]+)")


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


def version_problem(said: str) -> str:
    """What keeps a Renode that says this of its version from being used; nothing where it is new enough."""
    found = _VERSION.search(said)
    if found is None:
        return f"its version cannot be told: {said}"
    if (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return f"{said}, whose cycle counter is not exact: {oldest} is the oldest that can be used"


def platform_file(board: Board) -> Path:
    """Renode's description of `board`. Raises BoardError when there is none."""
    path = firmware_dir() / "renode" / f"{board.name}.repl"
    if not path.is_file():
        raise BoardError(f"board {board.name} has no Renode platform: firmware/renode/{board.name}.repl does not exist")
    return path


def machine_script(folder: Path) -> str:
    """The .resc that makes a machine of the platform file in Renode's working directory `folder`, its UART a pty there.

    Whatever is no error is not logged.
    """
    pty = str(folder / _LINK).replace('"', '\\"')  # in full: Renode works in a folder of its own as soon as it runs
    return _script(
        "logLevel 3",
        "using sysbus",
        'mach create "munas-hil"',
        f"machine LoadPlatformDescription @{_PLATFORM}",
        f'emulation SetGlobalQuantum "{QUANTUM}"',
        f'emulation CreateUartPtyTerminal "{_LINK}" "{pty}"',
        f"connector Connect sysbus.vcp {_LINK}",
    )


def load_script(board: Board) -> str:
    """The .resc that gives that machine an image, as if nothing had run there before. It does not start yet."""
    return _script(
        "machine Reset",
        "flash ZeroAll",
        "sram ZeroAll",
        f"sysbus LoadELF @{_IMAGE}",
        f"cpu VectorTableOffset 0x{board.target('renode').flash.origin:08x}",
    )


def _script(*commands: str) -> str:
    """Renode stops at the first that fails."""
    return "".join(f"{command}\n" for command in (*commands, f'echo "{_DONE}"'))


class RenodeRunner:
    """Runner for boards with a platform file in firmware/renode. `command` replaces the Renode that is found.

    Between two sessions it keeps one Renode, its machine at rest, until `close`, the runner's end or the process's.
    A session must end in the thread that opened it, and that thread must live as long as the runner.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        timeouts: Timeouts = EMULATED,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._command = list(command) if command is not None else None
        self._timeouts = timeouts
        self._start_timeout_s = start_timeout_s
        self._idle = _Idle()
        weakref.finalize(self, self._idle.close)

    def close(self) -> None:
        """End the Renode that is kept."""
        self._idle.close()

    @contextmanager
    def open(self, image: Path, board: Board) -> Iterator[Session]:
        """See `Runner.open`. Raises ToolMissing, RunnerError, BoardError; within the context also TargetFaultError."""
        target = board.target("renode")
        if link_of(target) != "uart":
            raise BoardError(f"--link {link_of(target)} is not there via renode: use --via qemu, or a board")
        platform = platform_file(board)
        code = _code_range(image)
        what = f"{image.name} on {board.name}"
        renode = self._loaded(image, platform, board, what)
        port: serial.Serial | None = None
        try:
            port = _open_port(renode.folder / _LINK)
            renode.send("start")
            yield Session(
                port, "renode", is_simulated("renode"), target.timer, timeouts=self._timeouts,
                ticks_hz=board.clock_hz,
            )  # fmt: skip
            port.close()
            with suppress(RunnerError):  # all was answered: one that does not come to rest is only not used again
                renode.execute("pause", PAUSE_TIMEOUT_S)
                self._idle.keep(renode)
        except LinkError as error:
            better = _explain(renode, error, what, code)
            if better is error:
                raise
            raise better from error
        finally:
            if port is not None:
                port.close()
            if not self._idle.has(renode):
                renode.stop()

    def _loaded(self, image: Path, platform: Path, board: Board, what: str) -> RenodeProcess:
        """A Renode with the machine and the image, not started: the one that was kept where that still works."""
        kept = self._idle.take()
        if kept is not None:
            try:
                self._load(kept, image, platform, board, what)
                return kept
            except RunnerError:  # whatever it was that it remembered
                kept.stop()
            except BaseException:
                kept.stop()
                raise
        renode = RenodeProcess(self._command or find_renode())
        try:
            self._load(renode, image, platform, board, what)
        except BaseException:
            renode.stop()
            raise
        return renode

    def _load(self, renode: RenodeProcess, image: Path, platform: Path, board: Board, what: str) -> None:
        folder = renode.folder
        if renode.machine != board.name:
            if renode.machine:
                renode.execute("Clear", CLEAR_TIMEOUT_S)
            shutil.copyfile(platform, folder / _PLATFORM)
            self._include(renode, _MACHINE, machine_script(folder), what)
            renode.machine = board.name
        shutil.copyfile(image, folder / _IMAGE)
        self._include(renode, _LOAD, load_script(board), what)

    def _include(self, renode: RenodeProcess, name: str, script: str, what: str) -> None:
        (renode.folder / name).write_text(script, encoding="utf-8")
        said = renode.execute(f"include @{name}", self._start_timeout_s)
        for line in said:
            if line.startswith(_BANNER) and (problem := version_problem(line)):
                raise ToolMissing(f"a Renode that can be used ({problem})", INSTALL)
        if _DONE not in said:
            said = [line for line in said if not line.startswith(_BANNER)]
            raise RunnerError(f"Renode cannot load {what}: {' '.join(said)[:400] or renode.said()}")


class _Idle:
    """At most one Renode that waits for the next image, of the process that started it."""

    def __init__(self) -> None:
        self._kept: RenodeProcess | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def take(self) -> RenodeProcess | None:
        """The one that is kept, when it still lives; it is the caller's then."""
        if os.getpid() != self._owner:  # we are a fork: it is our parent's
            self._kept, self._owner = None, os.getpid()
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None and not kept.alive:
            kept.stop()
            return None
        return kept

    def keep(self, renode: RenodeProcess) -> None:
        """Keep `renode`, unless another one is kept already."""
        with self._lock:
            if self._kept is None:
                self._kept = renode

    def has(self, renode: RenodeProcess) -> bool:
        """Whether it is `renode` that is kept."""
        return self._kept is renode

    def close(self) -> None:
        """End the one that is kept."""
        if (kept := self.take()) is not None:
            kept.stop()


def _code_range(image: Path) -> range:
    """Addresses of the code in `image`. Raises RunnerError when that is no ELF file for Arm."""
    try:
        with image.open("rb") as file:
            elf = ELFFile(file)
            found = [
                range(int(part["p_vaddr"]), int(part["p_vaddr"]) + int(part["p_memsz"]))
                for part in elf.iter_segments("PT_LOAD")
                if part["p_flags"] & 1
            ]
            machine = str(elf["e_machine"])
    except FileNotFoundError as error:
        raise RunnerError(f"the image {image.name} does not exist") from error
    except (OSError, ELFError) as error:
        raise RunnerError(f"the image {image.name} is not an ELF file: {error}") from error
    if machine != "EM_ARM" or not found:
        raise RunnerError(f"the image {image.name} is not an ELF file with code for Arm (it says {machine})")
    return range(min(part.start for part in found), max(part.stop for part in found))


def _open_port(link: Path) -> serial.Serial:
    try:
        return open_port(str(link.resolve()))
    except (serial.SerialException, OSError) as error:
        raise RunnerError(f"Renode's serial port cannot be opened: {error}") from error


def _explain(renode: RenodeProcess, error: LinkError, what: str, code: range) -> HilError:
    """What is behind a failed link: a core that stopped or left its code, Renode's death, or `error` itself."""
    if not isinstance(error, LinkTimeout) and renode.core_stopped is None:
        renode.wait(STOP_TIMEOUT_S)  # its pty closes before the process, with .NET around it, is gone
    if renode.core_stopped is not None:
        return TargetFaultError(f"the core stopped ({what}): {renode.core_stopped}", _registers(renode.core_stopped))
    if not renode.alive:
        return RunnerError(f"{renode.died()} ({what})")
    if not isinstance(error, LinkTimeout):
        return error
    pc = _program_counter(renode)
    if pc is not None and pc not in code:
        return TargetFaultError(f"the core left the code ({what}): pc=0x{pc:08x}; {error}", {"pc": pc})
    where = "an unknown pc" if pc is None else f"pc 0x{pc:08x}"
    return LinkTimeout(f"{error} ({what}; the emulated core still runs, at {where})")


def _program_counter(renode: RenodeProcess) -> int | None:
    with suppress(RunnerError):
        for line in renode.execute("cpu PC", STOP_TIMEOUT_S):
            if (found := _PC.fullmatch(line)) is not None:
                return int(found[1], 16)
    return None


def _registers(text: str) -> dict[str, int]:
    found = re.search(r"PC=0x([0-9A-Fa-f]+)", text)
    return {"pc": int(found[1], 16)} if found else {}
