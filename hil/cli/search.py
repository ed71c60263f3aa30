"""Command search: µNAS against a board's budget."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.app import (
    DEFAULT_BOARD,
    BoardOption,
    DeviceOption,
    FlashOption,
    SramOption,
    TimerOption,
    ViaOption,
    app,
    chosen_board,
    chosen_place,
    console,
)
from hil.errors import CheckFailed

if TYPE_CHECKING:
    from hil.boards.board import Board
    from hil.measure.harness import Options
    from hil.search.options import SearchOptions

DatasetOption = Annotated[str, typer.Option("--dataset", "-d", help="Data set, e.g. digits or fashion-mnist.")]
SourceOption = Annotated[Path | None, typer.Option("--source", help="Its folder or file; default: the usual places.")]
CalibrationOption = Annotated[
    Path | None, typer.Option("--calibration", help="calibration.toml; default: that of the board's run folder.")
]
PresetOption = Annotated[str | None, typer.Option("--preset", help="The paper's bounds, e.g. munas-fashion.")]
ErrorOption = Annotated[
    float | None, typer.Option("--max-error", help="Bound on the validation error, e.g. 0.1; default: the data set's.")
]
RamOption = Annotated[str | None, typer.Option("--max-ram", help="Bound on RAM, e.g. 32K; default: the budget.")]
MaxFlashOption = Annotated[
    str | None, typer.Option("--max-flash", help="Bound on flash, code included; default: the budget.")
]
LatencyOption = Annotated[
    str | None, typer.Option("--max-latency", help="Bound on time: 50ms, or 5M in the calibration's unit.")
]
MacsOption = Annotated[str | None, typer.Option("--max-macs", help="Bound on multiply-accumulates, e.g. 1.5M.")]
WeightsOption = Annotated[
    str | None, typer.Option("--max-weights", help="Bound on weights and tables in flash, e.g. 8K.")
]
StrategyOption = Annotated[str, typer.Option("--strategy", help="ageing (evolution) or random.")]
ModeOption = Annotated[str, typer.Option("--mode", help="Graph of MACs, size, peak memory: deployed or paper.")]
SpaceOption = Annotated[str, typer.Option("--space", help="cnn or mlp.")]
TrialsOption = Annotated[
    int | None,
    typer.Option(
        "--trials",
        "--evaluations",
        "-n",
        min=1,
        max=10**6,
        help="Networks to try; default 2000, or as --minutes allows.",
    ),
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", help="Time for everything; the search phase gets two thirds.")
]
EffortOption = Annotated[float, typer.Option("--effort", help="Part of the recipe's training work, for a trial.")]
PruningOption = Annotated[bool, typer.Option("--pruning/--no-pruning", help="Prune channels while training.")]
HalvingOption = Annotated[bool, typer.Option("--halving/--no-halving", help="Stop hopeless trials early.")]
RejectOption = Annotated[
    bool, typer.Option("--reject-infeasible/--no-reject-infeasible", help="Do not train what cannot fit.")
]
PopulationOption = Annotated[int, typer.Option("--population", min=1, max=10**5, help="Of ageing evolution.")]
SampleOption = Annotated[int, typer.Option("--sample", min=1, max=10**4, help="Drawn for each choice of a parent.")]
TeacherOption = Annotated[Path | None, typer.Option("--teacher", help="A .keras model to distil from.")]
FrontOption = Annotated[int, typer.Option("--front", min=1, max=100, help="Networks to export at most.")]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, max=100, help="Re-trainings of each of them.")]
FinalEffortOption = Annotated[float, typer.Option("--final-effort", help="Effort of the re-trainings.")]
RecalibrateOption = Annotated[
    bool, typer.Option("--recalibrate", help="Add the new measurements to the calibration, in the run folder.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of the search.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, max=256, help="Trainings at a time; default: cores.")
]
TimeLimitOption = Annotated[float | None, typer.Option("--time-limit", help="Seconds that a trial may take.")]
MemoryLimitOption = Annotated[str | None, typer.Option("--memory-limit", help="Memory of a worker, e.g. 2G.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Run folder; default runs/search-DATASET-BOARD-VIA.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, the result last.")]


@app.command()
def search(
    dataset: DatasetOption,
    source: SourceOption = None,
    board: BoardOption = DEFAULT_BOARD,
    via: ViaOption = "auto",
    device: DeviceOption = None,
    flash: FlashOption = None,
    sram: SramOption = None,
    timer: TimerOption = None,
    calibration: CalibrationOption = None,
    preset: PresetOption = None,
    max_error: ErrorOption = None,
    max_ram: RamOption = None,
    max_flash: MaxFlashOption = None,
    max_latency: LatencyOption = None,
    max_macs: MacsOption = None,
    max_weights: WeightsOption = None,
    strategy: StrategyOption = "ageing",
    space: SpaceOption = "cnn",
    mode: ModeOption = "deployed",
    trials: TrialsOption = None,
    minutes: MinutesOption = None,
    effort: EffortOption = 0.2,
    pruning: PruningOption = True,
    halving: HalvingOption = True,
    reject_infeasible: RejectOption = True,
    population: PopulationOption = 100,
    sample: SampleOption = 25,
    teacher: TeacherOption = None,
    front: FrontOption = 5,
    seeds: SeedsOption = 3,
    final_effort: FinalEffortOption = 1.0,
    recalibrate: RecalibrateOption = False,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    time_limit: TimeLimitOption = None,
    memory_limit: MemoryLimitOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search networks with µNAS that fit a board; train, verify and export the best. Goes on where it stopped."""
    from hil.api.harness import modelled_as
    from hil.cycle_model.plugin import find_plugin
    from hil.measure.harness import Options
    from hil.search.bounds import BoundOptions
    from hil.search.options import SearchOptions, check
    from hil.targets.runners.qemu import QEMU

    wanted = SearchOptions(
        dataset=dataset, source=source,
        bound_options=BoundOptions(preset, max_error, max_ram, max_flash, max_latency, max_macs, max_weights),
        calibration=calibration, strategy=strategy, space=space, mode=mode, trials=trials, minutes=minutes,
        effort=effort, pruning=pruning, halving=halving, reject_infeasible=reject_infeasible, population=population,
        sample=sample, teacher=teacher, front=front, seeds=seeds, final_effort=final_effort, recalibrate=recalibrate,
        seed=seed, workers=workers, time_limit_s=time_limit, memory_limit=memory_limit, folder=output,
        command=shlex.join(["munas-hil", *sys.argv[1:]]),
    )  # fmt: skip
    check(wanted)
    chosen = chosen_board(board, flash, sram)
    place = chosen_place(chosen, via, device)
    modelled = modelled_as(chosen, place.via, timer)
    options = Options(via=place.via, devices=place.devices, modelled=modelled)
    if modelled != "off":
        find_plugin(QEMU)  # rather than after the search
    _run(wanted, chosen, options, as_json)


def _run(wanted: SearchOptions, board: Board, options: Options, as_json: bool) -> None:
    from hil.api.calibration import run_folder
    from hil.cli.search_tables import export_tables
    from hil.cli.search_view import display_of
    from hil.measure.harness import Harness
    from hil.report.run import write_search_report
    from hil.search.bounds import clock_of
    from hil.search.lines import JsonLines
    from hil.search.options import request_of
    from hil.search.run import CALIBRATION_FILE, NETWORKS, Displays
    from hil.search.run import search as run_search

    harness = Harness(board, options)
    calibration = run_folder(board, options)
    folder = Path("runs") / f"search-{wanted.dataset}-{calibration.name}"
    request = request_of(
        wanted, board, harness.identity, calibration / CALIBRATION_FILE, folder, harness.kernel_code, _tell
    )
    factor = None if request.calibration is None else clock_of(board, request.calibration).ms_per_unit
    lines = JsonLines(sys.stdout) if as_json else None
    display = display_of(console, f"{wanted.dataset} on {board.name}", factor, lines)
    found = run_search(request, harness, Displays(display.search, display.finals, _tell))
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
