"""Terminal tables of `timing validate`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from hil.cli.tables import milliseconds_text
from hil.cycle_model.evidence import Point, errors_of
from hil.cycle_model.validate import Row
from hil.measure.measurement import Measurement


def evidence_tables(points: Sequence[Point], intervals_pct: Mapping[str, float]) -> list[Table]:
    """Every published figure beside the model's, the errors in and out of the fit, and half of each chip's interval."""
    rows = Table("about", "code", "measured on", title="published figures beside the model", title_justify="left")
    for heading in ("published", "modelled", "error"):
        rows.add_column(heading, justify="right")
    rows.add_column("fit")
    for point in points:
        rows.add_row(
            point.about, point.code, point.board, _figure(point.published, point.unit),
            _figure(point.modelled, point.unit), f"{point.error_pct:+.1f} %", _in_or_out(point.held_out),
        )  # fmt: skip
    errors = Table("about", "fit", title="errors", title_justify="left")
    for heading in ("rows", "mean", "worst", "interval", "inside"):
        errors.add_column(heading, justify="right")
    for item in errors_of(points):
        errors.add_row(
            item.about, _in_or_out(item.held_out), str(item.count), f"{item.mean_pct:.1f} %", f"{item.max_pct:.1f} %",
            f"± {intervals_pct[item.about]:.1f} %" if item.about in intervals_pct and item.held_out else "",
            "" if item.inside is None else f"{item.inside} of {item.count}",
        )  # fmt: skip
    errors.caption, errors.caption_justify = (
        "interval: of all rows out of the fit; inside: of the interval that the rows of the other networks give",
        "left",
    )
    return [rows, errors]


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit == "cycles" else f"{value:,.6g} {unit}"


def _in_or_out(held_out: bool) -> str:
    return "out" if held_out else "in"


def row_tables(rows: Sequence[Row]) -> list[Table]:
    """One table for each verdict, those that can be compared first; what cannot even be divided is only counted."""
    shown = [row for row in rows if row.modelled is not None]
    others = [row for row in rows if row.modelled is None]
    tables = []
    for (_, why), group in itertools.groupby(sorted(shown, key=_verdict), _verdict):
        tables.append(_row_table(list(group), why))
    if others:
        tables.append(_count_table(others))
    return tables


def _verdict(row: Row) -> tuple[bool, str]:
    return not row.comparable, row.why


def _row_table(rows: Sequence[Row], why: str) -> Table:
    comparable, same_library = rows[0].comparable, rows[0].cmsis_share is not None
    table = Table("network")
    for heading in ("published ms", "modelled ms", "ratio", *(["in CMSIS-NN"] if same_library else [])):
        table.add_column(heading, justify="right")
    if comparable:
        table.add_column("inside")
    table.add_column("source (who, on which board)", overflow="fold")
    table.title, table.title_justify = f"{'comparable' if comparable else 'not comparable'}: {why}", "left"
    if comparable:
        table.caption, table.caption_justify = (
            ("inside: the published figure is in the model's interval; in CMSIS-NN: part of our cycles in its kernels"),
            "left",
        )
    for row in rows:
        figure = row.published
        assert row.modelled is not None
        table.add_row(
            figure.model.removesuffix(".tflite"), f"{figure.milliseconds:,.4g}", milliseconds_text(row.modelled),
            f"{row.ratio:.2f}", *([] if row.cmsis_share is None else [f"{row.cmsis_share:.0%}"]),
            *([Text("yes") if row.inside else Text("no", "red")] if comparable else []), figure.source,
        )  # fmt: skip
    return table


def _count_table(rows: Sequence[Row]) -> Table:
    table = Table("figures", "not compared because", box=None)
    reasons = sorted({row.why for row in rows})
    for reason in reasons:
        table.add_row(str(sum(row.why == reason for row in rows)), reason)
    return table


def cycle_table(measurements: Sequence[Measurement]) -> Table:
    """Where the cycles of each network's middle inference go, in per cent of the board's."""
    found = [(item, item.modelled) for item in measurements if item.modelled is not None]
    parts = dict.fromkeys(part for _, modelled in found for part in modelled.shares)
    percents = {part: [100 * modelled.shares.get(part, 0) / modelled.median for _, modelled in found] for part in parts}
    shown = {part: column for part, column in percents.items() if any(abs(percent) >= 0.05 for percent in column)}
    table = Table("network", "board", "cycles", *shown)
    table.title_justify = table.caption_justify = "left"
    table.title = "where the cycles go, in per cent"
    table.caption = "one cycle an instruction, by class; pipeline: what it takes beyond that, or (dual issue) saves"
    for column in table.columns[2:]:
        column.justify = "right"
    for number, (item, modelled) in enumerate(found):
        cells = (f"{column[number]:.1f}" for column in shown.values())
        table.add_row(item.model, item.identity.board, f"{modelled.median:,}", *cells)
    return table
