"""Offsets of tensors and scratch in one arena, for a given order of the steps.

What is live at the same time must not overlap. No arena can be smaller than the peak of the order; whether one of just
that size exists is the (NP-hard) dynamic storage allocation problem. A few greedy placements nearly always find one;
where they do not, a branch and bound search over left-justified layouts does, or proves within its budget that there is
none.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from munas.memory.peak import best_schedule
from munas.memory.problem import Moment, Problem, Schedule, order_peak, peak_of, walk

SEARCH_NODES = 50_000
"""Nodes of the branch and bound search before it gives up: a fraction of a second."""

QUICK_NODES = 1_000
"""Nodes after which most layouts that greedy placement misses are found, in less time than all greedy ones take."""

MAX_SHARINGS = 12
MAX_ORDERS = 40

MAX_STEPS_TO_SEARCH = 256
"""Larger problems, which no µNAS network has, get greedy layouts of one order: all else is at least quadratic."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes from the start of the arena; `arena` and `lower_bound` in bytes.

    `taken_over` maps a step index to the input tensor whose buffer, and so whose offset, its output has.
    """

    arena: int
    lower_bound: int
    offsets: dict[int, int]
    scratch_offsets: dict[int, int]
    taken_over: dict[int, int]


class _Buffer(NamedTuple):
    """Bytes needed from moment `start` to moment `end`, both included, by tensors or by the scratch of a step."""

    start: int
    end: int
    size: int
    tensors: tuple[int, ...]
    scratch_of: int | None = None


def place(problem: Problem, order: Sequence[int], nodes: int = SEARCH_NODES) -> Layout:
    """A layout for an order, with `arena == lower_bound` wherever one is found within `nodes` search nodes.

    Sizes are taken as they are, so aligned sizes give aligned offsets. Raises ValueError for an invalid order, or when
    an output would take over a smaller buffer.
    """
    moments = list(walk(problem, order))
    lower_bound = peak_of(problem, moments)
    attempts: list[tuple[dict[int, int], list[_Buffer]]] = []
    best: Layout | None = None
    may_search = len(order) <= MAX_STEPS_TO_SEARCH
    for sharing in itertools.islice(_sharings(problem, moments, lower_bound), MAX_SHARINGS):
        buffers = _buffers(problem, order, sharing)
        for number, offsets in enumerate(_greedy(buffers)):
            layout = _layout(lower_bound, buffers, offsets, sharing)
            if best is None or layout.arena < best.arena:
                best = layout
            if best.arena == lower_bound:
                return best
            if number == 1 and not attempts and may_search:
                found = _search(buffers, lower_bound, min(nodes, QUICK_NODES))
                if found is not None:
                    return _layout(lower_bound, buffers, found, sharing)
        attempts.append((sharing, buffers))
    assert best is not None
    if not may_search:
        return best
    budget = nodes
    for sharing, buffers in attempts:
        budget //= 2  # the first way is as good a guess as any, so it may look longest
        found = _search(buffers, lower_bound, budget)
        if found is not None:
            return _layout(lower_bound, buffers, found, sharing)
    return _shrink(best, *attempts[0], nodes // 50)


def _shrink(best: Layout, sharing: dict[int, int], buffers: Sequence[_Buffer], nodes: int) -> Layout:
    """A layout with the smallest arena that bisection finds between the lower bound and the best so far."""
    too_small = best.lower_bound
    while best.arena - too_small > 1:
        arena = (best.arena + too_small) // 2
        found = _search(buffers, arena, nodes)
        if found is None:
            too_small = arena
        else:
            best = _layout(best.lower_bound, buffers, found, sharing)
    return best


def plan_memory(problem: Problem) -> tuple[Schedule, Layout]:
    """The best schedule and its layout. Other optimal orders are tried where the first one has no tight layout."""
    schedule = best_schedule(problem)
    best: Layout | None = None
    for order in itertools.islice(_orders_within(problem, schedule), MAX_ORDERS):
        layout = place(problem, order, SEARCH_NODES if best is None else SEARCH_NODES // 10)
        if best is None or layout.arena < best.arena:
            best, schedule = layout, Schedule(schedule.peak, order, schedule.exact)
        if best.arena == best.lower_bound:
            break
    assert best is not None
    return schedule, best


def _orders_within(problem: Problem, schedule: Schedule) -> Iterator[tuple[int, ...]]:
    """The schedule's order, then orders with no higher peak, by ever more exchanges of neighbours."""
    seen, queue = {schedule.order}, [schedule.order]
    for order in queue:  # grows while it is walked
        yield order
        if len(order) > MAX_STEPS_TO_SEARCH:
            return
        for place_ in range(len(order) - 1):
            early, late = order[place_ : place_ + 2]
            if problem.steps[early].output in problem.steps[late].inputs:
                continue
            other = (*order[:place_], late, early, *order[place_ + 2 :])
            if other not in seen and order_peak(problem, other) <= schedule.peak:
                seen.add(other)
                queue.append(other)


