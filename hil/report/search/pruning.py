"""What pruning did: sizes of each pruned trial before and after, and two runs beside each other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from hil.errors import UsageError
from hil.report.charts import axes, numbers, svg
from hil.report.charts.tables import Column, Table
from hil.report.search.pareto import ERROR_NAME, HEIGHT, front_line
from hil.report.search.progress import circle, point_title, radius_of
from hil.report.search.series import (
    PlottedMetric,
    Trial,
    error_range,
    error_tick,
    error_ticks,
    full_trials,
    metrics_of,
    origin,
    size_scale_range,
    staircase,
    ticks_of,
    trials_of,
    weights_metric,
)
from hil.search.result import Point, SearchResult

SPARSITY_BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MOST_TITLES = 400


def pruned_points(result: SearchResult) -> tuple[Point, ...]:
    """The trials that pruning took channels from, trained to the end."""
    return tuple(item for item in result.points if item.drawn is not None and item.error is not None
                 and not item.stopped)  # fmt: skip


def pruning_metrics(result: SearchResult) -> tuple[PlottedMetric, PlottedMetric]:
    """What before and after are drawn in: weights, and latency (MACs without a calibration)."""
    known = {item.key: item for item in metrics_of(result)}
    return weights_metric(result), known.get("latency", known["macs"])


def pruning_figure(result: SearchResult, metric: PlottedMetric) -> Markup:
    """A line for each pruned trial, from its size as drawn to its size as emitted, at its error."""
    ident, name = f"pruning-{metric.key}", f"{metric.name} before and after pruning"
    points = pruned_points(result)
    before, after = trials_of(points, metric, drawn=True), trials_of(points, metric)
    if not after or len(before) != len(after):
        return svg.empty(ident, axes.WIDTH, 200, name, "no trial was pruned")
    low, high, log = size_scale_range([item.x for item in (*before, *after)], None)
    bottom, top, log_y = error_range([item.error for item in after], None)
    area = axes.panel(ident, (low, high), (bottom, top), log_x=log, log_y=log_y, height=HEIGHT, right=24)
    ratio = statistics.median(small.x / large.x for small, large in zip(after, before, strict=True) if large.x > 0)
    text = f"median {numbers.percent(ratio)} of the size as drawn"
    return svg.drawing(
        ident, area.width, area.height, name, f"{numbers.plural(len(after), 'pruned trial')}; {text}.",
        area.header(metric.name, f"{ERROR_NAME}; {text}"),
        svg.text(area.right, 14, _origin(result, metric), "note", "end"),
        area.x_ticks(ticks_of(area.x, metric, 6), metric.tick), area.y_ticks(error_ticks(area.y), error_tick),
        area.base_line(), area.x_name(metric.axis_name), _shrinkings(area, before, after),
    )  # fmt: skip


def _origin(result: SearchResult, metric: PlottedMetric) -> str:
    return origin(result, metric).partition(";")[0]  # there are no finalists in this figure


def _shrinkings(area: axes.Panel, before: Sequence[Trial], after: Sequence[Trial]) -> Markup:
    lines, marks, radius = [], [], radius_of(len(after))
    for large, small in zip(before, after, strict=True):
        y = area.y(small.error)
        lines.append(f"M{svg.coordinate(area.x(large.x))} {svg.coordinate(y)}H{svg.coordinate(area.x(small.x))}")
        marks.append(circle(area.x(large.x), y, radius - 0.6, "trial drawn", None))
        title = point_title(small.point) if len(after) <= MOST_TITLES else None
        marks.append(circle(area.x(small.x), y, radius, "trial within", title))
    return svg.tag("path", d="".join(lines), class_="shrink") + svg.join(marks)


def sparsity_table(result: SearchResult) -> Table:
    """What was left of the pruned trials, by how much was to be removed."""
    points = pruned_points(result)
    rows = []
    for low, high in pairwise(SPARSITY_BINS):
        chosen = [item for item in points if low < item.sparsity <= high]
        if chosen:
            rows.append(_sparsity_row(chosen, low, high))
    columns = (
        Column("Channels to remove"), Column("Trials", "number"), Column("Weights left, median", "number"),
        Column("MACs left, median", "number"), Column("RAM left, median", "number"), Column("Smallest error", "number"),
    )  # fmt: skip
    return Table("Pruned trials by sparsity", columns, tuple(rows))


def _sparsity_row(points: Sequence[Point], low: float, high: float) -> tuple[str, ...]:
    def left(key: str) -> str:
        parts = [
            getattr(item.resources, key) / getattr(item.drawn, key)
            for item in points
            if item.resources is not None and getattr(item.drawn, key) > 0
        ]
        return numbers.percent(statistics.median(parts)) if parts else numbers.MISSING

    errors = [item.error for item in points if item.error is not None]
    return (
        f"{low * 100:.0f} to {high * 100:.0f}{numbers.NBSP}%", numbers.count(len(points)), left("flash_weights"),
        left("macs"), left("ram"), numbers.percent(min(errors)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Side:
    """One of two runs: the class its marks are coloured by, and what to call it."""

    key: str
    name: str
    result: SearchResult


def is_pruned(result: SearchResult) -> bool:
    """Whether the run pruned its trials."""
    return result.settings.get("sparsity") is not None or any(item.sparsity > 0 for item in result.points)


def sides_of(result: SearchResult, beside: SearchResult) -> tuple[Side, Side]:
    """Both runs, named by what tells them apart. Raises UsageError where they cannot be compared."""
    for what, here, there in (
        ("data set", result.dataset, beside.dataset),
        ("data's SHA-256", result.dataset_sha256, beside.dataset_sha256),
        ("unit of latency", result.unit, beside.unit),
    ):
        if here != there:
            raise UsageError(f"the run beside cannot be compared: its {what} is {there!r}, here it is {here!r}")
    result.identity.require_same(beside.identity, "the run beside")
    names = ["with pruning" if is_pruned(item) else "without pruning" for item in (result, beside)]
    if names[0] == names[1]:
        names = [f"this run, seed {result.seed}", f"other run, seed {beside.seed}"]
    return Side("op", names[0], result), Side("mac", names[1], beside)


def beside_metrics(result: SearchResult) -> tuple[PlottedMetric, PlottedMetric]:
    """The resources in which two runs are compared."""
    return weights_metric(result), metrics_of(result)[0]


def beside_figure(sides: Sequence[Side], metric: PlottedMetric, prefix: str = "") -> Markup:
    """The fronts of two runs in one plot, on networks trained to the end. `prefix` tells a page's figures apart."""
    ident, name = f"{prefix}beside-{metric.key}", f"Error against {metric.name}"
    trials = [full_trials(trials_of(side.result.points, metric)) for side in sides]
    everything = [item for part in trials for item in part]
    if not all(trials):
        return svg.empty(ident, axes.WIDTH, 200, metric.name, "one of the runs has no network")
    low, high, log = size_scale_range([item.x for item in everything], None)
    bottom, top, log_y = error_range([item.error for item in everything], None)
    area = axes.panel(ident, (low, high), (bottom, top), log_x=log, log_y=log_y, height=HEIGHT, right=24)
    fronts = [staircase(part) for part in trials]
    radius = radius_of(len(everything)) - 0.4
    marks = [
        svg.tag("g", *(circle(area.x(item.x), area.y(item.error), radius, side.key, None) for item in part),
                class_="dots")
        for side, part in zip(sides, trials, strict=True)
    ]  # fmt: skip
    return svg.drawing(
        ident, area.width, area.height, name, "; ".join(f"{side.name}: {numbers.plural(len(part), 'network')}"
                                                        for side, part in zip(sides, trials, strict=True)) + ".",
        area.header(metric.name, ERROR_NAME),
        svg.text(area.right, 14, _origin(sides[0].result, metric), "note", "end"),
        area.x_ticks(ticks_of(area.x, metric, 6), metric.tick), area.y_ticks(error_ticks(area.y), error_tick),
        area.base_line(), area.x_name(metric.axis_name), *marks,
        *(front_line(area, front, f"curve {side.key}") for side, front in zip(sides, fronts, strict=True)),
        _legend(area, sides),
    )  # fmt: skip


