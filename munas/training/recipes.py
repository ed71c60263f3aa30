"""How each data set is trained: the authors' recipes and our fast ones, and what is left of one in less time.

The paper's recipe is a table row of the µNAS paper (arXiv 2010.14246) with what the authors' configurations add, or our
own rates for the small sets that the paper does not use. The fast recipe, which is the default, has the same epochs,
and flips what the paper flips; it shifts by a pixel, rotates nothing, prunes by the loss, and spends all of it in one
cycle of Adam. A schedule is a recipe scaled to an effort from 0 to 1, in steps: its work is proportional to the effort.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from munas.arch.prune import target_sparsity
from munas.errors import SearchError
from munas.training.augment import Augmentation

CYCLE_PRUNED = 0.5
"""Share of a cycle after which nothing more is pruned: its rate goes to zero, and a network that is cut late has no
time to recover. On Fashion-MNIST at an effort of 0.03 the recipe's window, which ends at 0.84, left errors of 21 % and
64 % at sparsities of 0.5 and 0.8 where this leaves 18 % and 32 %, sizes being alike (mean of two seeds, by norms)."""

AUGMENTED_PASSES = 4.0
"""Passes over the training images from which on a cycle augments them: tiny networks have no time for it before."""

FAST_SHIFT = 1
"""Pixels that a cycle shifts images by, at most, where the paper shifts them at all (by 2 to 4, and rotates some). So
small networks are short of channels sooner than of pictures: docs/search.md has the comparison on three data sets."""

VALIDATED = 2000
"""Validation images that an epoch's error is taken on, at most; the errors at the end are on all of them."""

MIN_EPOCHS = 6  # of a schedule, or all of a recipe's: there are rungs between them
MASK_STEPS = 16  # batches between two renewals of the pruning masks


Criterion = Literal["norm", "loss"]


@dataclass(frozen=True, slots=True)
class Optimiser:
    """Stochastic gradient descent with momentum, or Adam.

    `weight_decay` is decoupled: the share that a step at the peak rate takes off. It follows the learning rate's course
    and acts on kernels, or, with `decays_all`, is the same in every step and acts on all weights, as in the authors'
    code.
    """

    kind: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    decays_all: bool = False


@dataclass(frozen=True, slots=True)
class Pruning:
    """Window in epochs in which the sparsity rises, the range that a search draws its final value from, and which
    channels are masked: those with the smallest kernels ("norm"), which may come back, as the authors do, or those
    that matter least to the loss ("loss", `munas.arch.prune.masks_by_loss`), which is far less dear: docs/search.md has
    the comparison."""

    begin_epoch: float
    end_epoch: float
    least: float
    most: float
    criterion: Criterion = "norm"


@dataclass(frozen=True, slots=True)
class Cycle:
    """Adam in one cycle up to a peak `rate`, in batches of `batch`; in less than `brief_passes` passes over the images
    in smaller ones.

    In 1.3 epochs of Fashion-MNIST a peak of 0.012 and batches of 64 leave 13.7 % of errors where 0.003 and 128 leave
    16 %; in a quarter of an epoch batches of 32 take off another 1.9 points (8 of 8 runs).
    """

    rate: float = 0.012
    batch: int = 64
    brief_passes: float = 1.0
    brief_batch: int = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training at full effort. `rates` are (epoch, learning rate from there on), the first from epoch 0; a `cycle` is
    taken in their place. `dropout` is the share of the inputs of hidden dense layers that is left out.
    """

    epochs: int
    batch: int
    optimiser: Optimiser
    rates: tuple[tuple[int, float], ...]
    pruning: Pruning
    augmentation: Augmentation = field(default_factory=Augmentation)
    dropout: float = 0.0
    cycle: Cycle | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """What one trial's training does, in steps of one batch.

    An epoch is `epoch_steps` steps, after which the network is validated; the last one ends with the last step.
    Batches go through all training images, whatever an epoch is. `rungs` are the epochs (from 1) after which successive
    halving may stop a trial. `rates` are (step, learning rate from there on); with `cycle` the rate rises to the
    first of them and falls to zero.
    """

    steps: int
    epochs: int
    epoch_steps: int
    batch: int
    optimiser: Optimiser
    rates: tuple[tuple[int, float], ...]
    cycle: bool
    prune_begin: int
    prune_end: int
    augmentation: Augmentation
    rungs: tuple[int, ...]
    dropout: float = 0.0
    criterion: Criterion = "norm"

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        peak = self.rates[0][1]
        if not self.cycle:
            return [rate for begin, rate in self.rates if begin <= step][-1]
        rise = max(1, round(0.15 * self.steps))
        if step < rise:
            return peak * (step + 1) / rise
        return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))

    def sparsity(self, step: int, final: float) -> float:
        """Share of the channels to prune at a step, `final` at the window's end."""
        return target_sparsity(step, self.prune_begin, self.prune_end, final)


