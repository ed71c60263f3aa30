"""Commands that only look: doctor, boards, graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from hil.boards.board import Board, board_names, load_board
from hil.cli.app import JsonOption, app, console, emit_json
from hil.terminal import printable


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, what is missing and the command that installs it."""
    from hil.cli.doctor import examine

    checks = examine()
    if as_json:
        keys = ("name", "found", "detail", "needed", "install")
        emit_json([{key: getattr(check, key) for key in keys} for check in checks])
    else:
        table = Table("", "what", "found / install with", box=None)
        for check in checks:
            absent = Text("missing", "red") if check.needed else Text("absent")
            mark = Text("ok", "green") if check.found else absent
            table.add_row(mark, check.name, check.detail if check.found else f"{check.detail}; {check.install}")
        console.print(table)
    if any(check.needed and not check.found for check in checks):
        raise typer.Exit(3)


@app.command()
def boards(
    name: Annotated[str | None, typer.Argument(help="Board to show; all when absent.")] = None,
    detect: Annotated[bool, typer.Option("--detect", help="Show what is connected instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the boards, or show one, or those that are connected."""
    if detect:
        _show_connected(name, as_json)
        return
    chosen = [load_board(item) for item in (board_names() if name is None else [name])]
    if as_json:
        documents = [board.model_dump(mode="json", exclude_none=True) for board in chosen]
        emit_json(documents[0] if name else documents)
        return
    from hil.targets.place import vias_of

    table = Table("board", "core", "MHz", "runs via", "budget flash/SRAM", "description", box=None)
    for board in chosen:
        budget = f"{board.budget.flash // 1024}K/{board.budget.sram // 1024}K"
        table.add_row(
            board.name, board.core, f"{board.clock_hz / 1e6:g}", ", ".join(vias_of(board)), budget,
            printable(board.description),
        )  # fmt: skip
    console.print(table)
    if name is not None:
        console.print(_evidence(chosen[0]), soft_wrap=True)


def _evidence(board: Board) -> str:
    """Whether modelled cycles become milliseconds on `board`, and what that rests on."""
    evidence = None if board.timing is None else board.timing.evidence
    if board.processor.cycle_model is None:
        return "modelled cycles: none, its core has no model; instruction counts only"
    if evidence is None:
        return "modelled cycles: without milliseconds, there is no evidence for this board"
    untimed = ", ".join(bank.name for bank in board.banks if not bank.timed)
    lines = [
        f"modelled milliseconds: ± {evidence.interval_pct:g} %, by {len(evidence.errors_pct)} published figures that "
        f"nothing was fitted to, off by {evidence.mean_error_pct:.1f} % in the mean, {evidence.max_error_pct:.1f} % at "
        f"most{f'; none for networks in {untimed}' if untimed else ''}",
        *(
            f"  {row.error_pct:+.1f} %  {row.published_ms:g} ms  {row.code}, {row.source}"
            f"{'' if row.held_out else ' (in the fit)'}"
            for row in evidence.rows
        ),
    ]
    return "\n".join(lines)


def _show_connected(name: str | None, as_json: bool) -> None:
    from hil.targets.detect import connected_devices

    wanted = load_board(name).name if name else None
    devices = [item for item in connected_devices() if wanted is None or wanted in item.boards]
    if as_json:
        emit_json(
            [
                {"serial_number": item.serial_number, "boards": list(item.boards), "port": item.port,
                 "drives": [str(drive) for drive in item.drives], "flash": item.flash, "baud": item.rate(),
                 "source": item.source}
                for item in devices
            ]
        )  # fmt: skip
        return
    table = Table("serial number", "board", "port", "drive", "flashed by", "known from", box=None)
    for item in devices:
        drives = ", ".join(map(str, item.drives))
        table.add_row(
            item.serial_number, " or ".join(item.boards), item.port or "", drives, item.flash, item.source
        )  # fmt: skip
    console.print(table if devices else "no board is connected", highlight=False)


@app.command()
def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON: {input_shape, num_classes, architecture}.")],
    mode: Annotated[str, typer.Option("--mode", help="deployed, or paper: the authors' graph.")] = "deployed",
    as_json: JsonOption = False,
) -> None:
    """Operator graph, MACs, size and peak memory of µNAS architectures."""
    from hil.cli.graphs import describe_file

    documents = describe_file(file, mode)
    if as_json:
        emit_json(documents)
        return
    table = Table("#", "MACs", "weights, bytes", "peak memory", "with input", "operators", box=None)
    for index, item in enumerate(documents):
        numbers = (item[key] for key in ("macs", "model_size", "peak_memory", "peak_memory_with_input"))
        table.add_row(str(index), *(f"{number:,}" for number in numbers), str(len(item["operators"])))
    console.print(table)
