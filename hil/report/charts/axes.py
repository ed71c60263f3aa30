"""A panel: plot area, grid, ticks, axis names. All figures with axes are drawn on one of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil.report.charts import numbers, svg
from hil.report.charts.scale import Scale

FAR_AWAY = 1e5  # drawing units; what is further off is not drawn
WIDTH, HEIGHT = 460.0, 372.0  # of a half-width panel, drawing units
CHAR_WIDTH = 6.4  # of a digit at the size of a tick label, drawing units; generous, fonts differ

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class FigureSize:
    """Size of a figure in drawing units, and the most ticks of its axes (of the time axis, where it has one)."""

    ident: str
    width: float
    height: float
    ticks: int


@dataclass(frozen=True, slots=True)
class Panel:
    """The plot area [left, right] x [top, bottom] of a drawing, and the scales that map data into it."""

    ident: str
    width: float
    height: float
    x: Scale
    y: Scale

    @property
    def left(self) -> float:
        """x of the plot area's left edge, in px."""
        return self.x.start

    @property
    def right(self) -> float:
        """x of its right edge, in px."""
        return self.x.stop

    @property
    def top(self) -> float:
        """y of its upper edge, in px."""
        return self.y.stop

    @property
    def bottom(self) -> float:
        """y of its lower edge, in px."""
        return self.y.start

    def clipped(self, *children: str) -> Markup:
        """`children`, cut off at the plot area."""
        area = svg.rect(self.left, self.top, self.right - self.left, self.bottom - self.top, "clip")
        clip = svg.tag("clipPath", area, id=f"{self.ident}-clip")
        return svg.tag("defs", clip) + svg.tag("g", *children, clip_path=f"url(#{self.ident}-clip)")

    def header(self, title: str, y_name: str, title_class: str = "") -> Markup:
        """Title and name of the y axis, above the plot area."""
        return svg.join(
            [
                svg.text(0, 14, title, f"panel-title {title_class}".strip()),
                svg.text(0, self.top - 12, y_name, "axis-name"),
            ]
        )

    def x_name(self, name: str) -> Markup:
        """Name of the x axis, below its tick labels."""
        return svg.text(self.right, self.bottom + 34, name, "axis-name", "end")

    def x_ticks(self, values: Sequence[float], form: Format = numbers.tick, *, grid: bool = True) -> Markup:
        """Grid lines and labels of the x axis."""
        parts = []
        for value in values:
            at = self.x(value)
            if grid:
                parts.append(svg.line(at, self.top, at, self.bottom, "grid"))
            parts.append(svg.text(at, self.bottom + 16, form(value), "tick", "middle"))
        return svg.join(parts)

    def y_ticks(self, values: Sequence[float], form: Format = numbers.tick, *, grid: bool = True) -> Markup:
        """Grid lines and labels of the y axis."""
        parts = []
        for value in values:
            at = self.y(value)
            if grid:
                parts.append(svg.line(self.left, at, self.right, at, "grid"))
            parts.append(svg.text(self.left - 7, at + 4, form(value), "tick", "end"))
        return svg.join(parts)

    def base_line(self) -> Markup:
        """The x axis itself."""
        return svg.line(self.left, self.bottom, self.right, self.bottom, "axis")

    def curve(self, function: Callable[[float], float], class_: str, steps: int = 48) -> Markup:
        """`function` over the whole x range. It has to be positive there when y is logarithmic, or is cut off."""
        points = []
        for index in range(steps + 1):
            part = index / steps
            at = self.x.low * (self.x.high / self.x.low) ** part if self.x.log else self._linear_x(part)
            value = function(at)
            if math.isfinite(value) and (value > 0 or not self.y.log) and abs(self.y(value)) < FAR_AWAY:
                points.append((self.x(at), self.y(value)))
        if len(points) < 2:
            return Markup("")
        return svg.tag("path", d=svg.points_path(points), class_=class_)

    def band(self, low: float, high: float, class_: str) -> Markup:
        """The area between y = low * x and y = high * x."""
        lower = [(self.x(at), self.y(low * at)) for at in (self._first_x(), self.x.high)]
        upper = [(self.x(at), self.y(high * at)) for at in (self.x.high, self._first_x())]
        return svg.tag("path", d=svg.points_path(lower + upper, closed=True), class_=class_)

    def _linear_x(self, part: float) -> float:
        return self.x.low + part * (self.x.high - self.x.low)

    def _first_x(self) -> float:
        return self.x.low


def panel(
    ident: str, x_range: tuple[float, float], y_range: tuple[float, float], *, log_x: bool = False,
    log_y: bool = False, width: float = WIDTH, height: float = HEIGHT, left: float = 56.0, right: float = 12.0,
    top: float = 48.0, bottom: float = 42.0, stretch_y: float = 0.0,
) -> Panel:  # fmt: skip
    """A panel with the given data ranges; `left`, `right`, `top` and `bottom` are the margins around the plot area."""
    return Panel(
        ident=ident,
        width=width,
        height=height,
        x=Scale(*x_range, left, width - right, log_x),
        y=Scale(*y_range, height - bottom, top, log_y, stretch_y),
    )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near `wanted` (ascending) inside [low, high], at least `gap` apart as far as the room allows."""
    if not wanted:
        return []
    gap = min(gap, (high - low) / len(wanted))
    placed: list[float] = []
    for value in wanted:
        placed.append(max(value, placed[-1] + gap if placed else low))
    limit = high
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed
