"""A stand-in for a connected board: QEMU behind a serial port, programmed by a script called pyocd.

`pyocd flash` loads an image into a new emulator, whose machine does not exist yet; `pyocd reset` lets it start. So the
serial port, the start from reset and the firmware are real; probe and USB are not. A board may be given trouble, which
lasts: from then on it is gone, silent, or floods its line.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hil.boards.linked import Link
from hil.targets.detect import Connected
from hil.targets.runners.qemu import ICOUNT_SHIFT, QEMU

SERIAL_NUMBER = "0665FF303430"
Trouble = Literal["gone", "silent", "floods"]
_FLOOD = """
import os, tty
master, slave = os.openpty()
tty.setraw(slave)
print("flooding", "the", "line", "of", os.ttyname(slave), flush=True)
while True:
    os.write(master, b"m-noise" * 20 + b"\\r\\n")
"""


@dataclass(frozen=True, slots=True)
class FakeBoard:
    """Everything of one board lives in `folder`: its port `tty`, its monitor's socket, the emulator's pid."""

    folder: Path
    machine: str
    serial_number: str = SERIAL_NUMBER
    link: Link = "uart"  # rtt: no serial port, but a GDB server at `gdb`, which has to start the core

    @property
    def gdb(self) -> Path:
        """The socket of the GDB server."""
        return self.folder / "gdb"

    @property
    def monitor(self) -> Path:
        """The socket of the emulator's monitor."""
        return self.folder / "monitor"

    @property
    def port(self) -> Path:
        """The serial port: a link that appears with the first image."""
        return self.folder / "tty"

    @property
    def device(self) -> Connected:
        """How detection would list it."""
        return Connected(self.serial_number, ("fake",), str(self.port), flash="pyocd", source="test")

    def install(self) -> Path:
        """A folder for PATH with the script in it."""
        return install([self], self.folder / "bin")

    @property
    def trouble(self) -> str:
        """What is wrong with it, empty when nothing is."""
        with suppress(FileNotFoundError):  # it may be repaired at any moment
            return (self.folder / "trouble").read_text()
        return ""

    def give_trouble(self, trouble: Trouble) -> None:
        """From now on it is broken, in the middle of whatever it does."""
        scratch = self.folder / "trouble.new"
        scratch.write_text(trouble)
        scratch.rename(self.folder / "trouble")
        if trouble == "silent" and (pid := self.pid()) is not None:
            os.kill(pid, signal.SIGSTOP)
        else:
            self.kill()

    def repair(self) -> None:
        """What was wrong is over, from the next image on."""
        (self.folder / "trouble").unlink()

    def flash(self, image: Path, *, own_session: bool = True) -> subprocess.Popen[bytes]:
        """A new emulator with `image`; its port exists, its machine does not."""
        self.kill()
        self.monitor.unlink(missing_ok=True)
        command = [
            QEMU, "-M", self.machine, "-kernel", str(image), "-icount", f"shift={ICOUNT_SHIFT}", "-nodefaults",
            "-display", "none", "-nic", "none", "-preconfig", "-monitor", f"unix:{self.monitor},server=on,wait=off",
            "-chardev", "pty,id=uart", "-serial", "chardev:uart",  # last: who reads its name can reach the monitor
        ]  # fmt: skip
        if self.link == "rtt":
            self.gdb.unlink(missing_ok=True)
            command += ["-gdb", f"unix:{self.gdb},server=on,wait=off", "-S"]
        emulator = subprocess.Popen(
            [sys.executable, "-c", _FLOOD] if self.trouble == "floods" else command,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=own_session,
        )  # fmt: skip
        assert emulator.stdout is not None
        said = emulator.stdout.readline().decode()  # "char device redirected to /dev/pts/3 (label uart)"
        self.port.unlink(missing_ok=True)
        self.port.symlink_to(said.split()[4])
        (self.folder / "pid").write_text(str(emulator.pid))
        return emulator

    def reset(self) -> None:
        """Build the machine and start it.

        By QEMU's monitor for people: that for programs (QMP) moves to a thread of its own meanwhile, and for as long
        two threads read what comes in, a byte each.
        """
        if self.trouble:
            return
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)  # to make a machine takes a moment, but the host may stand still
            control.connect(str(self.monitor))
            for command in (b"", b"exit_preconfig\n"):
                control.sendall(command)
                said = b""
                while not said.endswith(b"(qemu) "):
                    chunk = control.recv(4096)
                    if not chunk:
                        return  # killed meanwhile, which whoever waits for the device will notice
                    said += chunk
                assert b"Error" not in said, said

    def pid(self) -> int | None:
        """The emulator's process, when there is one."""
        with suppress(FileNotFoundError, ValueError):
            return int((self.folder / "pid").read_text())
        return None

    def kill(self) -> None:
        """Pull the plug."""
        pid = self.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            (self.folder / "pid").unlink(missing_ok=True)
        self.port.unlink(missing_ok=True)  # the next terminal to be made, maybe another board's, gets the same number


def install(boards: Sequence[FakeBoard], binaries: Path) -> Path:
    """`binaries`, a folder for PATH, with a pyocd that knows these boards."""
    binaries.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parent.parent
    script = binaries / "pyocd"
    known = [(str(board.folder), board.machine, board.serial_number, board.link) for board in boards]
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        "from pathlib import Path\nfrom tests.fake_board import FakeBoard, main\n"
        f"main([FakeBoard(Path(folder), *rest) for folder, *rest in {known!r}], sys.argv[1:])\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return binaries


def main(boards: Sequence[FakeBoard], arguments: list[str]) -> None:
    """The command line of the stand-in: flash --no-wait --uid ID --target T --format elf IMAGE, or reset."""
    wanted = arguments[arguments.index("--uid") + 1]
    board = next((board for board in boards if board.serial_number == wanted), None)
    if board is None or board.trouble == "gone":
        sys.exit("error: no such probe")
    with (board.folder / "calls").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    if arguments[0] == "flash":
        last, stuck = board.folder / "last.elf", board.folder / "stuck.elf"
        shutil.copyfile(arguments[-1], last)
        board.flash(stuck if stuck.exists() else last)  # a probe may say that it wrote what it did not
    else:
        board.reset()
