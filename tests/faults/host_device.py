"""The firmware, compiled for the host, as a device: a process at the end of a socket. A reset is a new process."""

from __future__ import annotations

import gc
import os
import select
import socket
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from serial import SerialException

from hil.link import protocol

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
PORT = Path(__file__).resolve().parents[1] / "firmware" / "host_port.c"
OF_THE_HARDWARE = {"core.c", "start.c"}  # all others compile for the host too (firmware/runtime/hil_runtime.h)

BUILD_ID = "0123456789abcdef0123456789abcdef"
INPUT_BYTES, ZERO_POINT, LAYERS = 100, -3, 70
OUTPUT_BYTES = 300  # more than one `hil get`, so that a reset between two of them is possible


def sources() -> list[str]:
    """The runtime's portable files and the host's port."""
    runtime = sorted(path for path in (FIRMWARE / "runtime").glob("*.c") if path.name not in OF_THE_HARDWARE)
    return [*map(str, runtime), str(PORT)]


@cache
def program() -> Path:
    """The device's program, compiled once a process. Raises FileNotFoundError without a compiler."""
    folder = tempfile.TemporaryDirectory(prefix="munas-hil-host-")
    _KEPT.append(folder)
    path = Path(folder.name) / "device"
    # Addresses are part of its identity, and must be the same after a reset.
    options = ["-std=c11", "-O2", "-no-pie", f"-DHOST_OUTPUT={OUTPUT_BYTES}u", f"-I{FIRMWARE / 'runtime'}"]
    subprocess.run(["gcc", *options, *sources(), "-o", str(path)], check=True, timeout=120)
    return path


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def layer_ticks(data: bytes) -> list[int]:
    """What each layer takes (tests/firmware/host_port.c)."""
    return [1000 + value for value in data[:LAYERS]]


def ticks(data: bytes) -> int:
    """What an inference takes."""
    return sum(layer_ticks(data))


def output(data: bytes) -> bytes:
    """What it answers."""
    return bytes((data[i % INPUT_BYTES] + 1 + i // INPUT_BYTES) & 0xFF for i in range(OUTPUT_BYTES))


def replies(read: Callable[[], bytes], commands: int) -> bytes:
    """All that a device says up to the `commands`-th m-ready; `read` gives what comes within its time-out."""
    said = b""
    while said.count(f"{protocol.READY}\r\n".encode()) < commands:
        chunk = read()
        if not chunk:
            raise AssertionError(f"BUG in the firmware: it answered {said[-200:]!r} and fell silent")
        said += chunk
    return said


class HostDevice:
    """One device. `read` and `write` are its serial line, without any fault."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._line, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen([program()], stdin=far, stdout=far)

    def write(self, data: bytes) -> None:
        """Send to the device."""
        try:
            self._line.sendall(data)
        except OSError as error:
            raise SerialException(f"the device died: {error}") from error

    def read(self, timeout_s: float) -> bytes:
        """What has come, after waiting for it for at most `timeout_s`."""
        if not select.select([self._line], [], [], timeout_s)[0]:
            return b""
        data = self._line.recv(1 << 16)
        if not data:
            raise SerialException("the device died")
        return data

    def replies(self, commands: int, timeout_s: float = 60.0) -> bytes:
        """All that it says up to the `commands`-th m-ready."""
        return replies(lambda: self.read(timeout_s), commands)

    def reset(self) -> None:
        """Power off and on: all that it knew is lost, and it boots."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process and the line."""
        self._process.kill()
        self._process.wait()
        self._line.close()


def open_descriptors() -> int:
    """File descriptors of this process, without those of objects that only wait for the garbage collector: other
    tests', which would be gone at the next count."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
