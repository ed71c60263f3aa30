"""Which channels of a network stand or fall together, and the network without some of them.

A depthwise convolution and a pool keep the channels of what they read, and the terms of an Add must agree in theirs.
All outputs tied in that way form one group: a channel is taken out of every one of them or of none. Where it is exactly
zero at every output of its group, the network without it computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from munas.arch.graph import INPUT, Graph, Kind, Operator
from munas.arch.space import MAX_FILTERS, AnyArchitecture, Block, LayerType, MlpArchitecture

Weights: TypeAlias = Sequence[Mapping[str, NDArray[np.float32]]]
"""One mapping an operator (empty for a pool or an Add), float32, in Keras' layouts: "kernel" (k, k, in, out) of a
convolution, (k, k, C, 1) of a depthwise one, (in, out) of a dense layer; "bias" and, with batch norm, "gamma", "beta",
"mean" and "variance", each of (out,)."""

Masks: TypeAlias = Sequence[NDArray[np.bool_]]
"""One array (size,) a group, True for the channels that are kept."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that stand or fall together.

    `members` are the operators (convolutions, dense layers) that produce them; `carriers` the depthwise convolutions
    that have weights for them.
    """

    size: int
    prunable: bool
    members: tuple[int, ...]
    carriers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """All groups of a graph: `of_output` has the group of each operator's output, `of_input` is the network input's."""

    groups: tuple[Group, ...]
    of_output: tuple[int, ...]
    of_input: int

    def read_by(self, operator: Operator) -> int:
        """The group of what an operator reads (first)."""
        return self.of_producer(operator.inputs[0])

    def of_producer(self, producer: int) -> int:
        """The group of a producer's output; `munas.arch.graph.INPUT` is one."""
        return self.of_input if producer == INPUT else self.of_output[producer]

    @property
    def prunable(self) -> tuple[int, ...]:
        """Numbers of the groups that may lose channels."""
        return tuple(number for number, group in enumerate(self.groups) if group.prunable)


def channel_groups(graph: Graph) -> Groups:
    """The groups of a deployed graph, in the order in which the network first has them; the input's is the first.

    Left alone, as in munas: the input's channels, the logits, and what a layer fed directly by the input produces.
    Raises ValueError for an Add of terms that differ in their channels.
    """
    tied = _ties(graph)
    roots = list(dict.fromkeys(tied))
    number = {root: index for index, root in enumerate(roots)}
    of_input, *of_output = (number[root] for root in tied)
    members: list[list[int]] = [[] for _ in roots]
    carriers: list[list[int]] = [[] for _ in roots]
    for index, operator in enumerate(graph.operators):
        if operator.kind in (Kind.CONV, Kind.DENSE):
            members[of_output[index]].append(index)
        elif operator.kind is Kind.DEPTHWISE:
            carriers[of_output[index]].append(index)
    fixed = {of_input, of_output[-1]}
    fixed |= {of_output[index] for group in members for index in group if INPUT in graph.operators[index].inputs}
    sizes = [_channels(graph, root - 1) for root in roots]
    groups = tuple(
        Group(sizes[index], index not in fixed, tuple(members[index]), tuple(carriers[index]))
        for index in range(len(roots))
    )
    return Groups(groups, tuple(of_output), of_input)


def _channels(graph: Graph, producer: int) -> int:
    return (graph.input_shape if producer == INPUT else graph.operators[producer].out_shape)[-1]


def _ties(graph: Graph) -> list[int]:
    """By output (the network's input first, then the operators' in order): the first output that it is tied to."""
    root = list(range(1 + len(graph.operators)))

    def find(output: int) -> int:
        while root[output] != output:
            root[output] = output = root[root[output]]
        return output

    for index, operator in enumerate(graph.operators):
        if operator.kind in (Kind.CONV, Kind.DENSE):
            continue
        for producer in operator.inputs:
            if _channels(graph, producer) != operator.out_shape[-1]:
                raise ValueError(f"{operator.name} reads {_channels(graph, producer)} channels and has another number")
            one, other = find(producer + 1), find(index + 1)
            root[max(one, other)] = min(one, other)
    return [find(output) for output in range(len(root))]


