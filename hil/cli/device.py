"""Commands that turn one network into firmware: generate, measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.boards.placement import parse_placement
from hil.cli.app import (
    DEFAULT_RUNTIME,
    BoardOption,
    ClusterOption,
    DeviceOption,
    FlashOption,
    JsonOption,
    LinkOption,
    OptimiseOption,
    ProfileOption,
    RuntimeOption,
    SramOption,
    TimerOption,
    ViaOption,
    app,
    chosen_board,
    chosen_modelled,
    chosen_place,
    console,
    emit_json,
    failure_text,
    say_what_was_given_up,
)
from hil.errors import CheckFailed, HilError, UsageError
from hil.measure.options import DEFAULT_BOARD
from hil.options import MAX_SEED, MAX_WORKERS
from hil.terminal import printable
from hil.timers import MODELLED

if TYPE_CHECKING:
    from hil.measure.harness import Options


BuildViaOption = Annotated[
    str | None,
    typer.Option("--via", "--backend", help="What it is for: hardware (default, where it exists), renode or qemu."),
]


def with_profile(options: Options, profile: str | None) -> Options:
    """`options` with the MLPerf model id of the command line, where there is one."""
    return options if profile is None else replace(options, profile=profile)


KeepOption = Annotated[
    bool,
    typer.Option(
        "--keep-constant-channels", help="As large as the architecture says, as the networks of a search are."
    ),
]
PlaceOption = Annotated[
    str | None,
    typer.Option("--place", help="Where things lie, e.g. weights=ram,arena=dtcm; munas-hil place searches it."),
]


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="int8 .tflite file.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write; must be new or empty.")],
    board: BoardOption = DEFAULT_BOARD,
    via: BuildViaOption = None,
    runtime: RuntimeOption = DEFAULT_RUNTIME,
    flash: FlashOption = None,
    sram: SramOption = None,
    link: LinkOption = "uart",
    optimise: OptimiseOption = None,
    place: PlaceOption = None,
    profile: ProfileOption = None,
    keep: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the firmware project of a network; it builds alone with CMake."""
    from hil.api.harness import via_to_build
    from hil.measure.harness import Options, generate_project

    chosen = chosen_board(board, flash, sram, link, optimise, runtime)
    options = Options(via=via_to_build(chosen, via), runtime=runtime, keep_constant_channels=keep)
    if place is not None:
        options = replace(options, placement=parse_placement(place, chosen))
    options = with_profile(options, profile)
    project, plan = generate_project(model, chosen, options, out)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    if as_json:
        given_up = [item.to_json() for item in plan.given_up]
        emit_json({"build_id": project.build_id, "folder": str(out), "files": files, "given_up": given_up})
    else:
        console.print(f"wrote {len(files)} files to {out}; build them with: cmake -B build && cmake --build build")
    say_what_was_given_up(plan.model_name, plan.given_up, chosen.optimise)


