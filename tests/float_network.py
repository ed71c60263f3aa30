"""A graph's network in floating point, in numpy: what pruning must not change."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import INPUT, Graph, Kind, Operator

BN_EPSILON = 1e-3  # Keras' default

Floats = NDArray[np.float64]


def random_weights(graph: Graph, rng: np.random.Generator) -> list[dict[str, NDArray[np.float32]]]:
    """Weights as trained ones may be: nothing is zero, means, variances and gammas are any."""
    return [_weights(op, rng) for op in graph.operators]


def _weights(op: Operator, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    channels, inputs = op.out_shape[-1], op.in_shapes[0]
    if op.kind is Kind.CONV:
        shape: tuple[int, ...] = (op.kernel, op.kernel, inputs[-1], channels)
    elif op.kind is Kind.DEPTHWISE:
        shape = (op.kernel, op.kernel, channels, 1)
    elif op.kind is Kind.DENSE:
        shape = (int(np.prod(inputs)), channels)
    else:
        return {}
    fan_in = int(np.prod(shape)) / channels
    weights = {"kernel": rng.normal(size=shape) / fan_in**0.5, "bias": rng.normal(size=channels)}
    if op.batch_norm:
        weights |= {name: rng.normal(size=channels) for name in ("gamma", "beta", "mean")}
        weights["variance"] = rng.uniform(0.5, 2.0, channels)
    return {name: values.astype(np.float32) for name, values in weights.items()}


def outputs(graph: Graph, weights: Weights, image: Floats) -> list[Floats]:
    """Every operator's output for one input of the graph's input shape."""
    found: list[Floats] = []
    for op, layer in zip(graph.operators, weights, strict=True):
        values = [image if producer == INPUT else found[producer] for producer in op.inputs]
        found.append(_evaluate(op, {name: array.astype(np.float64) for name, array in layer.items()}, values))
        assert found[-1].shape == op.out_shape
    return found


def _evaluate(op: Operator, layer: Mapping[str, Floats], values: list[Floats]) -> Floats:
    if op.kind is Kind.ADD:
        total = np.zeros(op.out_shape)
        for term in values:
            total[tuple(map(slice, term.shape))] += term
        return total
    if op.kind is Kind.POOL:
        assert op.pool is not None
        (rows, columns), shape = op.pool, op.out_shape
        image = values[0][: shape[0] * rows, : shape[1] * columns]
        windows = image.reshape(shape[0], rows, shape[1], columns, shape[2])
        return windows.max(axis=(1, 3)) if op.pool_type == "max" else windows.mean(axis=(1, 3))
    return _activated(op, layer, _linear(op, layer["kernel"], values[0]) + layer["bias"])


def _linear(op: Operator, kernel: Floats, image: Floats) -> Floats:
    if op.kind is Kind.DENSE:
        return np.asarray(image.reshape(-1) @ kernel)
    windows = np.lib.stride_tricks.sliding_window_view(image, (op.kernel, op.kernel), axis=(0, 1))
    windows = windows[:: op.stride, :: op.stride]  # (rows, columns, in, k, k)
    if op.kind is Kind.DEPTHWISE:
        return np.einsum("rcikl,kli->rci", windows, kernel[..., 0])
    return np.einsum("rcikl,klio->rco", windows, kernel, optimize=True)


def _activated(op: Operator, layer: Mapping[str, Floats], values: Floats) -> Floats:
    if op.batch_norm:
        values = (values - layer["mean"]) / np.sqrt(layer["variance"] + BN_EPSILON)
        values = values * layer["gamma"] + layer["beta"]
    return np.maximum(values, 0) if op.activation == "relu" else values
