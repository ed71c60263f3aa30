"""What a search takes from munas' training side: trainer, rungs, cost of a training, score on the test set.

Nothing here imports TensorFlow: the trainer is data until a worker calls it, and LiteRT scores the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.cache import digest
from hil.search.finals import Costs
from hil.search.score import Scorer
from munas.cost.resources import Resources
from munas.data import Dataset
from munas.search.pace import Work
from munas.search.trial import TrainerFactory, TrialResult
from munas.training.recipes import VALIDATED, RecipeKind
from munas.training.train import PRELOAD, KerasTraining


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What is trained on, and how; `effort` is the search's, `cache` a folder for what a teacher says."""

    dataset: Dataset
    cache: Path
    effort: float
    pruning: bool = True
    halving: bool = True
    teacher: Path | None = None
    workers: int = 1
    recipe: RecipeKind = "fast"

    @property
    def training(self) -> KerasTraining:
        """How the data set is trained by the recipe of that kind."""
        return KerasTraining(self.dataset, teacher=self.teacher, cache=self.cache, kind=self.recipe)


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """How trials are trained.

    `score` is int8 accuracy on the test set. `identity` says which training it is: what changes the errors. `preload`
    are modules for the workers; `work` is what a trial does.
    """

    trainer: TrainerFactory
    rung_epochs: tuple[int, ...]
    sparsity: tuple[float, float] | None
    costs: Costs
    score: Callable[[bytes], float]
    identity: Mapping[str, Any]
    preload: tuple[str, ...] = ()
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class RecipeCosts:
    """What trainings take, told by how fast a trial was trained before, at the search's `effort`."""

    training_of: KerasTraining
    effort: float
    scorer: Scorer

    def training(self, trial_result: TrialResult, effort: float) -> float:
        """Seconds of one re-training."""
        trained = trial_result.trained
        if trained is None or not trained.images_per_second > 0:
            return trial_result.seconds * effort / self.effort
        before, after = (self.training_of.schedule(value) for value in (self.effort, effort))
        seen = trained.epochs * before.epoch_steps * before.batch
        # Start, conversion, validation of the int8 network: the same however long it is trained.
        aside_s = max(0.0, trial_result.seconds - seen / trained.images_per_second)
        return aside_s + after.steps * after.batch / trained.images_per_second

    def test(self, resources: Resources) -> float:
        """Seconds of the test set, for one network."""
        return self.scorer.seconds(resources)


def work_of(training: KerasTraining, effort: float) -> Work:
    """What a trial does at an effort."""
    schedule, validation = training.schedule(effort), len(training.dataset.validation)
    checked = min(VALIDATED, validation) * schedule.epochs + validation
    return Work(schedule.steps * schedule.batch, checked, validation)


def training_setup(request: TrainingRequest) -> TrainingSetup:
    """The training of the request's data set by its recipe. Raises SearchError when it has none."""
    training = request.training
    pruning = training.used_recipe.pruning
    scorer = Scorer(request.dataset, request.workers)
    teacher = None if request.teacher is None else digest([request.teacher.read_bytes()])
    return TrainingSetup(
        trainer=training,
        rung_epochs=training.schedule(request.effort).rungs if request.halving else (),
        sparsity=(pruning.least, pruning.most) if request.pruning else None,
        costs=RecipeCosts(training, request.effort, scorer),
        score=scorer,
        identity={"recipe_kind": request.recipe, "recipe": asdict(training.used_recipe), "teacher": teacher},
        preload=PRELOAD,
        work=work_of(training, request.effort),
    )
