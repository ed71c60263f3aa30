"""The trainer: epochs of compiled steps, masks that come and go, rungs, and the int8 network at the end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from munas.arch.channels import Masks, channel_groups
from munas.arch.graph import build_graph
from munas.arch.prune import apply_masks, kept_share, masks_at, masks_by_loss
from munas.data import Dataset, Examples
from munas.search.trial import Epoch, Rung, Task, Trained
from munas.training.distill import soft_labels
from munas.training.emit import Emitted, emit, revived
from munas.training.equalise import channel_ranges, equalised
from munas.training.feed import Feed
from munas.training.inherit import inherited
from munas.training.int8_loss import WORTH_EXPLAINING, explained, layer_losses
from munas.training.parameters import (
    Floats,
    Layer,
    fold_batch_norm,
    initial_weights,
    pack_weights,
    parameter_map,
    unpack_weights,
)
from munas.training.quantise import REPRESENTATIVE, int8_error, scaled, to_int8
from munas.training.recipes import MASK_STEPS, VALIDATED, Recipe, Schedule
from munas.training.recipes import scaled as schedule_of
from munas.training.steps import Batches, Evaluator, InputSpec, State, Stepper, error_of

EXPLAINED = 500
"""Validation images on which the layer behind a loss by int8 is looked for."""

DIVERGED_LOSS = 1e9
"""Stands for a loss that is not finite, so that a history stays a list of numbers."""


class Training:
    """One trial from its initial weights to its int8 network."""

    def __init__(self, dataset: Dataset, schedule: Schedule, task: Task, soft: Floats | None = None) -> None:
        trial = task.trial
        self._dataset, self._schedule, self._trial = dataset, schedule, trial
        self.graph = build_graph(trial.architecture, dataset.input_shape, dataset.num_classes)
        self._parameters, self._groups = parameter_map(self.graph), channel_groups(self.graph)
        prunes = trial.sparsity > 0 and bool(self._groups.prunable)
        weights = initial_weights(self.graph, trial.seed)
        if task.inherited is not None:
            parent = build_graph(task.inherited.architecture, dataset.input_shape, dataset.num_classes)
            weights = inherited(self.graph, weights, parent, unpack_weights(task.inherited.weights, parent))
        self._masks: Masks | None = masks_at(self.graph, weights, 0.0) if prunes else None
        self._masks_final = not prunes
        self._inputs = InputSpec(
            dataset.input_shape, dataset.train.inputs.dtype.name, tuple(dataset.scale), tuple(dataset.offset)
        )
        self._feed = Feed(dataset, schedule, trial.seed, soft)
        self._stepper = Stepper(
            self.graph, self._parameters, schedule.optimiser, max(rate for _, rate in schedule.rates),
            schedule.batch, self._inputs, groups=self._groups if prunes else None, distil=soft is not None,
            dropout=schedule.dropout, seed=trial.seed,
        )  # fmt: skip
        self._state = self._stepper.start(*self._parameters.flatten(weights))
        self._evaluator = Evaluator(self.graph, self._inputs)
        self._checked = _spread(dataset.validation, VALIDATED)
        self._sound: tuple[State, Masks | None] = (self._state, self._masks)
        self._images, self._seconds = 0, 0.0
        self.history: list[Epoch] = []
        self.stopped = False

    def run(self, rungs: tuple[Rung, ...] = ()) -> None:
        """All epochs, or as many as go well enough."""
        worst = {rung.epoch: rung.worst_error for rung in rungs}
        for epoch in range(1, self._schedule.epochs + 1):
            loss = self._epoch((epoch - 1) * self._schedule.epoch_steps)
            error, finite = self._validate()
            if not math.isfinite(loss) or not finite:
                self.history.append(Epoch(DIVERGED_LOSS, 1.0, self._kept()))
                self._state, self._masks = self._sound
                self._masks_final = True
                return
            self._sound = (self._state, self._masks)
            self.history.append(Epoch(loss, error, self._kept()))
            if error > worst.get(epoch, 1.0):
                self.stopped = self._masks_final = True
                return

    def finish(self) -> Trained:
        """Emit, quantise and judge what has been trained."""
        data = self._dataset
        # Of what was stopped nobody needs a figure to the third digit.
        validation = self._checked if self.stopped else data.validation
        emitted, float_error = self._emitted(validation)
        tflite = to_int8(emitted.graph, emitted.weights, self._representative())
        error = int8_error(tflite, validation, data.scale, data.offset)
        return Trained(
            architecture=emitted.architecture,
            error=error,
            float_error=float_error,
            epochs=len(self.history),
            stopped=self.stopped,
            history=tuple(self.history),
            tflite=tflite,
            weights=pack_weights(emitted.weights),
            images_per_second=self.images_per_second,
            int8_cause=self._int8_cause(emitted) if error - float_error > WORTH_EXPLAINING else "",
        )

    def _int8_cause(self, emitted: Emitted) -> str:
        data, checked = self._dataset, _spread(self._dataset.validation, EXPLAINED)
        graph, folded = emitted.graph, fold_batch_norm(emitted.graph, emitted.weights)
        folded = equalised(graph, folded, channel_ranges(graph, folded, self._representative()))
        inputs = scaled(checked.inputs, data.scale, data.offset)
        return explained(layer_losses(graph, folded, self._representative(), inputs, checked.labels))

    @property
    def images_per_second(self) -> float:
        """Training images by the wall time of gathering, augmenting and training them; compilation is left out."""
        return self._images / self._seconds if self._seconds else 0.0

    def weights(self) -> list[Layer]:
        """The present weights, masked channels not yet zero."""
        return self._parameters.unflatten(self._state.weights.numpy(), self._state.statistics.numpy())

    def masked_weights(self) -> list[Layer]:
        """The present weights as the network is validated: masked channels are zero."""
        weights = self.weights()
        return weights if self._masks is None else apply_masks(self.graph, weights, self._masks)

    @property
    def masks(self) -> Masks | None:
        """By group of `channel_groups`, the channels that are kept at present; None where nothing is pruned."""
        return self._masks

    def _epoch(self, begin: int) -> float:
        """Train the steps of an epoch; the mean loss."""
        step, end, total = begin, begin + self._schedule.epoch_steps, 0.0
        while step < end and math.isfinite(total):
            if step % MASK_STEPS == 0:
                self._renew_masks(step)
            count = min(MASK_STEPS - step % MASK_STEPS, end - step)
            start = time.perf_counter()
            loss = self.steps(self._feed.batches(step, count))
            self._seconds += time.perf_counter() - start
            self._images += count * self._schedule.batch
            step, total = step + count, total + loss * count
        return total / self._schedule.epoch_steps

    def steps(self, batches: Batches) -> float:
        """Train some steps, one a batch; their mean loss."""
        self._state, loss = self._stepper.run(self._state, batches, self._masks)
        return loss

    def _renew_masks(self, step: int) -> None:
        """Choose the pruned channels anew, until the window is over: what is left then has the rest of the time."""
        if self._masks_final or step < self._schedule.prune_begin:
            return
        self._masks = self._chosen_masks(self._schedule.sparsity(step, self._trial.sparsity))
        self._masks_final = step >= self._schedule.prune_end

    def _chosen_masks(self, sparsity: float) -> Masks:
        if self._schedule.criterion == "norm":
            return masks_at(self.graph, self.weights(), sparsity)
        assert self._masks is not None
        return masks_by_loss(self.graph, self.weights(), self.mean_gradients(), self._masks, sparsity)

    def mean_gradients(self) -> list[Layer]:
        """The optimiser's running mean (or, with momentum, sum) of the gradients, as arrays of the weights' shapes."""
        return self._parameters.unflatten(self._state.first.numpy(), self._state.statistics.numpy())

    def _validate(self) -> tuple[float, bool]:
        """(error, whether all logits are finite) on the images that epochs are validated on."""
        folded = fold_batch_norm(self.graph, self.masked_weights())
        logits = self._evaluator.logits(folded, self._checked.inputs)
        return error_of(logits, self._checked.labels), bool(np.isfinite(logits).all())

    def _kept(self) -> float:
        return 1.0 if self._masks is None else kept_share(self._groups, self._masks)

    def _emitted(self, validation: Examples) -> tuple[Emitted, float]:
        """The network to deploy, and its float error."""
        if not self._masks_final:  # the window reaches to the last steps
            self._masks = self._chosen_masks(self._trial.sparsity)
        trial = self._trial
        emitted = emit(trial.architecture, self._dataset.num_classes, self.graph, self.weights(), self._masks)
        weights = revived(emitted.graph, emitted.weights, self._representative())
        logits = Evaluator(emitted.graph, self._inputs).logits(
            fold_batch_norm(emitted.graph, weights), validation.inputs
        )
        return Emitted(emitted.architecture, emitted.graph, weights), error_of(logits, validation.labels)

    def _representative(self) -> Floats:
        data = self._dataset
        return scaled(_spread(data.train, REPRESENTATIVE).inputs, data.scale, data.offset)


@dataclass(frozen=True, slots=True, eq=False)
class KerasTrainer:
    """Trains trials on one data set, one after the other; see `munas.training.train.KerasTraining`. `training` prunes
    in its own way (`munas.training.maskings`)."""

    dataset: Dataset
    recipe: Recipe
    teacher: Path | None = None
    cache: Path | None = None
    training: type[Training] = Training

    def __call__(self, task: Task) -> Trained:
        """Train, prune, emit and quantise. The same task gives the same result, but for images_per_second.

        A loss that is not finite ends training with the weights of the last epoch that was sound, or the initial ones.
        Raises TrainingError where no int8 network comes out, ArchitectureError for an impossible architecture.
        """
        schedule = schedule_of(self.recipe, task.effort, len(self.dataset.train))
        soft = None if self.teacher is None else soft_labels(self.teacher, self.dataset, self.cache)
        training = self.training(self.dataset, schedule, task, soft)
        training.run(task.rungs)
        return training.finish()


def _spread(part: Examples, most: int) -> Examples:
    """At most so many examples, evenly spread over a part: the same for every trial."""
    chosen = np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(np.int64)
    return Examples(part.inputs[chosen], part.labels[chosen])
