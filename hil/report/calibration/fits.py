"""Figures about the two fits: predicted against measured, relative errors, and the distribution of the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from hil.calibration.result import CalibrationResult, Metrics
from hil.report.calibration.latency import NOTHING, dots
from hil.report.calibration.series import Array, Series
from hil.report.charts import axes, numbers, svg
from hil.report.charts.axes import Panel
from hil.report.charts.scale import linear_ticks, needs_log, padded_range

SMALL_ERROR = 0.15  # an axis that ends here or before is even
LEAST_ERROR_AXIS = 0.002
ERROR_TICKS = (-1.0, -0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
ERROR_STRETCH = 0.03  # errors below are drawn evenly, errors above by logarithm
MOST_ERROR = 10.0  # no axis goes further, +1000 %
LEAST_SPREAD = 1e-5  # the axis of absolute errors does not start below
TOLERANCE = 0.10  # the band that the target speaks of
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class View:
    """One fit as the figures show it. Arrays float64 of shape (n,)."""

    key: str  # also the class its marks are coloured by
    title: str
    metrics: Metrics
    predicted: Array
    error: Array
    has_interval: bool


def views_of(result: CalibrationResult, series: Series) -> tuple[View, View]:
    """The MACs-only and the per-operator fit."""
    return (
        View("mac", "MACs only", result.mac_only.metrics, series.predicted_mac, series.error_mac, False),
        View("op", "Per operator", result.per_operator.metrics, series.predicted_op, series.error_op, True),
    )


def agreement_figure(view: View, series: Series, unit: str) -> Markup:
    """Predicted against measured; both fits get the same axes."""
    ident, name = f"agreement-{view.key}", f"Predicted against measured, {view.title}"
    if not len(series):
        return svg.empty(ident, axes.WIDTH, 200, view.title, NOTHING)
    values = np.concatenate([series.measured, series.predicted_mac, series.predicted_op]).tolist()
    log = needs_log(values)
    span = padded_range(values, log)
    area = axes.panel(ident, span, span, log_x=log, log_y=log, height=392)
    points = [(area.x(x), area.y(y)) for x, y in zip(series.measured, view.predicted, strict=True)]
    description = (
        f"{numbers.plural(len(series), 'network')}; mean absolute error {numbers.percent(view.metrics.mape)}, "
        f"{numbers.share(view.metrics.within_10pct)} within 10 per cent."
    )
    ticks = area.x.ticks(6)
    return svg.drawing(
        ident, area.width, area.height, name, description,
        area.header(view.title, f"Predicted, {unit}", f"{view.key}-ink"),
        area.x_ticks(ticks), area.y_ticks(ticks), area.base_line(), area.x_name(f"Measured, {unit}"),
        area.clipped(
            area.band(1 - TOLERANCE, 1 + TOLERANCE, "band"), area.curve(lambda measured: measured, "identity"),
            _intervals(area, series) if view.has_interval else "", dots(points, view.key),
        ),
        svg.text(area.left + 12, area.top + 20, f"MAPE {numbers.percent(view.metrics.mape)}", "strong halo"),
        svg.text(area.left + 12, area.top + 38, f"{numbers.share(view.metrics.within_10pct)} within 10 %",
                 "note halo"),
    )  # fmt: skip


def _intervals(area: Panel, series: Series) -> Markup:
    rows = zip(series.measured, series.low, series.high, strict=True)
    return _hairlines([(area.x(x), area.y.clamped(low), area.y.clamped(high)) for x, low, high in rows], "interval")


def _hairlines(rows: Sequence[tuple[float, float, float]], class_: str) -> Markup:
    """Vertical lines (x, first y, last y), all in one path."""
    if not rows:
        return Markup("")
    at = svg.coordinate
    return svg.tag("path", d="".join(f"M{at(x)} {at(first)}V{at(last)}" for x, first, last in rows), class_=class_)


@dataclass(frozen=True, slots=True)
class ErrorAxis:
    """Range of relative errors and its ticks; `stretch` as in `Scale`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    stretch: float


def error_axis(view: View, series: Series) -> ErrorAxis:
    """Even where all errors are small; otherwise widened near zero, so that small and huge ones can both be read."""
    bounds = [series.low / series.measured - 1, series.high / series.measured - 1] if view.has_interval else []
    everything = np.concatenate([view.error, *bounds])
    worst = float(np.abs(everything).max())
    if worst <= SMALL_ERROR:
        end = max(worst * 1.15, LEAST_ERROR_AXIS)
        return ErrorAxis(-end, end, linear_ticks(-end, end, 7), 0.0)
    low = max(min(float(everything.min()) * 1.1, -1.5 * TOLERANCE), -1.0)
    high = min(max(float(everything.max()) * 1.1, 1.5 * TOLERANCE), MOST_ERROR)
    return ErrorAxis(low, high, tuple(tick for tick in ERROR_TICKS if low <= tick <= high), ERROR_STRETCH)


