"""Figures about memory: where flash and RAM go in every network, against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil.calibration.result import CalibrationResult, SampleResult
from hil.report.calibration.latency import NOTHING
from hil.report.charts import axes, numbers, svg
from hil.report.charts.axes import Panel
from hil.report.charts.scale import byte_ceiling, byte_ticks

HEIGHT = 340.0
SINGLE_COLUMNS = 48  # up to this many networks, columns have gaps
LABEL_GAP = 27.0  # two lines of text


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of the stack: `sizes` in bytes, one for each network, in the order drawn."""

    key: str
    name: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """All parts of one memory, bottom first; networks ordered by total."""

    ident: str
    name: str
    budget: int
    parts: tuple[Part, ...]

    @property
    def totals(self) -> tuple[int, ...]:
        """Bytes of every network."""
        return tuple(sum(column) for column in zip(*(part.sizes for part in self.parts), strict=True))


def flash_stack(result: CalibrationResult) -> Stack:
    """Code, weights and what the linker added, of every network."""
    rows = sorted(result.samples, key=lambda item: (item.flash_total, item.index))
    return _stack("flash", "Flash", result.budget_flash, rows, {
        ("code", "code"): [item.flash_code for item in rows],
        ("weights", "weights"): [item.flash_weights for item in rows],
        ("other", "other"): [item.flash_total - item.flash_code - item.flash_weights for item in rows],
    })  # fmt: skip


def ram_stack(result: CalibrationResult) -> Stack:
    """Stack, static data and arena of every network."""
    rows = sorted(result.samples, key=lambda item: (item.ram_total, item.index))
    return _stack("ram", "SRAM", result.budget_sram, rows, {
        ("stack", "stack"): [item.stack_reserved for item in rows],
        ("static", "static data"): [item.static_ram for item in rows],
        ("arena", "arena"): [item.arena_planned for item in rows],
        ("other", "other"): [
            item.ram_total - item.stack_reserved - item.static_ram - item.arena_planned for item in rows
        ],
    })  # fmt: skip


def _stack(
    ident: str, name: str, budget: int, rows: Sequence[SampleResult], columns: dict[tuple[str, str], list[int]]
) -> Stack:
    parts = [Part(key, label, tuple(max(value, 0) for value in sizes)) for (key, label), sizes in columns.items()]
    kept = tuple(part for part in parts if part.key != "other" or any(part.sizes)) if rows else ()
    return Stack(ident, name, budget, kept)


def stack_figure(stack: Stack) -> Markup:
    """One stacked column for each network, smallest first, with the line of the budget."""
    ident, totals = f"memory-{stack.ident}", stack.totals
    name = f"{stack.name} of every network"
    if not totals:
        return svg.empty(ident, axes.WIDTH, 200, stack.name, NOTHING)
    high = byte_ceiling(max(*totals, stack.budget) * 1.04)
    area = axes.panel(ident, (0.0, float(len(totals))), (0.0, high), height=HEIGHT, right=_label_margin(stack))
    median, largest = totals[len(totals) // 2], totals[-1]
    description = (
        f"Stacked columns of {', '.join(part.name for part in stack.parts)}; median {numbers.size(median)}, "
        f"largest {numbers.size(largest)}, budget {numbers.size(stack.budget)}."
    )
    return svg.drawing(
        ident, area.width, area.height, name, description,
        area.header(stack.name, f"Bytes; median {numbers.size(median)}, largest {numbers.size(largest)}"),
        area.y_ticks(byte_ticks(high, 6), numbers.size), _columns(area, stack), area.base_line(),
        svg.text(area.left, area.bottom + 16, "smallest", "tick"),
        svg.text(area.right, area.bottom + 16, "largest", "tick", "end"),
        svg.text((area.left + area.right) / 2, area.bottom + 34,
                 f"{numbers.plural(len(totals), 'network')}, by total", "axis-name", "middle"),
        _budget_line(area, stack.budget), _part_labels(area, stack),
    )  # fmt: skip


def _label_margin(stack: Stack) -> float:
    """Room right of the columns for the names of the parts and the budget."""
    labels = [part.name for part in stack.parts] + [_budget_label(stack.budget)]
    return 18 + max(len(label) for label in labels) * axes.CHAR_WIDTH * 1.1


def _budget_label(budget: int) -> str:
    return f"budget {numbers.size(budget)}"


def _columns(area: Panel, stack: Stack) -> Markup:
    base = [0] * len(stack.totals)
    few = len(base) <= SINGLE_COLUMNS
    shapes = []
    for part in stack.parts:
        top = [below + size for below, size in zip(base, part.sizes, strict=True)]
        outline = _separate(area, base, top) if few else _joined(area, top)
        shapes.append(svg.tag("path", d=outline, class_=f"part {part.key}{'' if few else ' joined'}"))
        base = top
    return svg.join(reversed(shapes))


def _joined(area: Panel, top: Sequence[int]) -> str:
    """Columns without gaps, from the axis up; lower parts are drawn over them, so that no seam shows."""
    outline = [(area.x(position + side), area.y(value)) for position, value in enumerate(top) for side in (0, 1)]
    inner = [here for before, here, after in zip(outline, outline[1:], outline[2:], strict=False)
             if not before[1] == here[1] == after[1]]  # fmt: skip
    ends = (area.left, area.bottom), (area.right, area.bottom)
    return svg.points_path([ends[0], outline[0], *inner, outline[-1], ends[1]], closed=True)


def _separate(area: Panel, base: Sequence[int], top: Sequence[int]) -> str:
    pitch = area.x(1) - area.x(0)
    gap = min(pitch * 0.2, 4.0)
    wide = svg.coordinate(pitch - gap)
    pieces = []
    for position, (low, high) in enumerate(zip(base, top, strict=True)):
        x, y = svg.coordinate(area.x(position) + gap / 2), svg.coordinate(area.y(high))
        pieces.append(f"M{x} {y}h{wide}V{svg.coordinate(area.y(low))}h-{wide}z")
    return "".join(pieces)


def _budget_line(area: Panel, budget: int) -> Markup:
    y = area.y(budget)
    label = svg.text(area.right + 10, y + 4, _budget_label(budget), "budget-ink")
    return svg.line(area.left, y, area.right + 6, y, "budget") + label


def _part_labels(area: Panel, stack: Stack) -> Markup:
    """Name and size of every part of the largest network, right of its column."""
    middles, below = [], 0
    for part in stack.parts:
        middles.append(area.y(below + part.sizes[-1] / 2))
        below += part.sizes[-1]
    ceiling = area.y(stack.budget) + 22  # below the budget's own label
    order = list(reversed(range(len(middles))))  # topmost first: spread wants ascending y
    placed = axes.spread([middles[index] for index in order], LABEL_GAP, ceiling, area.bottom - 10)
    pieces = []
    for index, y in zip(order, placed, strict=True):
        part = stack.parts[index]
        pieces.append(
            svg.tag("path", d=svg.points_path([(area.right + 2, middles[index]), (area.right + 9, y)]), class_="leader")
        )
        pieces.append(svg.text(area.right + 12, y, part.name, f"strong {part.key}-ink"))
        pieces.append(svg.text(area.right + 12, y + 13, numbers.size(part.sizes[-1]), "tick"))
    return svg.join(pieces)