# ------------------------------------------------------------------------------------- without channels


def shrink(
    architecture: AnyArchitecture, graph: Graph, weights: Weights, masks: Masks
) -> tuple[AnyArchitecture, list[dict[str, NDArray[np.float32]]]]:
    """The network without the masked channels: its architecture, and its weights as new arrays.

    `graph` is the architecture's deployed graph, `masks` has one array a group of `channel_groups(graph)`. The graph of
    the result has the same operators in the same order. It computes what `munas.arch.prune.apply_masks` leaves of the
    network. Raises ValueError for masks that do not fit the groups, leave nothing of one, or cut one that is fixed.
    """
    groups = channel_groups(graph)
    _check(groups, masks)
    smaller = resize(architecture, graph, [int(mask.sum()) for mask in masks])
    kept = [
        _kept(operator, layer, masks[groups.read_by(operator)], masks[groups.of_output[index]])
        for index, (operator, layer) in enumerate(zip(graph.operators, weights, strict=True))
    ]
    return smaller, kept


def _check(groups: Groups, masks: Masks) -> None:
    if len(masks) != len(groups.groups):
        raise ValueError(f"{len(masks)} masks for {len(groups.groups)} groups of channels")
    for number, (group, mask) in enumerate(zip(groups.groups, masks, strict=True)):
        if mask.shape != (group.size,) or mask.dtype != np.bool_:
            raise ValueError(f"mask {number} is {mask.dtype} {mask.shape}, expected bool ({group.size},)")
        if not mask.any() or not (group.prunable or mask.all()):
            what = "all channels" if group.prunable else "channels of a group that is fixed"
            raise ValueError(f"mask {number} removes {what}")


def _kept(
    operator: Operator,
    layer: Mapping[str, NDArray[np.float32]],
    read: NDArray[np.bool_],
    written: NDArray[np.bool_],
) -> dict[str, NDArray[np.float32]]:
    """An operator's weights for the channels that are read and written."""
    if not layer:
        return {}
    kept = {name: np.ascontiguousarray(values[..., written]) for name, values in layer.items() if name != "kernel"}
    kernel = layer["kernel"]
    if operator.kind is Kind.DEPTHWISE:
        kernel = kernel[:, :, written, :]
    elif operator.kind is Kind.CONV:
        kernel = kernel[:, :, read][..., written]
    else:  # a feature map is flattened with the channels last
        kernel = kernel[np.tile(read, prod(operator.in_shapes[0]) // read.size)][:, written]
    return {"kernel": np.ascontiguousarray(kernel), **kept}


def resize(architecture: AnyArchitecture, graph: Graph, sizes: Sequence[int]) -> AnyArchitecture:
    """The architecture whose groups of channels have `sizes`; `graph` is its own deployed graph."""
    groups = channel_groups(graph)
    outputs = iter(
        sizes[groups.of_output[index]]
        for index, operator in enumerate(graph.operators)
        if operator.kind not in (Kind.POOL, Kind.ADD)
    )
    if isinstance(architecture, MlpArchitecture):
        return MlpArchitecture(tuple(next(outputs) for _ in architecture.units))
    blocks = tuple(_resized_block(block, outputs) for block in architecture.blocks)
    dense = tuple(replace(layer, units=next(outputs)) for layer in architecture.dense)
    return replace(architecture, blocks=blocks, dense=dense)


def _resized_block(block: Block, outputs: Iterator[int]) -> Block:
    """A block whose layers have the next of the outputs."""
    layers = []
    for layer in block.layers:
        # The last layer of a branch takes the main block's channels, which are those of the input where that has only
        # depthwise layers: its own filters then mean nothing and may not be able to say as many.
        filters = min(next(outputs), MAX_FILTERS)
        layers.append(layer if layer.type is LayerType.DEPTHWISE else replace(layer, filters=filters))
    if block.is_branch and block.layers[-1].type is LayerType.DEPTHWISE:
        next(outputs)  # of the 1x1 convolution that follows
    return replace(block, layers=tuple(layers))
