"""Pruning masks, the sparsity's rise, what is expected to be left, and the authors' count of pruned networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from munas.arch.channels import channel_groups, resize
from munas.arch.footprint import peak_memory
from munas.arch.graph import build_graph, operator_notation
from munas.arch.prune import (
    apply_masks,
    expected_architecture,
    kept_share,
    loss_saliencies,
    masks_at,
    masks_by_loss,
    reference_pruned,
    reference_sparse_size,
    saliencies,
    target_sparsity,
)
from munas.arch.space import (
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    parse_architecture,
    random_cnn,
)
from tests.float_network import random_weights

SHAPE = (16, 16, 2)
CONV = Layer(LayerType.CONV, kernel=3, filters=8, batch_norm=True)
DEPTHWISE = Layer(LayerType.DEPTHWISE, kernel=3, batch_norm=True)
BRANCHED = Architecture(
    (Block((CONV,)), Block((CONV, DEPTHWISE)), Block((CONV, CONV), is_branch=True)), None, (DenseLayer(10),)
)


def test_sparsity_rises_as_a_cubic_between_begin_and_end() -> None:
    assert target_sparsity(2.9, 3, 18, 0.8) == 0.0
    assert target_sparsity(3, 3, 18, 0.8) == 0.0
    assert target_sparsity(10.5, 3, 18, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))
    assert target_sparsity(18, 3, 18, 0.8) == target_sparsity(400, 3, 18, 0.8) == 0.8
    assert target_sparsity(5, 5, 5, 0.8) == 0.8
    steps = [target_sparsity(step, 3, 18, 0.8) for step in np.linspace(0, 20, 50)]
    assert steps == sorted(steps)


def test_saliency_is_the_mean_norm_over_the_layers_that_are_tied() -> None:
    graph = build_graph(BRANCHED, SHAPE, 10)
    groups, weights = channel_groups(graph), random_weights(graph, np.random.default_rng(0))
    tied = groups.groups[groups.of_output[2]]
    assert len(tied.members) == 2
    norms = [np.linalg.norm(weights[member]["kernel"].reshape(-1, 8), axis=0) for member in tied.members]
    np.testing.assert_allclose(saliencies(graph, weights)[groups.of_output[2]], (norms[0] + norms[1]) / 2, rtol=1e-6)
    assert not saliencies(graph, weights)[groups.of_input].any()


def test_saliency_by_the_loss_is_the_square_of_its_change_over_the_layers_that_are_tied() -> None:
    """Of a loss that is linear in the weights, the change without a channel is exact."""
    graph = build_graph(BRANCHED, SHAPE, 10)
    rng, groups = np.random.default_rng(0), channel_groups(graph)
    weights, gradients = random_weights(graph, rng), random_weights(graph, rng)

    def loss(masks: list[np.ndarray]) -> float:
        """Over kernels of convolutions and dense layers."""
        masked = apply_masks(graph, weights, masks)
        producers = [index for group in groups.groups for index in group.members]
        return sum(float((masked[index]["kernel"] * gradients[index]["kernel"]).sum()) for index in producers)

    salient = loss_saliencies(groups, weights, gradients)
    all_kept = masks_at(graph, weights, 0.0)
    for number in groups.prunable:
        for channel in range(groups.groups[number].size):
            without = [mask.copy() for mask in all_kept]
            without[number][channel] = False
            change = loss(all_kept) - loss(without)
            assert salient[number][channel] == pytest.approx(change**2, rel=1e-3, abs=1e-9)
    kept = masks_by_loss(graph, weights, gradients, all_kept, 0.5)
    gone = [value for number in groups.prunable for value in salient[number][~kept[number]]]
    stay = [value for number in groups.prunable for value in salient[number][kept[number]]]
    assert len(gone) == sum(groups.groups[number].size for number in groups.prunable) // 2
    assert max(gone) < min(stay)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_by_the_loss_as_many_go_as_are_asked_for_and_none_comes_back(
    seed: int, first: float, second: float, dead: float
) -> None:
    """Whatever share of the channels is dead, that is, has no gradient."""
    rng = np.random.default_rng(seed)
    graph = build_graph(BRANCHED, SHAPE, 10)
    groups, weights, gradients = channel_groups(graph), random_weights(graph, rng), random_weights(graph, rng)
    for layer in gradients:
        if "kernel" in layer:
            layer["kernel"] *= rng.random(layer["kernel"].shape[-1]) >= dead
    total = sum(groups.groups[number].size for number in groups.prunable)
    masks = masks_at(graph, weights, 0.0)
    for sparsity in sorted((first, second)):
        before, masks = masks, masks_by_loss(graph, weights, gradients, masks, sparsity)
        kept = [int(masks[number].sum()) for number in groups.prunable]
        spared = kept.count(1)
        assert min(kept) >= 1
        assert int(sparsity * total + 1e-4) - spared - 1 <= total - sum(kept) <= sparsity * total + 1e-4
        assert not any((after & ~was).any() for was, after in zip(before, masks, strict=True) if after.sum() > 1)
        others = [number for number in range(len(masks)) if number not in groups.prunable]
        assert all(masks[number].all() for number in others)


def test_dead_channels_go_first_and_the_smallest_of_them_before_the_others() -> None:
    graph = build_graph(MlpArchitecture((10, 8)), (16,), 10)
    rng = np.random.default_rng(0)
    weights, gradients = random_weights(graph, rng), random_weights(graph, rng)
    gradients[1]["kernel"][:, [1, 4, 6]] = 0
    weights[1]["kernel"][:, 4] *= 0.01
    before = masks_at(graph, weights, 0.0)
    number = channel_groups(graph).of_output[1]
    assert np.flatnonzero(~masks_by_loss(graph, weights, gradients, before, 1 / 8)[number]).tolist() == [4]
    assert np.flatnonzero(~masks_by_loss(graph, weights, gradients, before, 3 / 8)[number]).tolist() == [1, 4, 6]
    gradients[1]["kernel"][:] = 0
    before[number][:] = [False] * 7 + [True]
    assert np.flatnonzero(masks_by_loss(graph, weights, gradients, before, 1.0)[number]).tolist() == [7]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_the_least_salient_channels_of_all_groups_go(seed: int, sparsity: float) -> None:
    rng = np.random.default_rng(seed)
    architecture = random_cnn(rng)
    graph = build_graph(architecture, SHAPE, 10)
    small = resize(architecture, graph, [int(rng.integers(1, 12)) for _ in channel_groups(graph).groups])
    graph = build_graph(small, SHAPE, 10)
    groups, weights = channel_groups(graph), random_weights(graph, rng)
    masks, salient = masks_at(graph, weights, sparsity), saliencies(graph, weights)
    total = sum(groups.groups[number].size for number in groups.prunable)
    spared = 0
    lowest_kept, highest_gone = np.inf, -np.inf
    for number, (group, mask, saliency) in enumerate(zip(groups.groups, masks, salient, strict=True)):
        assert mask.shape == (group.size,)
        assert mask[np.argmax(saliency)]
        if number not in groups.prunable:
            assert mask.all()
            continue
        if mask.sum() == 1:
            spared += 1
        else:
            lowest_kept = min(lowest_kept, saliency[mask].min())
        highest_gone = max(highest_gone, saliency[~mask].max(initial=-np.inf))
    assert highest_gone < lowest_kept
    gone = total - sum(int(masks[number].sum()) for number in groups.prunable)
    assert int(sparsity * total + 1e-4) - spared - 1 <= gone <= sparsity * total + 1e-4
    assert kept_share(groups, masks) == pytest.approx(1 - gone / total if total else 1)


def test_no_sparsity_keeps_everything_and_full_sparsity_one_channel_a_group() -> None:
    graph = build_graph(BRANCHED, SHAPE, 10)
    weights, groups = random_weights(graph, np.random.default_rng(1)), channel_groups(graph)
    assert all(mask.all() for mask in masks_at(graph, weights, 0.0))
    full = masks_at(graph, weights, 1.0)
    assert [int(full[number].sum()) for number in groups.prunable] == [1, 1, 1]


def test_channels_that_are_all_zero_lose_all_but_the_first() -> None:
    graph = build_graph(MlpArchitecture((10, 20, 30)), (16,), 10)
    weights = random_weights(graph, np.random.default_rng(1))
    weights[1]["kernel"][:] = 0
    mask = masks_at(graph, weights, 0.5)[channel_groups(graph).of_output[1]]
    assert mask.tolist() == [True] + [False] * 19


def test_a_network_with_nothing_to_prune_is_left_alone() -> None:
    graph = build_graph(MlpArchitecture((10,)), (16,), 10)
    weights = random_weights(graph, np.random.default_rng(1))
    assert all(mask.all() for mask in masks_at(graph, weights, 0.9))
    assert kept_share(channel_groups(graph), masks_at(graph, weights, 0.9)) == 1.0
    assert expected_architecture(MlpArchitecture((10,)), (16,), 10, 0.9) == MlpArchitecture((10,))


def test_masks_silence_members_and_carriers_and_nothing_else() -> None:
    graph = build_graph(BRANCHED, SHAPE, 10)
    weights, groups = random_weights(graph, np.random.default_rng(2)), channel_groups(graph)
    masks = [np.ones(group.size, np.bool_) for group in groups.groups]
    number = groups.of_output[2]
    masks[number][3] = False
    group = groups.groups[number]
    assert group.carriers == (2,)
    for index, (before, after) in enumerate(zip(weights, apply_masks(graph, weights, masks), strict=True)):
        for name in before:
            columns = after[name] if name != "kernel" or index != 2 else after[name][..., 0]
            silenced = index in (*group.members, *group.carriers) and name not in ("mean", "variance")
            assert after[name].dtype == np.float32
            assert (not columns[..., 3].any()) if silenced else np.array_equal(before[name], after[name])


def test_expected_architecture_shrinks_each_prunable_group_alike() -> None:
    expected = expected_architecture(BRANCHED, SHAPE, 10, 0.75)
    assert isinstance(expected, Architecture)
    assert [[layer.filters for layer in block.layers] for block in expected.blocks] == [[8], [2, 0], [2, 2]]
    assert expected.dense == (DenseLayer(2),)
    assert expected_architecture(MlpArchitecture((10, 9)), (4,), 10, 0.99) == MlpArchitecture((10, 1))
    assert expected_architecture(BRANCHED, SHAPE, 10, 0.0) == BRANCHED


def test_golden_figures_of_pruned_networks(shared: Path) -> None:
    entries = json.loads((shared / "golden" / "munas.json").read_text())["pruned"]
    assert entries
    for entry in entries:
        architecture = parse_architecture(entry["architecture"])
        graph = build_graph(architecture, entry["input_shape"], entry["num_classes"], "paper")
        masked = [mask for mask in entry["masks"] if mask["kept"] is not None]
        pruned = reference_pruned(graph, {mask["layer"]: mask["kept"] for mask in masked})
        facts = entry["facts_pruned"]
        assert pruned.macs == facts["macs"]
        assert pruned.model_size == facts["model_size"]
        assert peak_memory(pruned) == facts["pmu_excl_input"]
        assert peak_memory(pruned, count_input=True) == facts["pmu_incl_input"]
        assert len(pruned.operators) == facts["num_ops"]
        assert pruned.macs + sum(op.loads for op in pruned.operators) == facts["latency_w_mem1_comp1"]
        assert [operator_notation(pruned, op) for op in pruned.operators] == entry["layers_pruned"]
        nonzeros = {mask["layer"]: mask["nnz"] for mask in masked}
        assert reference_sparse_size(pruned, nonzeros) == entry["model_size_sparse"]
        assert (graph.macs, graph.model_size) == tuple(entry["facts_dense"][name] for name in ("macs", "model_size"))


def test_no_channels_count_as_one_and_an_add_takes_its_largest_term() -> None:
    graph = build_graph(BRANCHED, SHAPE, 10, "paper")
    pruned = reference_pruned(graph, {"conv2d_1": 0, "conv2d_3": 5})
    by_name = {op.name: op for op in pruned.operators}
    assert by_name["conv2d_1"].out_shape[-1] == by_name["dw_conv2d"].out_shape[-1] == 1
    assert by_name["add"].out_shape[-1] == 5
    assert by_name["dense"].in_shapes[0][-1] == 5
