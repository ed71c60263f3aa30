"""Recipes are munas' table, and a schedule's work is proportional to the effort."""

from __future__ import annotations

import math

import pytest

from munas.data import DATASETS
from munas.errors import SearchError
from munas.training.augment import Augmentation
from munas.training.recipes import (
    AUGMENTED_PASSES,
    CYCLE_PRUNED,
    FAST_SHIFT,
    PAPER,
    Cycle,
    RecipeKind,
    own_recipe,
    recipe_of,
    scaled,
)

IMAGES = {"digits": 1295, "mnist": 54_000, "fashion-mnist": 54_000, "cifar10": 45_000, "speech-commands": 85_000}


def test_every_data_set_has_a_recipe() -> None:
    assert set(PAPER) == set(DATASETS)


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "optimiser", "rates", "window", "sparsity"),
    [
        ("mnist", 30, 128, ("sgd", 0.9, 4e-5), ((0, 0.005),), (3, 18), (0.05, 0.80)),
        ("fashion-mnist", 45, 128, ("sgd", 0.9, 1e-5), ((0, 0.01), (25, 0.005), (35, 0.001)), (3, 38), (0.05, 0.90)),
        ("mnist-binary", 25, 128, ("adam", 0.0, 4e-5), ((0, 1e-3),), (3, 18), (0.05, 0.80)),
        ("chars74k-binary", 60, 128, ("sgd", 0.9, 4e-5), ((0, 0.01), (42, 0.005)), (20, 53), (0.10, 0.85)),
        ("chars74k", 60, 80, ("sgd", 0.9, 1e-4), ((0, 0.01), (35, 0.005)), (20, 53), (0.10, 0.85)),
        ("cifar10", 130, 128, ("sgd", 0.9, 1e-5), ((0, 0.01), (90, 0.005), (105, 0.001)), (90, 120), (0.10, 0.90)),
        ("cifar10-binary", 80, 128, ("sgd", 0.9, 1e-5), ((0, 0.01),), (30, 60), (0.10, 0.60)),
        ("speech-commands", 45, 50, ("adam", 0, 1e-5), ((0, 5e-4), (20, 1e-4), (40, 2e-5)), (20, 40), (0.10, 0.90)),
    ],
)
def test_recipes_are_those_of_the_paper(name, epochs, batch, optimiser, rates, window, sparsity) -> None:  # type: ignore[no-untyped-def]
    recipe = recipe_of(name, "paper")
    assert recipe.cycle is None
    assert (recipe.epochs, recipe.batch, recipe.rates) == (epochs, batch, rates)
    assert (recipe.optimiser.kind, recipe.optimiser.momentum, recipe.optimiser.weight_decay) == optimiser
    assert (recipe.pruning.begin_epoch, recipe.pruning.end_epoch) == window
    assert (recipe.pruning.least, recipe.pruning.most) == sparsity


def test_augmentations_are_those_of_the_paper() -> None:
    names = ("mnist", "fashion-mnist", "cifar10", "chars74k", "chars74k-binary")
    found = [recipe_of(name, "paper").augmentation for name in names]
    mnist, fashion, cifar, chars, binary = found
    assert (mnist.shift_pixels, mnist.flip, mnist.rotation_rad, mnist.rotation_share) == (2, False, 0.2, 0.3)
    assert (fashion.shift_pixels, fashion.flip, fashion.rotation_rad, fashion.rotation_share) == (2, True, 0.2, 0.3)
    assert (cifar.shift_pixels, cifar.flip, cifar.rotation_rad) == (4, True, 0.0)
    assert (chars.shift_pixels, binary.shift_pixels) == (4, 3)  # a tenth of 48 and 32
    assert all(item.symmetric for item in found)


def test_the_papers_recipes_drop_out_and_decay_as_the_authors_do() -> None:
    dropped = {name for name in PAPER if recipe_of(name, "paper").dropout == 0.15}
    assert dropped == {"fashion-mnist", "cifar10", "chars74k", "chars74k-binary"}
    assert all(recipe_of(name, "paper").optimiser.decays_all for name in set(PAPER) - {"digits"})
    assert scaled(recipe_of("fashion-mnist", "paper"), 0.1, 54_000).dropout == 0.15


@pytest.mark.parametrize("effort", [0.05, 0.5, 1.0])
def test_the_papers_recipe_is_never_a_cycle(effort: float) -> None:
    recipe = recipe_of("fashion-mnist", "paper")
    schedule = scaled(recipe, effort, 54_000)
    assert (schedule.cycle, schedule.batch, schedule.optimiser) == (False, 128, recipe.optimiser)
    assert [rate for _, rate in schedule.rates] == [0.01, 0.005, 0.001]
    assert schedule.augmentation == recipe.augmentation


