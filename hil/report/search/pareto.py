"""Error against each resource: all trials, their front, the bounds, and the finalists as measured."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from hil.report.charts import axes, numbers, svg
from hil.report.charts.axes import Panel
from hil.report.search.progress import MARK_LIMIT, NOTHING, circle, point_title, radius_of, trial_class
from hil.report.search.series import (
    PlottedMetric,
    Trial,
    bound_of,
    error_floor,
    error_range,
    error_tick,
    error_ticks,
    full_trials,
    is_error,
    is_size,
    origin,
    size_scale_range,
    staircase,
    ticks_of,
    trials_of,
)
from hil.search.result import Finalist, SearchResult

HEIGHT = 372.0
ERROR_NAME = "Validation error, int8"


def pareto_figure(result: SearchResult, metric: PlottedMetric, *, compact: bool) -> Markup:
    """Error against one resource. `compact` figures have no hover text."""
    ident, name = f"pareto-{metric.key}", f"Error against {metric.name}"
    trials = trials_of(result.points, metric)
    if not trials:
        return svg.empty(ident, axes.WIDTH, 200, metric.name, NOTHING)
    finalists = [
        item for item in result.finalists if is_size(metric.finalist_value(item)) and is_error(item.mean_error)
    ]
    area = _area(ident, result, metric, trials, finalists)
    front = staircase(full_trials(trials))
    description = (
        f"{numbers.plural(len(trials), 'trial')}; the front has {len(front)}, from "
        f"{metric.form(front[0].x)} at an error of {numbers.percent(front[0].error)} to "
        f"{metric.form(front[-1].x)} at {numbers.percent(front[-1].error)}."
    )
    return svg.drawing(
        ident, area.width, area.height, name, description,
        area.header(metric.name, _y_name(area, result, metric)),
        svg.text(area.right, 14, origin(result, metric), "note", "end"),
        _feasible_corner(area, bound_of(result, metric), result.bounds.get("error")),
        area.x_ticks(ticks_of(area.x, metric, 6), metric.tick), area.y_ticks(error_ticks(area.y), error_tick),
        area.base_line(), area.x_name(metric.axis_name),
        _marks(area, trials, titles=not compact and len(trials) <= MARK_LIMIT), front_line(area, front, "front"),
        _bounds(area, bound_of(result, metric), result.bounds.get("error"), metric),
        _finalists(area, result, metric, finalists),
    )  # fmt: skip


def _y_name(area: Panel, result: SearchResult, metric: PlottedMetric) -> str:
    size = bound_of(result, metric)
    hidden = size is not None and not area.x.low < size < area.x.high
    return f"{ERROR_NAME}; the bound of {metric.form(size or 0.0)} is off the axis" if hidden else ERROR_NAME


def _area(
    ident: str, result: SearchResult, metric: PlottedMetric, trials: Sequence[Trial], finalists: Sequence[Finalist]
) -> Panel:
    sizes = [item.x for item in trials] + [metric.finalist_value(item) or 0.0 for item in finalists]
    low, high, log = size_scale_range(sizes, bound_of(result, metric))
    errors = [item.error for item in trials] + [
        error for item in finalists for _, error in item.seed_errors if is_error(error)
    ]
    bottom, top, log_y = error_range(errors, result.bounds.get("error"))
    return axes.panel(ident, (low, high), (bottom, top), log_x=log, log_y=log_y, height=HEIGHT, right=24)


def front_line(area: Panel, front: Sequence[Trial], class_: str) -> Markup:
    """The front as a staircase: what is above and right of it is beaten."""
    if not front:
        return Markup("")
    points = [(area.x(front[0].x), area.top)]
    for item in front:
        points.append((area.x(item.x), points[-1][1]))
        points.append((area.x(item.x), area.y(item.error)))
    points.append((area.right, points[-1][1]))
    return svg.tag("path", d=svg.points_path(points), class_=class_)


def _marks(area: Panel, trials: Sequence[Trial], *, titles: bool) -> Markup:
    ordered = sorted(trials, key=lambda item: (not item.point.stopped, item.point.feasible))
    radius = radius_of(len(trials))
    return svg.join(
        circle(area.x(item.x), area.y(item.error), radius, trial_class(item.point),
               point_title(item.point) if titles else None)
        for item in ordered
    )  # fmt: skip


def _feasible_corner(area: Panel, size: float | None, error: float | None) -> Markup:
    """What both bounds of this figure allow, shaded; the other bounds are not in it."""
    right = area.x.clamped(size) if size is not None and is_size(size) else area.right
    top = area.y.clamped(error_floor(error)) if is_error(error) else area.top
    if not (is_size(size) or is_error(error)):
        return Markup("")
    return svg.rect(area.left, top, right - area.left, area.bottom - top, "band")


def _bounds(area: Panel, size: float | None, error: float | None, metric: PlottedMetric) -> Markup:
    parts = []
    if size is not None and area.x.low < size < area.x.high:
        x = area.x(size)
        anchor, shift = ("end", -6) if x > (area.left + area.right) / 2 else ("start", 6)
        parts.append(svg.line(x, area.top, x, area.bottom, "budget"))
        # at the bottom where the line of the other bound, and its label, would be in the way
        near_top = error is not None and area.y.clamped(error_floor(error)) < area.top + 30
        y = area.bottom - 8 if near_top else area.top + 12
        parts.append(svg.text(x + shift, y, f"bound {metric.form(size)}", "budget-ink halo", anchor))
    if error is not None and area.y.low < error_floor(error) < area.y.high:
        y = area.y(error_floor(error))
        parts.append(svg.line(area.left, y, area.right, y, "budget"))
        parts.append(svg.text(area.right - 4, y - 5, f"bound {numbers.percent(error)}", "budget-ink halo", "end"))
    return svg.join(parts)


def _finalists(area: Panel, result: SearchResult, metric: PlottedMetric, finalists: Sequence[Finalist]) -> Markup:
    """A diamond for each finalist at its mean error, with a line from its best to its worst seed."""
    parts = []
    for item in sorted(finalists, key=lambda item: item.index == result.winner):
        value = metric.finalist_value(item)
        assert value is not None
        x, y = area.x.clamped(max(value, area.x.low)), area.y.clamped(error_floor(item.mean_error))
        errors = [error_floor(error) for _, error in item.seed_errors if is_error(error)] or [item.mean_error]
        won = item.index == result.winner
        parts += [svg.line(x, area.y.clamped(min(errors)), x, area.y.clamped(max(errors)), "seeds"),
                  _diamond(x, y, won, _member_title(item, metric, value))]  # fmt: skip
    return svg.tag("g", *parts, class_="finals") if parts else Markup("")


def _diamond(x: float, y: float, won: bool, title: str) -> Markup:
    half = 6.5 if won else 4.8
    corners = [(x, y - half), (x + half, y), (x, y + half), (x - half, y)]
    class_ = "final winner" if won else "final"
    return svg.tag("path", svg.title(title), d=svg.points_path(corners, closed=True), class_=class_)


def _member_title(item: Finalist, metric: PlottedMetric, value: float) -> str:
    how = "predicted" if metric.measured(item) is None else "measured"
    return (
        f"#{item.index}: {metric.name} {metric.form(value)} {how}, error {numbers.percent(item.mean_error)} "
        f"over {numbers.plural(len(item.seed_errors), 'seed')}"
    )
