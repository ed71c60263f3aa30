"""From trained weights and masks to the network that is deployed: smaller, and with every layer alive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from munas.arch.channels import Masks, Weights, shrink
from munas.arch.graph import Graph, Kind, Operator, build_graph
from munas.arch.prune import apply_masks
from munas.arch.space import AnyArchitecture
from munas.training.parameters import Floats, Layer, fold_batch_norm

_DEAD_BELOW = 1e-3
_REVIVED = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """A network as it is deployed: `graph` is its architecture's, `weights` one mapping an operator."""

    architecture: AnyArchitecture
    graph: Graph
    weights: list[Layer]


def emit(
    architecture: AnyArchitecture, num_classes: int, graph: Graph, weights: Weights, masks: Masks | None
) -> Emitted:
    """The network without the masked channels. Without masks nothing is removed."""
    if masks is None:
        return Emitted(architecture, graph, [dict(layer) for layer in weights])
    smaller, kept = shrink(architecture, graph, apply_masks(graph, weights, masks), masks)
    return Emitted(smaller, build_graph(smaller, graph.input_shape, num_classes), kept)


def revived(graph: Graph, weights: Weights, inputs: Floats) -> list[Layer]:
    """The weights, with a first channel that always is a hundredth where a layer's outputs are zero on all `inputs`.

    `inputs` are scaled, (N, H, W, C). A quantised tensor needs a range: of one that never leaves zero the converter
    makes scales that neither its own kernels nor the device can work with. The branch or network that such a layer
    cuts off stays cut off.
    """
    from munas.training.backend import tf
    from munas.training.network import infer_all

    folded = [{name: tf.constant(v) for name, v in layer.items()} for layer in fold_batch_norm(graph, weights)]
    outputs = infer_all(graph, folded, tf.constant(inputs))
    result = [dict(layer) for layer in weights]
    for operator, layer, output in zip(graph.operators, result, outputs, strict=True):
        if layer and float(tf.reduce_max(tf.abs(output))) < _DEAD_BELOW:
            _revive(operator, layer)
    return result


def _revive(operator: Operator, layer: Layer) -> None:
    """Make a layer's first channel a constant; the norm's statistics then say nothing of it."""
    kernel = layer["kernel"].copy()
    first = kernel[:, :, 0] if operator.kind is Kind.DEPTHWISE else kernel[..., 0]
    first[...] = 0
    layer["kernel"] = kernel
    for name, value in (("bias", _REVIVED), ("gamma", 0.0), ("beta", _REVIVED)):
        if name in layer and not (name == "bias" and "beta" in layer):
            layer[name] = np.concatenate([np.array([value], np.float32), layer[name][1:]])
