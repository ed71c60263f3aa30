"""Morphisms: their number as in the golden file, every child inside the search space and one change away."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from munas.arch.graph import build_graph
from munas.arch.morphs import FAR_SHARES, far_child, morphs, random_child
from munas.arch.space import (
    AnyArchitecture,
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    Pooling,
    PoolType,
    parse_architecture,
    random_cnn,
    random_mlp,
    to_dict,
)

POINTWISE = Layer(LayerType.POINTWISE, filters=64)
MAIN, BRANCH = Block((POINTWISE,)), Block((POINTWISE,), is_branch=True)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def network(*blocks: Block, pooling: Pooling | None = None, units: tuple[int, ...] = (100,)) -> Architecture:
    return Architecture(blocks, pooling, tuple(DenseLayer(count) for count in units))


def children(parent: AnyArchitecture, change: str, draws: int = 1) -> list[AnyArchitecture]:
    """Children by the one morph of that name."""
    (morph,) = (morph for morph in morphs(parent) if morph.change == change)
    rng = generator()
    return [morph.apply(rng) for _ in range(draws)]


def changes(parent: AnyArchitecture, prefix: str) -> list[str]:
    return [morph.change.removeprefix(prefix) for morph in morphs(parent) if morph.change.startswith(prefix)]


def test_golden_counts(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "munas.json").read_text())
    entries = golden["cnn"] + golden["mlp"]
    counts = {entry["id"]: len(morphs(parse_architecture(entry["architecture"]))) for entry in entries}
    assert counts == {entry["id"]: entry["num_morphs"] for entry in entries}


@pytest.mark.parametrize("make", [random_cnn, random_mlp])
def test_every_child_parses_builds_and_differs(make: object) -> None:
    rng = generator(4)
    for _ in range(12):
        parent = random_cnn(rng) if make is random_cnn else random_mlp(rng)
        names = Counter(morph.change for morph in morphs(parent))
        assert max(names.values()) == 1
        for morph in morphs(parent):
            child = morph.apply(rng)
            assert parse_architecture(json.loads(json.dumps(to_dict(child)))) == child
            build_graph(child, (32, 32, 3), 10)
            assert child != parent, morph.change


def test_long_walks_stay_in_the_search_space() -> None:
    rng = generator(9)
    child: AnyArchitecture = random_cnn(rng)
    lengths = set()
    for _ in range(500):
        child = random_child(child, rng)
        assert isinstance(child, Architecture)
        lengths.add(len(child.blocks))
    build_graph(child, (49, 40, 1), 12)
    assert len(lengths) > 3


@pytest.mark.slow
def test_a_far_child_changes_a_size_by_a_share_of_it() -> None:
    rng, far = generator(), max(FAR_SHARES)
    filters, units = set(), set()
    for _ in range(2000):
        child = far_child(network(MAIN, units=(200,)), rng)
        assert isinstance(child, Architecture)
        layers = [layer for block in child.blocks for layer in block.layers]
        if len(layers) == 1 and layers[0].type is LayerType.POINTWISE:
            filters.add(layers[0].filters)
        if len(child.dense) == 1:
            units.add(child.dense[0].units)
    assert {59, 61, 63, 65, 67, 69} < filters  # one step
    assert 64 * (1 - far) - 5 <= min(filters) < 64 * (1 - far) + 5
    assert 200 * (1 - far) - 5 <= min(units) < 200 * (1 - far) + 5
    assert max(units) == 256  # there are no more


def test_a_far_child_of_an_mlp_is_one() -> None:
    rng = generator()
    for _ in range(50):
        child = far_child(MlpArchitecture((12, 250)), rng)
        assert isinstance(child, MlpArchitecture)
        assert len(child.units) in (1, 2, 3)


def test_a_seed_gives_the_same_child() -> None:
    parent = random_cnn(generator(2))
    once, again = (random_child(parent, generator(3)) for _ in range(2))
    assert once == again
    assert len({random_child(parent, generator(seed)) for seed in range(40)}) > 20


def test_a_child_is_uniform_over_all_morphs() -> None:
    parent = MlpArchitecture((10, 256))
    expected = {(10,), (256,), (11, 256), (15, 256), (10, 255), (10, 251)}
    rng = generator(1)
    drawn = Counter(child.units for child in (random_child(parent, rng) for _ in range(6000)) if len(child.units) < 3)
    assert set(drawn) == expected
    # Six morphs: remove (either layer), append, +1 and +5 of the first, -1 and -5 of the second.
    assert drawn[(11, 256)] == pytest.approx(1000, abs=150)
    assert drawn[(10,)] + drawn[(256,)] == pytest.approx(1000, abs=150)


class TestBlocks:
    def test_removing_a_main_block_promotes_the_branch_that_follows(self) -> None:
        wide = Block((Layer(LayerType.POINTWISE, filters=99),), is_branch=True)
        (child,) = children(network(MAIN, wide, BRANCH), "conv_blocks[0]: remove")
        assert child == network(Block(wide.layers), BRANCH)

    def test_removing_a_branch_promotes_nothing(self) -> None:
        (child,) = children(network(MAIN, BRANCH, BRANCH), "conv_blocks[1]: remove")
        assert child == network(MAIN, BRANCH)

    def test_removing_a_block_draws_which(self) -> None:
        parent = network(MAIN, Block((POINTWISE,) * 2), Block((POINTWISE,) * 3))
        lengths = {
            tuple(len(block.layers) for block in child.blocks)
            for child in children(parent, "remove a block", draws=40)
            if isinstance(child, Architecture)
        }
        assert lengths == {(2, 3), (1, 3), (1, 2)}

    def test_the_only_block_stays(self) -> None:
        assert not [name for name in changes(network(MAIN), "") if name in ("remove a block", "conv_blocks[0]: remove")]

    def test_a_block_of_several_layers_is_not_removed_by_its_own_morph(self) -> None:
        assert "remove" not in changes(network(MAIN, Block((POINTWISE,) * 2)), "conv_blocks[1]: ")

    def test_appended_block_has_one_layer(self) -> None:
        appended = [child.blocks[-1] for child in children(network(MAIN), "append a block", 40)]  # type: ignore[union-attr]
        assert {len(block.layers) for block in appended} == {1}
        assert {block.is_branch for block in appended} == {True, False}
        assert "append a block" not in changes(network(*[MAIN] * 10), "")

    def test_the_first_block_never_becomes_a_branch(self) -> None:
        parent = network(MAIN, BRANCH)
        assert [name for name in changes(parent, "") if "toggle branch" in name] == ["conv_blocks[1]: toggle branch"]
        assert children(parent, "conv_blocks[1]: toggle branch") == [network(MAIN, MAIN)]


class TestLayers:
    def test_inserted_layer_is_never_the_last(self) -> None:
        parent = network(Block((Layer(LayerType.POINTWISE, filters=1), POINTWISE)))
        for child in children(parent, "conv_blocks[0]: insert a layer", draws=60):
            assert isinstance(child, Architecture)
            assert child.blocks[0].layers[-1] == POINTWISE
            assert len(child.blocks[0].layers) == 3
        assert "insert a layer" not in changes(network(Block((POINTWISE,) * 3)), "conv_blocks[0]: ")

    def test_removing_a_layer(self) -> None:
        one, two = (Layer(LayerType.POINTWISE, filters=count) for count in (1, 2))
        drawn = set(children(network(Block((one, two))), "conv_blocks[0]: remove a layer", draws=30))
        assert drawn == {network(Block((one,))), network(Block((two,)))}

    @pytest.mark.parametrize(
        ("layer", "expected"),
        [
            (
                Layer(LayerType.CONV, kernel=5, filters=3),
                [
                    *("toggle stride", "change to 1x1Conv2D", "change to DWConv2D"),
                    *("filters -1", "filters +1", "filters +3", "filters +5", "kernel -2", "kernel +2"),
                ],
            ),
            (
                Layer(LayerType.POINTWISE, filters=127),
                ["change to Conv2D", "change to DWConv2D", "filters -5", "filters -3", "filters -1", "filters +1"],
            ),
            (
                Layer(LayerType.DEPTHWISE, kernel=7),
                ["toggle stride", "change to Conv2D", "change to 1x1Conv2D", "kernel -2"],
            ),
        ],
    )
    def test_what_applies_to_a_layer(self, layer: Layer, expected: list[str]) -> None:
        switches = ["toggle batch norm", "toggle ReLU", "toggle pre-pool"]
        assert changes(network(Block((layer,))), "conv_blocks[0]: layers[0]: ") == switches + expected

    def test_changing_the_type_draws_the_attributes_again(self) -> None:
        parent = network(Block((POINTWISE,)))
        drawn = children(parent, "conv_blocks[0]: layers[0]: change to Conv2D", draws=30)
        layers = {child.blocks[0].layers[0] for child in drawn if isinstance(child, Architecture)}
        assert {layer.type for layer in layers} == {LayerType.CONV}
        assert len(layers) > 20

    def test_toggle_stride(self) -> None:
        parent = network(Block((Layer(LayerType.DEPTHWISE, kernel=3, stride=2),)))
        (child,) = children(parent, "conv_blocks[0]: layers[0]: toggle stride")
        assert child == network(Block((Layer(LayerType.DEPTHWISE, kernel=3, stride=1),)))


class TestTail:
    def test_pooling(self) -> None:
        assert changes(network(MAIN), "pooling: ") == ["add"]
        small, large = Pooling(PoolType.AVG, 2), Pooling(PoolType.MAX, 6)
        assert changes(network(MAIN, pooling=small), "pooling: ") == ["remove", "toggle type", "size +2"]
        assert changes(network(MAIN, pooling=large), "pooling: ") == ["remove", "toggle type", "size -2"]
        toggled = children(network(MAIN, pooling=large), "pooling: toggle type")
        assert toggled == [network(MAIN, pooling=Pooling(PoolType.AVG, 6))]

    def test_dense(self) -> None:
        assert changes(network(MAIN, units=(12,)), "dense_blocks: ") == [
            "append a layer",
            "[0] units -1",
            "[0] units +1",
            "[0] units +3",
            "[0] units +5",
        ]
        assert changes(network(MAIN, units=(256, 10, 10)), "dense_blocks: ")[:4] == [
            "remove a layer",
            "[0] units -5",
            "[0] units -3",
            "[0] units -1",
        ]
        removed = set(children(network(MAIN, units=(10, 11)), "dense_blocks: remove a layer", draws=30))
        assert removed == {network(MAIN, units=(10,)), network(MAIN, units=(11,))}
