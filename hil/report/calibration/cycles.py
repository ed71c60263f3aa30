"""Where modelled cycles go: one stacked bar over all networks, and the layers of one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from hil.calibration.result import CycleClass, CycleShares
from hil.report.charts import axes, numbers, svg
from hil.report.charts.axes import Panel
from hil.report.charts.tables import Column, Table, bar

WIDTH, HEIGHT, BOTTOM = 960.0, 132.0, 62.0
LABEL_GAP = 88.0  # of the longest name
NARROWEST_LABELLED = 0.01  # a smaller part is in the table only
KEYS: Final = {
    "alu": "code", "multiply": "weights", "load": "arena", "store": "static", "branch": "stack", "pipeline": "time",
    "code misses": "mac", "data misses": "op",
}  # fmt: skip
"""Class to the style sheet's colour; what is not here is small and shares one."""


def cycles_figure(cycles: CycleShares) -> Markup:
    """The mean network's cycles as one stacked bar. Parts that are saved (negative) are in the table alone."""
    name, drawn = "Cycles by class", [item for item in cycles.classes if 0 < item.mean < 1e3]
    total = sum(item.mean for item in drawn)
    if total < 1e-3:
        return svg.empty("cycles-figure", WIDTH, 120, name, "no modelled cycles in this run")
    area = axes.panel(
        "cycles-figure", (0.0, max(total, 1.0)), (0.0, 1.0), width=WIDTH, height=HEIGHT, left=2, right=2, top=28,
        bottom=BOTTOM,
    )  # fmt: skip
    parts = ", ".join(f"{item.name} {numbers.percent(item.mean)}" for item in drawn)
    return svg.drawing(
        "cycles-figure", area.width, area.height, name, f"A stacked bar: {parts}.",
        svg.text(0, 14, f"Part of all cycles, mean of {numbers.plural(cycles.networks, 'network')}", "axis-name"),
        _parts(area, drawn), _labels(area, drawn), _whole(area, total),
    )  # fmt: skip


def _key(name: str) -> str:
    return KEYS.get(name, "other")


def _parts(area: Panel, classes: Sequence[CycleClass]) -> Markup:
    shapes, below = [], 0.0
    for item in classes:
        left, right = area.x(below), area.x(below + item.mean)
        hover = svg.title(f"{item.name}: {numbers.percent(item.mean)}")
        shapes.append(svg.rect(left, area.top, right - left, area.bottom - area.top, f"part {_key(item.name)}", hover))
        below += item.mean
    return svg.join(shapes)


def _labels(area: Panel, classes: Sequence[CycleClass]) -> Markup:
    """Name and share below every part that is wide enough to be seen."""
    wanted, below = [], 0.0
    for item in classes:
        if item.mean >= NARROWEST_LABELLED:
            wanted.append((item, area.x(below + item.mean / 2)))
        below += item.mean
    half = LABEL_GAP / 2
    placed = axes.spread([middle for _, middle in wanted], LABEL_GAP, area.left + half, area.right - half)
    pieces = []
    for (item, middle), x in zip(wanted, placed, strict=True):
        ends = [(middle, area.bottom + 2), (x, area.bottom + 18)]
        pieces.append(svg.tag("path", d=svg.points_path(ends), class_="leader"))
        label = numbers.shorten(item.name, 14)
        pieces.append(svg.text(x, area.bottom + 32, label, f"strong {_key(item.name)}-ink", "middle"))
        pieces.append(svg.text(x, area.bottom + 48, numbers.percent(item.mean), "tick", "middle"))
    return svg.join(pieces)


def _whole(area: Panel, total: float) -> Markup:
    """Where all cycles end, when some of what the bar shows is saved again."""
    if total < 1.005:
        return Markup("")
    at = area.x(1.0)
    label = svg.text(at - 6, 14, f"100{numbers.NBSP}%: what is beyond is saved again", "strong", "end")
    return svg.line(at, area.top - 8, at, area.bottom + 4, "limit") + label


def tables_of(cycles: CycleShares) -> tuple[Table, Table]:
    """By class over all networks, and by layer of the example."""
    most = max((item.mean for item in cycles.classes if math.isfinite(item.mean)), default=0.0)
    classes = tuple(
        (
            item.name, bar(item.mean, most, _key(item.name)), numbers.percent(item.mean),
            numbers.percent(item.least), numbers.percent(item.most),
        )
        for item in cycles.classes
    )  # fmt: skip
    columns = (Column("Class"), Column("Mean share", "graphic"), Column("", "number"), Column("Least", "number"),
               Column("Most", "number"))  # fmt: skip
    by_class = Table(f"Cycles by class, {numbers.plural(cycles.networks, 'network')}", columns, classes)
    longest = max((item.share for item in cycles.layers if math.isfinite(item.share)), default=0.0)
    layers = tuple(
        (f"{item.index} {item.path}", bar(item.share, longest, "time"), numbers.percent(item.share))
        for item in cycles.layers
    )
    heads = (Column("Step", "code"), Column("Share", "graphic"), Column("", "number"))
    note = f"{numbers.shorten(cycles.model, 60)}, {numbers.shorten(cycles.summary, 160)}."
    return by_class, Table("Cycles by layer, one network", heads, layers, note)