def _sharings(problem: Problem, moments: Iterable[Moment], peak: int) -> Iterator[dict[int, int]]:
    """Ways to take buffers over, step -> input tensor: the first candidate everywhere, then the other choices.

    Not taking over is a choice where the peak allows it.
    """
    options: list[list[tuple[int, int | None]]] = []
    for moment in moments:
        if not moment.takes_over:
            continue
        size = problem.sizes[problem.steps[moment.step].output]
        if any(problem.sizes[tensor] < size for tensor in moment.takes_over):
            raise ValueError(f"step {moment.step} would take over a buffer that is smaller than its output")
        choices: list[tuple[int, int | None]] = [(moment.step, tensor) for tensor in moment.takes_over]
        if moment.bytes_in_use + size <= peak:
            choices.append((moment.step, None))
        options.append(choices)
    for choice in itertools.product(*reversed(options)):
        yield {step: tensor for step, tensor in choice if tensor is not None}


def _buffers(problem: Problem, order: Sequence[int], sharing: dict[int, int]) -> list[_Buffer]:
    """Buffers and their lives: moment 0 is before the first step, moment i + 1 the i-th step, the last one the end."""
    end_of_run = len(order) + 1
    start = dict.fromkeys(problem.inputs, 0)
    end = dict.fromkeys(problem.inputs, 0)
    scratch = []
    for moment, index in enumerate(order, 1):
        step = problem.steps[index]
        start[step.output] = moment
        end.update(dict.fromkeys((*step.inputs, step.output), moment))
        if step.scratch:
            scratch.append(_Buffer(moment, moment, step.scratch, (), index))
    end.update(dict.fromkeys(problem.outputs, end_of_run))
    groups: dict[int, list[int]] = {}  # first tensor of a buffer -> all its tensors, in the order of their lives
    root: dict[int, int] = {}
    source = {problem.steps[index].output: tensor for index, tensor in sharing.items()}
    for tensor in start:  # in the order of production
        root[tensor] = root[source[tensor]] if tensor in source else tensor
        groups.setdefault(root[tensor], []).append(tensor)
    shared = [
        _Buffer(start[first], end[tensors[-1]], problem.sizes[first], tuple(tensors))
        for first, tensors in groups.items()
    ]
    return shared + scratch


def _layout(lower_bound: int, buffers: Sequence[_Buffer], offsets: Sequence[int], sharing: dict[int, int]) -> Layout:
    pairs = list(zip(buffers, offsets, strict=True))
    return Layout(
        arena=max((offset + buffer.size for buffer, offset in pairs), default=0),
        lower_bound=lower_bound,
        offsets=dict(sorted((tensor, offset) for buffer, offset in pairs for tensor in buffer.tensors)),
        scratch_offsets={buffer.scratch_of: offset for buffer, offset in pairs if buffer.scratch_of is not None},
        taken_over=dict(sharing),
    )


def _greedy(buffers: Sequence[_Buffer]) -> Iterator[list[int]]:
    """Offsets by first fit, over several orders of the buffers."""
    yield _first_fit(buffers, lambda b: (-b.size, b.start))
    load = _load(buffers)

    def pressure(buffer: _Buffer) -> int:
        return max(load[buffer.start : buffer.end + 1])

    yield _first_fit(buffers, lambda b: (-pressure(b), -b.size, b.start))
    yield _first_fit(buffers, lambda b: (-pressure(b), b.start - b.end, -b.size))
    yield _first_fit(buffers, lambda b: (b.start - b.end, -b.size))
    yield _first_fit(buffers, lambda b: (-b.size * (b.end - b.start + 1), b.start))
    yield _first_fit(buffers, lambda b: (b.start, -b.size))
    yield _first_fit(buffers, lambda b: (-b.end, -b.size))


def _load(buffers: Iterable[_Buffer]) -> list[int]:
    """Bytes live at each moment."""
    buffers = list(buffers)
    load = [0] * (max((buffer.end for buffer in buffers), default=0) + 1)
    for buffer in buffers:
        for moment in range(buffer.start, buffer.end + 1):
            load[moment] += buffer.size
    return load


def _first_fit(buffers: Sequence[_Buffer], key: Callable[[_Buffer], tuple[int, ...]]) -> list[int]:
    """Offsets when the buffers, sorted by the key, each take the lowest gap that is free during their life."""
    offsets = [0] * len(buffers)
    placed: list[_Placed] = []
    keys = list(map(key, buffers))
    for index in sorted(range(len(buffers)), key=keys.__getitem__):
        offsets[index] = _place_lowest(placed, buffers[index])
    return offsets


_Placed: TypeAlias = tuple[int, int, int, int]
"""A buffer that has its place: offset, byte after its last, start and end of its life."""


