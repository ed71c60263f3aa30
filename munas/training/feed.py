"""Batches in memory: images gathered from the memory map in a seeded order, augmented, K batches at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data import Dataset
from munas.training.augment import augmented, fill_value
from munas.training.parameters import Floats
from munas.training.recipes import Schedule
from munas.training.steps import Batches


class Feed:
    """All training images again and again, each time in a new order."""

    def __init__(self, dataset: Dataset, schedule: Schedule, seed: int, soft: Floats | None = None) -> None:
        """`soft` are a teacher's probabilities of the training images (N, classes or 1)."""
        self._dataset, self._schedule, self._soft = dataset, schedule, soft
        self._fill = fill_value(dataset.scale, dataset.offset)
        self._rng = np.random.default_rng([seed, 1])
        self._order = np.zeros(0, np.int64)

    def batches(self, step: int, count: int) -> Batches:
        """The next `count` batches, the first of which is step number `step` of the schedule."""
        batch, train = self._schedule.batch, self._dataset.train
        chosen = self._next(count * batch)
        inputs = train.inputs[chosen]
        if self._schedule.augmentation and inputs.dtype == np.uint8:
            inputs = augmented(inputs, self._schedule.augmentation, self._fill, self._rng)
        soft = np.zeros((len(chosen), 0), np.float32) if self._soft is None else self._soft[chosen]
        return Batches(
            inputs=_batched(inputs, batch),
            labels=_batched(train.labels[chosen], batch),
            rates=np.array([self._schedule.rate(step + index) for index in range(count)], np.float32),
            soft=_batched(soft, batch),
        )

    def _next(self, count: int) -> NDArray[np.int64]:
        """Indices of the next images; an order is used up before the next one begins."""
        while len(self._order) < count:
            self._order = np.concatenate([self._order, self._rng.permutation(len(self._dataset.train))])
        chosen, self._order = self._order[:count], self._order[count:]
        return chosen


def _batched(values: NDArray[Any], batch: int) -> NDArray[Any]:
    return values.reshape(len(values) // batch, batch, *values.shape[1:])
