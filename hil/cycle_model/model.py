"""From counters to a board's cycles and milliseconds, with what the interval rests on, and where the cycles go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.boards.bank import Bank
from hil.boards.board import Board
from hil.boards.timing import Timing
from hil.cycle_model.record import Counters

NO_EVIDENCE = "there is no evidence for the constants of this chip ([timing.evidence]): cycles only"


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """An estimate with the interval that the evidence supports for this network.

    `reasons` say why the interval is wider than that of the board's evidence.
    """

    estimate: float
    low: float
    high: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """Part of a board's cycles: `what` is for people."""

    what: str
    cycles: float


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Something that the network does and the evidence leaves open: cycles fewer and more than the estimate."""

    reason: str
    fewer: float
    more: float


def board_cycles(timing: Timing, counters: Counters) -> float:
    """Cycles on the board that `timing` describes."""
    return timing.scale * _base(timing, counters) + sum(share.cycles for share in _misses(timing, counters))


def milliseconds(board: Board, counters: Counters, banks: Sequence[Bank] = ()) -> Milliseconds | str:
    """Time on `board` of a network whose RAM is in `banks`; or why there is none.

    The interval is that of the board's evidence, and what the network does that the evidence does not cover adds to it.
    """
    timing = board.timing
    if timing is None or timing.evidence is None:
        return NO_EVIDENCE
    untimed = next((bank for bank in banks if not bank.timed), None)
    if untimed is not None:
        return f"the network uses {untimed.name}, for which there is no evidence ({untimed.note}): cycles only"
    cycles = board_cycles(timing, counters)
    doubts = [doubt for doubt in _doubts(board, timing, counters) if max(doubt.fewer, doubt.more) >= cycles / 1000]
    spread = timing.evidence.interval_pct / 100
    low = cycles * (1 - spread) - sum(doubt.fewer for doubt in doubts)
    high = cycles * (1 + spread) + sum(doubt.more for doubt in doubts)
    unit = 1000 / board.clock_hz
    return Milliseconds(cycles * unit, max(0.0, low) * unit, high * unit, tuple(doubt.reason for doubt in doubts))


def shares(timing: Timing, counters: Counters) -> tuple[Share, ...]:
    """Where the board's cycles go; the parts add up to `board_cycles`.

    One cycle for every instruction, by group; what the pipeline costs beyond that (or, dual issue, saves: a negative
    part); the misses; and what `scale` adds for all that the model leaves out.
    """
    groups = ("alu", "multiply", "divide", "load", "store", "branch", "float", "other")
    parts = [Share(name, float(getattr(counters, name))) for name in groups]
    if timing.base == "cycles":
        parts.append(Share("pipeline", float(counters.cycles - counters.instructions)))
    parts += [*_misses(timing, counters), Share("not modelled", (timing.scale - 1) * _base(timing, counters))]
    return tuple(part for part in parts if part.cycles)


def _base(timing: Timing, counters: Counters) -> int:
    return counters.cycles if timing.base == "cycles" else counters.instructions


def _misses(timing: Timing, counters: Counters) -> tuple[Share, ...]:
    return (
        Share("code misses", timing.code.miss_cycles * counters.code_misses),
        Share("data misses", timing.data.miss_cycles * counters.flash_misses),
        Share("RAM misses", timing.data.ram_miss_cycles * counters.ram_misses),
    )


def _doubts(board: Board, timing: Timing, counters: Counters) -> tuple[_Doubt, ...]:
    pipeline, data = board.processor.pipeline, timing.data
    found = []
    for name, count, cost, span, scale in (
        ("unaligned loads", counters.unaligned, pipeline.unaligned, pipeline.unaligned_range, timing.scale),
        ("divisions", counters.divide, pipeline.divide, pipeline.divide_range, timing.scale),
        ("misses of cached RAM", counters.ram_misses, data.ram_miss_cycles, data.ram_miss_range, 1.0),
    ):
        if count and span is not None:
            low, high = span
            reason = f"{count:,} {name} at {low:g} to {high:g} cycles each (modelled: {cost:g})"
            found.append(_Doubt(reason, count * scale * (cost - low), count * scale * (high - cost)))
    if pipeline.float_doubt:
        reason = f"{counters.float:,} float instructions, which may take up to {pipeline.float_doubt} cycles more each"
        found.append(_Doubt(reason, 0, counters.float * timing.scale * pipeline.float_doubt))
    return tuple(found)
