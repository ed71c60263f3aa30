"""Command verify: accuracy on the device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hil.cli.app import (
    DEFAULT_RUNTIME,
    BoardOption,
    ClusterOption,
    DeviceOption,
    FlashOption,
    JsonOption,
    LinkOption,
    OptimiseOption,
    RuntimeOption,
    SramOption,
    ViaOption,
    app,
    chosen_board,
    chosen_place,
    console,
    emit_json,
)
from hil.errors import CheckFailed
from hil.measure.options import DEFAULT_BOARD
from hil.options import MAX_INPUTS, MAX_WORKERS

LOG_INTERVAL_S = 10.0


class _Inputs:
    """Inputs done and time left: a bar on a terminal, now and then a line in a log."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total = self._done = self._resumed = 0
        self._started = self._logged = 0.0

    def start(self, total: int, resumed: int) -> None:
        self._total, self._done, self._resumed = total, resumed, resumed
        self._started = self._logged = time.monotonic()
        if resumed:
            console.print(f"{resumed} of {total} inputs are there already, going on", highlight=False)
        if console.is_terminal and resumed < total:
            columns = (TextColumn("inputs"), BarColumn(), MofNCompleteColumn(), TextColumn("left"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("inputs", total=total, completed=resumed)
            self._bar.start()

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif now - self._logged >= LOG_INTERVAL_S:
            self._logged = now
            left_s = (self._total - self._done) * (now - self._started) / (self._done - self._resumed)
            console.print(f"{self._done} of {self._total} inputs, {left_s:.0f} s left", highlight=False)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


@app.command()
def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="int8 .tflite file.")],
    data: Annotated[Path, typer.Option("--data", help=".npz: x (int8, uint8 or float inputs), y (class numbers).")],
    board: BoardOption = DEFAULT_BOARD,
    via: ViaOption = "auto",
    device: DeviceOption = None,
    runtime: RuntimeOption = DEFAULT_RUNTIME,
    flash: FlashOption = None,
    sram: SramOption = None,
    link: LinkOption = "uart",
    optimise: OptimiseOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, max=MAX_INPUTS, help="Only the first N inputs.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=MAX_WORKERS, help="Emulators at a time; default: cores.")
    ] = None,
    cluster: ClusterOption = None,
    store: Annotated[Path | None, typer.Option("--output", "-o", help="Results; default runs/verify.sqlite.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy on the device, and that its outputs are the host's, over a labelled set. Goes on where it stopped."""
    from hil.measure.harness import Harness, Options, read_model
    from hil.measure.verify import Request
    from hil.measure.verify import verify as run_verification

    chosen = chosen_board(board, flash, sram, link, optimise, runtime)
    place = chosen_place(chosen, via, device, cluster=cluster)
    options = Options(via=place.via, runtime=runtime, devices=place.devices)
    request = Request(read_model(model), model.stem, data, store or Path("runs") / "verify.sqlite", limit)
    result = run_verification(Harness(chosen, options), request, _Inputs(), workers, cluster)
    if as_json:
        emit_json(result.to_json())
    else:
        console.print(
            f"{result.model} on {chosen.name} via {options.via}, {result.inputs:,} inputs\n"
            f"device accuracy {result.device_accuracy:.2%} ({result.device_correct:,} right)\n"
            f"host accuracy   {result.host_accuracy:.2%} ({result.host_correct:,} right; LiteRT, int8)\n"
            f"outputs equal   {result.inputs - len(result.mismatched):,} of {result.inputs:,}",
            highlight=False,
        )
    if result.mismatched:
        shown = ", ".join(map(str, result.mismatched[:5]))
        raise CheckFailed(
            f"{len(result.mismatched)} outputs of {result.model} differ from the host's, the first of inputs {shown}"
        )
