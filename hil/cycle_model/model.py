"""From counters to a board's cycles and milliseconds, and where they go."""

from __future__ import annotations

from dataclasses import dataclass

from hil.boards.timing import Timing
from hil.cycle_model.record import Counters


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """An estimate with the interval that the board's evidence supports."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """Part of a board's cycles: `what` is for people."""

    what: str
    cycles: float


def board_cycles(timing: Timing, counters: Counters) -> float:
    """Cycles on the board that `timing` describes."""
    base = counters.cycles if timing.base == "cycles" else counters.instructions
    misses = timing.code.miss_cycles * counters.code_misses + timing.data.miss_cycles * counters.data_misses
    return timing.scale * base + misses


def milliseconds(timing: Timing, counters: Counters, clock_hz: int) -> Milliseconds | None:
    """Time at `clock_hz`; None when the board file has no evidence for its constants."""
    if timing.evidence is None:
        return None
    estimate = board_cycles(timing, counters) * 1000 / clock_hz
    spread = timing.evidence.interval_pct / 100
    return Milliseconds(estimate, estimate * (1 - spread), estimate * (1 + spread))


def shares(timing: Timing, counters: Counters) -> tuple[Share, ...]:
    """Where the board's cycles go; the parts add up to `board_cycles`.

    One cycle for every instruction, by group; what the pipeline costs beyond that (or, dual issue, saves: a negative
    part); the misses; and what `scale` adds for all that the model leaves out.
    """
    groups = ("alu", "multiply", "divide", "load", "store", "branch", "float", "other")
    parts = [Share(name, float(getattr(counters, name))) for name in groups]
    if timing.base == "cycles":
        parts.append(Share("pipeline", float(counters.cycles - counters.instructions)))
    base = counters.cycles if timing.base == "cycles" else counters.instructions
    parts += [
        Share("code misses", timing.code.miss_cycles * counters.code_misses),
        Share("data misses", timing.data.miss_cycles * counters.data_misses),
        Share("not modelled", (timing.scale - 1) * base),
    ]
    return tuple(part for part in parts if part.cycles)
