"""Weights of a network as arrays: initial values, one flat vector for the training step, folding, files.

`munas.arch.channels.Weights` says what the arrays of an operator are. The bias of a layer with batch norm is zero for
good: the norm takes away whatever it adds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import Graph, Kind, Operator, Shape

BATCH_NORM_EPSILON = 1e-3  # Keras' default

Floats: TypeAlias = NDArray[np.float32]
Layer: TypeAlias = dict[str, Floats]

_STATISTICS = ("mean", "variance")


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an array of an operator lies in a flat vector: elements start..stop."""

    operator: int
    name: str
    shape: Shape
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ParameterMap:
    """The arrays of a network in two flat float32 vectors: what is trained, and the statistics of batch norm."""

    operators: tuple[Operator, ...]
    trained: tuple[Slot, ...]
    statistics: tuple[Slot, ...]

    @property
    def trained_size(self) -> int:
        """Elements of the vector of what is trained."""
        return self.trained[-1].stop

    @property
    def statistics_size(self) -> int:
        """Elements of the vector of statistics; 0 without batch norm."""
        return self.statistics[-1].stop if self.statistics else 0

    def flatten(self, weights: Weights) -> tuple[Floats, Floats]:
        """(trained, statistics) of a network's weights."""
        return _flattened(self.trained, weights), _flattened(self.statistics, weights)

    def unflatten(self, trained: Floats, statistics: Floats) -> list[Layer]:
        """The weights that two flat vectors hold, as new arrays."""
        weights: list[Layer] = [{} for _ in self.operators]
        for slots, vector in ((self.trained, trained), (self.statistics, statistics)):
            for slot in slots:
                weights[slot.operator][slot.name] = vector[slot.start : slot.stop].reshape(slot.shape).copy()
        for operator, layer in zip(self.operators, weights, strict=True):
            if operator.batch_norm:
                layer["bias"] = np.zeros(operator.out_shape[-1], np.float32)
        return weights


def _flattened(slots: Sequence[Slot], weights: Weights) -> Floats:
    parts = [weights[slot.operator][slot.name].reshape(-1) for slot in slots]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def parameter_map(graph: Graph) -> ParameterMap:
    """Where the arrays of a graph's network lie."""
    trained, statistics = [], []
    for index, operator in enumerate(graph.operators):
        shape = kernel_shape(operator)
        if shape is None:
            continue
        channels = (operator.out_shape[-1],)
        trained += [(index, "kernel", shape)]
        trained += [(index, name, channels) for name in (("gamma", "beta") if operator.batch_norm else ("bias",))]
        statistics += [(index, name, channels) for name in _STATISTICS if operator.batch_norm]
    return ParameterMap(graph.operators, _slots(trained), _slots(statistics))


def _slots(arrays: Sequence[tuple[int, str, Shape]]) -> tuple[Slot, ...]:
    slots, start = [], 0
    for operator, name, shape in arrays:
        slots.append(Slot(operator, name, shape, start, start + prod(shape)))
        start += prod(shape)
    return tuple(slots)


def kernel_shape(operator: Operator) -> Shape | None:
    """Shape of an operator's kernel in Keras' layout; None for one without weights."""
    match operator.kind:
        case Kind.CONV:
            return operator.kernel, operator.kernel, operator.in_shapes[0][-1], operator.out_shape[-1]
        case Kind.DEPTHWISE:
            return operator.kernel, operator.kernel, operator.out_shape[-1], 1
        case Kind.DENSE:
            return prod(operator.in_shapes[0]), operator.out_shape[-1]
        case _:
            return None


def initial_weights(graph: Graph, seed: int) -> list[Layer]:
    """Weights to start from: normal kernels that keep the variance (He's for layers with ReLU), no bias.

    The same for the same graph and seed, whatever the machine.
    """
    rng = np.random.default_rng([seed, 0])
    return [_initial(operator, rng) for operator in graph.operators]


def _initial(operator: Operator, rng: np.random.Generator) -> Layer:
    shape, channels = kernel_shape(operator), operator.out_shape[-1]
    if shape is None:
        return {}
    fan_in = prod(shape[:2]) if operator.kind is Kind.DEPTHWISE else prod(shape[:-1])
    deviation = np.sqrt((2.0 if operator.activation == "relu" else 1.0) / fan_in)
    layer = {"kernel": rng.normal(0.0, deviation, shape).astype(np.float32), "bias": np.zeros(channels, np.float32)}
    if operator.batch_norm:
        for name, value in (("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)):
            layer[name] = np.full(channels, value, np.float32)
    return layer


def fold_batch_norm(graph: Graph, weights: Weights) -> list[Layer]:
    """Kernels and biases that do what layer and batch norm do together; {} for an operator without weights."""
    return [_folded(operator, layer) for operator, layer in zip(graph.operators, weights, strict=True)]


def _folded(operator: Operator, layer: Mapping[str, Floats]) -> Layer:
    if not operator.batch_norm:
        return dict(layer)
    scale = layer["gamma"] / np.sqrt(layer["variance"].astype(np.float64) + BATCH_NORM_EPSILON)
    kernel = layer["kernel"] * (scale[:, None] if operator.kind is Kind.DEPTHWISE else scale)
    bias = (layer["bias"] - layer["mean"]) * scale + layer["beta"]
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def pack_weights(weights: Weights) -> bytes:
    """An uncompressed .npz of all arrays: ``3.kernel`` is operator 3's kernel. The same arrays give the same bytes."""
    stream = io.BytesIO()
    arrays: dict[str, Any] = {
        f"{index}.{name}": layer[name] for index, layer in enumerate(weights) for name in sorted(layer)
    }
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpack_weights(data: bytes, graph: Graph) -> list[Layer]:
    """The weights that `pack_weights` made a file of, for the graph of the same network.

    Raises ValueError where names or shapes are not those of the graph.
    """
    weights: list[Layer] = [{} for _ in graph.operators]
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition(".")
            if not index.isdecimal() or int(index) >= len(weights):
                raise ValueError(f"weights of operator {index!r}, which the network does not have")
            weights[int(index)][name] = arrays[key]
    for operator, layer, expected in zip(graph.operators, weights, initial_weights(graph, 0), strict=True):
        if {name: array.shape for name, array in layer.items()} != {name: a.shape for name, a in expected.items()}:
            raise ValueError(f"the weights of {operator.name} are not those of this network")
    return weights
