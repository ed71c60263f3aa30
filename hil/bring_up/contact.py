"""A booted device that runs bring-up's firmware, and how it is asked."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from hil.boards.board import Board
from hil.link.device import Device
from hil.link.transport import PortAround, SerialPort
from hil.targets.runners.base import Session

ECHO, LOOP, LOOP_WITHOUT, MEMORY, READ, TEMPERATURE, RATE = range(7)  # firmware/bring_up/model.c


class RatedPort(PortAround):
    """A port whose rate changes when the next command has left, so that the answer to it comes at the new one."""

    def __init__(self, port: SerialPort) -> None:
        super().__init__(port)
        self._next: int | None = None

    def change_after_next(self, rate: int) -> None:
        """To `rate` baud."""
        self._next = rate

    def write(self, data: bytes, /) -> int | None:
        """See pyserial."""
        count = self._port.write(data)
        if self._next is not None:
            self.set_rate(self._next)
            self._next = None
        return count


@dataclass(frozen=True, slots=True)
class Contact:
    """A booted device and what it should be. `now` is the host's clock in seconds."""

    board: Board
    session: Session
    device: Device
    now: Callable[[], float] = time.monotonic

    @property
    def emulated(self) -> bool:
        """Whether its time is an emulator's."""
        return self.session.simulated

    def ask(self, command: int, *arguments: int) -> tuple[int, tuple[int, ...], float]:
        """Ticks, the eight words of the answer, and the host's seconds. Raises LinkError, TargetFaultError."""
        self.device.upload(struct.pack("<4I", command, *arguments, *([0] * (3 - len(arguments)))))
        started = self.now()
        ticks, output = self.device.answer()
        return ticks, struct.unpack("<8I", output), self.now() - started

    def change_rate(self, rate: int) -> int:
        """Both ends at `rate` baud; what the device can divide to, 0 when its port has no rate. Raises LinkError."""
        port = self.session.port
        assert isinstance(port, RatedPort)
        rounds = 1 if self.emulated else self.board.clock_hz // 20  # a tenth of a second: adapters take 16 ms to change
        self.device.upload(struct.pack("<4I", RATE, rate, rounds, 0))
        port.change_after_next(rate)
        _, output = self.device.answer()
        return int(struct.unpack_from("<I", output)[0])

    def celsius(self) -> float | None:
        """The chip's temperature; None where the port has no sensor for it, or it cannot be read."""
        _, (is_there, thousandths, *_), _ = self.ask(TEMPERATURE)
        return (thousandths - (thousandths >> 31 << 32)) / 1000 if is_there else None