def _legend(area: axes.Panel, sides: Sequence[Side]) -> Markup:
    return svg.join(
        svg.text(area.right - 6, area.top + 14 + 17 * row, side.name, f"strong halo {side.key}-ink", "end")
        for row, side in enumerate(sides)
    )


def beside_table(sides: Sequence[Side]) -> Table:
    """Smallest error of each run within the same size of weights."""
    fronts = [staircase(full_trials(trials_of(side.result.points, weights_metric(side.result)))) for side in sides]
    rows = []
    if all(fronts):
        largest, smallest = max(front[-1].x for front in fronts), min(front[0].x for front in fronts)
        size = 2.0 ** max(int(smallest).bit_length(), 1)
        while size < largest * 2:
            rows.append((f"≤ {numbers.size(size)}", *_errors_at(fronts, size)))
            size *= 2
    columns = (Column("Weights in flash"), *(Column(f"Error {side.name}", "number") for side in sides),
               Column("Difference", "number"))  # fmt: skip
    note = "Smallest int8 validation error of a network trained to the end. " + "; ".join(
        f"{side.name}: {numbers.plural(len(side.result.points), 'trial')}, effort "
        f"{side.result.settings.get('effort', numbers.MISSING)}, seed {side.result.seed}, "
        f"{numbers.seconds(side.result.seconds)}"
        for side in sides
    )
    return Table("Smallest error within a size", columns, tuple(rows), f"{note}.")


def _errors_at(fronts: Sequence[Sequence[Trial]], size: float) -> tuple[str, ...]:
    best = [min((item.error for item in front if item.x <= size), default=None) for front in fronts]
    cells = [numbers.MISSING if error is None else numbers.percent(error) for error in best]
    first, second = best
    if first is None or second is None:
        return (*cells, numbers.MISSING)
    return (*cells, numbers.percent(first - second, signed=True))
