"""Where TFLM's greedy planner puts buffers: the largest first, each into the first gap that is free while it lives.

Written from reading `greedy_memory_planner.cc` of TFLM: buffers are placed in the order of falling size; of equal ones
the buffer added last comes first. A buffer goes into the first gap, by offset, that is large enough between
buffers that live at the same time; a gap never begins below the end of a buffer passed before.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of `size_bytes`, alive from step `first` to step `last`, both included."""

    size_bytes: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Placement:
    """`offsets[i]` is the offset in bytes of buffer i; `size_bytes` is the end of the highest one."""

    offsets: tuple[int, ...]
    size_bytes: int


def place_greedily(buffers: Sequence[Lifetime]) -> Placement:
    """Offsets of `buffers`, given in the order in which TFLM adds them. Time O(n^2)."""
    by_size = sorted(range(len(buffers)), key=lambda index: (-buffers[index].size_bytes, -index))
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int]] = []  # (offset, buffer), by offset
    for index in by_size:
        offsets[index] = _first_gap(buffers, placed, buffers[index])
        insort(placed, (offsets[index], index), key=lambda entry: entry[0])
    size_bytes = max((offset + buffers[index].size_bytes for offset, index in placed), default=0)
    return Placement(tuple(offsets), size_bytes)


def _first_gap(buffers: Sequence[Lifetime], placed: Sequence[tuple[int, int]], wanted: Lifetime) -> int:
    candidate = 0
    for offset, index in placed:
        if not buffers[index].meets(wanted):
            continue
        if offset - candidate >= wanted.size_bytes:
            break
        candidate = max(candidate, offset + buffers[index].size_bytes)
    return candidate
