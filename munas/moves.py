"""Moves of the order search: chains of steps collapsed, and a lower bound on what is still to come.

A chain is a run of steps each of which only reads the output of the one before, and is its only reader. Whatever runs
beside it, pausing a chain pays only at few places: after a hill, in the valley that follows. `collapse` keeps these
stops (the hill-valley segments of Liu's pebbling algorithm) and makes one move of all that lies between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from munas.problem import Problem


@dataclass(frozen=True, slots=True)
class Move:
    """Steps that run in one go. Masks have bit i set for move i.

    `hill` is the highest use in bytes while it runs, relative to the bytes live before, `hill_in_place` the same when
    the output takes a buffer over; `delta` the change of live bytes it leaves, but for the inputs that it frees.
    """

    steps: tuple[int, ...]
    needs: int
    hill: int
    hill_in_place: int
    delta: int
    frees: tuple[tuple[int, int], ...]
    """(mask of consumers, bytes) of each input: freed once all consumers have run."""
    in_place: tuple[int, ...]
    """Masks of consumers of the inputs that the output may take over."""
    reads: tuple[int, ...]
    """Tensor ids of `frees`."""
    output: int
    """Tensor id of the output it leaves."""
    size: int
    """Bytes of that output."""
    keeps: bool
    """That output is one of the network's."""
    least: int
    """Bytes in use while it runs that no order avoids: its own and its inputs."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """Part of a chain; hill and delta relative to the bytes live before it."""

    steps: tuple[int, ...]
    hill: int
    delta: int


def collapse(problem: Problem) -> list[Move]:
    """The moves of a problem; those of a chain follow each other."""
    shape = _Shape(problem)
    chains = [(chain, shape.segments(chain[1:])) for chain in shape.chains()]
    first: dict[int, int] = {}  # step that opens a chain -> its move
    last: dict[int, int] = {}  # tensor that leaves a chain -> the move that leaves it
    count = 0
    for chain, segments in chains:
        first[chain[0]] = count
        count += 1 + len(segments)
        last[problem.steps[chain[-1]].output] = count - 1
    readers = {tensor: sum(1 << first[step] for step in shape.consumers[tensor]) for tensor in (*last, *problem.inputs)}
    moves: list[Move] = []
    for chain, segments in chains:
        moves.append(shape.head(chain[0], readers, last))
        for segment in segments:
            moves.append(shape.continuation(segment, len(moves) - 1, moves[-1].size))
    return moves


class _Shape:
    """A problem with its consumers and outputs at hand."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.consumers = problem.consumers()
        self.outputs = frozenset(problem.outputs)

    def chains(self) -> Iterator[list[int]]:
        """All steps, as chains of maximal length."""
        producer = {step.output: index for index, step in enumerate(self.problem.steps)}
        follower: dict[int, int] = {}
        for index, step in enumerate(self.problem.steps):
            tensor = step.inputs[0] if len(set(step.inputs)) == 1 else -1
            if tensor in producer and tensor not in self.outputs and len(self.consumers[tensor]) == 1:
                follower[producer[tensor]] = index
        for start in sorted(set(range(len(self.problem.steps))) - set(follower.values())):
            chain = [start]
            while chain[-1] in follower:
                chain.append(follower[chain[-1]])
            yield chain

    def bytes_left(self, tensor: int) -> int:
        """Bytes that stay live after the step that produces the tensor."""
        return self.problem.sizes[tensor] if self.consumers[tensor] or tensor in self.outputs else 0

    def segments(self, steps: list[int]) -> list[_Segment]:
        """The steps of a chain after its head, merged wherever pausing between two of them cannot pay."""
        sizes = self.problem.sizes
        segments: list[_Segment] = []
        for index in steps:
            step = self.problem.steps[index]
            hill = step.scratch + (0 if step.in_place else sizes[step.output])
            segments.append(_Segment((index,), hill, self.bytes_left(step.output) - sizes[step.inputs[0]]))
            while len(segments) > 1:
                early, late = segments[-2:]
                peak = early.delta + late.hill
                # Either the rest is free once the first hill is climbed, or the stop is no better than not starting.
                if not (late.delta <= 0 and peak <= early.hill) and not (early.delta >= 0 and peak >= early.hill):
                    break
                merged = _Segment(early.steps + late.steps, max(early.hill, peak), early.delta + late.delta)
                segments[-2:] = [merged]
        return segments

    def head(self, index: int, readers: dict[int, int], last: dict[int, int]) -> Move:
        """The move of a chain's first step, whose inputs others may read too."""
        step, sizes = self.problem.steps[index], self.problem.sizes
        reads = tuple(tensor for tensor in dict.fromkeys(step.inputs) if tensor not in self.outputs)
        in_place = tuple(readers[tensor] for tensor in step.in_place if tensor not in self.outputs)
        return Move(
            steps=(index,),
            needs=sum(1 << last[tensor] for tensor in dict.fromkeys(step.inputs) if tensor in last),
            hill=step.scratch + sizes[step.output],
            hill_in_place=step.scratch,
            delta=self.bytes_left(step.output),
            frees=tuple((readers[tensor], sizes[tensor]) for tensor in reads),
            in_place=in_place,
            reads=reads,
            output=step.output,
            size=sizes[step.output],
            keeps=step.output in self.outputs,
            least=step.scratch + (0 if in_place else sizes[step.output]) + sum(sizes[tensor] for tensor in reads),
        )

    def continuation(self, segment: _Segment, before: int, size_before: int) -> Move:
        """A later move of a chain; it depends on nothing but move `before`, which left `size_before` bytes."""
        output = self.problem.steps[segment.steps[-1]].output
        return Move(
            steps=segment.steps,
            needs=1 << before,
            hill=segment.hill,
            hill_in_place=segment.hill,
            delta=segment.delta,
            frees=(),
            in_place=(),
            reads=(),
            output=output,
            size=self.problem.sizes[output],
            keeps=output in self.outputs,
            least=segment.hill + size_before,
        )


