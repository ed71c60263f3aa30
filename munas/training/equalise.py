"""Channels of a float network brought to one size before it is quantised, with the function left as it is.

An int8 tensor has one scale: a channel that is much smaller than the largest one has few steps left. Where a channel is
multiplied by s > 0 and everything that reads it divides by s, the network computes the same, across a ReLU, a pool and
an Add too, as these are homogeneous (cross-layer equalisation; Nagel et al., arXiv 1906.04721). With s a power of two
every product and sum in float32 is the same number, scaled, so that the logits do not change by a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import INPUT, Graph, Kind, Operator
from munas.training.parameters import Floats, Layer

MAX_SHIFT = 6
"""A channel is scaled by 2^-6 to 2^6 beside the others: more gains nothing at 8 bits, and int32 biases keep room."""

_FAST_BELOW = 0.49  # of a convolution's multipliers; 1/2 is the kernels' limit, which rounding might reach
_MAX_LOWERED = 10.0  # a shift that is lowered by more gains nothing: other channels are the cause
_MAX_ROUNDS = 40

_WEIGHTED = (Kind.CONV, Kind.DEPTHWISE, Kind.DENSE)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Lowest and highest values of each channel of an operator's output, float64 (C,), on representative inputs."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """The largest magnitude of each channel (C,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def span(self, shifts: NDArray[np.float64]) -> float:
        """Width of the int8 tensor's range, which has zero in it, with channels scaled by 2^shifts (C,)."""
        scale = np.exp2(shifts)
        return max(0.0, float((self.high * scale).max())) - min(0.0, float((self.low * scale).min()))


def equalised(graph: Graph, folded: Weights, ranges: Sequence[Ranges]) -> list[Layer]:
    """New kernels and biases; `folded` has batch norm folded (`fold_batch_norm`), `ranges` are `channel_ranges`'.

    Logits are those of `folded`, bit for bit in float32, as long as nothing underflows.
    """
    result = [dict(layer) for layer in folded]
    sets = _tied(graph)
    chosen = [_shifts(graph, folded, tied, ranges) for tied in sets]
    for tied, shifts in zip(sets, _kept_fast(graph, folded, ranges, sets, chosen), strict=True):
        if not shifts.any():
            continue
        scale = np.exp2(shifts).astype(np.float32)
        for index in tied:
            if graph.operators[index].kind in _WEIGHTED:
                layer, operator = result[index], graph.operators[index]
                layer["kernel"] = layer["kernel"] * (scale[:, None] if operator.kind is Kind.DEPTHWISE else scale)
                layer["bias"] = layer["bias"] * scale
        for index in _readers(graph, tied):
            kernel = result[index]["kernel"]
            result[index]["kernel"] = kernel / _by_input(graph.operators[index], scale)
    return result


def channel_ranges(graph: Graph, folded: Weights, inputs: Floats) -> list[Ranges]:
    """Of each operator's output on scaled `inputs` (N, H, W, C), then of the inputs themselves: index -1 is the
    input's, as in a graph."""
    from munas.training.backend import tf
    from munas.training.network import infer_all

    layers = [{name: tf.constant(values) for name, values in layer.items()} for layer in folded]
    outputs = [output.numpy() for output in infer_all(graph, layers, tf.constant(inputs))]
    return [_ranges(values.reshape(-1, values.shape[-1])) for values in (*outputs, inputs)]


def _ranges(values: Floats) -> Ranges:
    return Ranges(values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64))


# ---------------------------------------------------------------------------------------- the device's fast kernels


def multipliers(
    graph: Graph, folded: Weights, ranges: Sequence[Ranges], shifts: Sequence[NDArray[np.float64]]
) -> dict[int, NDArray[np.float64]]:
    """By convolution (its place in the graph), what an int8 sum of each output channel (C,) is multiplied by, with the
    channels of output i scaled by 2^shifts[i]; the last one of `shifts` is the input's.

    The converter gives a pool and what it reads one scale, of which of the two depends: the larger result is taken.
    """
    spans = [found.span(shift) for found, shift in zip(ranges, shifts, strict=True)]
    least, most = list(spans), list(spans)
    for index, operator in enumerate(graph.operators):
        if operator.kind is Kind.POOL:
            most[index] = max(most[index], most[operator.inputs[0]])
    for index in reversed(range(len(graph.operators))):
        if graph.operators[index].kind is Kind.POOL:
            source = graph.operators[index].inputs[0]
            least[source] = min(least[source], least[index])
    found = {}
    for index, operator in enumerate(graph.operators):
        if operator.kind not in (Kind.CONV, Kind.DEPTHWISE):
            continue
        source = operator.inputs[0]
        kernel = np.abs(np.asarray(folded[index]["kernel"], np.float64)) / np.exp2(shifts[source])[:, None]
        largest = kernel.max(axis=(0, 1, 3) if operator.kind is Kind.DEPTHWISE else (0, 1, 2)) * np.exp2(shifts[index])
        found[index] = largest / 127 * most[source] / max(least[index], 1e-30)
    return found


