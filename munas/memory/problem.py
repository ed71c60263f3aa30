"""The scheduling problem behind peak memory: tensors with sizes, steps that read and write them, orders, peaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Step(NamedTuple):
    """One operator run: tensor ids, and bytes of scratch that live only while it runs.

    `in_place` are the inputs whose buffer the output may take over when the step is that input's last consumer.
    """

    inputs: tuple[int, ...]
    output: int
    scratch: int = 0
    in_place: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Steps to be ordered. `sizes` are bytes by tensor id; `inputs` are live at the start, `outputs` to the end.

    Raises ValueError when a tensor is unknown, produced twice, or never produced.
    """

    sizes: tuple[int, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        available = set(self.inputs)
        if len(available) != len(self.inputs):
            raise ValueError("a tensor is listed twice among the inputs")
        for index, step in enumerate(self.steps):
            if step.output in available:
                raise ValueError(f"step {index} produces tensor {step.output}, which exists already")
            if step.in_place and not set(step.in_place) <= set(step.inputs):
                raise ValueError(f"step {index} would take over a tensor that it does not read")
            available.add(step.output)
        for inputs in (*[step.inputs for step in self.steps], self.outputs):
            if not available.issuperset(inputs):
                tensor = next(tensor for tensor in inputs if tensor not in available)
                raise ValueError(f"tensor {tensor} is read but never produced")
        if available and not 0 <= min(available) <= max(available) < len(self.sizes):
            raise ValueError("a tensor has no size")
        if min(self.sizes, default=0) < 0 or min([step.scratch for step in self.steps], default=0) < 0:
            raise ValueError("a size is negative")

    def consumers(self) -> list[list[int]]:
        """By tensor id: the steps that read it, each once, ascending."""
        consumers: list[list[int]] = [[] for _ in self.sizes]
        for index, step in enumerate(self.steps):
            for tensor in step.inputs if len(step.inputs) == 1 else dict.fromkeys(step.inputs):
                consumers[tensor].append(index)
        return consumers


@dataclass(frozen=True, slots=True)
class Schedule:
    """An order of step indices and its peak in bytes; `exact` is False where the search gave up proving it minimal."""

    peak: int
    order: tuple[int, ...]
    exact: bool = True


class Moment(NamedTuple):
    """One step of an order: bytes in use while it runs, tensors that die with it, inputs that it can take over."""

    step: int
    bytes_in_use: int
    dying: tuple[int, ...]
    takes_over: tuple[int, ...]


def walk(problem: Problem, order: Sequence[int]) -> Iterator[Moment]:
    """Run through an order. Raises ValueError unless it is a topological order of all steps."""
    if sorted(order) != list(range(len(problem.steps))):
        raise ValueError("the order does not name every step once")
    sizes = problem.sizes
    waiting = [len(steps) for steps in problem.consumers()]
    for tensor in problem.outputs:
        waiting[tensor] += 1  # the end of the run reads the outputs
    present = {tensor for tensor in problem.inputs if waiting[tensor]}
    live = sum(sizes[tensor] for tensor in present)
    for index in order:
        step = problem.steps[index]
        inputs, output = step.inputs, step.output
        reads = inputs if len(inputs) == 1 else tuple(dict.fromkeys(inputs))
        if not present.issuperset(reads):
            raise ValueError(f"step {index} runs before its inputs are there")
        for tensor in reads:
            waiting[tensor] -= 1
        dying = tuple([tensor for tensor in reads if not waiting[tensor]])
        takes_over = step.in_place and tuple([tensor for tensor in step.in_place if tensor in dying])
        yield Moment(index, live + step.scratch + (0 if takes_over else sizes[output]), dying, takes_over)
        for tensor in dying:
            present.remove(tensor)
            live -= sizes[tensor]
        if waiting[output]:
            present.add(output)
            live += sizes[output]


def order_peak(problem: Problem, order: Sequence[int]) -> int:
    """Peak of an order in bytes: the inputs at the start, or the worst step. Raises ValueError for an invalid order."""
    return peak_of(problem, walk(problem, order))


def peak_of(problem: Problem, moments: Iterable[Moment]) -> int:
    """`order_peak` of the order that was walked."""
    start = sum([problem.sizes[tensor] for tensor in problem.inputs])
    return max(start, max([moment.bytes_in_use for moment in moments], default=0))
