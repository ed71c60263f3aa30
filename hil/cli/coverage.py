"""Command coverage: what can be done with a folder of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.app import (
    DEFAULT_RUNTIME,
    BoardOption,
    FlashOption,
    JsonOption,
    RuntimeOption,
    SramOption,
    app,
    chosen_board,
    console,
    emit_json,
)
from hil.errors import HilError
from hil.measure.options import DEFAULT_BOARD
from hil.terminal import printable

_MARKS = {True: "yes", False: "no", None: "-"}


@app.command()
def coverage(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE...", help="Folders and .tflite files.")],
    board: BoardOption = DEFAULT_BOARD,
    runtime: RuntimeOption = DEFAULT_RUNTIME,
    flash: FlashOption = None,
    sram: SramOption = None,
    calibration: Annotated[Path | None, typer.Option("--calibration", help="calibration.toml to use.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each model whether it imports, fits the board and can be estimated, and what is missing."""
    from hil.calibration.calibrate import calibration_for
    from hil.calibration.coverage import by_operator, covered, files_of
    from hil.measure.harness import Harness, Options

    chosen = chosen_board(board, flash, sram, runtime=runtime)
    harness = Harness(chosen, Options(via="qemu", runtime=runtime))
    path = calibration or Path("runs") / f"{chosen.name}-{runtime}-qemu" / "calibration.toml"
    known = None
    if calibration is not None or path.is_file():
        try:
            known = calibration_for(path, harness.identity)
        except HilError as error:
            if calibration is not None:
                raise
            console.print(printable(f"estimates are not judged: {error}"), highlight=False, soft_wrap=True)
    rows = [covered(file, chosen, harness, known) for file in files_of(paths)]
    operators = by_operator(rows)
    if as_json:
        table = [dict(zip(("operator", "files", "imported", "stopped"), row, strict=True)) for row in operators]
        emit_json({"models": [row.to_json() for row in rows], "operators": table})
        return
    for row in rows:
        marks = f"imports {_MARKS[row.imports]:3} fits {_MARKS[row.fits]:3} estimable {_MARKS[row.estimable]:3}"
        reason = f": {row.missing}" if row.missing else ""
        console.print(printable(f"{marks} {Path(row.file).name}{reason}"), highlight=False, soft_wrap=True)
    console.print(f"{'operator':28} {'files':>6} {'imported':>9} {'stopped at':>11}", highlight=False)
    for name, files, imported, stopped in operators:
        console.print(f"{printable(name):28} {files:6} {imported:9} {stopped:11}", highlight=False)
    good = sum(row.imports for row in rows)
    console.print(f"{good} of {len(rows)} import, {sum(bool(row.fits) for row in rows)} fit", highlight=False)
