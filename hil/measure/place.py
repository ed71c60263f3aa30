"""What each placement of a network costs in bytes and gains in modelled cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hil.boards.board import Board
from hil.boards.placement import Placement, placements_of
from hil.cycle_model.model import Milliseconds
from hil.errors import BudgetError, CheckFailed
from hil.measure.harness import Harness, Options

NO_WAITS = "flash and RAM of this board are modelled without waits: what a placement gains there is not known"


@dataclass(frozen=True, slots=True)
class Placed:
    """One placement: modelled `cycles`, bytes of RAM and flash, or why it does not fit (`refused`).

    `unknown` says why the cycles do not tell what the placement gains: nothing is known of the waits of its memory.
    """

    placement: Placement
    cycles: int | None = None
    milliseconds: Milliseconds | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    refused: str | None = None
    unknown: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One row of `place --json`."""
        time = self.milliseconds
        return {
            "placement": str(self.placement), "weights": self.placement.weights, "arena": self.placement.arena,
            "cycles": self.cycles, "ram_total": self.ram_bytes, "flash_total": self.flash_bytes,
            "milliseconds": None if time is None else {"value": time.estimate, "low": time.low, "high": time.high},
            "refused": self.refused, "unknown": self.unknown,
        }  # fmt: skip


def place(data: bytes, name: str, board: Board) -> Iterator[Placed]:
    """Measure the .tflite `data` in every placement that `board` can have, its own first, via QEMU in modelled cycles.

    Raises HilError for what no placement can help with, CheckFailed when an output is wrong.
    """
    options = Options(modelled="timer")
    for placement in placements_of(board):
        try:
            measured = Harness(board, replace(options, placement=placement)).measure(data, name).measurement
        except BudgetError as error:
            yield Placed(placement, refused=str(error))
            continue
        if measured.outputs.mismatched:
            raise CheckFailed(f"{name}: outputs differ from the reference kernels with {placement}")
        modelled, memory = measured.modelled, measured.memory
        assert modelled is not None
        unknown = NO_WAITS if board.timing is None else modelled.reason if modelled.evidence is not None else None
        yield Placed(
            placement, modelled.median, modelled.milliseconds, memory.ram_total, memory.flash_total, unknown=unknown
        )
