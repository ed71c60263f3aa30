"""The command place: where a network's parts should lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hil.cli.app import BoardOption, FlashOption, JsonOption, SramOption, app, chosen_board, console, emit_json
from hil.errors import CheckFailed
from hil.measure.options import DEFAULT_BOARD

if TYPE_CHECKING:
    from hil.measure.place import Placed


@app.command()
def place(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="int8 .tflite file.")],
    board: BoardOption = DEFAULT_BOARD,
    flash: FlashOption = None,
    sram: SramOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try weights in flash and RAM, and RAM in each bank: bytes that it costs, modelled cycles that it gains."""
    from hil.measure.harness import read_model
    from hil.measure.place import place as try_all

    rows = list(try_all(read_model(model), model.name, chosen_board(board, flash, sram)))
    if as_json:
        emit_json([row.to_json() for row in rows])
    else:
        console.print(_table(rows))
        for note in dict.fromkeys(row.unknown for row in rows if row.unknown is not None):
            console.print(f"gain unknown: {note}", highlight=False)
        console.print("code runs from flash: no figure published says what that costs on these chips", highlight=False)
    if all(row.cycles is None for row in rows):
        raise CheckFailed(f"{model.name} fits in no placement: {rows[0].refused}")


def _table(rows: list[Placed]) -> Table:
    table = Table("placement")
    for heading in ("cycles", "gain", "RAM", "more RAM", "flash"):
        table.add_column(heading, justify="right")
    base = next((row for row in rows if row.cycles is not None), rows[0])
    for row in rows:
        if row.cycles is None or base.cycles is None:
            table.add_row(str(row.placement), "does not fit")
            continue
        gain = (
            "unknown"
            if row.unknown is not None and row is not base
            else f"{100 * (1 - row.cycles / base.cycles):+.1f} %"
        )
        more = (row.ram_bytes or 0) - (base.ram_bytes or 0)
        table.add_row(
            str(row.placement), f"{row.cycles:,}", gain, f"{row.ram_bytes:,}", f"{more:+,}",
            f"{row.flash_bytes:,}",
        )  # fmt: skip
    return table
