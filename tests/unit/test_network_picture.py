"""The picture of a network in a search's report: lanes, shapes, words."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from hil.report.search.network import lanes_of, network_picture, nodes_of, placed_nodes
from hil.search.result import Box, boxes_of
from munas.arch.graph import build_graph
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType, MlpArchitecture, Pooling, PoolType

SHAPE = (28, 28, 1)
TIMES = "\u00d7"


def layer(kind: LayerType, filters: int = 0, **more: Any) -> Layer:
    return Layer(kind, 1 if kind is LayerType.POINTWISE else 3, filters, **more)


def branched(branches: int) -> tuple[Box, ...]:
    """A main block, `branches` beside the next one, and a tail."""
    first = Block((layer(LayerType.CONV, 8, relu=True), layer(LayerType.POINTWISE, 4)))
    beside = tuple(
        Block((layer(LayerType.CONV, 5), layer(LayerType.DEPTHWISE)), is_branch=True) for _ in range(branches)
    )
    main = Block((layer(LayerType.CONV, 6, batch_norm=True, relu=True, pre_pool=True),))
    tail = (DenseLayer(16),)
    return boxes_of(build_graph(Architecture((first, main, *beside), Pooling(PoolType.AVG, 2), tail), SHAPE, 10))


@pytest.mark.parametrize("branches", [0, 1, 2, 8])
def test_branches_have_lanes_of_their_own_and_meet_in_one_addition(branches: int) -> None:
    nodes = nodes_of(branched(branches))
    lanes = lanes_of(nodes)
    assert max(lanes) == branches
    sums = [item for item in nodes if item.box is not None and item.box.kind == "Add"]
    assert [len(item.inputs) for item in sums] == ([branches + 1] if branches else [])
    assert lanes[-1] == 0


def test_lanes_are_given_back() -> None:
    blocks = tuple(Block((layer(LayerType.CONV, 4),), is_branch=index % 2 == 1) for index in range(8))
    layers = boxes_of(build_graph(Architecture(blocks, None, (DenseLayer(10),)), SHAPE, 10))
    assert max(lanes_of(nodes_of(layers))) == 1


@pytest.mark.parametrize("branches", [0, 3, 8])
def test_shapes_do_not_overlap_and_edges_go_down(branches: int) -> None:
    places = placed_nodes(nodes_of(branched(branches)))
    for position, item in enumerate(places):
        for source in item.node.inputs:
            assert places[source].bottom < item.middle
        for other in places[position + 1 :]:
            apart = item.lane != other.lane or item.bottom < other.y or other.bottom < item.y
            assert apart


def test_a_picture_names_kernels_shapes_and_strides() -> None:
    layers = branched(1)
    picture = ElementTree.fromstring(network_picture("n", layers, SHAPE, "x"))
    expected = {
        "Input 28x28x1", "Conv 3x3, 8", "26x26x8 · ReLU", "Conv 1x1, 4", "Depthwise 3x3", "Dense 16", "Dense 10",
        "logits", "Max pool 2x2 → 13x13x4", "11x11x6 · BN · ReLU",
    }  # fmt: skip
    assert expected <= {(text.text or "").replace(TIMES, "x") for text in picture.iter("text")}
    assert len([item for item in picture.iter("path") if item.get("class") == "edge"]) == sum(
        len(node.inputs) for node in nodes_of(layers)
    )


def test_an_mlp_has_a_picture() -> None:
    layers = boxes_of(build_graph(MlpArchitecture((20, 10)), SHAPE, 10))
    picture = ElementTree.fromstring(network_picture("n", layers, SHAPE, "x"))
    assert {"Dense 20", "Dense 10", "ReLU"} <= {text.text for text in picture.iter("text")}


def test_a_layer_that_lies_about_its_normalisation_is_drawn_once() -> None:
    (box, *_) = branched(1)
    many: Any = 1_000
    picture = str(network_picture("network-1", [replace(box, batch_norm=many, relu=many)], (8, 8, 1), "lies"))
    assert picture.count("BN") == picture.count("ReLU") == 1


def test_what_is_no_network_has_a_picture_that_says_so() -> None:
    assert "no layers known" in network_picture("n", (), SHAPE, "x")
    assert "too many layers" in network_picture("n", branched(1) * 30, SHAPE, "x")
