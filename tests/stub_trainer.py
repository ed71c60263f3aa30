"""A trainer without TensorFlow: figures from the seed and the architecture, at once, or trouble when asked for.

The error falls with the number of weights, as it does for real networks, and depends on nothing but the trial, so
that a search with it is reproducible.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from munas.arch.graph import build_graph
from munas.cost.calibration import MemoryModel
from munas.cost.resources import Assessor
from munas.errors import DatasetError
from munas.search.metrics import Metric
from munas.search.objective import Bounds
from munas.search.trial import Epoch, Task, Trained
from tests.job_kinds import act

INPUT_SHAPE = (16, 16, 1)
NUM_CLASSES = 4
ASSESSOR = Assessor(MemoryModel(17_000, (), 2_000, 2_048, 1_000), None, INPUT_SHAPE, NUM_CLASSES)
BOUNDS = Bounds({Metric.ERROR: 0.1, Metric.RAM: 20_000, Metric.FLASH: 40_000, Metric.MACS: 1e6})
PRELOAD = (__name__,)
"""For the workers of tests: numpy and this module, imported once."""


@dataclass(frozen=True)
class StubTrainer:
    """Factory of the trainer.

    `trouble` maps trial indices to what `make_trouble` knows, or to ``nan``. `journal` is a folder: each start of a
    trial appends the process id to a file there, then waits until `together` trials have, then sleeps `seconds`.
    `blob_bytes` is the size of each blob.
    """

    trouble: Mapping[int, str] = field(default_factory=dict)
    journal: Path | None = None
    seconds: float = 0.0
    epochs: int = 4
    blob_bytes: int = 100
    together: int = 0

    def __call__(self) -> StubTrainer._Trainer:
        return self._Trainer(self)

    @dataclass(frozen=True)
    class _Trainer:
        settings: StubTrainer

        def __call__(self, task: Task) -> Trained:
            settings, trial = self.settings, task.trial
            if settings.journal is not None:
                with (settings.journal / f"attempts-{trial.index}").open("a") as file:
                    file.write(f"{os.getpid()}\n")
                while len(list(settings.journal.glob("attempts-*"))) < settings.together:
                    time.sleep(0.01)
            trouble = settings.trouble.get(trial.index, "")
            make_trouble(trouble)
            time.sleep(settings.seconds)
            done = trained(task, settings.epochs, settings.blob_bytes)
            return replace(done, error=math.nan) if trouble == "nan" else done


def trained(task: Task, epochs: int = 4, blob_bytes: int = 100) -> Trained:
    """What the stub makes of a task; rungs and effort count."""
    trial = task.trial
    rng = np.random.default_rng(trial.seed)
    graph = build_graph(trial.architecture, INPUT_SHAPE, NUM_CLASSES)
    floor = min(0.9, 1.5 / math.log2(16 + graph.model_size) + 0.02 * rng.random() + 0.05 * trial.sparsity)
    history: list[Epoch] = []
    stopped = False
    for epoch in range(1, epochs + 1):
        error = floor + (0.9 - floor) * 0.5 ** (epoch * task.effort)
        history.append(Epoch(loss=2 * error, error=error, kept=1 - trial.sparsity * epoch / epochs))
        if any(rung.epoch == epoch and error > rung.worst_error for rung in task.rungs):
            stopped = epoch < epochs
            break
    error = history[-1].error
    blob = rng.bytes(blob_bytes)
    return Trained(
        trial.architecture, error + 0.005, error, len(history), stopped, tuple(history), blob, blob[::-1], 1000.0
    )


def make_trouble(kind: str) -> None:
    """Fail in the given way."""
    if kind == "dataset":
        raise DatasetError("digits: install scikit-learn")
    if kind == "import":
        raise ModuleNotFoundError("No module named 'tensorflow'")
    act(kind)
