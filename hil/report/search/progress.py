"""Progress of a search over time: every trial a dot, the best network within the bounds a line."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from hil.report.charts import axes, numbers, svg
from hil.report.charts.axes import Panel
from hil.report.search.series import error_floor, error_range, error_tick, error_ticks, is_error
from hil.search.result import Point, SearchResult

MARK_LIMIT = 2000  # above, dots have no hover text, to keep the file small
LONGEST_S = 1e9
NOTHING = "no trial was trained"


WIDE = axes.FigureSize("progress", 960, 420, 10)
NARROW = axes.FigureSize("progress-narrow", axes.WIDTH, 380, 5)


def best_so_far(points: Sequence[Point], *, feasible: bool) -> tuple[tuple[float, float], ...]:
    """(time in seconds, error) of every point that beat all before it, by time; of the feasible ones, or of all that
    were trained to the end."""
    steps: list[tuple[float, float]] = []
    for item in sorted(drawable(points), key=lambda item: (item.finished_s, item.index)):
        counts = item.feasible if feasible else not item.stopped
        if item.error is not None and counts and (not steps or item.error < steps[-1][1]):
            steps.append((item.finished_s, item.error))
    return tuple(steps)


def drawable(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that have an error and a time that can be drawn."""
    return tuple(item for item in points if is_error(item.error) and is_time(item.finished_s))


def is_time(seconds: float) -> bool:
    """Whether something can have finished after so many seconds."""
    return 0 <= seconds < LONGEST_S


def time_unit(seconds: float) -> tuple[float, str]:
    """(seconds in the unit, its name) for an axis of `seconds` length."""
    if seconds < 180:
        return 1.0, "s"
    return (60.0, "min") if seconds < 4 * 3600 else (3600.0, "h")


def progress_figure(result: SearchResult, form: axes.FigureSize) -> Markup:
    """Error of every trial by the time it finished, and the best so far within all bounds."""
    name = "Validation error over the time of the search"
    points = drawable(result.points)
    if not points:
        return svg.empty(form.ident, form.width, 200, name, NOTHING)
    last_s = max(item.finished_s for item in result.points if is_time(item.finished_s))
    span, unit = time_unit(last_s)
    low, high, log = error_range([item.error or 0.0 for item in points], result.bounds.get("error"))
    area = axes.panel(
        form.ident, (0.0, last_s / span * 1.01 or 1.0), (low, high), log_y=log, width=form.width, height=form.height,
        top=30, right=24,
    )  # fmt: skip
    steps = best_so_far(points, feasible=True)
    best = f"; the best within all bounds {numbers.percent(steps[-1][1])}" if steps else "; none within all bounds"
    description = f"{numbers.plural(len(points), 'trial')} in {numbers.seconds(result.seconds)}{best}."
    return svg.drawing(
        form.ident, area.width, area.height, name, description,
        svg.text(0, area.top - 12, f"Validation error of the int8 network{_far_bound(area, result)}", "axis-name"),
        svg.text(area.right, area.top - 12, "computed on the host", "note", "end") if form == WIDE else "",
        area.x_ticks(area.x.ticks(form.ticks), grid=False), area.y_ticks(error_ticks(area.y), error_tick),
        area.base_line(), area.x_name(f"Time of the search, {unit}"),
        _failures(area, result.points, span), _marks(area, points, span, titles=form == WIDE),
        _best_line(area, steps, span), _bound(area, result.bounds.get("error")),
    )  # fmt: skip


def point_title(item: Point) -> str:
    """Hover text of a trial."""
    error = numbers.percent(item.error) if item.error is not None else numbers.MISSING
    text = f"#{item.index}: error {error}"
    if item.resources is not None:
        found = item.resources
        text += f", RAM {numbers.size(found.ram)}, flash {numbers.size(found.flash)}, "
        text += f"{numbers.significant(found.macs)} MACs"
    if item.sparsity > 0:
        text += f", pruned by {numbers.percent(item.sparsity)}"
    return text + (f", stopped after epoch {item.epochs}" if item.stopped else "")


def circle(x: float, y: float, radius: float, class_: str, title: str | None) -> Markup:
    """A dot with its hover text."""
    inside = () if title is None else (svg.title(title),)
    return svg.tag("circle", *inside, cx=x, cy=y, r=radius, class_=class_)


def trial_class(item: Point) -> str:
    """Class of a trial's dot: hollow when stopped, coloured when within all bounds."""
    return "trial stopped" if item.stopped else "trial within" if item.feasible else "trial"


def radius_of(marks: int) -> float:
    """Radius of the dots of a figure with so many."""
    return 3.0 if marks <= 120 else 2.5 if marks <= 600 else 2.0


def _marks(area: Panel, points: Sequence[Point], span: float, *, titles: bool) -> Markup:
    titles = titles and len(points) <= MARK_LIMIT
    radius = radius_of(len(points))
    ordered = sorted(points, key=lambda item: (not item.stopped, item.feasible))  # the important ones on top
    return svg.join(
        circle(
            area.x(item.finished_s / span), area.y(error_floor(item.error)), radius, trial_class(item),
            point_title(item) if titles else None,
        )
        for item in ordered
    )  # fmt: skip


def _failures(area: Panel, points: Sequence[Point], span: float) -> Markup:
    """A tick on the time axis for every failed trial."""
    at = [area.x(item.finished_s / span) for item in points if item.status == "failed" and is_time(item.finished_s)]
    if not at:
        return Markup("")
    marks = "".join(f"M{svg.coordinate(x)} {svg.coordinate(area.bottom)}v-9" for x in at)
    return svg.tag("path", svg.title(numbers.plural(len(at), "failed trial")), d=marks, class_="failed")


def _best_line(area: Panel, steps: Sequence[tuple[float, float]], span: float) -> Markup:
    if not steps:
        return svg.text(area.right - 6, area.top + 16, "none is within all bounds yet", "strong halo budget-ink", "end")
    points: list[tuple[float, float]] = []
    for seconds, error in steps:
        x, y = area.x(seconds / span), area.y(error_floor(error))
        if points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    points.append((area.right, points[-1][1]))
    y = points[-1][1]
    label = svg.text(
        area.right - 4, y + 17 if y + 24 < area.bottom else y - 8,
        f"best within all bounds {numbers.percent(steps[-1][1])}", "strong halo op-ink", "end",
    )  # fmt: skip
    return svg.tag("path", d=svg.points_path(points), class_="curve op") + label


def _far_bound(area: Panel, result: SearchResult) -> str:
    bound = result.bounds.get("error")
    if bound is None or area.y.low <= error_floor(bound) <= area.y.high:
        return ""
    return f"; the bound of {numbers.percent(bound)} is off the axis"


def _bound(area: Panel, bound: float | None) -> Markup:
    if bound is None or not area.y.low <= error_floor(bound) <= area.y.high:
        return Markup("")
    y = area.y(error_floor(bound))
    label = svg.text(area.left + 8, y - 5, f"bound {numbers.percent(bound)}", "budget-ink halo")
    return svg.line(area.left, y, area.right, y, "budget") + label