def _place_lowest(placed: list[_Placed], buffer: _Buffer) -> int:
    """Lowest offset at which the buffer overlaps none of those placed, which are in ascending order; it joins them."""
    start, end, size = buffer.start, buffer.end, buffer.size
    offset = 0
    for other, top, other_start, other_end in placed:
        if other_start > end or other_end < start:
            continue
        if other - offset >= size:
            break
        if top > offset:
            offset = top
    bisect.insort(placed, (offset, offset + size, start, end))
    return offset


def _core(buffers: Sequence[_Buffer], arena: int) -> tuple[list[int], list[int]]:
    """Indices of the buffers that matter, and of the others in the order in which they were set aside.

    A buffer can be set aside when the free bytes during its life, however the buffers left there are placed, cannot
    all lie in gaps that are too small for it. The last one set aside then fits first.
    """
    core, aside = [index for index, buffer in enumerate(buffers) if buffer.size], list[int]()
    found = True
    while found:
        found = False
        for index in list(core):
            buffer = buffers[index]
            beside = [
                buffers[other].size
                for other in core
                if other != index and buffers[other].start <= buffer.end and buffers[other].end >= buffer.start
            ]
            if arena - sum(beside) > (len(beside) + 1) * (buffer.size - 1):
                core.remove(index)
                aside.append(index)
                found = True
    return core, aside


def _search(buffers: Sequence[_Buffer], arena: int, nodes: int) -> list[int] | None:
    """Offsets within the arena, or None where none exist or none were found within the budget."""
    core, aside = _core(buffers, arena)
    packed = _Packing([buffers[index] for index in core], arena, nodes).search()
    if packed is None:
        return None
    offsets = [0] * len(buffers)
    for index, offset in zip(core, packed, strict=True):
        offsets[index] = offset
    placed = sorted((offsets[i], offsets[i] + buffers[i].size, buffers[i].start, buffers[i].end) for i in core)
    for index in reversed(aside):
        offsets[index] = _place_lowest(placed, buffers[index])
    return offsets


class _Packing:
    """Depth-first search for offsets within an arena.

    Every layout can be pushed down until each buffer lies on the bottom or on another one. Placed in ascending order of
    offsets, a buffer of such a layout lies on the skyline: the highest byte used so far during its life. So the search
    is over orders of placing, and a moment whose skyline plus buffers to come exceeds the arena ends a branch.
    """

    def __init__(self, buffers: Sequence[_Buffer], arena: int, nodes: int) -> None:
        self.arena, self.nodes = arena, nodes
        # Moments at which nothing starts are no tighter than the one before: leave them out.
        starts = sorted({buffer.start for buffer in buffers})
        moment = {start: number for number, start in enumerate(starts)}
        self.buffers = buffers = [
            buffer._replace(start=moment[buffer.start], end=bisect.bisect_right(starts, buffer.end) - 1)
            for buffer in buffers
        ]
        load = _load(buffers)
        self.skyline = [0] * len(load)
        self.to_come = load
        self.offsets = [0 if buffer.size == 0 else -1 for buffer in buffers]
        # Buffers of the tightest moments first, the largest of them first.
        self.ranked = sorted(
            (index for index, buffer in enumerate(buffers) if buffer.size),
            key=lambda i: (-max(load[buffers[i].start : buffers[i].end + 1]), -buffers[i].size, buffers[i].start),
        )

    def search(self) -> list[int] | None:
        """Offsets by buffer, or None."""
        return self.offsets if self._place(0, -1, len(self.ranked)) else None

    def _place(self, lowest: int, rank_at_lowest: int, count: int) -> bool:
        """Place `count` buffers at `lowest` or above; at `lowest` itself only those ranked after the last one there."""
        if not count:
            return True
        candidates = []
        for rank, index in enumerate(self.ranked):
            if self.offsets[index] < 0:
                buffer = self.buffers[index]
                offset = max(self.skyline[buffer.start : buffer.end + 1])
                if (offset, rank) > (lowest, rank_at_lowest):
                    candidates.append((offset, rank, index))
        return any(self._try(offset, rank, index, count) for offset, rank, index in sorted(candidates))

    def _try(self, offset: int, rank: int, index: int, count: int) -> bool:
        if self.nodes <= 0:
            return False
        self.nodes -= 1
        buffer = self.buffers[index]
        life = slice(buffer.start, buffer.end + 1)
        before = self.skyline[life]
        self.offsets[index] = offset
        self.skyline[life] = [offset + buffer.size] * len(before)
        for moment in range(buffer.start, buffer.end + 1):
            self.to_come[moment] -= buffer.size
        fits = all(
            max(top, offset) + rest <= self.arena
            for top, rest in zip(self.skyline, self.to_come, strict=True)
            if rest or top > self.arena
        )
        if fits and self._place(offset, rank, count - 1):
            return True
        for moment in range(buffer.start, buffer.end + 1):
            self.to_come[moment] += buffer.size
        self.skyline[life] = before
        self.offsets[index] = -1
        return False
