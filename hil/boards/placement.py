"""Where a network's parts lie: weights in flash or RAM, RAM in one bank or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hil.boards.bank import Bank
from hil.boards.board import Board
from hil.boards.target import Target
from hil.errors import UsageError

Weights = Literal["flash", "ram"]
_FORM = "write it as weights=ram,arena=BANK"


@dataclass(frozen=True, slots=True)
class Placement:
    """`weights` in flash, or copied to RAM at start; `arena` is the bank, as `bank_key` writes it, that RAM (stack,
    static data, weights in RAM, arena) starts with, None being the board's own. Code is in flash."""

    weights: Weights = "flash"
    arena: str | None = None

    def __str__(self) -> str:
        arena = "" if self.arena is None else f",arena={self.arena}"
        return f"weights={self.weights}{arena}"


AS_EVER = Placement()


def bank_key(bank: Bank) -> str:
    """A bank's name as it is typed: ``AXI SRAM`` is ``axi-sram``."""
    return bank.name.lower().replace(" ", "-")


def parse_placement(text: str, board: Board) -> Placement:
    """What `--place` says, e.g. ``weights=ram,arena=dtcm``; ``arena=sram`` is the first bank that has SRAM in its name.

    Raises UsageError, which names what the board has.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or key in found:
            raise UsageError(f"--place {text}: {_FORM}")
        found[key] = value.strip().lower()
    weights, arena, code = found.pop("weights", "flash"), found.pop("arena", None), found.pop("code", "flash")
    if found:
        raise UsageError(f"--place {text}: {', '.join(found)} cannot be placed; {_FORM}")
    if code != "flash":
        raise UsageError(f"--place code={code}: code runs from flash only; no figure published says what that costs")
    if weights not in ("flash", "ram"):
        raise UsageError(f"--place weights={weights}: weights are in flash or in ram")
    return Placement("ram" if weights == "ram" else "flash", None if arena is None else _known_bank(arena, board))


def _known_bank(text: str, board: Board) -> str:
    keys = [bank_key(bank) for bank in board.banks]
    if text in keys:
        return text
    if text == "sram" and (named := [key for key in keys if "sram" in key]):
        return named[0]
    known = f"it has {', '.join(keys)}" if keys else "its SoC names none"
    raise UsageError(f"--place arena={text}: board {board.name} has no such bank of RAM; {known}")


def placed(board: Board, placement: Placement) -> Board:
    """`board` with its RAM in the bank that `placement` names. Raises UsageError when that is below the budget."""
    if placement.arena is None:
        return board
    targets: dict[str, Target] = {}
    for via in ("qemu", "hardware"):
        target = getattr(board, via)
        banks = board.banks_via("qemu" if via == "qemu" else "hardware")
        chosen = next((bank for bank in banks if bank_key(bank) == placement.arena), None)
        if target is None:
            continue
        if chosen is None or chosen.region.length < board.budget.sram:
            raise UsageError(
                f"--place arena={placement.arena}: the bank has not the {board.budget.sram} bytes of the RAM budget; "
                "give a smaller --sram"
            )
        targets[via] = target.model_copy(update={"sram": chosen.region})
    return board.model_copy(update=targets)


def placements_of(board: Board) -> tuple[Placement, ...]:
    """Every placement that `board` can have with its budget, the board's own first."""
    big = [bank_key(bank) for bank in board.banks if bank.region.length >= board.budget.sram]
    own = board.ram.lower().replace(" ", "-") if board.ram else (big[0] if big else None)
    arenas = [None, *(key for key in big if key != own)]
    return tuple(Placement(weights, arena) for arena in arenas for weights in ("flash", "ram"))
