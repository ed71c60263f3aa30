"""Runs an image under QEMU, with a socket (or RTT) as its serial port and instructions as its clock.

The socket is one of a pair, whose other end is ours from before QEMU starts: no file, no port of the machine, and none
of the time and of the threads that the kernel passes each byte of a pty through.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import serial

from hil.boards.board import Board
from hil.boards.linked import link_of
from hil.build.elf import read_symbols
from hil.cycle_model.observer import TimingObserver
from hil.errors import BuildError, CoreLockedUp, HilError, LinkError, LinkTimeout, RunnerError, ToolMissing
from hil.link.device import SerialPort, Timeouts
from hil.link.gdb_remote import GdbRemote
from hil.link.rtt import SYMBOL, RttPort
from hil.link.socket_port import SocketPort
from hil.targets.process import GUARD, GUARD_INSTALL
from hil.targets.runners.base import Session, no_records
from hil.targets.runners.qemu_start import Starter
from hil.timers import is_simulated

QEMU = "qemu-system-arm"
ANSWER_S = 10.0  # for an answer of QEMU's own: at once, unless the machine is very busy
NS_PER_S = 1_000_000_000
ICOUNT_SHIFT = 10  # an instruction takes 2^10 ns of virtual time
# A virtual second is a million instructions: far less than a second of ours. QEMU starts in 0.05 s on an idle machine.
EMULATED = Timeouts(boot_s=30.0, host_per_device=0.5)

_LOCKUP = re.compile(r"qemu: fatal: (Lockup[^\n]*)")
_REGISTER = re.compile(r"\bR(\d\d)=([0-9a-f]{8})")


class QemuRunner:
    """Runner for boards with a [qemu] target. `timeouts` replaces the defaults that sessions suggest.

    With `modelled`, sessions have the timing model's records, by the board's [timing] table. Opening one then also
    raises what `hil.cycle_model.plugin.find_plugin` does. With `keep_loaded`, QEMU is loaded once for many sessions.

    A session must end in the thread that opened it: Linux ties the kill-with-parent to that thread.
    """

    def __init__(
        self, program: str = QEMU, timeouts: Timeouts = EMULATED, *, modelled: bool = False, keep_loaded: bool = False
    ) -> None:
        self._program = program
        self._timeouts = timeouts
        self._modelled = modelled
        self._starter = Starter(keep_loaded=keep_loaded)

    @contextmanager
    def open(self, image: Path, board: Board) -> Iterator[Session]:
        """See `Runner.open`. Raises ToolMissing, RunnerError, BoardError; within the context also TargetFaultError."""
        target = board.target("qemu")
        command = self._command(image, str(target.machine))
        has_uart = link_of(target) != "rtt"
        near, far = socket.socketpair()
        with near, far, self._observer(board) as observer:
            what = f"{image.name} on {board.name}"
            command += _serial(far) if has_uart else _debugged(far)
            command += () if observer is None else observer.arguments(image)
            emulator = _Emulator(self._starter, command, what, (far.fileno(),))
            ticks_per_instruction = Fraction(2**ICOUNT_SHIFT, target.tick_ns)
            port: SerialPort | None = None
            try:
                far.close()
                port = SocketPort(near) if has_uart else _open_rtt(emulator, near, image)
                yield Session(
                    port, "qemu", is_simulated("qemu"), target.timer, ticks_per_instruction, self._timeouts,
                    ticks_hz=NS_PER_S // target.tick_ns,
                    new_records=no_records if observer is None else observer.new_records,
                )  # fmt: skip
            except LinkError as error:
                better = emulator.explain(error)
                if better is error:
                    raise
                raise better from error
            finally:
                emulator.stop()
                if port is not None:
                    port.close()

    def _observer(self, board: Board) -> AbstractContextManager[TimingObserver | None]:
        if not self._modelled:
            return nullcontext()
        return TimingObserver(board, self._program)

    def _command(self, image: Path, machine: str) -> list[str]:
        if not image.is_file():
            raise RunnerError(f"the image {image.name} does not exist")
        program = shutil.which(self._program)
        if program is None:
            raise ToolMissing(self._program, "sudo apt-get install qemu-system-arm")
        if shutil.which(GUARD[0]) is None:
            raise ToolMissing(GUARD[0], GUARD_INSTALL)
        return [
            program,
            "-M", machine, "-kernel", str(image), "-icount", f"shift={ICOUNT_SHIFT}",
            "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-qmp", "stdio",
        ]  # fmt: skip


def _serial(far: socket.socket) -> tuple[str, ...]:
    """The UART is the socket `far`."""
    return ("-chardev", f"socket,id=uart,fd={far.fileno()}", "-serial", "chardev:uart")


def _debugged(far: socket.socket) -> tuple[str, ...]:
    """The core waits for the debugger at the socket `far`."""
    return ("-chardev", f"socket,id=debugger,fd={far.fileno()}", "-gdb", "chardev:debugger", "-S")


def _open_rtt(emulator: _Emulator, near: socket.socket, image: Path) -> RttPort:
    address = _control_block(image)
    try:
        return RttPort(GdbRemote(near), address)
    except serial.SerialException as error:
        raise emulator.explain(LinkError(f"QEMU's debugger: {error}")) from error


def _control_block(image: Path) -> int:
    """Where the image has its RTT rings. Raises RunnerError."""
    try:
        found = read_symbols(image).get(SYMBOL)
    except BuildError as error:
        raise RunnerError(f"{image.name}: {error}") from error
    if found is None:
        raise RunnerError(f"the image {image.name} was not built for RTT: it has no {SYMBOL}; build it with --link rtt")
    return found


class _Emulator:
    """The QEMU process, and QMP (its control protocol, one JSON document a line) over its standard streams."""

    def __init__(self, starter: Starter, command: list[str], what: str, inherited: tuple[int, ...] = ()) -> None:
        self._what = what
        self._pending = b""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        try:
            self._process = starter.start(command, self._errors, inherited)
        except BaseException:
            self._errors.close()
            raise

    def execute(self, command: str, **arguments: str) -> Any:
        """Result of a QMP command. Raises RunnerError."""
        deadline = time.monotonic() + ANSWER_S
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._died() from error
        while True:
            message = self._message(deadline, command)
            if "error" in message:
                raise RunnerError(f"QEMU refused {command}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def _message(self, deadline: float, command: str) -> dict[str, Any]:
        """The next JSON object; greeting and events are such too, other lines are skipped."""
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        while True:
            line, newline, rest = self._pending.partition(b"\n")
            if newline:
                self._pending = rest
                if line.startswith(b"{"):
                    try:
                        return dict(json.loads(line))
                    except ValueError as error:
                        raise RunnerError(f"QEMU's control protocol is broken at {command}: {line[:80]!r}") from error
                continue
            wait_s = deadline - time.monotonic()
            if wait_s <= 0 or not select.select([stdout], [], [], wait_s)[0]:
                raise RunnerError(f"QEMU does not answer {command} ({self._what})")
            chunk = os.read(stdout, 65536)
            if not chunk:
                raise self._died()
            self._pending += chunk

    def explain(self, error: LinkError) -> HilError:
        """What is really behind a failed link: the emulator's death, a lock-up, or, when it lives, `error` itself."""
        alive = isinstance(error, LinkTimeout) and self._process.poll() is None
        if not alive:
            # The port closes a moment before the process is gone.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
                return self._died()
            return error
        where = ""
        with suppress(RunnerError):
            self.execute("qmp_capabilities")
            shown = self.execute("human-monitor-command", **{"command-line": "info registers"})
            where = "; ".join(f"{name} 0x{value:08x}" for name, value in _registers(str(shown)).items())
        return LinkTimeout(f"{error} ({self._what}; the emulated core still runs, at {where or 'an unknown pc'})")

    def _died(self) -> HilError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._errors.seek(0)
        text = self._errors.read(1 << 16).decode("utf-8", "replace").strip()
        lockup = _LOCKUP.search(text)
        if lockup:
            registers = _registers(text)
            shown = " ".join(f"{name}=0x{value:08x}" for name, value in registers.items())
            return CoreLockedUp(f"the core locked up ({self._what}): {lockup[1]}; {shown}", registers)
        status = self._process.returncode
        how = f"signal {signal.Signals(-status).name}" if status is not None and status < 0 else f"status {status}"
        said = "; ".join(text.splitlines())[:300] or "it said nothing"
        return RunnerError(f"QEMU ended with {how} ({self._what}): {said}")

    def stop(self) -> None:
        """Kill and reap."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _registers(text: str) -> dict[str, int]:
    """sp, lr and pc from QEMU's register dump."""
    found = {int(number): int(value, 16) for number, value in _REGISTER.findall(text)}
    return {name: found[number] for number, name in ((15, "pc"), (14, "lr"), (13, "sp")) if number in found}
