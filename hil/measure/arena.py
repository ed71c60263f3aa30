"""A network's arena as data: time (steps) by address, as `generate` laid it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.codegen.plan import Plan


@dataclass(frozen=True, slots=True)
class ArenaBuffer:
    """One buffer of the arena: address range [offset, offset + size) and the steps in which it is live, both
    inclusive. `kind` is ``input``, ``activation``, ``output`` or ``scratch``."""

    name: str
    kind: str
    offset: int
    size: int
    first_step: int
    last_step: int


@dataclass(frozen=True, slots=True)
class ArenaStep:
    """One executed step: `live_bytes` is what it holds at once."""

    index: int
    op: str
    path: str
    live_bytes: int


@dataclass(frozen=True, slots=True)
class ArenaMap:
    """Arena of one network, time (steps) by address. `lower_bound` is what the best order needs at least, bytes."""

    model: str
    summary: str
    arena_bytes: int
    lower_bound: int
    steps: tuple[ArenaStep, ...]
    buffers: tuple[ArenaBuffer, ...]


def arena_map(plan: Plan, model: str, summary: str = "") -> ArenaMap:
    """The arena of a planned network; `model` and `summary` are for people."""
    names = {plan.input.storage: "input"} | {step.output: f"{step.index}" for step in plan.steps}
    buffers = []
    for buffer in plan.buffers:
        kind, name = "activation", names.get(buffer.label, str(buffer.label))
        if buffer.kind == "scratch":
            kind, name = "scratch", f"scratch of {buffer.label}"
        elif buffer.label == plan.input.storage:
            kind = "input"
        elif buffer.label == plan.output.storage:
            kind, name = "output", "output"
        buffers.append(ArenaBuffer(name, kind, buffer.offset, buffer.size, buffer.first, buffer.last))
    steps = tuple(
        ArenaStep(step.index, step.kind.value, step.variant.value, _live(buffers, step.index)) for step in plan.steps
    )
    return ArenaMap(model, summary, plan.arena_bytes, plan.lower_bound_bytes, steps, tuple(buffers))


def _live(buffers: Sequence[ArenaBuffer], step: int) -> int:
    """Bytes in use at `step`; an output that took over an input's place counts once."""
    live = (item for item in buffers if item.first_step <= step <= item.last_step)
    ranges = sorted((item.offset, item.offset + item.size) for item in live)
    total = end = 0
    for start, stop in ranges:
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total
