"""Training of one trial, start to int8 file: what a worker of the search does.

Importing this module does not import TensorFlow; `PRELOAD` names what does, for processes that workers are forked from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from munas.data import Dataset
from munas.search.trial import Trained, Trainer
from munas.training.recipes import Recipe, RecipeKind, Schedule, own_recipe, recipe_of, scaled

PRELOAD = ("munas.training.fit", "munas.training.quantise", "ai_edge_litert.interpreter")
"""Modules whose import takes seconds and that every worker needs."""

__all__ = ["PRELOAD", "KerasTraining", "Trained"]


@dataclass(frozen=True, slots=True)
class KerasTraining:
    """How a search trains; calling it, in the worker, gives the `Trainer`. Pickles, the data set as a path.

    `recipe` is the data set's own of that `kind` when None; a data set that we know nothing of has one by its size.
    `teacher` is a .keras file to learn from as well, `cache` where what it
    says is kept.
    """

    dataset: Dataset
    recipe: Recipe | None = None
    teacher: Path | None = None
    cache: Path | None = None
    kind: RecipeKind = "fast"

    def __call__(self) -> Trainer:
        """Raises ImportError without TensorFlow, SearchError for a teacher that does not fit."""
        from munas.training.fit import KerasTrainer

        return KerasTrainer(self.dataset, self.used_recipe, self.teacher, self.cache)

    @property
    def used_recipe(self) -> Recipe:
        """The recipe in use."""
        if self.recipe is not None:
            return self.recipe
        data = self.dataset
        if data.is_own:
            side, pictures = min(data.input_shape[:2]), data.train.inputs.dtype == np.uint8
            return own_recipe(len(data.train), side, are_pictures=pictures)
        return recipe_of(data.name, self.kind)

    def schedule(self, effort: float) -> Schedule:
        """What a trial's training does at an effort; its `rungs` are where successive halving may stop it."""
        return scaled(self.used_recipe, effort, len(self.dataset.train))
