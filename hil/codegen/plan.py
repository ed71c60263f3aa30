"""Model -> plan: everything that firmware, report and estimators need to know of a network, and nothing computed twice.

The order of operators has the smallest possible peak memory, ADD takes over an input's buffer where that input is not
needed any more, and buffers (scratch of kernels included) are packed into one arena, as small as that peak wherever a
layout exists. The network's input may be overwritten once its last reader has run; the output lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

from hil.codegen.constant_channels import without_constant_channels
from hil.codegen.fold import Folded, Node, Place, Size, fold
from hil.codegen.layer import Layer, Lowered
from hil.codegen.lower import lower
from hil.model.network import Model, OpKind
from munas.cost.kernels import KernelVariant, Work, align
from munas.cost.optimise import GivenUp, Optimise, choice
from munas.memory.layout import Layout, place, plan_memory
from munas.memory.problem import Problem, Schedule, order_peak
from munas.memory.problem import Step as MemoryStep

ALIGNMENT_BYTES = 4
"""Of every buffer in the arena: im2col buffers hold 16-bit elements that are read two at a time."""


STATE_TABLE_BYTES = 16  # hil_state_t of hil_kernels.h
STATE_CODE_BYTES = 132  # hil_model_reset, hil_restore, and the library's memset
"""Flash for the code that puts states back, which networks without them do not link; never less than it takes."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A piece of the arena in bytes, in use from step `first` to step `last`. The network's input begins at step 0.

    `label` is a number for a tensor's storage; scratch carries that of its step. `shared` says that the step that
    writes it took over an input's memory.
    """

    kind: Literal["tensor", "scratch"]
    label: int
    offset: int
    size: int
    first: int
    last: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the network: place in the arena in bytes, and quantisation (float32 has none).

    Of several, all have one buffer, which is a port as well (one dimension, the first tensor's quantisation). `size` is
    in bytes, `shape` in elements.
    """

    storage: int
    offset: int
    size: int
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    is_float: bool = False

    @property
    def is_wide(self) -> bool:
        """Whether elements have more than 8 bits."""
        return self.size != prod(self.shape)


@dataclass(frozen=True, slots=True)
class State:
    """Bytes of the arena that live from one inference to the next, and what they hold before the first one."""

    offset: int
    initial: bytes
    storage: int

    @property
    def fill(self) -> int | None:
        """The value of all of its int8 elements, None where they differ."""
        first = self.initial[0]
        return (first ^ 128) - 128 if self.initial == bytes([first]) * len(self.initial) else None