def _kept_fast(
    graph: Graph,
    folded: Weights,
    ranges: Sequence[Ranges],
    sets: Sequence[tuple[int, ...]],
    chosen: Sequence[NDArray[np.float64]],
) -> list[NDArray[np.float64]]:
    """Shifts (C,) by set, lowered where a channel's multiplier would be 1/2 or more: the device then takes a slower
    kernel than the search has predicted (`munas.cost.kernels.conv_any`).

    A channel that is made smaller asks more of its readers' weights, so that their multipliers are looked at again.
    What no shift can mend, a layer whose channels are all too small for their weights, is left.
    """
    shifts = [shift.copy() for shift in chosen]
    lowest = [shift - _MAX_LOWERED for shift in chosen]
    by_output = [np.zeros(found.low.size) for found in ranges]
    for _ in range(_MAX_ROUNDS):
        for tied, shift in zip(sets, shifts, strict=True):
            for index in tied:
                by_output[index] = shift
        found = multipliers(graph, folded, ranges, by_output)
        changed = False
        for tied, shift, low in zip(sets, shifts, lowest, strict=True):
            for index in tied:
                if index in found:
                    over = np.ceil(np.log2(np.maximum(found[index] / _FAST_BELOW, 1.0)))
                    lowered = np.maximum(low, shift - over)
                    changed |= bool((lowered < shift).any())
                    shift[:] = np.minimum(shift, lowered)
        if not changed:
            break
    return shifts


def _tied(graph: Graph) -> list[tuple[int, ...]]:
    """Outputs that must be scaled alike, since pools and Adds pass them on; those tied to the input or the logits,
    which are as they are, are left out."""
    root = list(range(-1, len(graph.operators)))  # by output + 1

    def find(output: int) -> int:
        while root[output + 1] != output:
            output = root[output + 1]
        return output

    for index, operator in enumerate(graph.operators):
        if operator.kind not in _WEIGHTED:
            for producer in operator.inputs:
                one, other = find(producer), find(index)
                root[max(one, other) + 1] = min(one, other)
    fixed = {find(INPUT), find(len(graph.operators) - 1)}
    sets: dict[int, list[int]] = {}
    for index in range(len(graph.operators)):
        sets.setdefault(find(index), []).append(index)
    return [tuple(members) for first, members in sets.items() if first not in fixed]


def _readers(graph: Graph, tied: tuple[int, ...]) -> list[int]:
    return [
        index
        for index, operator in enumerate(graph.operators)
        if operator.kind in _WEIGHTED and operator.inputs[0] in tied
    ]


def _by_input(operator: Operator, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """A scale of channels (C,) in the shape of the kernel's axis of inputs."""
    if operator.kind is Kind.DENSE:  # a feature map is flattened with the channels last
        return np.tile(scale, prod(operator.in_shapes[0]) // scale.size)[:, None]
    return scale[:, None]  # (k, k, in, out) or (k, k, C, 1)


def _shifts(graph: Graph, folded: Weights, tied: tuple[int, ...], ranges: Sequence[Ranges]) -> NDArray[np.float64]:
    """(C,): the power of two by which each channel is scaled; zeros where there is nothing to go by.

    The step of the activation goes with its largest channel, that of a reader's kernel with the largest input of each
    of its outputs: a channel's size and its weights are made to be in the same proportion (the square root). Of a
    depthwise reader every channel has a scale of its own, so that its weights count for nothing.
    """
    size = np.max([ranges[index].sizes for index in tied if graph.operators[index].kind in _WEIGHTED], axis=0)
    weight = np.zeros_like(size)
    for index in _readers(graph, tied):
        if graph.operators[index].kind is not Kind.DEPTHWISE:
            weight = np.maximum(weight, _input_shares(graph.operators[index], folded[index]["kernel"], size.size))
    alive = size > 0
    if weight.any():
        alive &= weight > 0
        exponent = 0.5 * (np.log2(np.where(alive, weight, 1.0)) - np.log2(np.where(alive, size, 1.0)))
    else:
        exponent = -np.log2(np.where(alive, size, 1.0))
    if not alive.any():
        return np.zeros_like(size)
    middle = np.median(exponent[alive])
    return np.where(alive, np.clip(np.rint(exponent - middle), -MAX_SHIFT, MAX_SHIFT), 0.0)


def _input_shares(operator: Operator, kernel: Floats, channels: int) -> NDArray[np.float64]:
    """(C,): the largest weight of each input channel, as a share of the largest of its output."""
    outputs = kernel.shape[-1]
    if operator.kind is Kind.DENSE:
        by_channel = np.abs(kernel).reshape(-1, channels, outputs).max(axis=0)
    else:
        by_channel = np.abs(kernel).max(axis=(0, 1))
    largest = by_channel.max(axis=0)
    return np.asarray((by_channel / np.where(largest > 0, largest, 1.0)).max(axis=1), np.float64)
