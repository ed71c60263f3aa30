"""Which layer an int8 network loses its accuracy in: each quantised alone, in the float network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import Graph, Kind, Operator
from munas.training.backend import tf
from munas.training.network import Tensor, infer_all, infer_changed
from munas.training.parameters import Floats
from munas.training.steps import error_of

WORTH_EXPLAINING = 0.01
"""Loss of accuracy by int8 conversion, as a fraction, above which its layer is looked for."""

_BATCH = 250


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """What quantising one layer alone, kernel and output, adds to the float error (0..1)."""

    layer: str
    loss: float


def layer_losses(
    graph: Graph, folded: Weights, representative: Floats, inputs: Floats, labels: NDArray[np.int64]
) -> list[LayerLoss]:
    """Of every layer with weights, the worst first. `folded` has batch norm folded; ranges come from `representative`,
    errors from `inputs` (N, H, W, C) and `labels` (N,)."""
    layers = [{name: tf.constant(values) for name, values in layer.items()} for layer in folded]
    outputs = infer_all(graph, layers, tf.constant(representative))
    ranges = [(min(0.0, float(tf.reduce_min(out))), max(0.0, float(tf.reduce_max(out)))) for out in outputs]

    def error(index: int | None) -> float:
        def change(at: int, values: Tensor) -> Tensor:
            return _stepped(values, *ranges[at]) if at == index else values

        changed = list(layers)
        if index is not None:
            rounded = _rounded_kernel(graph.operators[index], folded[index]["kernel"])
            changed[index] = {**layers[index], "kernel": tf.constant(rounded)}
        parts = [
            infer_changed(graph, changed, tf.constant(inputs[at : at + _BATCH]), change).numpy()
            for at in range(0, len(inputs), _BATCH)
        ]
        return error_of(np.concatenate(parts), labels)

    whole = error(None)
    losses = [
        LayerLoss(graph.operators[index].name, error(index) - whole) for index, layer in enumerate(folded) if layer
    ]
    return sorted(losses, key=lambda item: -item.loss)


def explained(losses: list[LayerLoss]) -> str:
    """The finding in words."""
    worst = losses[0]
    if worst.loss <= 0:
        return "no layer alone loses anything: the losses of all of them add up"
    return f"{worst.layer} alone costs {100 * worst.loss:.1f} points"


def _rounded_kernel(operator: Operator, kernel: Floats) -> Floats:
    """The kernel in 127 steps either way of each output channel's largest weight."""
    axes = (0, 1, 3) if operator.kind is Kind.DEPTHWISE else tuple(range(kernel.ndim - 1))
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.asarray(np.rint(kernel / np.where(step > 0, step, 1)) * step, np.float32)


def _stepped(values: Tensor, low: float, high: float) -> Tensor:
    """Values in the 255 steps of a range that has zero in it."""
    step = max((high - low) / 255, 1e-12)
    return tf.round(tf.clip_by_value(values, low, high) / step) * step