def error_figure(view: View, series: Series, unit: str) -> Markup:
    """Relative error against measured time; what lies beyond the axis is drawn as a triangle at its end."""
    ident, name = f"error-{view.key}", f"Relative error, {view.title}"
    if not len(series):
        return svg.empty(ident, axes.WIDTH, 200, view.title, NOTHING)
    axis, measured = error_axis(view, series), series.measured.tolist()
    log = needs_log(np.concatenate([series.measured, series.predicted_mac, series.predicted_op]).tolist())
    area = axes.panel(
        ident, padded_range(measured, log), (axis.low, axis.high), log_x=log, height=324, stretch_y=axis.stretch
    )
    rows = [(area.x(x), error) for x, error in zip(measured, view.error.tolist(), strict=True)]
    inside = [(x, area.y(error)) for x, error in rows if error <= axis.high]
    outside = [x for x, error in rows if error > axis.high]
    y_name = f"Relative error of the prediction{' (axis widened near 0)' if axis.stretch else ''}"
    top, bottom = area.y.clamped(TOLERANCE), area.y.clamped(-TOLERANCE)
    description = (
        f"{numbers.plural(len(rows), 'network')}; errors from {numbers.percent(float(view.error.min()), signed=True)} "
        f"to {numbers.percent(float(view.error.max()), signed=True)}."
    )
    return svg.drawing(
        ident, area.width, area.height, name, description,
        area.header(view.title, y_name, f"{view.key}-ink"),
        area.x_ticks(area.x.ticks(6)), area.y_ticks(axis.ticks, _signed), area.x_name(f"Measured, {unit}"),
        svg.rect(area.left, top, area.right - area.left, bottom - top, "band"),
        svg.line(area.left, area.y(0), area.right, area.y(0), "identity"),
        _error_intervals(area, series) if view.has_interval else "",
        dots(inside, view.key), _beyond(area, outside, view.key),
    )  # fmt: skip


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{'+' if value > 0 else numbers.MINUS}{abs(value) * 100:.4g}{numbers.NBSP}%"


def _error_intervals(area: Panel, series: Series) -> Markup:
    """Lines of the 95 % interval; those that miss the measured time get a class of their own."""
    covered: list[tuple[float, float, float]] = []
    missed: list[tuple[float, float, float]] = []
    for x, low, high in zip(series.measured, series.low, series.high, strict=True):
        row = (area.x(x), area.y.clamped(low / x - 1.0), area.y.clamped(high / x - 1.0))
        (covered if low <= x <= high else missed).append(row)
    return _hairlines(covered, "interval") + _hairlines(missed, "interval missed")


def _beyond(area: Panel, outside: Sequence[float], class_: str) -> Markup:
    """Triangles that point out of the upper end of the plot area, and how many there are."""
    if not outside:
        return Markup("")
    marks = "".join(f"M{svg.coordinate(x - 3)} {svg.coordinate(area.top + 5)}h6l-3 -5z" for x in outside)
    label = svg.text(area.right, 14, f"{len(outside)} above {_signed(area.y.high)}", "note", "end")
    return svg.tag("path", d=marks, class_=class_) + label


def spread_figure(views: Sequence[View], series: Series) -> Markup:
    """Which share of the networks has at most a given absolute error: one curve a fit."""
    ident, name = "spread", "Share of networks by error"
    if not len(series):
        return svg.empty(ident, axes.WIDTH, 200, name, NOTHING)
    area = axes.panel(ident, _spread_range(views), (0.0, 1.0), log_x=True, height=300, right=14)
    description = "; ".join(
        f"{view.title}: {numbers.share(view.metrics.within_10pct)} within 10 per cent" for view in views
    )
    at = area.x(TOLERANCE)
    return svg.drawing(
        ident, area.width, area.height, name, description,
        area.header("Share of networks by error", "Networks with at most this error"),
        area.x_ticks(area.x.ticks(6), _plain_percent), area.y_ticks(SHARES, _plain_percent), area.base_line(),
        area.x_name("Absolute relative error"), svg.line(at, area.top, at, area.bottom, "marker"),
        *[_cumulative(area, view) for view in views], *_curve_labels(area, views),
    )  # fmt: skip


def _spread_range(views: Sequence[View]) -> tuple[float, float]:
    """From a decade below the smaller errors (room for a label) to beyond the largest, with the tolerance inside."""
    errors = [np.abs(view.error) for view in views]
    low = min(float(np.quantile(error, 0.05)) for error in errors) / 10
    high = max(float(error.max()) for error in errors) * 1.5
    return min(max(low, LEAST_SPREAD), TOLERANCE / 10), min(max(high, TOLERANCE * 8), MOST_ERROR)


def _plain_percent(value: float) -> str:
    return f"{value * 100:.4g}{numbers.NBSP}%"


def _cumulative(area: Panel, view: View) -> Markup:
    errors = np.sort(np.abs(view.error))
    before = int(np.searchsorted(errors, area.x.low))  # what is left of the axis has its share at once
    shown = errors[before:][errors[before:] <= area.x.high]
    points = [(area.left, area.y(before / len(errors)))]
    for position, error in enumerate(shown.tolist(), start=before + 1):
        points.append((area.x(error), points[-1][1]))
        points.append((points[-1][0], area.y(position / len(errors))))
    points.append((area.right, points[-1][1]))
    return svg.tag("path", d=svg.points_path(points), class_=f"curve {view.key}")


def _curve_labels(area: Panel, views: Sequence[View]) -> list[Markup]:
    """The better fit's label is above its curve at the left, the other's above its own where the tolerance is."""
    at = area.x(TOLERANCE)
    ranked = sorted(views, key=lambda view: float(np.median(np.abs(view.error))))
    parts = [svg.text(at + 6, area.bottom - 7, "within 10 %", "note halo")]
    for view, better in zip(ranked, (True, False), strict=True):
        part = float((np.abs(view.error) <= TOLERANCE).mean())
        x, y = (area.left + 10, area.top + 22) if better else (at - 8, max(area.y(part) - 26, area.top + 22))
        anchor = "start" if better else "end"
        parts.append(svg.tag("circle", cx=at, cy=area.y(part), r=3.4, class_=f"knob {view.key}"))
        parts.append(svg.text(x, y, view.title, f"strong halo {view.key}-ink", anchor))
        parts.append(svg.text(x, y + 16, numbers.share(part), f"halo {view.key}-ink", anchor))
    return parts
