"""The scheduling problem behind peak memory: tensors with sizes, steps that read and write them, orders, peaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
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
            if not set(step.in_place) <= set(step.inputs):
                raise ValueError(f"step {index} would take over a tensor that it does not read")
            available.add(step.output)
        for tensor in (*(tensor for step in self.steps for tensor in step.inputs), *self.outputs):
            if tensor not in available:
                raise ValueError(f"tensor {tensor} is read but never produced")
        if any(not 0 <= tensor < len(self.sizes) for tensor in available):
            raise ValueError("a tensor has no size")
        if min(self.sizes, default=0) < 0 or any(step.scratch < 0 for step in self.steps):
            raise ValueError("a size is negative")

    def consumers(self) -> list[list[int]]:
        """By tensor id: the steps that read it, each once, ascending."""
        consumers: list[list[int]] = [[] for _ in self.sizes]
        for index, step in enumerate(self.steps):
            for tensor in dict.fromkeys(step.inputs):
                consumers[tensor].append(index)
        return consumers


@dataclass(frozen=True, slots=True)
class Schedule:
    """An order of step indices and its peak in bytes; `exact` is False where the search gave up proving it minimal."""

    peak: int
    order: tuple[int, ...]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of an order: bytes in use while it runs, tensors that die with it, inputs that it can take over."""

    step: int
    bytes_in_use: int
    dying: tuple[int, ...]
    takes_over: tuple[int, ...]


def walk(problem: Problem, order: Sequence[int]) -> Iterator[Moment]:
    """Run through an order. Raises ValueError unless it is a topological order of all steps."""
    if sorted(order) != list(range(len(problem.steps))):
        raise ValueError("the order does not name every step once")
    waiting = [len(steps) for steps in problem.consumers()]
    for tensor in problem.outputs:
        waiting[tensor] += 1  # the end of the run reads the outputs
    present = {tensor for tensor in problem.inputs if waiting[tensor]}
    live = sum(problem.sizes[tensor] for tensor in present)
    for index in order:
        step = problem.steps[index]
        reads = dict.fromkeys(step.inputs)
        if not present.issuperset(reads):
            raise ValueError(f"step {index} runs before its inputs are there")
        for tensor in reads:
            waiting[tensor] -= 1
        dying = tuple(tensor for tensor in reads if not waiting[tensor])
        takes_over = tuple(tensor for tensor in step.in_place if tensor in dying)
        yield Moment(index, live + step.scratch + (0 if takes_over else problem.sizes[step.output]), dying, takes_over)
        present.difference_update(dying)
        live -= sum(problem.sizes[tensor] for tensor in dying)
        if waiting[step.output]:
            present.add(step.output)
            live += problem.sizes[step.output]


def order_peak(problem: Problem, order: Sequence[int]) -> int:
    """Peak of an order in bytes: the inputs at the start, or the worst step. Raises ValueError for an invalid order."""
    start = sum(problem.sizes[tensor] for tensor in problem.inputs)
    return max(start, max((moment.bytes_in_use for moment in walk(problem, order)), default=0))
