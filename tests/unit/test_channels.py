"""Channel groups, and networks without some channels: the same outputs as the masked ones'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from munas.arch.channels import Group, channel_groups, resize, shrink
from munas.arch.graph import INPUT, Graph, Kind, build_graph, graph_from_layers
from munas.arch.prune import apply_masks
from munas.arch.space import (
    AnyArchitecture,
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    random_cnn,
    random_mlp,
)
from tests.float_network import outputs, random_weights
from tests.networks import every_operator

SHAPE = (12, 10, 3)


def random_masks(graph: Graph, rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    masks = []
    for group in channel_groups(graph).groups:
        mask = np.ones(group.size, np.bool_)
        if group.prunable:
            mask = rng.random(group.size) < rng.random()
            mask[rng.integers(group.size)] = True
        masks.append(mask)
    return masks


def narrow(architecture: AnyArchitecture, rng: np.random.Generator) -> AnyArchitecture:
    """The architecture with few channels, so that a test takes milliseconds."""
    graph = build_graph(architecture, SHAPE, 4)
    groups = channel_groups(graph)
    return resize(architecture, graph, [int(rng.integers(1, 9)) for _ in groups.groups])


def random_architecture(seed: int) -> AnyArchitecture:
    rng = np.random.default_rng(seed)
    return narrow(random_mlp(rng) if seed % 8 == 7 else random_cnn(rng), rng)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 4]))
def test_the_smaller_network_computes_what_the_masked_one_does(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = random_architecture(seed)
    graph = build_graph(architecture, SHAPE, classes)
    weights, masks = random_weights(graph, rng), random_masks(graph, rng)
    groups = channel_groups(graph)
    smaller, kept = shrink(architecture, graph, weights, masks)
    small_graph = build_graph(smaller, SHAPE, classes)
    image = rng.normal(size=SHAPE)
    masked = outputs(graph, apply_masks(graph, weights, masks), image)
    small = outputs(small_graph, kept, image)
    for index, (whole, part) in enumerate(zip(masked, small, strict=True)):
        mask = masks[groups.of_output[index]]
        assert not whole[..., ~mask].any()
        np.testing.assert_allclose(whole[..., mask], part, rtol=1e-9, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_the_smaller_graph_has_the_same_operators(seed: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = random_cnn(rng)
    graph = build_graph(architecture, (32, 32, 3), 10)
    groups, masks = channel_groups(graph), random_masks(graph, rng)
    sizes = [int(mask.sum()) for mask in masks]
    small_graph = build_graph(resize(architecture, graph, sizes), (32, 32, 3), 10)
    for index, (op, small) in enumerate(zip(graph.operators, small_graph.operators, strict=True)):
        for name in ("name", "kind", "inputs", "kernel", "stride", "pool", "pool_type", "activation", "batch_norm"):
            assert getattr(small, name) == getattr(op, name)
        assert small.out_shape == (*op.out_shape[:-1], sizes[groups.of_output[index]])
    assert small_graph.model_size <= graph.model_size
    assert small_graph.macs <= graph.macs


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_every_channel_is_in_one_group_and_what_must_stay_is_fixed(seed: int) -> None:
    graph = build_graph(random_architecture(seed), SHAPE, 4)
    groups = channel_groups(graph)
    for index, op in enumerate(graph.operators):
        group = groups.groups[groups.of_output[index]]
        assert group.size == op.out_shape[-1]
        assert (index in group.members) == (op.kind in (Kind.CONV, Kind.DENSE))
        assert (index in group.carriers) == (op.kind is Kind.DEPTHWISE)
        if op.kind in (Kind.CONV, Kind.DENSE) and INPUT in op.inputs:
            assert not group.prunable
    assert not groups.groups[groups.of_output[-1]].prunable
    assert not groups.groups[groups.of_input].prunable
    assert groups.of_input == 0
    every = [index for group in groups.groups for index in (*group.members, *group.carriers)]
    assert len(every) == len(set(every)) == sum(op.kind not in (Kind.POOL, Kind.ADD) for op in graph.operators)


def test_an_add_ties_the_main_block_to_its_branches() -> None:
    graph = every_operator()
    groups = channel_groups(graph)
    convolutions = [index for index, op in enumerate(graph.operators) if op.kind is Kind.CONV]
    depthwise = [index for index, op in enumerate(graph.operators) if op.kind is Kind.DEPTHWISE]
    # conv2d is the main block; conv2d_2 follows the branch's depthwise layer, conv2d_3 is the other branch.
    # All branches of the first block read the input, as it does.
    main, first, after, other, last = convolutions
    assert groups.groups[groups.of_output[main]] == Group(8, False, (main, after, other), (depthwise[1],))
    assert groups.groups[groups.of_output[first]] == Group(8, False, (first,), (depthwise[0],))
    assert groups.groups[groups.of_output[last]] == Group(12, True, (last,), ())


def test_terms_of_an_add_are_pruned_together() -> None:
    conv = Layer(LayerType.CONV, kernel=3, filters=9, batch_norm=True)
    blocks = (Block((conv,)), Block((conv, conv)), Block((conv, conv), is_branch=True))
    architecture = Architecture(blocks, None, (DenseLayer(10),))
    groups = channel_groups(build_graph(architecture, (12, 12, 3), 10))
    assert groups.groups[groups.of_output[2]] == Group(9, True, (2, 4), ())
    assert groups.prunable == (2, 3, 4, 5)
    smaller = resize(architecture, build_graph(architecture, (12, 12, 3), 10), [3, 9, 4, 5, 6, 7, 10])
    assert isinstance(smaller, Architecture)
    assert [[layer.filters for layer in block.layers] for block in smaller.blocks] == [[9], [4, 5], [6, 5]]
    assert smaller.dense == (DenseLayer(7),)


def test_depthwise_layers_of_the_input_tie_a_branch_to_the_input() -> None:
    depthwise, conv = Layer(LayerType.DEPTHWISE, kernel=3), Layer(LayerType.CONV, kernel=3, filters=9)
    architecture = Architecture((Block((depthwise,)), Block((conv, conv), is_branch=True)), None, (DenseLayer(10),))
    graph = build_graph(architecture, (8, 8, 130), 10)
    groups = channel_groups(graph)
    assert [group.size for group in groups.groups] == [130, 9, 10, 10]
    assert [group.prunable for group in groups.groups] == [False, False, True, False]
    smaller = resize(architecture, graph, [130, 9, 3, 10])
    assert isinstance(smaller, Architecture)
    assert smaller.dense == (DenseLayer(3),)
    assert channel_groups(build_graph(smaller, (8, 8, 130), 10)).groups[0].size == 130


def test_an_mlp_keeps_its_first_layer() -> None:
    graph = build_graph(MlpArchitecture((20, 30, 40)), (28, 28, 1), 10)
    assert [group.prunable for group in channel_groups(graph).groups] == [False, False, True, True, False]


def test_masks_that_do_not_fit_are_refused() -> None:
    architecture = MlpArchitecture((20, 30))
    graph = build_graph(architecture, (16,), 10)
    weights = random_weights(graph, np.random.default_rng(0))
    whole = [np.ones(size, np.bool_) for size in (16, 20, 30, 10)]

    def refused(number: int, mask: NDArray[np.generic], message: str) -> None:
        masks = [*whole[:number], mask, *whole[number + 1 :]]
        with pytest.raises(ValueError, match=message):
            shrink(architecture, graph, weights, masks)  # type: ignore[arg-type]

    refused(2, np.zeros(30, np.bool_), "mask 2 removes all channels")
    refused(2, np.ones(29, np.bool_), r"mask 2 is bool \(29,\), expected bool \(30,\)")
    refused(2, np.ones(30, np.int8), "mask 2 is int8")
    refused(1, np.arange(20) > 0, "mask 1 removes channels of a group that is fixed")
    refused(3, np.arange(10) > 0, "mask 3 removes channels of a group that is fixed")
    with pytest.raises(ValueError, match="3 masks for 4 groups"):
        shrink(architecture, graph, weights, whole[:3])
    same, kept = shrink(architecture, graph, weights, whole)
    assert same == architecture
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(weights, kept, strict=True) for name in a)


def test_an_add_of_unlike_terms_has_no_groups() -> None:
    def conv(name: str, filters: int) -> dict[str, object]:
        shapes = {"in_shapes": [[1, 4, 4, 2]], "out_shape": [1, 4, 4, filters]}
        return {"op": "Conv2D", "name": name, "inputs": ["INPUT"], "kernel_size": 1, **shapes}

    add = {"op": "Add", "name": "add", "inputs": ["a", "b"], "in_shapes": [[1, 4, 4, 2], [1, 4, 4, 3]]}
    graph = graph_from_layers([conv("a", 2), conv("b", 3), {**add, "out_shape": [1, 4, 4, 3]}])
    with pytest.raises(ValueError, match="add reads 2 channels"):
        channel_groups(graph)
