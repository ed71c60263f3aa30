"""MACs against latency: the µNAS figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from hil.calibration.result import CalibrationResult, Fit, SampleResult
from hil.report.calibration.series import Series
from hil.report.charts import axes, numbers, svg
from hil.report.charts.scale import needs_log, padded_range

POINTS_WITH_TITLES = 2000  # above, a figure's points have no hover text, to keep the file small
RADII = ((100, 3.2), (400, 2.6))  # (up to so many points, radius in drawing units)
SMALLEST_RADIUS = 2.1
NOTHING = "nothing to draw"


def dots(points: Sequence[tuple[float, float]], class_: str, titles: Sequence[str] | None = None) -> Markup:
    """A circle for each of `points` (drawing units), each with its hover text when `titles` are given."""
    marks = []
    radius = next((radius for most, radius in RADII if len(points) <= most), SMALLEST_RADIUS)
    for index, (x, y) in enumerate(points):
        inside = (svg.title(titles[index]),) if titles is not None else ()
        marks.append(svg.tag("circle", *inside, cx=x, cy=y, r=radius))
    return svg.tag("g", svg.join(marks), class_=f"dots {class_}")


WIDE = axes.FigureSize("macs", 960, 460, 8)
NARROW = axes.FigureSize("macs-narrow", axes.WIDTH, 392, 6)


def macs_figure(result: CalibrationResult, series: Series, r2: float, form: axes.FigureSize) -> Markup:
    """MACs against measured time, the line of the MACs-only fit, and `r2` of a straight line through all points."""
    name = "MACs against measured latency"
    if not len(series):
        return svg.empty(form.ident, form.width, 200, name, NOTHING)
    macs, measured = series.macs.tolist(), series.measured.tolist()
    log = needs_log(macs) or needs_log(measured)
    area = axes.panel(
        form.ident, padded_range(macs, log), padded_range(measured, log), log_x=log, log_y=log, width=form.width,
        height=form.height, top=30,
    )  # fmt: skip
    titles = None
    if form == WIDE and len(series) <= POINTS_WITH_TITLES:
        titles = [_point_title(sample, result.unit) for sample in series.samples]
    points = [(area.x(x), area.y(y)) for x, y in zip(macs, measured, strict=True)]
    description = (
        f"Scatter plot of {numbers.plural(len(series), 'network')} on {'logarithmic' if log else 'linear'} axes; "
        f"R squared of a straight line is {numbers.fixed(r2, 3)}."
    )
    return svg.drawing(
        form.ident, area.width, area.height, name, description,
        svg.text(0, area.top - 12, f"Measured time, {result.unit}", "axis-name"),
        area.x_ticks(area.x.ticks(form.ticks)), area.y_ticks(area.y.ticks(form.ticks)), area.base_line(),
        area.x_name("MACs"),
        area.clipped(dots(points, "measured", titles), _law_curve(area, result.mac_only)),
        _notes(area, result, len(series), r2),
    )  # fmt: skip


def _notes(area: axes.Panel, result: CalibrationResult, networks: int, r2: float) -> Markup:
    left, top = area.left + 14, area.top + 26
    known = math.isfinite(r2)
    about = f"straight line through {numbers.plural(networks, 'network')}" if known else "too few networks for R²"
    lines = [svg.text(left, top, f"R² = {numbers.fixed(r2, 3)}", "big halo")] if known else []
    lines.append(svg.text(left, top + 20, about, "note halo"))
    law = law_text(result.mac_only, result.unit)
    if law:
        lines.append(svg.text(left, top + 38, f"line: {law}", "note halo mac-ink"))
    return svg.join(lines)


def _point_title(sample: SampleResult, unit: str) -> str:
    return (
        f"#{sample.index} {numbers.shorten(sample.summary, 90)}: {numbers.significant(sample.macs)} MACs, "
        f"{numbers.significant(sample.measured)} {unit}"
    )


def _coefficients(fit: Fit) -> tuple[float, float] | None:
    slope, intercept = fit.coefficients.get("macs", math.nan), fit.coefficients.get("intercept", 0.0)
    known = math.isfinite(slope) and math.isfinite(intercept) and slope > 0
    return (slope, intercept) if known else None


def law_text(fit: Fit, unit: str) -> str:
    """The MACs-only fit in words: ``9.12 instructions per MAC + 41.0 k``; empty when it has no coefficients."""
    known = _coefficients(fit)
    if known is None:
        return ""
    sign = "+" if known[1] > 0 else numbers.MINUS
    offset = f" {sign} {numbers.significant(abs(known[1]))}" if abs(known[1]) >= 0.5 else ""
    return f"{numbers.significant(known[0])} {unit} per MAC{offset}"


def _law_curve(area: axes.Panel, fit: Fit) -> Markup:
    known = _coefficients(fit)
    if known is None:
        return Markup("")
    slope, intercept = known
    return area.curve(lambda macs: intercept + slope * macs, "fit-line")
