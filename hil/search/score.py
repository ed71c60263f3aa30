"""Accuracy of an int8 network on the test set, by LiteRT's reference kernels: what the device answers, bit for bit.

These kernels take milliseconds an input, so a large test set is shared out among processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from hil.errors import InfrastructureError
from munas.cost.resources import Resources
from munas.data import Dataset, Examples
from munas.errors import JobsError
from munas.jobs.base import Job, JobBackend, Workers
from munas.jobs.local import LOCAL
from munas.training.quantise import int8_error

_FEW = 1000  # inputs that are not worth a process
_MACS_PER_S = 1.5e8  # of the reference kernels, one process; 0.6e8 to 6e8 were measured
_INPUT_S = 5e-4


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores networks on the test part of `dataset` with `workers` processes."""

    dataset: Dataset
    workers: int = 1
    backend: JobBackend = LOCAL

    def __call__(self, tflite: bytes) -> float:
        """Share (0..1) of the test set that the network gets right.

        Raises TrainingError when LiteRT refuses it, and InfrastructureError when a process dies.
        """
        total = len(self.dataset.test)
        parts = 1 if total < _FEW else self.workers
        edges = [total * part // parts for part in range(parts + 1)]
        spans = list(itertools.pairwise(edges))
        scoring = _Scoring(self.dataset, tflite)
        wrong = scoring()(spans[0]) if len(spans) == 1 else self._shared_out(scoring, spans)
        return 1.0 - wrong / total

    def _shared_out(self, scoring: _Scoring, spans: list[tuple[int, int]]) -> int:
        """How many inputs of all spans the network gets wrong: a worker for each span."""
        wrong = 0
        try:
            with self.backend.open(Workers(len(spans), preload=(__name__,))) as jobs:
                for span in spans:
                    jobs.submit(Job(f"inputs {span[0]} to {span[1]}", scoring, span))
                while jobs.busy:
                    for finished in jobs.wait():
                        if finished.error is not None:
                            raise finished.error
                        if finished.trouble:
                            text = "a process that scores the test set has died, perhaps because memory ran out"
                            raise InfrastructureError(f"{text} ({finished.message}); run the same command again")
                        wrong += finished.value
        except JobsError as error:
            raise InfrastructureError(str(error)) from error
        return wrong

    def seconds(self, resources: Resources) -> float:
        """Roughly what one network takes."""
        return len(self.dataset.test) * (resources.macs / _MACS_PER_S + _INPUT_S) / max(1, self.workers)


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Counts, for spans of test inputs, how many the network gets wrong."""

    dataset: Dataset
    tflite: bytes

    def __call__(self) -> Callable[[tuple[int, int]], int]:
        return self._wrong

    def _wrong(self, span: tuple[int, int]) -> int:
        start, stop = span
        part = Examples(self.dataset.test.inputs[start:stop], self.dataset.test.labels[start:stop])
        return round(int8_error(self.tflite, part, self.dataset.scale, self.dataset.offset, reference=True) * len(part))
