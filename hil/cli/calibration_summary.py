"""The result of a calibration in a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hil.calibration.result import CalibrationResult
from hil.report.calibration.headline import tiles
from hil.report.calibration.tables import fits_table
from hil.report.charts import numbers


def render_text_summary(result: CalibrationResult) -> Group:
    """For ``rich.console.Console.print``: identity, both fits, and the other key figures with their targets.

    All text is `Text`, so that nothing from the data is taken for markup.
    """
    return Group(_identity(result), Text(), _fits(result), Text(), _tiles(result))


def _identity(result: CalibrationResult) -> Text:
    identity = result.identity
    line = Text(numbers.clean(identity.board), style="bold")
    line.append(f" via {numbers.clean(identity.via)}, {identity.timer}, {numbers.clean(identity.kernels)}", "default")
    line.append(f", optimised for {numbers.clean(identity.optimise)}", "default")
    if identity.simulated:
        line.append("  SIMULATED", "bold yellow")
    return line


def _grid(*justify: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for position, side in enumerate(justify):
        table.add_column(justify="right" if side == "right" else "left", no_wrap=position == 0)
    return table


def _fits(result: CalibrationResult) -> Table:
    source = fits_table(result)
    table = _grid("left", "right", "right")
    for column, shown in zip(table.columns, source.columns, strict=True):
        column.header = Text(shown.title, style="dim")
    for row in source.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _tiles(result: CalibrationResult) -> Table:
    table = _grid("left", "right", "left", "left")
    table.show_header = False
    for tile in tiles(result)[3:]:
        style = {True: "green", False: "bold red", None: "dim"}[tile.met]
        table.add_row(Text(tile.name), Text(tile.value), Text(tile.note, "dim"), Text(tile.verdict, style))
    return table
