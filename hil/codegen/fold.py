"""Model -> nodes: the operators that really run on the device.

RESHAPE is another name for a tensor, and so is a part of one that lies together (UNPACK, SPLIT, slices). A PAD
disappears into the ADD or convolution behind it: our ADD takes inputs smaller than its output, and a convolution pads
by itself. Operators whose result nobody needs are dropped. Several outputs are copied into one buffer at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from hil.model.network import (
    AddParams,
    Axis,
    ConcatParams,
    ConvParams,
    DepthwiseParams,
    DType,
    Model,
    MoveParams,
    Op,
    OpKind,
    Padding,
    PadParams,
    Params,
    ReshapeParams,
    Tensor,
)
from munas.cost.kernels import KernelVariant, align

Size = tuple[int, int, int]
"""Height, width, channels; tensors of a lower rank have leading ones."""

_VIEW_ALIGNMENT = 4  # of a part of a tensor that is used where it lies: kernels may read words
_MAX_PADDING = 255  # what the device's tables hold


@dataclass(frozen=True, slots=True)
class Node:
    """One operator to run. `inputs` and `output` are storage: tensors that share memory have one number.

    `offsets` (bytes into the storage), `whole` (whether the tensor is all of it), `sizes` and `tensors` belong to the
    inputs, in their order; `tensors` (and `result`) give shape, quantisation and names. `wanted` is the kernel that the
    plan has chosen for it; None takes the fastest.
    """

    op: Op
    params: Params
    inputs: tuple[int, ...]
    offsets: tuple[int, ...]
    whole: tuple[bool, ...]
    sizes: tuple[Size, ...]
    tensors: tuple[Tensor, ...]
    output: int
    out_size: Size
    result: Tensor
    wanted: KernelVariant | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input or output of the network lies: `offset` bytes into `storage`; `tensor` is the model's."""

    tensor: int
    storage: int
    offset: int


@dataclass(frozen=True, slots=True)
class Folded:
    """Nodes in a topological order, bytes by storage, and where the network's inputs and outputs are.

    All inputs lie in one storage, one after the other, and so do all outputs: the device has one buffer for each side.
    `states` are storages that live from one inference to the next, with their initial bytes; the nodes' order is then
    the one in which they have to run.
    """

    nodes: tuple[Node, ...]
    sizes: Mapping[int, int]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    states: tuple[tuple[int, bytes], ...]


def size_of(tensor: Tensor) -> Size:
    """The tensor as height x width x channels: the batch of 1 is left out, more dimensions in front are joined."""
    shape = tensor.shape[1:] if len(tensor.shape) > 1 and tensor.shape[0] == 1 else tensor.shape
    padded = (1,) * (3 - len(shape)) + shape
    return prod(padded[:-2]), padded[-2], padded[-1]


@dataclass(frozen=True, slots=True)
class Run:
    """A movement in its shortest form: runs of `length` bytes that lie together, along `axes`."""

    length: int
    axes: tuple[Axis, ...]


def runs_of(params: MoveParams, width: int) -> Run:
    """In bytes, of elements of `width`: axes of one element are left out, and those whose elements follow each other
    are joined."""
    axes = [
        Axis(axis.count, axis.step * width, tuple(offset * width for offset in axis.offsets)) for axis in params.axes
    ]
    merged: list[Axis] = []
    for axis in (*axes, Axis(width, 1)):
        if axis.count == 1:
            continue
        if merged and not merged[-1].offsets and not axis.offsets and merged[-1].step == axis.step * axis.count:
            merged[-1] = Axis(merged[-1].count * axis.count, axis.step)
        else:
            merged.append(axis)
    if merged and not merged[-1].offsets and merged[-1].step == 1:
        return Run(merged[-1].count, tuple(merged[:-1]))
    return Run(1, tuple(merged))


