"""What a runner is: it puts an ELF on a board or an emulator and gives back an open serial link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from hil.boards.board import Board, Via
from hil.cycle_model.record import InferenceRecord
from hil.link.device import SerialPort, Timeouts
from hil.timers import TimerKind


def no_records() -> Sequence[InferenceRecord]:
    """What a place without a timing model has to say."""
    return ()


@dataclass(frozen=True, slots=True)
class Session:
    """A running image. The device boots now or has just booted: its boot message is still to be read from `port`.

    `ticks_per_unit` converts the device's timer: ticks for one instruction or cycle. `ticks_hz` is what the timer has
    to run at, where that is known: a core whose clock tree did not start counts cycles too, but not the board's.
    `device` is the serial number of a connected board. `new_records` gives the timing model's counts of all inferences
    since it was last asked.
    """

    port: SerialPort
    via: Via
    simulated: bool
    timer: TimerKind
    ticks_per_unit: Fraction = Fraction(1)
    timeouts: Timeouts = field(default_factory=Timeouts)
    ticks_hz: int | None = None
    device: str | None = None
    new_records: Callable[[], Sequence[InferenceRecord]] = no_records

    def ticks_to_units(self, ticks: int) -> int:
        """The nearest whole number of instructions or cycles."""
        return round(ticks / self.ticks_per_unit)


class Runner(Protocol):
    """Runs images on one kind of place; every implementation passes tests/contract/test_runner.py."""

    def open(self, image: Path, board: Board) -> AbstractContextManager[Session]:
        """Run `image` (ELF) on `board` until the context ends.

        Whatever happens inside, nothing of the session is left behind afterwards. A LinkError raised inside becomes a
        RunnerError or TargetFaultError when the place itself died. Raises ToolMissing, RunnerError, BoardError.
        """
        ...
