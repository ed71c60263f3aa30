"""Tables of a page as plain data (templates only loop over them), and the small graphics in their cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from hil.report.charts import svg

STRIP_WIDTH, STRIP_HEIGHT = 150.0, 18.0
STRIP_ENDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Column:
    """`kind` is ``text``, ``number``, ``code`` or ``graphic``; the style sheet aligns by it."""

    title: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` hold one cell for each column: text (escaped by the template) or markup made here."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def bar(value: float, most: float, key: str) -> Markup:
    """A bar for a table cell, as wide as the cell where `value` is `most`; the number stands in the next cell."""
    part = value / most if most > 0 and math.isfinite(value) else 0.0
    width = min(max(part, 0.0), 1.0) * 100
    return svg.tag(
        "svg", svg.rect(0, 0, 100, 10, "bar-track"), svg.rect(0, 0, width, 10, f"part {key}"),
        class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip


def interval_strip(error: float, low: float, high: float, end: float) -> Markup:
    """A dot at `error` and a line from `low` to `high` on an axis from -`end` to `end` (signed relative errors; NaN is
    left out). The line gets a class of its own where it misses 0."""

    def at(value: float) -> float:
        return STRIP_WIDTH / 2 * (1 + min(max(value / end, -1.0), 1.0) * 0.96)

    middle, parts = STRIP_HEIGHT / 2, [svg.line(STRIP_WIDTH / 2, 0, STRIP_WIDTH / 2, STRIP_HEIGHT, "axis")]
    if math.isfinite(low) and math.isfinite(high):
        missed = "" if low <= 0 <= high else " missed"
        parts.append(svg.line(at(low), middle, at(high), middle, f"strip-interval{missed}"))
    if math.isfinite(error):
        parts.append(svg.tag("circle", cx=at(error), cy=middle, r=3.2, class_="op"))
    return svg.tag("svg", *parts, class_="strip", viewBox=f"0 0 {STRIP_WIDTH:g} {STRIP_HEIGHT:g}", aria_hidden="true")
