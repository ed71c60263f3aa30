"""SVG as escaped text. Colours come from classes that the page's style sheet maps to its custom properties."""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup, escape

from hil.report.charts.numbers import clean

Attribute = str | float | None


def coordinate(value: float) -> str:
    """`value` with one decimal and no trailing zero. Raises ValueError for NaN and infinity: they have no place."""
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be drawn")
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def points_path(points: Iterable[tuple[float, float]], *, closed: bool = False) -> str:
    """The ``d`` of a path through `points` (at least one)."""
    joined = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return f"M{joined}{'Z' if closed else ''}"


def tag(name: str, *children: str, **attributes: Attribute) -> Markup:
    """One element. ``class_`` is ``class``, other underscores become hyphens, None is left out, text is escaped."""
    parts = [name]
    for key, value in attributes.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else coordinate(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(clean(text, limit=1_000_000))}"')
    if not children:
        return Markup(f"<{' '.join(parts)}/>")
    return Markup(f"<{' '.join(parts)}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """`children` one after the other; plain strings are escaped, markup is not."""
    return Markup("").join(child if isinstance(child, Markup) else clean(child) for child in children)


def text(
    x: float, y: float, content: str, class_: str = "tick", anchor: str | None = None, **more: Attribute
) -> Markup:
    """A text whose baseline starts (or, with `anchor` ``middle`` or ``end``, is centred or ends) at (x, y)."""
    return tag("text", content, x=x, y=y, class_=class_, text_anchor=anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("path", d=f"M{coordinate(x1)} {coordinate(y1)}L{coordinate(x2)} {coordinate(y2)}", class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, *children: str) -> Markup:
    """A rectangle; negative extents become empty."""
    return tag("rect", *children, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def title(content: str) -> Markup:
    """What a browser shows while the pointer rests on the parent."""
    return tag("title", content)


def drawing(ident: str, width: float, height: float, name: str, description: str, *children: str) -> Markup:
    """A whole figure `width` x `height` units; `name` and `description` are for those who cannot see it."""
    return tag(
        "svg",
        tag("title", name, id=f"{ident}-t"),
        tag("desc", description, id=f"{ident}-d"),
        *children,
        class_="plot",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
        id=ident,
    )


def empty(ident: str, width: float, height: float, name: str, message: str) -> Markup:
    """A figure without data, which says so."""
    return drawing(
        ident, width, height, name, message,
        rect(0.5, 0.5, width - 1, height - 1, "void"),
        text(width / 2, height / 2 - 8, name, "panel-title", "middle"),
        text(width / 2, height / 2 + 12, message, "note", "middle"),
    )  # fmt: skip
