"""A child starts from what its parent knows, layer by layer, and learns from there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from munas.arch.graph import Graph, build_graph
from munas.arch.morphs import morphs
from munas.arch.space import Architecture
from munas.search.trial import Inherited
from munas.training.inherit import inherited
from munas.training.network import infer
from munas.training.parameters import fold_batch_norm, initial_weights
from munas.training.train import KerasTraining
from tests.training.tiny import RECIPE, branched, dataset, task, trained_like

SHAPE, CLASSES = (12, 12, 1), 4


def graph_of(architecture: Architecture) -> Graph:
    return build_graph(architecture, SHAPE, CLASSES)


def test_the_same_network_is_inherited_whole() -> None:
    graph = graph_of(branched())
    weights = trained_like(graph, 3)
    found = inherited(graph, initial_weights(graph, 1), graph, weights)
    for mine, theirs in zip(found, weights, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_every_child_can_inherit_and_keeps_its_shapes() -> None:
    parent = graph_of(branched())
    weights = trained_like(parent, 3)
    rng = np.random.default_rng(0)
    for morph in morphs(branched()):
        child = graph_of(morph.apply(rng))  # type: ignore[arg-type]
        fresh = initial_weights(child, 1)
        found = inherited(child, fresh, parent, weights)
        shapes = [{name: values.shape for name, values in layer.items()} for layer in found]
        assert shapes == [{name: values.shape for name, values in layer.items()} for layer in fresh]
        assert any(not np.array_equal(a["kernel"], b["kernel"]) for a, b in zip(found, fresh, strict=True) if a)
        logits = infer(child, fold_batch_norm(child, found), np.zeros((2, *SHAPE), np.float32))
        assert np.isfinite(logits).all()


def test_more_channels_keep_the_first_ones() -> None:
    architecture = branched()
    layer = architecture.blocks[0].layers[0]
    wider = replace(
        architecture, blocks=(replace(architecture.blocks[0], layers=(replace(layer, filters=layer.filters + 3),)),
                              *architecture.blocks[1:]),
    )  # fmt: skip
    parent, child = graph_of(architecture), graph_of(wider)
    weights, fresh = trained_like(parent, 3), initial_weights(child, 1)
    found = inherited(child, fresh, parent, weights)
    assert np.array_equal(found[0]["kernel"][..., :8], weights[0]["kernel"])
    assert np.array_equal(found[0]["kernel"][..., 8:], fresh[0]["kernel"][..., 8:])
    assert np.array_equal(found[-1]["kernel"], weights[-1]["kernel"])


@pytest.mark.slow
def test_a_child_of_a_trained_parent_is_better_at_once() -> None:
    trainer = KerasTraining(dataset(), RECIPE)()
    parent = trainer(task(branched()))
    asked = task(branched(), effort=0.15, seed=9)
    scratch = trainer(asked)
    child = trainer(replace(asked, inherited=Inherited(parent.architecture, parent.weights)))
    assert child.history[0].error < scratch.history[0].error
    assert child.error <= scratch.error
