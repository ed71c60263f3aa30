"""How large TFLM's tensor arena has to be, and where in it the tensors lie.

TFLM has one arena with two ends. The *tail* grows down from the end with everything that lives as long as the
interpreter: its own objects, tensors, nodes, operator parameters and kernel data. The *head* at the start is first
used for temporary things while operators are prepared and memory is planned, then for activations and the kernels'
scratch as the greedy planner placed them. `measure_arena` replays those allocations one by one; they are facts taken
from reading TFLM's source (micro_allocator.cc, micro_interpreter.cc and the kernels' Prepare functions). The result is
a forecast: what the arena is, the device says (firmware/tflm/gauge.cc).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hil.model.network import Model, OpKind
from hil.model.tflite import schema
from hil.model.tflite.container import Container, RawOperator, RawTensor
from hil.runtimes.tflm.abi import (
    BUFFER_ALIGNMENT,
    CORTEX_M,
    PLANNER_BYTES_PER_BUFFER,
    SCRATCH_REQUESTS_PER_OP,
    Abi,
    Size,
)
from hil.runtimes.tflm.planner import Lifetime, place_greedily
from hil.runtimes.tflm.scratch import scratch_bytes

WRITTEN_FOR = "TFLM of August 2026 (90b983c2b)"
"""The version whose allocations are replayed."""
_HANDLE_BITS = 32  # of a resource variable


@dataclass(frozen=True, slots=True)
class Arena:
    """Sizes in bytes. `used_bytes` is what TFLM's arena_used_bytes() says, `required_bytes` the least that starts.

    `input_offset` and `output_offset` count from the arena's start: those of the first input and output.
    """

    head_bytes: int
    tail_bytes: int
    required_bytes: int
    input_offset: int
    output_offset: int

    @property
    def used_bytes(self) -> int:
        """Head and tail."""
        return self.head_bytes + self.tail_bytes


def measure_arena(container: Container, model: Model, abi: Abi = CORTEX_M) -> Arena:
    """The arena of the network in `container`, of which `model` is the import (it holds the operators' parameters)."""
    replay = _Replay(container, abi)
    replay.start()
    scratch = tuple(scratch_bytes(operator, container, model, abi.cmsis_nn) for operator in container.operators)
    for operator, wanted in zip(container.operators, scratch, strict=True):
        replay.prepare(operator, wanted)
    return replay.plan(scratch)


def lifetimes(container: Container, scratch: Sequence[Sequence[int]]) -> tuple[dict[int, Lifetime], list[Lifetime]]:
    """Buffers that the planner places: by tensor, and the scratch of all operators in their order.

    Step 0 is before the first operator, step i + 1 is operator i. Sizes are rounded up to 16 bytes.
    """
    first: dict[int, int] = dict.fromkeys(container.inputs, 0)
    last: dict[int, int] = dict.fromkeys(container.inputs, 0)
    for step, operator in enumerate(container.operators, start=1):
        for tensor in operator.outputs:
            first.setdefault(tensor, step)
        for tensor in (*operator.inputs, *operator.outputs):
            last[tensor] = step
    for tensor in container.outputs:
        last[tensor] = len(container.operators)
    tensors = {
        index: Lifetime(_up(_bytes_of(tensor), BUFFER_ALIGNMENT), first.get(index, -1), last.get(index, -1))
        for index, tensor in enumerate(container.tensors)
        if tensor.data is None and _bytes_of(tensor) > 0
    }
    buffers = [
        Lifetime(_up(size, BUFFER_ALIGNMENT), step, step)
        for step, sizes in enumerate(scratch, start=1)
        for size in sizes
    ]
    return tensors, buffers


def _bytes_of(tensor: RawTensor) -> int:
    return -(-tensor.elements * schema.ELEMENT_BITS.get(tensor.type, _HANDLE_BITS) // 8)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


@dataclass(slots=True)
class _Replay:
    """The two ends of the arena while a model is set up. Lengths are counted from the end that they belong to."""

    container: Container
    abi: Abi
    tail: int = 0
    head: int = 0
    required: int = 0
    requests: int = field(default=0)

    def start(self) -> None:
        """Everything up to the first operator's Prepare."""
        container, abi = self.container, self.abi
        *before, options = abi.allocators
        for size in before:
            self._keep(size)
        self._keep(options)
        self._reserve_requests()
        self._keep(abi.subgraph)
        self._keep(abi.eval_tensor, len(container.tensors))
        self._keep(abi.node, len(container.operators))
        for operator in container.operators:
            if operator.kind is not None and operator.kind in abi.parameters:
                self._keep(abi.parameters[operator.kind])
        for operator in container.operators:
            if operator.kind is not None and operator.kind in abi.op_data:
                self._keep(Size(abi.op_data[operator.kind], BUFFER_ALIGNMENT))

    def prepare(self, operator: RawOperator, scratch: Sequence[int]) -> None:
        """One kernel's Prepare: per-channel multipliers and shifts stay, its view of its tensors is temporary."""
        channels = self._requantised_channels(operator)
        for _ in range(2 if channels else 0):
            self._keep(Size(4 * channels, BUFFER_ALIGNMENT))
        temporary = sum(self._tensor_bytes(index) for index in _looked_at(operator, self.abi.cmsis_nn) if index >= 0)
        self._need(self.head + temporary + self.tail)
        self.requests += len(scratch)
        self._reserve_requests()

    def plan(self, scratch: Sequence[Sequence[int]]) -> Arena:
        """Memory planning, then the tensors that the application holds."""
        container, abi = self.container, self.abi
        tensors, buffers = lifetimes(container, scratch)
        if self.requests:
            self._keep(abi.scratch_handle, self.requests)
        infos = abi.allocation_info.bytes * (len(container.tensors) + self.requests)
        temporary = _up(_up(self.head, abi.pointer.align) + abi.pointer.bytes, abi.allocation_info.align) + infos
        planning = PLANNER_BYTES_PER_BUFFER * (len(tensors) + len(buffers))
        self._need(_up(temporary, BUFFER_ALIGNMENT) + planning + _up(self.tail, BUFFER_ALIGNMENT))
        placement = place_greedily([*tensors.values(), *buffers])
        offsets = dict(zip(tensors, placement.offsets, strict=False))
        self.head = placement.size_bytes
        self._need(self.head + self.tail)
        for interface in (container.inputs, container.outputs):
            self._keep(Size(abi.pointer.bytes * len(interface), BUFFER_ALIGNMENT))
            for index in interface:
                self._keep_tensor(index)
        return Arena(
            head_bytes=self.head,
            tail_bytes=self.tail,
            required_bytes=_up(self.required, BUFFER_ALIGNMENT),
            input_offset=offsets[container.inputs[0]],
            output_offset=offsets[container.outputs[0]],
        )

    def _keep(self, size: Size, count: int = 1) -> None:
        self.tail = _up(self.tail + size.bytes * count, size.align)
        self._need(self.head + self.tail)

    def _need(self, total: int) -> None:
        self.required = max(self.required, total)

    def _reserve_requests(self) -> None:
        self.head = self.abi.scratch_request.bytes * (self.requests + SCRATCH_REQUESTS_PER_OP)
        self._need(self.head + self.tail)

    def _keep_tensor(self, index: int) -> None:
        self._keep(self.abi.tensor)
        channels = len(self.container.tensors[index].scales)
        if channels:
            self._keep(self.abi.quantization)
            self._keep(Size(4 + 4 * channels, 4))

    def _tensor_bytes(self, index: int) -> int:
        """A tensor as a kernel sees it: itself, its quantisation and a zero point a channel."""
        channels = len(self.container.tensors[index].scales)
        quantization = self.abi.quantization.bytes + _up(4 + 4 * channels, self.abi.pointer.align)
        return self.abi.tensor.bytes + (quantization if channels else 0)

    def _requantised_channels(self, operator: RawOperator) -> int:
        """Channels for which the kernel keeps a multiplier and a shift; 0 when it keeps one pair for all."""
        if operator.kind not in (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.FULLY_CONNECTED):
            return 0
        weights = self.container.tensors[operator.inputs[1]]
        if not weights.scales:  # float32
            return 0
        if operator.kind is OpKind.CONV_2D:
            return weights.shape[0]
        if operator.kind is OpKind.DEPTHWISE_CONV_2D:
            return weights.shape[-1]
        return len(weights.scales) if len(weights.scales) > 1 else 0


def _looked_at(operator: RawOperator, cmsis_nn: bool) -> list[int]:
    """Tensors that a kernel's Prepare makes temporary copies of; some kernels do it twice."""
    inputs, outputs = operator.inputs, operator.outputs
    everything = [*inputs, *outputs]
    if operator.kind in (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D):
        return [*inputs[:2], *outputs, *everything]
    if operator.kind is OpKind.AVERAGE_POOL_2D and cmsis_nn:
        return everything * 2
    if operator.kind is OpKind.MEAN:
        return everything * 2
    if operator.kind is OpKind.RESHAPE:
        return [inputs[0], *outputs]
    if operator.kind is OpKind.RELU6:
        return list(inputs)
    if operator.kind is OpKind.CONCATENATION:
        return [inputs[0], *everything]
    return everything
