"""One network's arena as a map: steps from left to right, addresses from bottom to top."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from hil.measure.arena import ArenaBuffer, ArenaMap, ArenaStep
from hil.report.charts import axes, numbers, svg
from hil.report.charts.axes import Panel
from hil.report.charts.scale import byte_ceiling, byte_ticks

WIDTH, PLOT_HEIGHT, TOP = 960.0, 346.0, 46.0
LABEL_CHARS = 17  # of a kernel path
LABEL_ANGLE = 50.0  # degrees; names of steps are slanted
LABEL_CHAR = 7.2  # width of a character of a step's name, drawing units; generous
NARROWEST_LABELLED = 15.0  # a step narrower than this is labelled only now and then
KINDS = ("input", "activation", "output", "scratch")
CHAR = 6.3  # width of a character of a buffer's label, drawing units; generous


def arena_figure(arena: ArenaMap | None, number: int = 0) -> Markup:
    """The map, or a figure that says that there is none; `number` is its own on a page with several."""
    ident = f"arena-{number}" if number else "arena"
    name = "Arena by time and address"
    if arena is None or not arena.steps or not arena.buffers:
        return svg.empty(ident, WIDTH, 200, name, "no arena map in this run")
    steps = len(arena.steps)
    high = byte_ceiling(max(arena.arena_bytes, *(item.offset + item.size for item in arena.buffers)) * 1.06)
    names = [f"{step.index} {numbers.shorten(step.path or step.op, LABEL_CHARS)}" for step in arena.steps]
    reach = [len(name) * LABEL_CHAR for name in names]  # along the slant
    bottom = 18 + max(reach) * math.sin(math.radians(LABEL_ANGLE))
    left = max(58.0, reach[0] * math.cos(math.radians(LABEL_ANGLE)) - WIDTH / steps / 2)
    area = axes.panel(
        ident, (0.0, float(steps)), (0.0, high), width=WIDTH, height=TOP + PLOT_HEIGHT + bottom, left=left,
        right=16, top=TOP, bottom=bottom,
    )  # fmt: skip
    peak = max(range(steps), key=lambda index: arena.steps[index].live_bytes)
    description = (
        f"{numbers.plural(len(arena.buffers), 'buffer')} over {numbers.plural(steps, 'step')} in an arena of "
        f"{numbers.size(arena.arena_bytes)}; step {peak} holds {numbers.size(arena.steps[peak].live_bytes)}."
    )
    return svg.drawing(
        ident, area.width, area.height, name, description, Markup("") if number else _hatching(),
        svg.text(0, 14, "Address in the arena", "axis-name"), area.y_ticks(byte_ticks(high, 7), numbers.size),
        _peak_column(area, arena.steps[peak], peak), _buffers(area, arena), _arena_line(area, arena), area.base_line(),
        _step_labels(area, names, peak),
    )  # fmt: skip


def _hatching() -> Markup:
    """Scratch is hatched, so that its kind does not hang on colour."""
    stripe = svg.tag("path", d="M-1 1l2-2M0 6l6-6M5 7l2-2", class_="hatch")
    pattern = svg.tag("pattern", stripe, id="arena-hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    return svg.tag("defs", pattern)


def _peak_column(area: Panel, step: ArenaStep, position: int) -> Markup:
    """Shades the step that needs most, and says how much that is."""
    left, right = area.x(position), area.x(position + 1)
    label = f"step {step.index} needs most: {step.live_bytes:,} B"
    half = len(label) * CHAR / 2
    x = min(max((left + right) / 2, area.left + half), area.right - half)
    shade = svg.rect(left, area.top, right - left, area.bottom - area.top, "peak")
    return shade + svg.text(x, area.top - 6, label, "peak-ink", "middle")


def _arena_line(area: Panel, arena: ArenaMap) -> Markup:
    y = area.y(arena.arena_bytes)
    equal = "the lower bound" if arena.arena_bytes == arena.lower_bound else f"lower bound {arena.lower_bound:,} B"
    label = f"arena {arena.arena_bytes:,} B, {equal}"
    return svg.line(area.left, y, area.right, y, "limit") + svg.text(area.right, y - 6, label, "strong halo", "end")


def spans(buffers: Sequence[ArenaBuffer], steps: int) -> list[tuple[float, float]]:
    """From when to when (in steps) each buffer is drawn.

    A buffer that takes over the place of another in the same step (an Add in place) begins in the middle of that
    step, where the other ends: the two would hide each other otherwise.
    """
    first = [float(min(max(item.first_step, 0), steps - 1)) for item in buffers]
    last = [float(min(max(item.last_step, 0), steps - 1)) + 1 for item in buffers]
    for new, taker in enumerate(buffers):
        for old, taken in enumerate(buffers):
            shared = min(taker.offset + taker.size, taken.offset + taken.size) > max(taker.offset, taken.offset)
            if shared and taken.last_step == taker.first_step and taken.first_step < taker.first_step:
                first[new] = taker.first_step + 0.5
                last[old] = min(last[old], taker.first_step + 0.5)
    return list(zip(first, last, strict=True))


def _buffers(area: Panel, arena: ArenaMap) -> Markup:
    shapes, labels = [], []
    for item, (begin, end) in zip(arena.buffers, spans(arena.buffers, len(arena.steps)), strict=True):
        if item.size <= 0 or end <= begin:
            continue
        kind = item.kind if item.kind in KINDS else "activation"
        left, right = area.x(begin), area.x(end)
        top, bottom = area.y(item.offset + item.size), area.y(item.offset)
        hover = svg.title(
            f"{buffer_name(item)} ({kind}): {item.size:,} B at {item.offset:,}, "
            f"steps {item.first_step} to {item.last_step}"
        )
        shapes.append(svg.rect(left + 0.5, top, right - left - 1, bottom - top, f"buffer {kind}", hover))
        labels.append(_buffer_label(item, left, right, top, bottom))
    return svg.join([*shapes, *labels])


def buffer_name(item: ArenaBuffer) -> str:
    """A buffer that is named by a number alone is the output of that step."""
    return f"step {item.name}" if item.name.isdecimal() else numbers.shorten(item.name, 24)


def _buffer_label(item: ArenaBuffer, left: float, right: float, top: float, bottom: float) -> Markup:
    """Name and size where they fit, the size alone where only that fits, nothing else."""
    room, tall = right - left - 10, bottom - top
    size = numbers.size(item.size)
    name = buffer_name(item)
    both = f"{name}, {size}"
    if tall >= 15 and len(both) * CHAR <= room:
        return svg.text(left + 6, top + 12.5 if tall < 24 else top + 15, both, "buffer-ink")
    if tall >= 30 and max(len(name), len(size)) * CHAR <= room:
        return svg.text(left + 6, top + 15, name, "buffer-ink") + svg.text(left + 6, top + 28, size, "buffer-ink")
    if tall >= 15 and len(size) * CHAR <= room:
        return svg.text(left + 6, top + 12.5, size, "buffer-ink")
    return Markup("")


def _step_labels(area: Panel, names: Sequence[str], peak: int) -> Markup:
    pitch = area.x(1) - area.x(0)
    every = max(1, math.ceil(NARROWEST_LABELLED / pitch))
    pieces = []
    for position, name in enumerate(names):
        if position != peak and (position % every or abs(position - peak) < every):
            continue
        x, y = (area.x(position) + area.x(position + 1)) / 2 + 4, area.bottom + 14
        turn = f"rotate({-LABEL_ANGLE:g} {svg.coordinate(x)} {svg.coordinate(y)})"
        class_ = "tick peak-ink" if position == peak else "tick"
        pieces.append(svg.text(x, y, name, class_, "end", transform=turn))
    return svg.join(pieces)
