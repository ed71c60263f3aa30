"""Model -> nodes: the operators that really run on the device.

RESHAPE is another name for a tensor. A PAD disappears into the ADD or convolution behind it: our ADD takes inputs
smaller than its output, and a convolution pads by itself. Operators whose result nobody needs are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hil.errors import ModelError
from hil.model.network import ConvParams, DepthwiseParams, Model, Op, OpKind, Padding, PadParams, Params, Tensor

Size = tuple[int, int, int]
"""Height, width, channels; tensors of a lower rank have leading ones."""

_CONVOLUTIONS = (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D)
_MAX_PADDING = 255  # what the device's tables hold


@dataclass(frozen=True, slots=True)
class Node:
    """One operator to run. `inputs` and `output` are storage: tensors that share memory have one number.

    `sizes` and `tensors` belong to the inputs, in their order; `tensors` (and `result`) give quantisation and names.
    """

    op: Op
    params: Params
    inputs: tuple[int, ...]
    sizes: tuple[Size, ...]
    tensors: tuple[Tensor, ...]
    output: int
    out_size: Size
    result: Tensor


@dataclass(frozen=True, slots=True)
class Folded:
    """Nodes in a topological order, and the storage of the network's input and output."""

    nodes: tuple[Node, ...]
    input: int
    output: int


def size_of(tensor: Tensor) -> Size:
    """The tensor as height x width x channels; the batch of 1 is left out. Raises ModelError above rank 4."""
    shape = tensor.shape[1:] if len(tensor.shape) > 1 else tensor.shape
    if len(shape) > 3:
        raise ModelError(f"a tensor of shape {tensor.shape} has too many dimensions; at most 4 are supported")
    height, width, channels = (1,) * (3 - len(shape)) + shape
    return height, width, channels


def fold(model: Model) -> Folded:
    """The nodes of `model`. Raises ModelError when nothing remains to run, or when it has several inputs or outputs."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"the network has {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each is supported"
        )
    live = _live(model)
    pads = _foldable_pads(model, live)
    storage = _Storage(model)
    nodes: list[Node] = []
    for op in live:
        if op.kind is OpKind.RESHAPE:
            storage.alias(op.outputs[0], op.inputs[0])
        elif op.outputs[0] not in pads:
            nodes.append(_node(model, op, pads, storage))
    if not nodes:
        raise ModelError("the network has no operator that computes anything")
    return Folded(tuple(nodes), storage.of(model.inputs[0]), storage.of(model.outputs[0]))


class _Storage:
    """Which tensor's memory a tensor is in."""

    def __init__(self, model: Model) -> None:
        self._owner = list(range(len(model.tensors)))

    def alias(self, tensor: int, source: int) -> None:
        self._owner[tensor] = self._owner[source]

    def of(self, tensor: int) -> int:
        return self._owner[tensor]


def _live(model: Model) -> list[Op]:
    """Operators that the output depends on, in the model's order."""
    needed = set(model.outputs)
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
        if op.kind is OpKind.PAD and op.outputs[0] not in model.outputs:
            users = consumers.get(op.outputs[0], [])
            if users and all(_absorbs(model, user, op) for user in users):
                pads[op.outputs[0]] = op
    return pads


def _absorbs(model: Model, user: Op, pad: Op) -> bool:
    """Whether `user` can do what `pad` does to its input."""
    before, after = _pad_sizes(pad)
    if user.kind is OpKind.ADD:
        return not any(before)
    if user.kind not in _CONVOLUTIONS or before[2] or after[2]:
        return False
    params = user.params
    assert isinstance(params, ConvParams | DepthwiseParams)
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
    return Node(
        op=op,
        params=params,
        inputs=tuple(storage.of(index) for index in sources),
        sizes=tuple(size_of(tensor) for tensor in tensors),
        tensors=tensors,
        output=storage.of(op.outputs[0]),
        out_size=size_of(result),
        result=result,
    )
