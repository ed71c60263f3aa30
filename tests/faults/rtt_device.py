"""The device of the fault injection without a UART: the firmware on an emulated core, reached through RTT's rings.

Network and clock are those of the host's device (tests/firmware/host_port.c), so that its figures are the right ones
here too. A reset is a new emulator.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from hil.boards.board import load_board
from hil.boards.linked import linked
from hil.link.device import SerialPort
from hil.targets.runners.qemu import QemuRunner
from tests.faults import host_device
from tests.faults.host_device import replies
from tests.firmware import images

BOARD = linked(load_board("mps2-an386"), "rtt")
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def image() -> Path:
    """The device's image, built once a process."""
    folder = tempfile.TemporaryDirectory(prefix="munas-hil-rtt-")
    _KEPT.append(folder)
    path = Path(folder.name)
    objects = images.compiled_for(BOARD, "qemu", path)
    text = f'#define HIL_RTT\n#define HOST_OUTPUT {host_device.OUTPUT_BYTES}u\n#include "{host_device.PORT}"\n'
    # Its own port's object gives way to the model's clock.
    return images.link(text, tuple(item for item in objects if item.stem != "mps2"), path)


class RttDevice:
    """As `tests.faults.host_device.HostDevice`."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._opened = ExitStack()
        self._port: SerialPort = self._opened.enter_context(QemuRunner().open(image(), BOARD)).port

    def write(self, data: bytes) -> None:
        """Send to the device."""
        self._port.write(data)

    def replies(self, commands: int, timeout_s: float = 60.0) -> bytes:
        """All that it says up to the `commands`-th m-ready."""
        self._port.timeout = timeout_s
        return replies(lambda: self._port.read(max(1, self._port.in_waiting)), commands)

    def reset(self) -> None:
        """Power off and on: all that it knew is lost, and it boots."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the emulator."""
        self._opened.close()
