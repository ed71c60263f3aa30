"""A trainer without TensorFlow whose networks are real: untrained .tflite files. Imports little, as workers load it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from munas.arch.graph import build_graph
from munas.cost.converted import as_converted
from munas.errors import TrainingError
from munas.search.trial import Epoch, Task, Trained
from munas.tflite.flatbuffer import write_tflite

INPUT_SHAPE, NUM_CLASSES = (8, 8, 1), 10
PRELOAD = (__name__,)


@dataclass(frozen=True)
class StubTrainer:
    """Factory of a trainer that emits real .tflite files of untrained networks at once.

    The error falls with the network's size and effort. `broken` seeds fail, `hopeless` ones learn nothing.
    `journal` is a folder: each training leaves a file there.
    """

    broken: tuple[int, ...] = ()
    hopeless: tuple[int, ...] = ()
    journal: Path | None = None

    def __call__(self) -> Callable[[Task], Trained]:
        return self.train

    def train(self, task: Task) -> Trained:
        trial = task.trial
        if self.journal is not None:
            (self.journal / f"{trial.index}-{trial.seed}-{task.effort:g}").touch()
        if trial.seed in self.broken:
            raise TrainingError("the loss is not a number")
        graph = build_graph(trial.architecture, INPUT_SHAPE, NUM_CLASSES)
        noise = np.random.default_rng([trial.index, trial.seed]).random()
        error = min(0.9, 0.3 / math.log2(16 + graph.model_size) + 0.01 * noise + 0.01 * (1 - task.effort))
        error = 0.9 if trial.seed in self.hopeless else error
        tflite = write_tflite(as_converted(graph), trial.seed % 1000)  # as TensorFlow would
        history = (Epoch(1.0, error, 1.0),)
        return Trained(trial.architecture, error, error, 1, False, history, tflite, b"", 1000.0)