@app.command()
def measure(
    models: Annotated[list[Path] | None, typer.Argument(metavar="MODEL...", help="int8 .tflite files.")] = None,
    board: BoardOption = DEFAULT_BOARD,
    via: ViaOption = "auto",
    device: DeviceOption = None,
    runtime: Annotated[str, typer.Option("--runtime", help="cmsis-nn, tflm, or both side by side.")] = DEFAULT_RUNTIME,
    flash: FlashOption = None,
    sram: SramOption = None,
    link: LinkOption = "uart",
    optimise: OptimiseOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of the verification inputs.")] = 0,
    protocol: Annotated[str, typer.Option("--protocol", help="hil, or mlperf: MLPerf Tiny's commands only.")] = "hil",
    port: Annotated[str | None, typer.Option("--port", help="With mlperf: a device that runs its firmware.")] = None,
    baud: Annotated[
        int | None, typer.Option("--baud", min=300, max=4_000_000, help="With mlperf: the rate of what runs already.")
    ] = None,
    profile: ProfileOption = None,
    timing: Annotated[
        bool | None,
        typer.Option("--timing/--no-timing", help="Modelled cycles too; default: via qemu if the board has [timing]."),
    ] = None,
    timer: TimerOption = None,
    place: PlaceOption = None,
    keep: KeepOption = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=MAX_WORKERS, help="Networks at a time; default: cores.")
    ] = None,
    cluster: ClusterOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Time of each layer, for several networks too.")] = False,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Leave result.json and an HTML report there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure networks, and verify their outputs bit for bit against LiteRT's reference kernels."""
    from hil.cli.mlperf import Where, measure_by_base_protocol, measure_running
    from hil.cli.pair_tables import pair_tables
    from hil.cli.tables import layer_table, measurement_table
    from hil.measure.harness import Options
    from hil.measure.many import measure_files
    from hil.measure.result import result_of
    from hil.measure.side_by_side import BOTH, measure_pairs, pairs_json
    from hil.report.run import require_measurement_folder, write_measurement
    from hil.runtimes.tflm.arena import WRITTEN_FOR

    if port is not None or not models:
        if profile is not None:
            raise UsageError("--profile is for firmware that is built from a MODEL; what runs already has its own")
        measure_running(models or [], Where(port, device, baud), protocol, seed, as_json)
        return
    if baud is not None:
        raise UsageError("--baud is for firmware that runs already; ours is built for the rate of bench or board file")
    chosen = chosen_board(board, flash, sram, link, optimise, "tflm" if runtime == BOTH else runtime)
    if out is not None:
        require_measurement_folder(out)
    where = chosen_place(chosen, via, device, timer=MODELLED if timing else None, cluster=cluster)
    options = Options(
        via=where.via, seed=seed, runtime=runtime, devices=where.devices, keep_constant_channels=keep
    )  # fmt: skip
    if place is not None:
        options = replace(options, placement=parse_placement(place, chosen))
    options = with_profile(options, profile)
    if cluster is not None and (protocol != "hil" or runtime == BOTH):
        raise UsageError("--cluster goes with --protocol hil and one runtime")
    if protocol != "hil":
        measure_by_base_protocol(models, chosen, options, protocol, as_json)
        return
    options = replace(options, modelled=chosen_modelled(chosen, where.via, timer, timing))
    options = replace(options, transcripts=None if out is None else out / "transcripts")
    refused: list[HilError] = []
    if runtime == BOTH:
        pairs = measure_pairs(models, chosen, options, refused.append)
        if pairs:
            emit_json(pairs_json(pairs)) if as_json else console.print(*pair_tables(pairs))
        results = [result for pair in pairs for result in pair.results]
    else:
        results = measure_files(
            models, chosen, options, refused.append, workers=workers, tell=console.print, cluster=cluster
        )
        found = [result.measurement for result in results]
        if found:
            if as_json:
                emit_json([item.to_json() for item in found])
            else:
                console.print(measurement_table(found))
                for measurement in found if layers or len(found) == 1 else ():
                    console.print(layer_table(measurement))
    for result in results:
        say_what_was_given_up(result.measurement.model, result.plan.given_up, chosen.optimise)
        if left_out := result.measurement.build.constant_channels:
            name = printable(result.measurement.model)
            console.print(f"{name}: {left_out} channels of convolutions are constant and were left out", soft_wrap=True)
    for result in results:
        forecast, taken = result.plan.arena_bytes, result.measurement.memory.arena_planned
        if taken != forecast:
            name = printable(result.measurement.model)
            console.print(
                f"warning: {name}: TFLM takes an arena of {taken} bytes, the forecast ({WRITTEN_FOR}) was {forecast}",
                soft_wrap=True, highlight=False,
            )  # fmt: skip
    if out is not None and results:
        console.print(f"report: {write_measurement(out, result_of(results))}", soft_wrap=True)
    for item in results:
        if undefined := item.measurement.outputs.undefined:
            text = f"{item.measurement.model}: LiteRT's reference kernels abort on extreme inputs"
            text += f" ({', '.join(undefined)}); random ones were verified in their place"
            console.print(printable(text), highlight=False, soft_wrap=True)
    differing = [item.measurement.model for item in results if item.measurement.outputs.mismatched]
    for error in refused if differing else refused[1:]:
        console.print(f"munas-hil: {failure_text(error)}", highlight=False, markup=False, soft_wrap=True)
    if differing:
        raise CheckFailed(f"outputs differ from the LiteRT reference kernels: {', '.join(differing)}")
    if refused:
        raise refused[0]
