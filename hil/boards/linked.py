"""How the host talks to a board: a UART at some rate, or RTT's rings in RAM through the debugger. Part of the build."""

from __future__ import annotations

from typing import Literal

from hil.boards.board import Board, Uart
from hil.boards.machines import check_baud
from hil.boards.target import Target
from hil.errors import UsageError

Link = Literal["uart", "rtt"]
LINKS: tuple[Link, ...] = ("uart", "rtt")
DEFINE = "HIL_RTT"


def parse_link(text: str) -> Link:
    """What `--link` says. Raises UsageError."""
    found = next((link for link in LINKS if link == text), None)
    if found is None:
        raise UsageError(f"--link {text} does not exist (known: {', '.join(LINKS)})")
    return found


def linked(board: Board, link: Link) -> Board:
    """`board` with firmware that talks over `link`; with a UART it is the board itself."""
    if link == "uart":
        return board
    changed = {via: _with_rtt(getattr(board, via)) for via in ("hardware", "qemu") if getattr(board, via) is not None}
    return board.model_copy(update=changed)


def _with_rtt(target: Target) -> Target:
    return target.model_copy(update={"defines": {**target.defines, DEFINE: 1}})


def at_baud(board: Board, baud: int | None) -> Board:
    """`board` with firmware whose serial line runs at `baud`; None keeps the board's own rate. Raises UsageError."""
    if baud is None or baud == board.baud:
        return board
    try:
        check_baud(board.target("hardware").port, baud)
    except ValueError as error:
        raise UsageError(f"board {board.name}: {error}") from error
    return board.model_copy(update={"uart": (board.uart or Uart(name="")).model_copy(update={"baud": baud})})


def link_of(target: Target) -> Link:
    """What firmware for `target` talks over."""
    return "rtt" if target.defines.get(DEFINE) else "uart"
