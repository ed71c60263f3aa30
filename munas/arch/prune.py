"""Structured pruning: which channels go, what of the network is left for a given sparsity.

By the norms of kernels, the reference in numpy of what training does in TensorFlow (dynamic pruning with feedback; Lin
et al., arXiv 2006.07253, as µNAS uses it), or by what the loss would change; and the µNAS authors' own count of a
pruned network, which never is rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Group, Groups, Masks, Weights, channel_groups, resize
from munas.arch.graph import INPUT, Graph, Kind, Operator, Shape, build_graph
from munas.arch.space import AnyArchitecture


def target_sparsity(step: float, begin: float, end: float, final: float) -> float:
    """Sparsity at a step: none until `begin`, then rising as a cubic, ever slower, to `final` at `end`."""
    if step < begin:
        return 0.0
    if step >= end:
        return final
    return float(final * (1.0 - (1.0 - (step - begin) / (end - begin)) ** 3))


def saliencies(graph: Graph, weights: Weights) -> list[NDArray[np.float32]]:
    """By group, (size,): the L2 norm of each channel's kernel, averaged over the operators that produce it.

    A group without members, which is the input's, has zeros.
    """
    return [_saliency(group, weights) for group in channel_groups(graph).groups]


def _saliency(group: Group, weights: Weights) -> NDArray[np.float32]:
    total = np.zeros(group.size, np.float32)
    for member in group.members:
        kernel = weights[member]["kernel"]
        total += np.sqrt(np.square(kernel).reshape(-1, group.size).sum(axis=0, dtype=np.float32))
    return total / np.float32(max(1, len(group.members)))


def masks_at(graph: Graph, weights: Weights, sparsity: float) -> list[NDArray[np.bool_]]:
    """By group, (size,): the channels that are kept at a sparsity from 0 to 1.

    Of all n channels of the prunable groups together the floor(sparsity * n) least salient ones go (the product in
    float32), but those that are as salient as the first that stays, and each group's first most salient one.
    """
    groups = channel_groups(graph).groups
    salient = [_saliency(group, weights) for group in groups]
    ranked = np.sort(np.concatenate([[], *(s for s, group in zip(salient, groups, strict=True) if group.prunable)]))
    if not ranked.size:
        return [np.ones(group.size, np.bool_) for group in groups]
    first_kept = min(ranked.size - 1, int(np.float32(sparsity) * np.float32(ranked.size)))
    masks = []
    for group, saliency in zip(groups, salient, strict=True):
        mask = np.ones(group.size, np.bool_)
        if group.prunable:
            mask = saliency >= ranked[first_kept]
            mask[np.argmax(saliency)] = True
        masks.append(mask)
    return masks


def loss_saliencies(groups: Groups, weights: Weights, gradients: Weights) -> list[NDArray[np.float32]]:
    """By group, (size,): the square of the sum, over a channel's kernels in all operators that produce it, of weight
    times gradient.

    `gradients` are those of the loss at `weights`, or a running mean of them. It is the first-order criterion of
    Molchanov et al. (arXiv 1906.10771) but for two things: they take the mean of squares over batches, which a running
    mean of gradients does not keep, and biases and norms are left out. Where a batch norm follows, the loss does not
    depend on the size of a channel's kernel, and its own gradient gives 0: there the running mean, which is older than
    the weights, tells how far the channel still moves.
    """
    return [_loss_saliency(group, weights, gradients) for group in groups.groups]


def _loss_saliency(group: Group, weights: Weights, gradients: Weights) -> NDArray[np.float32]:
    change = np.zeros(group.size, np.float32)
    for member in group.members:
        product = weights[member]["kernel"] * gradients[member]["kernel"]
        change += product.reshape(-1, group.size).sum(axis=0, dtype=np.float32)
    return np.square(change)


def masks_by_loss(
    graph: Graph, weights: Weights, gradients: Weights, before: Masks, sparsity: float
) -> list[NDArray[np.bool_]]:
    """By group, (size,): the channels that are kept at a sparsity from 0 to 1, given those that were kept `before`.

    Of all n channels of the prunable groups together floor(sparsity * n) go (the product in float32): first those that
    are gone already, then by `loss_saliencies`, and where these are equal, as those of dead channels are, by the norms
    of kernels. Each group keeps the last one that would go.
    """
    groups = channel_groups(graph)
    masks = [np.ones(group.size, np.bool_) for group in groups.groups]
    if not groups.prunable:
        return masks
    norms = [_saliency(group, weights) for group in groups.groups]
    keys = (norms, loss_saliencies(groups, weights, gradients), before)  # lexsort goes by the last one first
    flat = [np.concatenate([values[number] for number in groups.prunable]) for values in keys]
    places = np.argsort(np.lexsort(flat))  # by channel, its place in the order in which they go
    count = int(np.float32(sparsity) * np.float32(len(places)))
    starts = np.cumsum([groups.groups[number].size for number in groups.prunable])[:-1]
    for number, of_group in zip(groups.prunable, np.split(places, starts), strict=True):
        masks[number] = of_group >= min(count, of_group.max())
    return masks


def apply_masks(graph: Graph, weights: Weights, masks: Masks) -> list[dict[str, NDArray[np.float32]]]:
    """New weights in which masked channels are exactly zero at every output of their group.

    The columns of the kernels, biases, gammas and betas of all members and carriers are multiplied by the masks.
    """
    groups = channel_groups(graph)
    return [
        _masked(operator, layer, masks[groups.of_output[index]])
        for index, (operator, layer) in enumerate(zip(graph.operators, weights, strict=True))
    ]


def _masked(
    operator: Operator, layer: Mapping[str, NDArray[np.float32]], mask: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    keep = mask.astype(np.float32)
    masked = {name: values * keep if name in ("bias", "gamma", "beta") else values for name, values in layer.items()}
    if "kernel" in layer:
        masked["kernel"] = layer["kernel"] * (keep[:, None] if operator.kind is Kind.DEPTHWISE else keep)
    return masked


def kept_share(groups: Groups, masks: Masks) -> float:
    """Part of the prunable channels that is not masked; 1 where none is prunable."""
    prunable = groups.prunable
    total = sum(groups.groups[number].size for number in prunable)
    return sum(int(masks[number].sum()) for number in prunable) / total if total else 1.0


def expected_architecture(
    architecture: AnyArchitecture, input_shape: Sequence[int], num_classes: int, sparsity: float
) -> AnyArchitecture:
    """What pruning to `sparsity` would leave if every prunable group lost an equal part, and kept a channel at least.

    Pruning itself decides over all groups at once, so this is a guess, for rejecting networks before they are trained.
    """
    graph = build_graph(architecture, input_shape, num_classes)
    groups = channel_groups(graph).groups
    sizes = [max(1, round(group.size * (1 - sparsity))) if group.prunable else group.size for group in groups]
    return resize(architecture, graph, sizes)


# ------------------------------------------------------------------------------- the authors' accounting


def reference_pruned(graph: Graph, kept: Mapping[str, int]) -> Graph:
    """The graph as µNAS' authors count a pruned network: `kept` output channels by operator name, the others all.

    Nothing is aligned: an Add has as many channels as its largest term. No channel at all counts as one.
    """
    operators: list[Operator] = []
    for operator in graph.operators:
        in_shapes = tuple(
            graph.input_shape if producer == INPUT else operators[producer].out_shape for producer in operator.inputs
        )
        channels = max(shape[-1] for shape in in_shapes)
        if operator.kind in (Kind.CONV, Kind.DENSE):
            channels = max(1, kept.get(operator.name, operator.out_shape[-1]))
        out_shape: Shape = (*operator.out_shape[:-1], channels)
        operators.append(replace(operator, in_shapes=in_shapes, out_shape=out_shape))
    return Graph(graph.input_shape, tuple(operators), graph.mode)


def reference_sparse_size(pruned: Graph, nonzeros: Mapping[str, int]) -> int:
    """Model size where a pruned kernel counts its `nonzeros`, by operator name, instead of all its elements.

    `pruned` is the result of `reference_pruned`. A non-zero may read a channel that is no longer there: the authors
    count it all the same.
    """
    return sum(
        nonzeros[op.name] + op.out_shape[-1] if op.name in nonzeros else op.weight_bytes for op in pruned.operators
    )
