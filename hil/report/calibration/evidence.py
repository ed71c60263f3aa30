"""The evidence for modelled cycles: published figures against the model's, by chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    shown = _milliseconds(points)
    if not shown:
        return svg.empty(ident, axes.WIDTH, 200, name, "no published figures")
    span = padded_range([value for point in shown for value in (point.published, point.modelled)], True)
    area = axes.panel(ident, span, span, log_x=True, log_y=True, width=axes.WIDTH * 1.5, height=392)
    ticks = area.x.ticks(6)
    marks = _marks(shown, lambda point: (area.x(point.published), area.y(point.modelled)))
    legend = []
    for index, chip in enumerate(_chips(shown)):
        at = area.top + 20 + 18 * index
        legend.append(dots([(area.left + 14, at - 4)], _key(index)))
        legend.append(svg.text(area.left + 24, at, chip, "note halo"))
    return svg.drawing(
        ident, area.width, area.height, name, _description(shown),
        area.header(name, "Modelled, ms"), area.x_ticks(ticks), area.y_ticks(ticks), area.base_line(),
        area.x_name("Published, ms"),
        area.clipped(
            area.band(1 - TOLERANCE, 1 + TOLERANCE, "band"), area.curve(lambda value: value, "identity"), *marks
        ),
        *legend,
    )  # fmt: skip


def errors_figure(points: Sequence[Point], intervals: Mapping[str, float]) -> Markup:
    """Error of every chip's figures over what was published, and the chip's interval (per cent, by its name)."""
    ident, name = "evidence-errors", "Error, by chip"
    shown = _milliseconds(points)
    if not shown:
        return svg.empty(ident, axes.WIDTH, 200, name, "no published figures")
    most = 1.1 * max(*(abs(point.error_pct) for point in shown), *intervals.values(), 1)
    times = padded_range([point.published for point in shown], True)
    area = axes.panel(ident, times, (-most, most), log_x=True, width=axes.WIDTH * 1.5, height=300, right=120)
    marks = _marks(shown, lambda point: (area.x(point.published), area.y(point.error_pct)))
    # One bar for each interval, behind the points' plot.
    bars = []
    for index, chip in enumerate(_chips(shown)):
        if (interval := intervals.get(chip)) is not None:
            at = area.right + 16 + 27 * index
            bars.append(svg.line(at, area.y(-interval), at, area.y(interval), "strip-interval"))
            bars.append(dots([(at, area.y(0))], _key(index)))
            bars.append(svg.text(at, area.y(interval) - 6, f"{interval:.1f}", "tick", "middle"))
    return svg.drawing(
        ident, area.width, area.height, name, _description(shown),
        area.header(name, "Modelled / published - 1, %"), area.x_ticks(area.x.ticks(6)), area.y_ticks(area.y.ticks(7)),
        svg.line(area.left, area.y(0), area.right, area.y(0), "identity"), area.base_line(),
        area.x_name("Published, ms; at the right the intervals"), area.clipped(*marks), *bars,
    )  # fmt: skip


def _milliseconds(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if point.unit == "ms"]


def _chips(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.about for point in points))


def _key(index: int) -> str:
    return KEYS[index % len(KEYS)]


def _marks(points: Sequence[Point], place: Callable[[Point], tuple[float, float]]) -> list[Markup]:
    """The points of each chip in its colour, with hover text."""
    marks = []
    for index, chip in enumerate(_chips(points)):
        own = [point for point in points if point.about == chip]
        marks.append(dots([place(point) for point in own], _key(index), [_title(point) for point in own]))
    return marks


def _title(point: Point) -> str:
    error = numbers.percent(point.error_pct / 100, signed=True)
    return f"{point.code}, {point.board}: {error}{'' if point.held_out else ' (in the fit)'}"


def _description(points: Sequence[Point]) -> str:
    worst = max(abs(point.error_pct) for point in points)
    found = numbers.plural(len(points), "published figure")
    return f"{found} of {', '.join(_chips(points))}; the worst is {worst:.1f} % off."


def evidence_table(points: Sequence[Point]) -> Table:
    """Errors by chip and core, in and out of the fit."""
    columns = (Column("Chip or core"), Column("Rows"), Column("", "number"), Column("Mean error", "number"),
               Column("Worst", "number"), Column("Inside the interval of other networks", "number"))  # fmt: skip
    return Table("Published figures beside the model", columns, tuple(_row(item) for item in errors_of(points)))


def _row(item: Errors) -> tuple[str, ...]:
    where = "out of the fit" if item.held_out else "in the fit"
    inside = "" if item.inside is None else f"{item.inside} of {item.count}"
    return item.about, where, str(item.count), f"{item.mean_pct:.1f} %", f"{item.max_pct:.1f} %", inside
