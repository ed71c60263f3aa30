"""What all commands share: the application, options, the board of the options, output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hil.board import Board, Via, load_board, parse_size_bytes
from hil.errors import UsageError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Measure neural networks on (emulated) microcontrollers and calibrate µNAS's estimators with it.",
)
console = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
BoardOption = Annotated[str, typer.Option("--board", "-b", help="Board name, or a board's .toml file.")]
ViaOption = Annotated[str, typer.Option("--via", help="Where to run: auto or qemu.")]
RuntimeOption = Annotated[str, typer.Option("--runtime", help="What executes the network: cmsis-nn or tflm.")]
FlashOption = Annotated[str | None, typer.Option("--flash", help="Flash budget, e.g. 64K or 1M.")]
SramOption = Annotated[str | None, typer.Option("--sram", help="SRAM budget, e.g. 64K or 1M.")]
ModelsArgument = Annotated[list[Path], typer.Argument(metavar="MODEL...", help="int8 .tflite files.")]

DEFAULT_BOARD = "nucleo-f746zg"
DEFAULT_RUNTIME = "cmsis-nn"


def chosen_board(name: str, flash: str | None = None, sram: str | None = None) -> Board:
    """The board with the budget of the options. Raises BoardError or UsageError."""
    return load_board(name).with_budget(_budget_bytes("--flash", flash), _budget_bytes("--sram", sram))


def _budget_bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        size_bytes = parse_size_bytes(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if size_bytes <= 0:
        raise UsageError(f"{option}: {text} is not a positive size")
    return size_bytes


def chosen_via(board: Board, via: str) -> Via:
    """The place to run at. Raises UsageError for one that does not exist or is not supported yet."""
    if via not in ("auto", "qemu"):
        raise UsageError(f"--via {via}: this version runs firmware under QEMU only (auto or qemu)")
    board.target("qemu")
    return "qemu"


def emit_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()