def scaled(recipe: Recipe, effort: float, images: int) -> Schedule:
    """The schedule of a recipe for `images` training images, with the work of `effort` in (0, 1] times the recipe's.

    Raises SearchError for an effort outside of that.
    """
    if not 0 < effort <= 1:
        raise SearchError(f"effort {effort:g} is not above 0 and at most 1")
    cycle, passes = recipe.cycle, effort * recipe.epochs
    batch = min(images, recipe.batch if cycle is None else _batch(recipe, cycle, passes))
    wanted = max(1, round(effort * recipe.epochs * max(1, images // batch)))
    epochs = min(recipe.epochs, wanted, max(MIN_EPOCHS, round(2 * effort * recipe.epochs)))
    epoch_steps = max(1, round(wanted / epochs))
    steps = epochs * epoch_steps

    def at(epoch: float) -> int:
        return round(steps * epoch / recipe.epochs)

    squeeze = 1.0 if cycle is None else min(1.0, CYCLE_PRUNED * recipe.epochs / recipe.pruning.end_epoch)
    optimiser = recipe.optimiser if cycle is None else replace(recipe.optimiser, kind="adam", decays_all=False)
    rates = tuple((at(epoch), rate) for epoch, rate in recipe.rates) if cycle is None else ((0, cycle.rate),)
    is_augmented = cycle is None or passes >= AUGMENTED_PASSES
    return Schedule(
        steps=steps,
        epochs=epochs,
        epoch_steps=epoch_steps,
        batch=batch,
        optimiser=optimiser,
        rates=rates,
        cycle=cycle is not None,
        prune_begin=at(squeeze * recipe.pruning.begin_epoch),
        prune_end=at(squeeze * recipe.pruning.end_epoch),
        augmentation=recipe.augmentation if is_augmented else Augmentation(),
        rungs=tuple(sorted({max(1, epochs // 4), max(1, epochs // 2)} - {epochs})),
        dropout=recipe.dropout,
        criterion=recipe.pruning.criterion,
    )


def _batch(recipe: Recipe, cycle: Cycle, passes: float) -> int:
    return min(recipe.batch, cycle.brief_batch if passes < cycle.brief_passes else cycle.batch)


_DIGITS = Recipe(
    epochs=60,
    batch=32,
    optimiser=Optimiser("adam", weight_decay=1e-4),
    rates=((0, 3e-3), (40, 1e-3), (52, 2e-4)),
    pruning=Pruning(6, 40, 0.05, 0.80),
)
_MNIST = Recipe(
    epochs=30,
    batch=128,
    optimiser=Optimiser("sgd", 0.9, 4e-5, decays_all=True),
    rates=((0, 0.005),),
    pruning=Pruning(3, 18, 0.05, 0.80),
    augmentation=Augmentation(shift_pixels=2, rotation_rad=0.2, rotation_share=0.3, symmetric=True),
)
_MNIST_BINARY = replace(
    _MNIST, epochs=25, optimiser=Optimiser("adam", weight_decay=4e-5, decays_all=True), rates=((0, 1e-3),)
)
_FASHION = Recipe(
    epochs=45,
    batch=128,
    optimiser=Optimiser("sgd", 0.9, 1e-5, decays_all=True),
    rates=((0, 0.01), (25, 0.005), (35, 0.001)),
    pruning=Pruning(3, 38, 0.05, 0.90),
    augmentation=Augmentation(shift_pixels=2, flip=True, rotation_rad=0.2, rotation_share=0.3, symmetric=True),
    dropout=0.15,
)
_CHARS74K = Recipe(
    epochs=60,
    batch=80,
    optimiser=Optimiser("sgd", 0.9, 1e-4, decays_all=True),
    rates=((0, 0.01), (35, 0.005)),
    pruning=Pruning(20, 53, 0.10, 0.85),
    augmentation=Augmentation(shift_pixels=4, symmetric=True),  # 10 % of 48
    dropout=0.15,
)
_CHARS74K_BINARY = replace(
    _CHARS74K,
    batch=128,
    optimiser=Optimiser("sgd", 0.9, 4e-5, decays_all=True),
    rates=((0, 0.01), (42, 0.005)),
    augmentation=Augmentation(shift_pixels=3, symmetric=True),  # 10 % of 32
)
_CIFAR10 = Recipe(
    epochs=130,
    batch=128,
    optimiser=Optimiser("sgd", 0.9, 1e-5, decays_all=True),
    rates=((0, 0.01), (90, 0.005), (105, 0.001)),
    pruning=Pruning(90, 120, 0.10, 0.90),
    augmentation=Augmentation(shift_pixels=4, flip=True, symmetric=True),
    dropout=0.15,
)
_SPEECH = Recipe(
    epochs=45,
    batch=50,
    optimiser=Optimiser("adam", weight_decay=1e-5, decays_all=True),
    rates=((0, 5e-4), (20, 1e-4), (40, 2e-5)),
    pruning=Pruning(20, 40, 0.10, 0.90),
)

PAPER: Mapping[str, Recipe] = {
    "digits": _DIGITS,
    "mnist": _MNIST,
    "mnist-5k": replace(_MNIST, epochs=120, batch=64, pruning=Pruning(12, 72, 0.05, 0.80)),
    "mnist-binary": _MNIST_BINARY,
    "fashion-mnist": _FASHION,
    "chars74k": _CHARS74K,
    "chars74k-binary": _CHARS74K_BINARY,
    "cifar10": _CIFAR10,
    "cifar10-binary": replace(
        _CIFAR10, epochs=80, rates=((0, 0.01),), pruning=Pruning(30, 60, 0.10, 0.60), dropout=0.0
    ),
    "speech-commands": _SPEECH,
}
"""The authors' recipes, by the name of the data set; of digits and mnist-5k, which the paper does not use, our own."""

_CYCLES: Mapping[str, Cycle] = {"speech-commands": Cycle(0.004, 50)}

IMAGES_SEEN = 1_500_000
"""Of a full training on a data set of the user's own, within 20 to 200 passes."""

SHIFTED_SIDE = 16  # pixels of a picture, from which on a data set of the user's own is shifted


def fast(recipe: Recipe, cycle: Cycle | None = None) -> Recipe:
    """A recipe in one cycle, without the dropout that tiny networks have no use for, pruned by the loss, and little
    augmented: shifts of `FAST_SHIFT`, which bring in zeros, and the recipe's flips."""
    shift = min(FAST_SHIFT, recipe.augmentation.shift_pixels)
    augmentation = Augmentation(shift_pixels=shift, flip=recipe.augmentation.flip)
    pruning = replace(recipe.pruning, criterion="loss")
    return replace(recipe, cycle=cycle or Cycle(), dropout=0.0, augmentation=augmentation, pruning=pruning)


def own_recipe(images: int, side: int, *, are_pictures: bool) -> Recipe:
    """For `images` training examples of a data set that we know nothing of; pictures of `side` pixels are shifted as in
    the fast recipe, if they are not very small, and never flipped, which may change what they show."""
    epochs = min(200, max(20, round(IMAGES_SEEN / images)))
    shift = FAST_SHIFT if are_pictures and side >= SHIFTED_SIDE else 0
    return Recipe(
        epochs=epochs,
        batch=32 if images < 5000 else 128,
        optimiser=Optimiser("adam", weight_decay=1e-5),
        rates=((0, 3e-3), (epochs * 2 // 3, 1e-3), (epochs * 9 // 10, 2e-4)),
        pruning=Pruning(epochs / 10, epochs / 2, 0.05, 0.80, "loss"),
        augmentation=Augmentation(shift_pixels=shift),
        cycle=Cycle(),
    )


RecipeKind = Literal["fast", "paper"]


def recipe_of(dataset: str, kind: RecipeKind = "fast") -> Recipe:
    """The recipe of a data set that we know; SearchError where there is none."""
    if dataset not in PAPER:
        raise SearchError(f"no recipe for data set {dataset!r}; there are {', '.join(PAPER)}")
    return PAPER[dataset] if kind == "paper" else fast(PAPER[dataset], _CYCLES.get(dataset))