def fold(model: Model) -> Folded:
    """The nodes of `model`."""
    live = _live(model)
    pads = _foldable_pads(model, live)
    storage = _Storage(model)
    nodes: list[Node] = []
    for op in live:
        if isinstance(op.params, ReshapeParams):
            storage.alias(op.outputs[0], op.inputs[0])
        elif not storage.see(op) and op.outputs[0] not in pads:
            nodes.append(_node(model, op, pads, storage))
    places = tuple(storage.place(index) for index in model.outputs)
    if len(places) > 1 or not nodes:  # a network that only names its input anew copies it
        gather = _gather(model, storage)
        nodes.append(gather)
        places = _consecutive(model.outputs, model, gather.output, 1)
    used = {number for node in nodes for number in (*node.inputs, node.output)}
    inputs = tuple(storage.place(index) for index in model.inputs)
    used |= {place.storage for place in inputs}
    states = tuple((storage.place(tensor).storage, initial) for tensor, initial in model.states)
    used |= {number for number, _ in states}
    return Folded(tuple(nodes), {number: storage.size(number) for number in used}, inputs, places, states)


class _Storage:
    """Which memory a tensor is in, and where. The inputs of a network that has several share one."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sizes = {tensor.index: tensor.size_bytes for tensor in model.tensors if tensor.data is None}
        self._place = {index: (index, 0) for index in self._sizes}
        self._states = {index for index, _ in model.states}
        if len(model.inputs) > 1:
            number = self.new(0)
            for place in _consecutive(model.inputs, model, number, _VIEW_ALIGNMENT):
                self._place[place.tensor] = (number, place.offset)
                self._sizes[number] = place.offset + model.tensors[place.tensor].size_bytes

    def new(self, size: int) -> int:
        """The number of a storage that no tensor owns."""
        number = max(max(self._sizes, default=0), len(self._model.tensors)) + 1
        self._sizes[number] = size
        return number

    def alias(self, tensor: int, source: int, offset: int = 0) -> None:
        """Put `tensor` where `source` is, or a part of it `offset` bytes behind."""
        number, start = self._place[source]
        self._place[tensor] = (number, start + offset)

    def see(self, op: Op) -> bool:
        """Whether the operator only takes a part of its input that lies together, and so needs no copy."""
        width = self._model.tensors[op.inputs[0]].dtype.size_bytes
        if not isinstance(op.params, MoveParams) or runs_of(op.params, width).axes:
            return False
        start = op.params.start * width
        if (self._place[op.inputs[0]][1] + start) % _VIEW_ALIGNMENT:
            return False
        self.alias(op.outputs[0], op.inputs[0], start)
        return True

    def place(self, tensor: int) -> Place:
        number, offset = self._place[tensor]
        return Place(tensor, number, offset)

    def size(self, number: int) -> int:
        return self._sizes[number]

    def is_whole(self, tensor: int) -> bool:
        number, offset = self._place[tensor]
        if number in self._states:
            return False
        return offset == 0 and self._sizes[number] == self._model.tensors[tensor].size_bytes


def _consecutive(tensors: Sequence[int], model: Model, storage: int, alignment: int) -> tuple[Place, ...]:
    """The tensors one after the other in a storage, each aligned."""
    places, offset = [], 0
    for index in tensors:
        offset = align(offset, alignment)
        places.append(Place(index, storage, offset))
        offset += model.tensors[index].size_bytes
    return tuple(places)


def _gather(model: Model, storage: _Storage) -> Node:
    """The copy of all outputs into one buffer."""
    tensors = tuple(model.tensors[index] for index in model.outputs)
    size = sum(tensor.size_bytes for tensor in tensors)
    number = storage.new(size)
    last = max((op.index for op in model.ops), default=0)
    result = Tensor(number, (size,), DType.INT8, tensors[0].quantization, None, "outputs")
    op = Op(last + 1, OpKind.CONCATENATION, model.outputs, (number,), ConcatParams(0))
    return _assembled(op, op.params, model.outputs, tensors, storage, number, result)


def _assembled(
    op: Op,
    params: Params,
    sources: Sequence[int],
    tensors: tuple[Tensor, ...],
    storage: _Storage,
    output: int,
    result: Tensor,
) -> Node:
    places = [storage.place(index) for index in sources]
    return Node(
        op=op,
        params=params,
        inputs=tuple(place.storage for place in places),
        offsets=tuple(place.offset for place in places),
        whole=tuple(storage.is_whole(index) for index in sources),
        sizes=tuple(size_of(tensor) for tensor in tensors),
        tensors=tensors,
        output=output,
        out_size=size_of(result),
        result=result,
    )


def _live(model: Model) -> list[Op]:
    """Operators that outputs and states depend on, in the model's order."""
    needed = {*model.outputs, *(index for index, _ in model.states)}
    live = []
    for op in reversed(model.ops):
        if needed.intersection(op.outputs):
            live.append(op)
            needed.update(index for index in op.inputs if index >= 0)
    return live[::-1]


