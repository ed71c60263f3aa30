"""A child's first weights taken from its parent's network, wherever the two have a layer in common."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from munas.arch.graph import Graph, Kind, Operator
from munas.training.parameters import Floats, Layer

_WEIGHTED = (Kind.CONV, Kind.DEPTHWISE, Kind.DENSE)


def inherited(graph: Graph, fresh: list[Layer], parent: Graph, weights: list[Layer]) -> list[Layer]:
    """`fresh` weights of `graph` with those of the `parent`'s network in the part of each layer that both have.

    Layers are paired in their order, kind by kind, so that one that was inserted or removed shifts the others. Of
    kernels the middle of the window counts, of channels the first ones, of a dense layer's input the same places of the
    feature map. What is new keeps its random weights.
    """
    ours, theirs = _weighted(graph), _weighted(parent)
    kinds = [[operators[place].kind.value for place in places] for operators, places in
             ((graph.operators, ours), (parent.operators, theirs))]  # fmt: skip
    result = [dict(layer) for layer in fresh]
    for block in SequenceMatcher(None, kinds[1], kinds[0], autojunk=False).get_matching_blocks():
        for step in range(block.size):
            source, target = theirs[block.a + step], ours[block.b + step]
            pair = graph.operators[target], parent.operators[source]
            result[target] = _taken(*pair, result[target], weights[source])
    return result


def _weighted(graph: Graph) -> list[int]:
    return [place for place, operator in enumerate(graph.operators) if operator.kind in _WEIGHTED]


def _taken(operator: Operator, other: Operator, fresh: Layer, weights: Layer) -> Layer:
    """One layer: arrays that the parent's has not (batch norm, say) stay as they are."""
    taken = dict(fresh)
    for name, values in fresh.items():
        if name not in weights:
            continue
        mine, theirs = values.copy(), weights[name]
        if name == "kernel" and operator.kind is Kind.DENSE:
            mine, theirs = _as_map(mine, operator), _as_map(theirs, other)
        if mine.ndim != theirs.ndim:  # one reads a feature map, the other a vector
            continue
        is_window = name == "kernel" and operator.kind is not Kind.DENSE
        places = [_common(a, b, centred=is_window and axis < 2) for axis, (a, b) in
                  enumerate(zip(mine.shape, theirs.shape, strict=True))]  # fmt: skip
        mine[tuple(place for place, _ in places)] = theirs[tuple(place for _, place in places)]
        taken[name] = mine.reshape(values.shape)
    return taken


def _as_map(kernel: Floats, operator: Operator) -> NDArray[np.float32]:
    """A dense kernel by the extents of what it reads."""
    return kernel.reshape(*operator.in_shapes[0], kernel.shape[-1])


def _common(mine: int, theirs: int, *, centred: bool) -> tuple[slice, slice]:
    """The same number of places in both: the first ones, or those in the middle."""
    size = min(mine, theirs)
    first, second = ((mine - size) // 2, (theirs - size) // 2) if centred else (0, 0)
    return slice(first, first + size), slice(second, second + size)
