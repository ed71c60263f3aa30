"""The ways to prune, and the table that compares them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from munas.arch.channels import Masks, channel_groups
from munas.arch.graph import build_graph
from munas.arch.prune import kept_share
from munas.arch.space import to_dict
from munas.training.comparison import STORE, Outcome, stored, train
from munas.training.pruning_table import LOSS, PRUNED, SCRATCH, WAYS, Case, MaskedTraining, job, table
from munas.training.recipes import scaled
from tests.training.tiny import RECIPE, branched, dataset, task

if TYPE_CHECKING:
    from munas.training.fit import Training

DATA = dataset()


def started(way: str) -> Training:
    trainer = MaskedTraining(DATA, RECIPE, way)()
    schedule = scaled(trainer.recipe, 1.0, len(DATA.train))
    return trainer.training(DATA, schedule, task(branched(), sparsity=0.5))


def case(way: str, seed: int = 0, dataset: str = "mnist") -> Case:
    return Case(dataset, 0, seed, way, 0.6, 3.0)


def outcome(error: float, size: int = 1000) -> Outcome:
    return Outcome(error, to_dict(branched()), size, 25_000, 900.0)


def test_ways_are_compared_with_ours_on_the_same_network_and_seed() -> None:
    lines = table(
        {
            case(LOSS): outcome(0.10), case(LOSS, 1): outcome(0.20), case("soft"): outcome(0.12, 900),
            case("soft", 1): outcome(0.19, 800), case("gradual", 2): outcome(0.1), case(SCRATCH): outcome(0.09),
        }
    ).splitlines()[2:]  # fmt: skip
    assert lines == [
        f"| mnist | {WAYS[LOSS]} | 15.00% | | | 1,000 | 25 K | 900 |",
        f"| mnist | {WAYS['soft']} | 15.50% | -0.50 points | 1 of 2 | 850 | 25 K | 900 |",
        f"| mnist | {WAYS[SCRATCH]} | 9.00% | +1.00 points | 1 of 1 | 1,000 | 25 K | 900 |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("way", PRUNED)
def test_each_way_leaves_the_same_share_of_the_channels(way: str) -> None:
    pytest.importorskip("tensorflow")
    run = started(way)
    masks: list[Masks] = []

    def renewed(step: int) -> None:
        original(step)
        assert run.masks is not None
        masks.append(run.masks)

    original, run._renew_masks = run._renew_masks, renewed  # type: ignore[method-assign]
    run.run()
    trained = run.finish()
    assert kept_share(channel_groups(run.graph), masks[-1]) == pytest.approx(0.5, abs=0.05)
    emitted = build_graph(trained.architecture, DATA.input_shape, DATA.num_classes)
    assert emitted.model_size < run.graph.model_size
    assert trained.error < 0.4
    if way in ("loss", "gradual"):
        assert not any(
            (after & ~before).any()
            for first, second in pairwise(masks)
            for before, after in zip(first, second, strict=True)
        )


@pytest.mark.slow
def test_kernels_that_were_set_to_zero_recover() -> None:
    pytest.importorskip("tensorflow")
    run = started("soft")
    chosen: list[Masks] = []

    def zero(masks: Masks) -> None:
        original(masks)
        chosen.append(masks)
        assert zeros(masks) == [0.0] * len(zeros(masks))

    def zeros(masks: Masks) -> list[float]:
        """The largest element of each kernel of a channel that is left out."""
        groups, weights = channel_groups(run.graph), run.weights()
        return [
            float(np.abs(layer["kernel"].reshape(-1, len(mask))[:, ~mask]).max())
            for layer, number in zip(weights, groups.of_output, strict=True)
            if layer and not (mask := masks[number]).all()
        ]

    original, run._zero = run._zero, zero  # type: ignore[attr-defined]
    run.run()
    assert len(chosen) > 2
    assert zeros(chosen[0])
    assert min(zeros(chosen[0])) > 0


@pytest.mark.slow
def test_what_is_left_is_trained_from_scratch(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    pruned, scratch = (Case("digits", 0, 0, way, 0.5, 1.0) for way in (LOSS, SCRATCH))
    left = dict(train([pruned], partial(job, {}), tmp_path, 1))
    again = dict(train([scratch], partial(job, left), tmp_path, 1))
    assert again[scratch].architecture == left[pruned].architecture
    assert again[scratch].error != left[pruned].error
    assert set(stored(tmp_path / STORE, Case)) == {pruned, scratch}