_Forks: TypeAlias = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
_Group: TypeAlias = tuple[int, int, tuple[int, ...], _Forks, list[tuple[int, int]]]


class LowerBound:
    """What a state must still come to: for every move to come, the bytes live while it runs that no order avoids.

    Those are its own inputs; for each output now live that leads, by single readers, to a descendant of the move, the
    smallest size on that way; and of a tensor read by several, itself or what its readers have made of it.
    """

    def __init__(self, moves: list[Move]) -> None:
        self._moves = moves
        count = len(moves)
        self._readers = [sum(1 << later for later in range(count) if moves[later].needs >> v & 1) for v in range(count)]
        self._below = self._descendants()
        self._above = [sum(1 << v for v in range(count) if self._below[v] >> u & 1) for u in range(count)]
        self._next = self._flow()
        self._groups = self._group()

    def __call__(self, done: int, live: int, worst: int) -> int:
        """Bytes, `worst` at least. `done` is the mask of moves run, `live` of the moves whose output is live."""
        for most, flow_mask, flow, forks, members in self._groups:
            if members[0][0] + most <= worst:
                continue
            # The neediest that has not run yet stands for its group.
            need = next((least for least, bit in members if not done & bit), 0)
            if need + most <= worst:
                continue
            waiting = live & flow_mask
            while waiting:
                low = waiting & -waiting
                need += flow[low.bit_length() - 1]
                waiting ^= low
            for size, holders in forks:
                held = sum(least for bit, least in holders if not done & bit)
                need += min(size, held)
            worst = max(worst, need)
        return worst

    def _descendants(self) -> list[int]:
        """By move: the mask of itself and all that depend on it."""
        masks = [1 << v for v in range(len(self._moves))]
        changed = True
        while changed:  # moves are nearly in topological order, so this settles after a few rounds
            changed = False
            for v in reversed(range(len(self._moves))):
                mask = masks[v]
                for w in bits(self._readers[v]):
                    mask |= masks[w]
                changed |= mask != masks[v]
                masks[v] = mask
        return masks

    def _flow(self) -> list[int | None]:
        """By move: the only reader of its output, when no larger output was given that reader already."""
        following: list[int | None] = [None] * len(self._moves)
        for w, move in enumerate(self._moves):
            sources = [u for u in bits(move.needs) if self._readers[u] == 1 << w and not self._moves[u].keeps]
            if sources:
                following[max(sources, key=lambda u: self._moves[u].size)] = w
        return following

    def _pinned(self, v: int) -> list[int]:
        """By move u: bytes that u's output, if live now, or what becomes of it, holds while v runs; 0 if v reads it."""
        return [0 if self._below[v] >> u & 1 else self._least_on_the_way(u, v) for u in range(len(self._moves))]

    def _least_on_the_way(self, u: int, v: int) -> int:
        least, at = self._moves[u].size, u
        while not self._readers[at] >> v & 1:
            if self._readers[at] & self._below[v] or self._moves[at].keeps:
                return least
            following = self._next[at]
            if following is None:
                return 0
            at = following
            least = min(least, self._moves[at].size)
        return 0

    def _forks(self, v: int, pinned: list[int]) -> _Forks:
        """(bytes, ((bit of a reader, bytes held after it), ...)) of the tensors that are there before v runs."""
        continued = {w for w in self._next if w is not None}
        claimed: set[int] = set()
        forks = []
        for mask, size, producers in self._shared():
            if mask & self._below[v] or producers & ~self._above[v]:
                continue
            # A reader counts once: not for two tensors, and not where the output it reads is followed already.
            holders = [u for u in bits(mask) if pinned[u] and u not in continued and u not in claimed]
            claimed.update(holders)
            if holders:
                forks.append((size, tuple((1 << u, pinned[u]) for u in holders)))
        return tuple(forks)

    def _shared(self) -> list[tuple[int, int, int]]:
        """(mask of readers, bytes, mask of the move that produces it) of each tensor that leaves a chain."""
        producer = {move.output: 1 << index for index, move in enumerate(self._moves)}
        shared = {
            tensor: (mask, size, producer.get(tensor, 0))
            for move in self._moves
            for tensor, (mask, size) in zip(move.reads, move.frees, strict=True)
        }
        return list(shared.values())

    def _group(self) -> list[_Group]:
        """Moves with the same pinned bytes and forks, neediest first."""
        groups: dict[tuple[tuple[int, ...], _Forks], list[tuple[int, int]]] = {}
        for v, move in enumerate(self._moves):
            pinned = self._pinned(v)
            key = (tuple(pinned), self._forks(v, pinned))
            groups.setdefault(key, []).append((move.least, 1 << v))
        return [
            (
                sum(pinned) + sum(size for size, _ in forks),
                sum(1 << u for u, least in enumerate(pinned) if least),
                pinned,
                forks,
                sorted(members, reverse=True),
            )
            for (pinned, forks), members in groups.items()
            if forks or any(pinned)
        ]


def bits(mask: int) -> Iterator[int]:
    """Indices of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