def _foldable_pads(model: Model, live: Iterable[Op]) -> dict[int, Op]:
    """PADs that all their consumers can absorb, by the tensor that they would write."""
    ops = list(live)
    consumers: dict[int, list[Op]] = {}
    for op in ops:
        for index in op.inputs:
            consumers.setdefault(index, []).append(op)
    pads = {}
    for op in ops:
        if _is_plain_pad(model, op) and op.outputs[0] not in model.outputs:
            users = consumers.get(op.outputs[0], [])
            if users and all(_absorbs(model, user, op) for user in users):
                pads[op.outputs[0]] = op
    return pads


def _is_plain_pad(model: Model, op: Op) -> bool:
    """Whether it pads height, width or channels of one image with zeros."""
    if not isinstance(op.params, PadParams):
        return False
    source = model.tensors[op.inputs[0]]
    outer = op.params.before[:1] + op.params.after[:1] if len(source.shape) > 1 else ()
    is_image = len(source.shape) <= 4 and (len(source.shape) < 2 or source.shape[0] == 1)
    return is_image and not any(outer) and op.params.value == source.quant.zero_point


def _absorbs(model: Model, user: Op, pad: Op) -> bool:
    """Whether `user` can do what `pad` does to its input."""
    before, after = _pad_sizes(pad)
    params = user.params
    if isinstance(params, AddParams):
        return not any(before) and model.tensors[user.outputs[0]].dtype is DType.INT8
    if not isinstance(params, ConvParams | DepthwiseParams) or before[2] or after[2]:
        return False
    total = _total_padding(params.padding, pad)
    shape = model.tensors[user.inputs[1]].shape
    # CMSIS-NN's im2col runs off its buffer where a whole window lies in the padding.
    reach = [(extent - 1) * step for extent, step in zip(shape[1:3], params.dilation, strict=True)]
    vertical, horizontal = max(total.top, total.bottom), max(total.left, total.right)
    return vertical <= reach[0] and horizontal <= reach[1] and max(vertical, horizontal) <= _MAX_PADDING


def _pad_sizes(pad: Op) -> tuple[Size, Size]:
    """Padding before and after as (height, width, channels)."""
    params = pad.params
    assert isinstance(params, PadParams)
    sizes = []
    for amounts in (params.before, params.after):
        inner = (0, 0, 0, *(amounts[1:] if len(amounts) > 1 else amounts))
        sizes.append((inner[-3], inner[-2], inner[-1]))
    return sizes[0], sizes[1]


def _total_padding(own: Padding, pad: Op) -> Padding:
    before, after = _pad_sizes(pad)
    return Padding(own.top + before[0], own.bottom + after[0], own.left + before[1], own.right + after[1])


def _node(model: Model, op: Op, pads: dict[int, Op], storage: _Storage) -> Node:
    activations = [index for index in op.inputs if index >= 0 and model.tensors[index].data is None]
    params = op.params
    sources = []
    for index in activations:
        pad = pads.get(index)
        sources.append(index if pad is None else pad.inputs[0])
        if pad is not None and isinstance(params, ConvParams | DepthwiseParams):
            params = replace(params, padding=_total_padding(params.padding, pad))
    tensors = tuple(model.tensors[index] for index in sources)
    result = model.tensors[op.outputs[0]]
    return _assembled(op, params, sources, tensors, storage, storage.place(result.index).storage, result)