@dataclass(frozen=True, slots=True)
class Step:
    """One layer, in execution order. `op_index` counts in the file. `name` is the file's own: for reports, never for C.

    `inputs` and `output` are storage numbers (see `Plan.offset_of`); sizes are height, width, channels. Byte counts are
    flash.
    """

    index: int
    op_index: int
    kind: OpKind
    name: str
    variant: KernelVariant
    work: Work
    inputs: tuple[int, ...]
    in_sizes: tuple[Size, ...]
    output: int
    out_size: Size
    scratch_offset: int | None
    in_place: bool
    layer: Layer
    weights_bytes: int
    table_bytes: int

    @property
    def what(self) -> str:
        """Operator and kernel: for messages."""
        return f"{self.kind} by {self.variant}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A network ready to be generated. All figures in bytes are exact: the linker places just that."""

    imported: Model = field(repr=False, compare=False)
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    lower_bound_bytes: int
    input: Port
    output: Port
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    constant_channels: int = 0  # of convolutions, that were left out
    given_up: tuple[GivenUp, ...] = ()  # faster kernels, for the size of the code

    @property
    def kept_bytes(self) -> int:
        """Bytes at the end of the arena that live from one inference to the next."""
        return sum(align(len(state.initial), ALIGNMENT_BYTES) for state in self.states)

    @property
    def model_name(self) -> str:
        """For people."""
        return self.imported.name

    @property
    def weights_bytes(self) -> int:
        """Flash of weights, biases and multipliers."""
        initial = sum(align(len(state.initial)) for state in self.states if state.fill is None)
        return initial + sum(step.weights_bytes for step in self.steps)

    @property
    def table_bytes(self) -> int:
        """Flash of the tables that describe the layers."""
        states = STATE_CODE_BYTES + STATE_TABLE_BYTES * len(self.states) if self.states else 0
        return states + sum(step.table_bytes for step in self.steps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, as µNAS counts them."""
        return sum(step.work.macs for step in self.steps)

    @property
    def paths(self) -> tuple[KernelVariant, ...]:
        """The kernel paths in use, sorted: they decide which code is linked."""
        return tuple(sorted({step.variant for step in self.steps}))

    def offset_of(self, storage: int) -> int:
        """Where a tensor's storage lies in the arena."""
        return next(item.offset for item in self.buffers if item.kind == "tensor" and item.label == storage)


def make_plan(model: Model, *, keep_constant_channels: bool = False, optimise: Optimise = Optimise.BALANCED) -> Plan:
    """Plan `model`. Raises ModelError when a layer is beyond what the kernels can do.

    Channels that are constant are left out, unless what an architecture needs is to be seen: `keep_constant_channels`.
    `optimise` decides which kernels there are to choose from.
    """
    reduced, dropped = (model, 0) if keep_constant_channels else without_constant_channels(model)
    folded = fold(reduced)
    lowered, given_up = _lowered(reduced, folded, optimise)
    numbers = {storage: number for number, storage in enumerate(_storages(folded))}
    problem = _problem(folded, lowered, numbers)
    if folded.states:
        schedule, layout = _with_states(problem, folded, numbers)
    else:
        schedule, layout = plan_memory(problem)
    order = schedule.order
    steps = tuple(
        _step(position, folded.nodes[index], lowered[index], numbers, layout, index)
        for position, index in enumerate(order)
    )
    states = tuple(
        State(layout.offsets[numbers[storage]], initial, numbers[storage]) for storage, initial in folded.states
    )
    buffers = _buffers(problem, schedule, layout) + _state_buffers(states, len(steps) - 1)
    inputs, outputs = (
        tuple(_port(model, item, numbers[item.storage], layout) for item in places)
        for places in (folded.inputs, folded.outputs)
    )
    return Plan(
        imported=model,
        constant_channels=dropped,
        given_up=given_up,
        steps=steps,
        buffers=buffers,
        arena_bytes=layout.arena,
        lower_bound_bytes=layout.lower_bound,
        input=one_buffer(inputs),
        output=one_buffer(outputs),
        inputs=inputs,
        outputs=outputs,
        states=states,
    )


def _lowered(model: Model, folded: Folded, optimise: Optimise) -> tuple[list[Lowered], tuple[GivenUp, ...]]:
    """The nodes by the kernels that are chosen of all of the network's, and what was given up for that."""
    fastest = [lower(model, node) for node in folded.nodes]
    wanted, given_up = choice([low.work for low in fastest], optimise)
    lowered = [
        low if low.work.variant is work.variant else lower(model, replace(node, wanted=work.variant))
        for low, work, node in zip(fastest, wanted, folded.nodes, strict=True)
    ]
    return lowered, given_up


def _storages(folded: Folded) -> list[int]:
    """Storage in the order in which it comes up; the network's input first."""
    found = dict.fromkeys(item.storage for item in folded.inputs)
    found |= dict.fromkeys(storage for storage, _ in folded.states)
    for node in folded.nodes:
        found |= dict.fromkeys([*node.inputs, node.output])
    return list(found)


def _problem(folded: Folded, lowered: list[Lowered], numbers: dict[int, int]) -> Problem:
    sizes = [0] * len(numbers)
    for storage, number in numbers.items():
        sizes[number] = align(folded.sizes[storage], ALIGNMENT_BYTES)
    states = {storage for storage, _ in folded.states}
    for storage in states:
        sizes[numbers[storage]] = 0  # they have a place of their own, behind all else
    steps = []
    for node, low in zip(folded.nodes, lowered, strict=True):
        steps.append(
            MemoryStep(
                inputs=tuple(dict.fromkeys(numbers[storage] for storage in node.inputs)),
                output=_made_by(node, states, numbers, sizes),
                scratch=align(low.work.scratch_bytes, ALIGNMENT_BYTES),
                in_place=tuple(numbers[storage] for storage in low.in_place),
            )
        )
    ports = ({numbers[item.storage]: None for item in places} for places in (folded.inputs, folded.outputs))
    inputs, outputs = map(tuple, ports)
    return Problem(tuple(sizes), tuple(steps), (*inputs, *(numbers[storage] for storage in states)), outputs)


def _made_by(node: Node, states: set[int], numbers: dict[int, int], sizes: list[int]) -> int:
    """The tensor that a step makes: nothing, where it writes a state."""
    if node.output not in states:
        return numbers[node.output]
    sizes.append(0)
    return len(sizes) - 1


def _with_states(problem: Problem, folded: Folded, numbers: dict[int, int]) -> tuple[Schedule, Layout]:
    """The nodes in their own order, so that states are read before they are written; states behind all tensors."""
    order = tuple(range(len(folded.nodes)))
    layout = place(problem, order)
    offsets, end = dict(layout.offsets), align(layout.arena, ALIGNMENT_BYTES)
    for storage, initial in folded.states:
        offsets[numbers[storage]] = end
        end += align(len(initial), ALIGNMENT_BYTES)
    kept = end - align(layout.arena, ALIGNMENT_BYTES)
    found = replace(layout, arena=end, lower_bound=layout.lower_bound + kept, offsets=offsets)
    return Schedule(order_peak(problem, order), order, exact=False), found


def _state_buffers(states: tuple[State, ...], last: int) -> tuple[Buffer, ...]:
    return tuple(
        Buffer("tensor", state.storage, state.offset, align(len(state.initial), ALIGNMENT_BYTES), 0, last)
        for state in states
    )


def _step(position: int, node: Node, low: Lowered, numbers: dict[int, int], layout: Layout, index: int) -> Step:
    return Step(
        index=position,
        op_index=node.op.index,
        kind=node.op.kind,
        name=node.result.name,
        variant=low.work.variant,
        work=low.work,
        inputs=tuple(numbers[storage] for storage in node.inputs),
        in_sizes=node.sizes,
        output=numbers[node.output],
        out_size=node.out_size,
        scratch_offset=layout.scratch_offsets.get(index) if low.work.scratch_bytes else None,
        in_place=index in layout.taken_over,
        layer=low.layer.renumbered(numbers),
        weights_bytes=sum(constant.size_bytes for constant in low.layer.constants),
        table_bytes=low.table_bytes,
    )


def _buffers(problem: Problem, schedule: Schedule, layout: Layout) -> tuple[Buffer, ...]:
    """Lifetimes of everything in the arena, in execution order."""
    end = len(schedule.order) - 1
    first = dict.fromkeys(problem.inputs, 0)
    last: dict[int, int] = {}
    for position, index in enumerate(schedule.order):
        step = problem.steps[index]
        first[step.output] = position
        last |= dict.fromkeys((*step.inputs, step.output), position)
    last |= dict.fromkeys(problem.outputs, end)
    taken = {problem.steps[index].output for index in layout.taken_over}
    tensors = [
        Buffer("tensor", tensor, layout.offsets[tensor], problem.sizes[tensor], start, last[tensor], tensor in taken)
        for tensor, start in first.items()
        if problem.sizes[tensor]
    ]
    scratch = [
        Buffer("scratch", position, layout.scratch_offsets[index], problem.steps[index].scratch, position, position)
        for position, index in enumerate(schedule.order)
        if problem.steps[index].scratch
    ]
    return tuple(sorted(tensors + scratch, key=lambda item: (item.first, item.kind, item.label)))


def _port(model: Model, at: Place, storage: int, layout: Layout) -> Port:
    found = model.tensors[at.tensor]
    quant, offset = found.quant, layout.offsets[storage] + at.offset
    return Port(storage, offset, found.size_bytes, found.shape, quant.scale, quant.zero_point)


def one_buffer(ports: Sequence[Port]) -> Port:
    """All ports of a side, which lie one behind the other, as the device has them: one."""
    first, last = ports[0], ports[-1]
    size = last.offset + last.size - first.offset
    return first if len(ports) == 1 else replace(first, size=size, shape=(size,))
