"""Commands of the loop: calibrate, estimate, report, bench."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.calibration.options import FRESH_HELP, MAX_SAMPLES, CalibrateOptions
from hil.cli.app import (
    DEFAULT_RUNTIME,
    BoardOption,
    DeviceOption,
    FlashOption,
    JsonOption,
    LinkOption,
    ModelsArgument,
    OptimiseOption,
    RuntimeOption,
    SramOption,
    TimerOption,
    ViaOption,
    app,
    chosen_board,
    chosen_harness,
    chosen_place,
    console,
    emit_json,
    say_what_was_given_up,
)
from hil.cli.generated import command_of
from hil.errors import CheckFailed, UsageError
from hil.measure.options import DEFAULT_BOARD
from hil.options import MAX_SEED, MAX_WORKERS

if TYPE_CHECKING:
    from hil.calibration.gate import Baseline
    from hil.calibration.result import CalibrationResult

SamplesOption = Annotated[int, typer.Option("--samples", "-n", min=1, max=MAX_SAMPLES, help="Networks to measure.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of the sampled networks.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, max=MAX_WORKERS, help="Worker processes; default: cores.")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help=FRESH_HELP)]
ReportOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="HTML file; default: report.html in the run folder.")
]


@command_of(app, CalibrateOptions)
def calibrate(options: CalibrateOptions, as_json: bool) -> None:
    """Sample the search space, measure, fit, validate; write calibration and report. Goes on where it stopped."""
    from hil.api.calibration import calibrated
    from hil.calibration.gate import read_baseline
    from hil.calibration.population import population_called
    from hil.cli.calibration_summary import render_text_summary
    from hil.cli.progress import CampaignProgress

    junit, baseline = options.junit, None if options.check is None else read_baseline(options.check)
    if junit is not None and (not junit.parent.is_dir() or (junit.exists() and not junit.is_file())):
        raise UsageError(f"--junit {junit} cannot be a file there; name another one")
    drawn = population_called(options.population)
    flash, sram = options.flash or drawn.flash, options.sram or drawn.sram
    board = chosen_board(options.board, flash, sram, options.link, options.optimise, options.runtime)
    harness = chosen_harness(
        board, options.backend, options.device, several=True, runtime=options.runtime, timer=options.timer,
        cluster=options.cluster,
    )  # fmt: skip
    if baseline is not None:
        baseline.require_same(harness.identity)
    run = calibrated(
        harness, options.samples, options.seed, workers=options.workers, folder=options.output,
        progress=CampaignProgress(console, "measuring"), population=options.population, cluster=options.cluster,
        fresh=options.fresh,
    )  # fmt: skip
    result = run.result
    assert result is not None
    if as_json:
        emit_json(result.summary_json())
    else:
        console.print(render_text_summary(result))
        text = f"calibration: {result.calibration_path}\nreport:      {result.report_path}"
        console.print(text, highlight=False, soft_wrap=True)
    _require(result, baseline, junit)


def _require(result: CalibrationResult, baseline: Baseline | None, junit: Path | None) -> None:
    """Raise CheckFailed with all checks that failed; under GitHub Actions they are annotations too."""
    from hil.calibration.gate import annotation, checks_of, junit_xml
    from hil.files import write_text

    checks = checks_of(result, baseline)
    failed = [check for check in checks if not check.passed]
    if os.environ.get("GITHUB_ACTIONS") == "true":  # which reads them from stderr as well
        for check in failed:
            console.command(annotation(check))
    if junit is not None:
        write_text(junit, junit_xml(checks, result.identity, result.wall_seconds))
    if failed:
        raise CheckFailed("; ".join(check.message for check in failed))


@app.command()
def estimate(
    models: ModelsArgument,
    board: BoardOption = DEFAULT_BOARD,
    via: ViaOption = "auto",
    runtime: RuntimeOption = DEFAULT_RUNTIME,
    flash: FlashOption = None,
    sram: SramOption = None,
    link: LinkOption = "uart",
    calibration: Annotated[Path | None, typer.Option("--calibration", help="calibration.toml to use.")] = None,
    optimise: OptimiseOption = None,
    timer: TimerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict time and memory of networks, with an interval, from a calibration; nothing is built or run."""
    from hil.api.calibration import estimates, load_calibration
    from hil.cli.tables import estimate_table

    chosen = chosen_board(board, flash, sram, link, optimise, runtime)
    known = load_calibration(chosen, calibration, via=via, runtime=runtime, timer=timer)
    found = estimates(models, known)
    if as_json:
        emit_json([item.to_json() for item in found])
    else:
        console.print(estimate_table(found))
    for item in found:
        say_what_was_given_up(item.model, item.given_up, chosen.optimise)


@app.command()
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Run folder of a calibration, a search or a measure -o, or the result in it."
        ),
    ],
    output: ReportOption = None,
    beside: Annotated[
        Path | None, typer.Option("--beside", metavar="OTHER_RUN", help="Compare with this search, e.g. unpruned.")
    ] = None,
) -> None:
    """Render the HTML report of a calibration, a search or a measurement again."""
    from hil.files import write_text
    from hil.report.run import page_of

    folder = run if run.is_dir() else run.parent
    target = output or folder / "report.html"
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is not a regular file; name an HTML file with --output")
    if not target.parent.is_dir() and run.exists():
        raise UsageError(f"there is no folder {target.parent}; make it, or name another file with --output")
    write_text(target, page_of(run, beside))
    console.print(f"report: {target}", highlight=False, soft_wrap=True)


@app.command()
def bench(
    board: BoardOption = DEFAULT_BOARD,
    samples: SamplesOption = 60,
    seed: SeedOption = 1,
    via: ViaOption = "auto",
    device: DeviceOption = None,
    workers: WorkersOption = None,
    runtime: RuntimeOption = DEFAULT_RUNTIME,
    flash: FlashOption = None,
    sram: SramOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Models a minute, and seconds per stage, on fresh samples that nothing is remembered of."""
    from hil.calibration.bench import run_bench
    from hil.cli.progress import CampaignProgress
    from hil.cli.tables import bench_table
    from hil.measure.harness import Options

    chosen = chosen_board(board, flash, sram, runtime=runtime)
    place = chosen_place(chosen, via, device, several=True)
    options = Options(
        via=place.via, runtime=runtime, devices=place.devices, keep_constant_channels=True, fresh=fresh
    )  # as calibrate
    worker_count = workers or len(place.devices) or os.cpu_count() or 1
    result = run_bench(chosen, options, samples, seed, worker_count, CampaignProgress(console, "measuring"))
    if as_json:
        emit_json(result.to_json())
    else:
        console.print(bench_table(result))
