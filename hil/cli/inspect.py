"""Commands that only look: doctor, boards, graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hil.board import board_names, load_board
from hil.cli.app import JsonOption, app, console, emit_json


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, what is missing and the command that installs it."""
    from hil.doctor import examine

    checks = examine()
    if as_json:
        keys = ("name", "found", "detail", "needed", "install")
        emit_json([{key: getattr(check, key) for key in keys} for check in checks])
    else:
        table = Table("", "what", "found / install with", box=None)
        for check in checks:
            mark = "[green]ok[/]" if check.found else ("[red]missing[/]" if check.needed else "absent")
            table.add_row(mark, check.name, check.detail if check.found else f"{check.detail}; {check.install}")
        console.print(table)
    if any(check.needed and not check.found for check in checks):
        raise typer.Exit(3)


@app.command()
def boards(
    name: Annotated[str | None, typer.Argument(help="Board to show; all when absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the boards, or show one."""
    chosen = [load_board(item) for item in ([name] if name else board_names())]
    if as_json:
        documents = [board.model_dump(mode="json", exclude_none=True) for board in chosen]
        emit_json(documents[0] if name else documents)
        return
    table = Table("board", "core", "MHz", "runs via", "budget flash/SRAM", "description", box=None)
    for board in chosen:
        places = [via for via, target in (("hardware", board.hardware), ("qemu", board.qemu)) if target]
        budget = f"{board.budget.flash // 1024}K/{board.budget.sram // 1024}K"
        table.add_row(
            board.name, board.core, f"{board.clock_hz / 1e6:g}", ", ".join(places), budget, board.description
        )  # fmt: skip
    console.print(table)


@app.command()
def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON: {input_shape, num_classes, architecture}.")],
    mode: Annotated[str, typer.Option("--mode", help="faithful (deployed) or reference (the authors').")] = "faithful",
    as_json: JsonOption = False,
) -> None:
    """Operator graph, MACs, size and peak memory of µNAS architectures."""
    from hil.graphs import describe_file

    documents = describe_file(file, mode)
    if as_json:
        emit_json(documents)
        return
    table = Table("#", "MACs", "weights, bytes", "peak memory", "with input", "operators", box=None)
    for index, item in enumerate(documents):
        numbers = (item[key] for key in ("macs", "model_size", "peak_memory", "peak_memory_with_input"))
        table.add_row(str(index), *(f"{number:,}" for number in numbers), str(len(item["operators"])))
    console.print(table)
