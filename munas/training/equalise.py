"""Channels of a float network brought to one size before it is quantised, with the function left as it is.

An int8 tensor has one scale: a channel that is much smaller than the largest one has few steps left. Where a channel is
multiplied by s > 0 and everything that reads it divides by s, the network computes the same, across a ReLU, a pool and
an Add too, as these are homogeneous (cross-layer equalisation; Nagel et al., arXiv 1906.04721). With s a power of two
every product and sum in float32 is the same number, scaled, so that the logits do not change by a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import INPUT, Graph, Kind, Operator
from munas.training.parameters import Floats, Layer

MAX_SHIFT = 6
"""A channel is scaled by 2^-6 to 2^6 beside the others: more gains nothing at 8 bits, and int32 biases keep room."""

_WEIGHTED = (Kind.CONV, Kind.DEPTHWISE, Kind.DENSE)


def equalised(graph: Graph, folded: Weights, sizes: Sequence[NDArray[np.float64] | None]) -> list[Layer]:
    """New kernels and biases; `folded` has batch norm folded (`fold_batch_norm`). `sizes` are, by operator, the largest
    magnitudes (C,) of its output's channels on representative inputs; only those of operators that have weights count.

    Logits are those of `folded`, bit for bit in float32, as long as nothing underflows.
    """
    result = [dict(layer) for layer in folded]
    for tied in _tied(graph):
        shifts = _shifts(graph, folded, tied, sizes)
        if shifts is None or not shifts.any():
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


def channel_sizes(graph: Graph, folded: Weights, inputs: Floats) -> list[NDArray[np.float64] | None]:
    """By operator, the largest magnitude (C,) of each channel of its output on scaled `inputs` (N, H, W, C); None for
    one without weights."""
    from munas.training.backend import tf
    from munas.training.network import infer_all

    layers = [{name: tf.constant(values) for name, values in layer.items()} for layer in folded]
    outputs = infer_all(graph, layers, tf.constant(inputs))
    return [
        np.abs(output.numpy().reshape(-1, output.shape[-1])).max(axis=0).astype(np.float64) if layer else None
        for layer, output in zip(layers, outputs, strict=True)
    ]


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


def _shifts(
    graph: Graph, folded: Weights, tied: tuple[int, ...], sizes: Sequence[NDArray[np.float64] | None]
) -> NDArray[np.float64] | None:
    """(C,): the power of two by which each channel is scaled; None where there is nothing to go by.

    The step of the activation goes with its largest channel, that of a reader's kernel with the largest input of each
    of its outputs: a channel's size and its weights are made to be in the same proportion (the square root). Of a
    depthwise reader every channel has a scale of its own, so that its weights count for nothing.
    """
    found = [sizes[index] for index in tied if graph.operators[index].kind in _WEIGHTED]
    size = np.max([item for item in found if item is not None], axis=0)
    weight = np.zeros_like(size)
    for index in _readers(graph, tied):
        if graph.operators[index].kind is not Kind.DEPTHWISE:
            weight = np.maximum(weight, _input_shares(graph.operators[index], folded[index]["kernel"], size.size))
    alive = size > 0
    if not alive.any():
        return None
    if weight.any():
        alive &= weight > 0
        exponent = 0.5 * (np.log2(np.where(alive, weight, 1.0)) - np.log2(np.where(alive, size, 1.0)))
    else:
        exponent = -np.log2(np.where(alive, size, 1.0))
    if not alive.any():
        return None
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
