"""Commands about the timing model: timing validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.app import DEFAULT_RUNTIME, App, JsonOption, RuntimeOption, app, console, emit_json, show_help_alone
from hil.errors import CheckFailed

timing = App(rich_markup_mode=None, help="The model behind modelled cycles.")
app.add_typer(timing, name="timing")


@timing.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """The model behind modelled cycles."""
    show_help_alone(context)


@timing.command()
def validate(
    models: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", exists=True, file_okay=False, help="Folder with the .tflite files."),
    ] = None,
    runtime: RuntimeOption = DEFAULT_RUNTIME,
    as_json: JsonOption = False,
) -> None:
    """All published figures beside the model's, in and out of the fit; with --models, MLPerf Tiny's networks too."""
    from hil.cli.timing_tables import cycle_table, evidence_tables, row_tables
    from hil.cycle_model.evidence import all_intervals, all_points, errors_of
    from hil.cycle_model.validate import load_published, published_file
    from hil.cycle_model.validate import validate as compare
    from hil.measure.published import find_networks, measure_networks, modelled_of

    points = all_points()
    published = load_published(published_file())
    networks = {} if models is None else find_networks(models, published)
    results = measure_networks(networks, runtime, lambda text: console.print(text, highlight=False))
    measured = [result.measurement for result in results]
    rows = compare(published, modelled_of(results))
    if as_json:
        emit_json(
            {
                "intervals_pct": all_intervals(),
                "errors": [item.to_json() for item in errors_of(points)],
                "evidence": [point.to_json() for point in points],
                "rows": [row.to_json() for row in rows],
                "measured": [item.to_json() for item in measured],
            }
        )
    else:
        evidence = evidence_tables(points, all_intervals())
        for table in [*evidence, *row_tables(rows), *([cycle_table(measured)] if measured else [])]:
            console.print(table, "")
        if models is None:
            console.print("nothing was run: --models DIR names a folder with the networks", highlight=False)
    if differing := [item.model for item in measured if item.outputs.mismatched]:
        raise CheckFailed(f"outputs differ from the reference kernels: {', '.join(differing)}")
