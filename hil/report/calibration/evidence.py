"""The evidence for modelled cycles: published figures against the model's, by chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from hil.cycle_model.evidence import Errors, Point, errors_of
from hil.report.calibration.latency import dots
from hil.report.charts import axes, numbers, svg
from hil.report.charts.scale import padded_range
from hil.report.charts.tables import Column, Table

KEYS: Final = ("mac", "op", "part weights", "part time", "part code", "part arena", "part static")
TOLERANCE = 0.05  # the band


def evidence_figure(points: Sequence[Point]) -> Markup:
    """Modelled against published milliseconds of every chip, a colour each; points in the fit are drawn too."""
    ident, name = "evidence-figure", "Published against modelled, by chip"
    shown = [point for point in points if point.unit == "ms"]
    if not shown:
        return svg.empty(ident, axes.WIDTH, 200, name, "no published figures")
    chips = list(dict.fromkeys(point.about for point in shown))
    span = padded_range([value for point in shown for value in (point.published, point.modelled)], True)
    area = axes.panel(ident, span, span, log_x=True, log_y=True, width=axes.WIDTH * 1.5, height=392)
    ticks = area.x.ticks(6)
    marks, legend = [], []
    for index, chip in enumerate(chips):
        key, own = KEYS[index % len(KEYS)], [point for point in shown if point.about == chip]
        titles = [f"{item.code}, {item.board}: {numbers.percent(item.error_pct / 100, signed=True)}" for item in own]
        marks.append(dots([(area.x(item.published), area.y(item.modelled)) for item in own], key, titles))
        at = area.top + 20 + 18 * index
        legend.append(dots([(area.left + 14, at - 4)], key))
        legend.append(svg.text(area.left + 24, at, chip, "note halo"))
    worst = max(abs(point.error_pct) for point in shown)
    return svg.drawing(
        ident, area.width, area.height, name,
        f"{numbers.plural(len(shown), 'published figure')} of {', '.join(chips)}; the worst is {worst:.1f} % off.",
        area.header(name, "Modelled, ms"), area.x_ticks(ticks), area.y_ticks(ticks), area.base_line(),
        area.x_name("Published, ms"),
        area.clipped(
            area.band(1 - TOLERANCE, 1 + TOLERANCE, "band"), area.curve(lambda value: value, "identity"), *marks
        ),
        *legend,
    )  # fmt: skip


def evidence_table(points: Sequence[Point]) -> Table:
    """Errors by chip and core, in and out of the fit."""
    columns = (Column("Chip or core"), Column("Rows"), Column("", "number"), Column("Mean error", "number"),
               Column("Worst", "number"))  # fmt: skip
    return Table("Published figures beside the model", columns, tuple(_row(item) for item in errors_of(points)))


def _row(item: Errors) -> tuple[str, ...]:
    where = "out of the fit" if item.held_out else "in the fit"
    return item.about, where, str(item.count), f"{item.mean_pct:.1f} %", f"{item.max_pct:.1f} %"
