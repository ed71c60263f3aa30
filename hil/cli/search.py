"""Command search: µNAS against a board's budget."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.app import app, chosen_board, chosen_place, console
from hil.cli.generated import command_of
from hil.errors import CheckFailed
from hil.search.options import SearchOptions

if TYPE_CHECKING:
    from hil.boards.board import Board
    from hil.measure.harness import Options

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, the result last.")]


@command_of(app, SearchOptions, JsonOption)
def search(options: SearchOptions, as_json: bool) -> None:
    """Search networks with µNAS that fit a board; train, verify and export the best. Goes on where it stopped."""
    run_search(options, as_json)


def run_search(options: SearchOptions, as_json: bool = False) -> None:
    """What the command does, for commands that run several. Raises what the command fails with."""
    from hil.api.harness import modelled_as
    from hil.cycle_model.plugin import find_plugin
    from hil.measure.harness import Options
    from hil.search.prepare import check
    from hil.targets.runners.qemu import QEMU

    began = time.monotonic()
    check(options)
    board = chosen_board(
        options.board, options.flash, options.sram, options.link, options.optimise, options.runtime
    )  # fmt: skip
    place = chosen_place(board, options.backend, options.device, timer=options.timer)
    modelled = modelled_as(board, place.via, options.timer)
    if modelled != "off":
        find_plugin(QEMU)  # rather than after the search
    # A network's memory is what was predicted from its architecture, to the byte, whatever its channels trained to.
    how = Options(
        via=place.via, runtime=options.runtime, devices=place.devices, modelled=modelled, keep_constant_channels=True
    )
    _run(options, board, how, as_json, began)


def _run(options: SearchOptions, board: Board, how: Options, as_json: bool, began: float) -> None:
    from hil.api.calibration import run_folder
    from hil.cli.live import live_page
    from hil.cli.search_tables import export_tables
    from hil.cli.search_view import display_of
    from hil.measure.harness import Harness
    from hil.report.run import write_search_report
    from hil.report.search.page import render_search
    from hil.search.bounds import clock_of
    from hil.search.lines import JsonLines
    from hil.search.live import so_far
    from hil.search.prepare import request_of
    from hil.search.run import CALIBRATION_FILE, NETWORKS, Callbacks
    from hil.search.run import search as run_stages
    from munas.data import is_own, own_name

    harness = Harness(board, how)
    calibration = run_folder(board, how)
    name = own_name(options.dataset) if is_own(options.dataset) else options.dataset
    folder = Path("runs") / f"search-{name}-{calibration.name}"
    request = request_of(
        options, board, harness.identity, calibration / CALIBRATION_FILE, folder, harness.kernel_code, _tell,
        linked=harness.linked if options.runtime == "tflm" else None,
        command=shlex.join(["munas-hil", *sys.argv[1:]]), began=began,
    )  # fmt: skip
    factor = None if request.calibration is None else clock_of(board, request.calibration).ms_per_unit
    lines = JsonLines(sys.stdout) if as_json else None
    display = display_of(console, f"{name} on {board.name}", factor, lines)
    with contextlib.ExitStack() as stack:
        if options.serve is not None:
            page = live_page(options.serve, lambda: render_search(so_far(request, harness.identity)))
            _tell(f"live page: {stack.enter_context(page)}")
        found = run_stages(request, harness, Callbacks(display.search, display.finals, _tell))
    report = write_search_report(request.folder, found.result)
    for table in export_tables(found.result):
        console.print(table)
    for note in found.result.notes:
        _tell(note)
    _tell(f"networks: {request.folder / NETWORKS}\nreport:   {report}")
    if lines is not None:
        lines.result(found.result, str(report))
    if found.failure:
        raise CheckFailed(found.failure)


def _tell(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")],
    to: Annotated[str, typer.Option("--to", help="optuna or mlflow: a database of theirs.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The database; default: optuna.sqlite or mlflow.sqlite in RUN."),
    ] = None,
) -> None:
    """Write the trials of a search into a database of Optuna's or MLflow's, for their viewers."""
    from hil.search.trackers import export as write

    path, count = write(run, to, output)
    _tell(f"{count} trials: {path}")
