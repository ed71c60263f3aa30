"""A booted device that runs bring-up's firmware, and how it is asked."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from hil.boards.board import Board
from hil.link.device import Device
from hil.targets.runners.base import Session

ECHO, LOOP, LOOP_WITHOUT, MEMORY, READ, TEMPERATURE = range(6)  # firmware/bring_up/model.c


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

    def celsius(self) -> float | None:
        """The chip's temperature; None where the port has no sensor for it, or it cannot be read."""
        _, (is_there, thousandths, *_), _ = self.ask(TEMPERATURE)
        return (thousandths - (thousandths >> 31 << 32)) / 1000 if is_there else None
