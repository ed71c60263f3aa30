"""How the host talks to a board: a UART, or RTT's rings in RAM through the debugger. A choice of the build."""

from __future__ import annotations

from typing import Literal

from hil.boards.board import Board
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


def link_of(target: Target) -> Link:
    """What firmware for `target` talks over."""
    return "rtt" if target.defines.get(DEFINE) else "uart"
