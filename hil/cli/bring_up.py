"""The command bring-up: first contact with a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.app import (
    DeviceOption,
    JsonOption,
    LinkOption,
    ViaOption,
    app,
    chosen_board,
    chosen_place,
    console,
    emit_json,
)
from hil.errors import CheckFailed, InfrastructureError, UsageError

if TYPE_CHECKING:
    from hil.bring_up.report import Finding

_SIGNS = {"right": "+", "wrong": "!", "not here": "-"}


@app.command("bring-up")
def bring_up(
    board: Annotated[str, typer.Option("--board", "-b", help="Board name, or a board's .toml file.")],
    via: ViaOption = "auto",
    device: DeviceOption = None,
    link: LinkOption = "uart",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, max=60.0, help="For how long the clock is measured.")
    ] = 10.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Report; default runs/bring-up-BOARD-VIA.md.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """First contact with a board: flash, boot, core, line, clock, counter, caches, memory, rates; what is wrong."""
    from hil.bring_up.run import bring_up as run

    if output is not None and output.is_dir():
        raise UsageError(f"{output} is a folder; name a file for the report with --output")
    chosen = chosen_board(board, link=link)
    place = chosen_place(chosen, via, device)

    def told(finding: Finding) -> None:
        text = f"{_SIGNS[finding.outcome]} {finding.step}: {finding.words}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    found = run(chosen, place, seconds, told)
    path = output or Path("runs") / f"bring-up-{chosen.name}-{place.via}.md"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found.to_text(), encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(f"the report cannot be written to {path}: {error.strerror or error}") from error
    if as_json:
        emit_json(found.to_json())
    else:
        console.print(f"report: {path}", highlight=False, markup=False)
    if not found.is_right:
        wrong = [item.step for item in found.findings if item.outcome == "wrong"]
        raise CheckFailed(f"{chosen.name} via {place.via}: wrong: {', '.join(wrong)}")
