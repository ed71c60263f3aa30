"""Moves of the order search: chains of steps collapsed.

A chain is a run of steps each of which only reads the output of the one before, and is its only reader. Whatever runs
beside it, pausing a chain pays only at few places: after a hill, in the valley that follows. `collapse` keeps these
stops (the hill-valley segments of Liu's pebbling algorithm) and makes one move of all that lies between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from munas.memory.problem import Problem


class Move(NamedTuple):
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


class _Segment(NamedTuple):
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


def bits(mask: int) -> Iterator[int]:
    """Indices of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