def test_full_effort_is_the_recipe() -> None:
    schedule = scaled(recipe_of("fashion-mnist", "paper"), 1.0, 54_000)
    assert (schedule.epochs, schedule.epoch_steps, schedule.batch) == (45, 54_000 // 128, 128)
    assert schedule.rate(0) == 0.01
    assert schedule.rate(25 * schedule.epoch_steps - 1) == 0.01
    assert schedule.rate(25 * schedule.epoch_steps) == 0.005
    assert schedule.rate(schedule.steps - 1) == 0.001
    assert (schedule.prune_begin, schedule.prune_end) == (3 * 421, 38 * 421)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("kind", ["fast", "paper"])
@pytest.mark.parametrize("effort", [0.01, 0.05, 0.2, 0.25, 0.5, 0.9, 1.0])
def test_work_is_proportional_to_effort(name: str, effort: float, kind: RecipeKind) -> None:
    recipe = recipe_of(name, kind)
    schedule = scaled(recipe, effort, IMAGES[name])
    full = recipe.epochs * (IMAGES[name] // schedule.batch)
    assert schedule.steps == schedule.epochs * schedule.epoch_steps
    assert schedule.steps == pytest.approx(effort * full, rel=0.1, abs=recipe.epochs)
    assert schedule.epochs <= recipe.epochs
    assert 0 <= schedule.prune_begin < schedule.prune_end <= schedule.steps
    assert all(1 <= rung < schedule.epochs for rung in schedule.rungs)


@pytest.mark.parametrize("effort", [0.02, 0.06, 1.0])
def test_a_fast_schedule_is_a_cycle(effort: float) -> None:
    recipe = recipe_of("fashion-mnist")
    schedule = scaled(recipe, effort, 54_000)
    rates = [schedule.rate(step) for step in range(schedule.steps)]
    peak = rates.index(max(rates))
    assert recipe.cycle is not None
    assert max(rates) == pytest.approx(recipe.cycle.rate)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 <= rates[-1] < 0.01 * max(rates)
    assert schedule.dropout == 0
    assert (schedule.optimiser.kind, schedule.optimiser.decays_all) == ("adam", False)


def test_a_brief_cycle_has_small_batches_and_does_not_augment() -> None:
    recipe = recipe_of("fashion-mnist")
    brief, short, long = (scaled(recipe, passes / 45, 54_000) for passes in (0.5, 2.0, AUGMENTED_PASSES))
    assert (brief.batch, short.batch, long.batch) == (32, 64, 64)
    assert not brief.augmentation
    assert not short.augmentation
    assert long.augmentation == recipe.augmentation


def test_the_fast_recipe_shifts_by_a_pixel_and_flips_what_the_paper_flips() -> None:
    for name in PAPER:
        paper, found = recipe_of(name, "paper").augmentation, recipe_of(name).augmentation
        assert found == Augmentation(shift_pixels=FAST_SHIFT if paper.shift_pixels else 0, flip=paper.flip)


def test_the_fast_recipe_prunes_by_the_loss_and_the_paper_by_norms() -> None:
    for name in PAPER:
        fast, paper = recipe_of(name), recipe_of(name, "paper")
        assert (fast.pruning.criterion, scaled(fast, 0.5, 54_000).criterion) == ("loss", "loss")
        assert (paper.pruning.criterion, scaled(paper, 0.5, 54_000).criterion) == ("norm", "norm")
    assert own_recipe(5_000, 28, are_pictures=True).pruning.criterion == "loss"


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("effort", [0.125, 1.0])
def test_a_cycle_has_half_of_its_steps_to_recover_from_pruning(name: str, effort: float) -> None:
    recipe = recipe_of(name)
    schedule = scaled(recipe, effort, 54_000)
    assert 0 < schedule.prune_begin < schedule.prune_end <= CYCLE_PRUNED * schedule.steps + 1
    begin = schedule.prune_end * recipe.pruning.begin_epoch / recipe.pruning.end_epoch
    assert schedule.prune_begin == pytest.approx(begin, abs=1.5)
    paper = scaled(recipe_of(name, "paper"), 1.0, 54_000)
    assert paper.prune_end == round(paper.steps * recipe.pruning.end_epoch / recipe.epochs)


def test_a_data_set_of_the_users_own_has_a_recipe_by_its_size() -> None:
    small, large = own_recipe(1000, 32, are_pictures=True), own_recipe(60_000, 49, are_pictures=False)
    assert (small.epochs, small.batch, small.augmentation.shift_pixels) == (200, 32, FAST_SHIFT)
    assert (large.epochs, large.batch, large.augmentation.shift_pixels) == (25, 128, 0)
    for recipe, images in ((small, 1000), (large, 60_000)):
        assert recipe.cycle == Cycle()
        assert not recipe.augmentation.flip
        schedule = scaled(recipe, 1.0, images)
        assert 0 < schedule.prune_begin < schedule.prune_end < schedule.steps


def test_sparsity_rises_to_its_final_value_in_the_window() -> None:
    schedule = scaled(recipe_of("mnist"), 1.0, 54_000)
    assert schedule.sparsity(schedule.prune_begin - 1, 0.6) == 0
    middle = schedule.sparsity((schedule.prune_begin + schedule.prune_end) // 2, 0.6)
    assert middle == pytest.approx(0.6 * (1 - 0.5**3), rel=1e-3)
    assert schedule.sparsity(schedule.prune_end, 0.6) == 0.6


@pytest.mark.parametrize("effort", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_an_effort_outside_of_the_range_is_refused(effort: float) -> None:
    with pytest.raises(SearchError, match="effort"):
        scaled(recipe_of("digits"), effort, 1000)


def test_fewer_images_than_a_batch() -> None:
    schedule = scaled(recipe_of("digits"), 0.1, 10)
    assert (schedule.batch, schedule.steps >= 1) == (10, True)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(SearchError, match="recipe"):
        recipe_of("imagenet")
