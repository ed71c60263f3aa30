"""Accuracy of an int8 network on the test set, by LiteRT's reference kernels: what the device answers, bit for bit.

These kernels take milliseconds an input, so a large test set is shared out among processes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from hil.errors import InfrastructureError
from munas.cost.resources import Resources
from munas.data import Dataset, Examples
from munas.search.fork_server import die_with_parent
from munas.training.quantise import int8_error

_FEW = 1000  # inputs that are not worth a process
_MACS_PER_S = 1.5e8  # of the reference kernels, one process; 0.6e8 to 6e8 were measured
_INPUT_S = 5e-4


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores networks on the test part of `dataset` with `workers` processes."""

    dataset: Dataset
    workers: int = 1

    def __call__(self, tflite: bytes) -> float:
        """Share (0..1) of the test set that the network gets right.

        Raises TrainingError when LiteRT refuses it, and InfrastructureError when a process dies.
        """
        total = len(self.dataset.test)
        parts = 1 if total < _FEW else self.workers
        edges = [total * part // parts for part in range(parts + 1)]
        spans = list(itertools.pairwise(edges))
        if len(spans) == 1:
            return 1.0 - _wrong(self.dataset, tflite, 0, total) / total
        # spawn, not fork: LiteRT has threads, and a forked child of a threaded process may dead-lock.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(parts, context, initializer=_leave_the_terminal) as pool:
            try:
                futures = [pool.submit(_wrong, self.dataset, tflite, start, stop) for start, stop in spans]
                return 1.0 - sum(future.result() for future in futures) / total
            except BrokenProcessPool as error:
                raise InfrastructureError(
                    "a process that scores the test set has died, perhaps because memory ran out; run the same command"
                    " again"
                ) from error
            except BaseException:
                # Or who is interrupted would wait for the whole test set.
                for process in list(pool._processes.values()):
                    process.kill()
                raise

    def seconds(self, resources: Resources) -> float:
        """Roughly what one network takes."""
        return len(self.dataset.test) * (resources.macs / _MACS_PER_S + _INPUT_S) / max(1, self.workers)


def _leave_the_terminal() -> None:
    """Ctrl-C is the main process' business, and so is our end."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wrong(dataset: Dataset, tflite: bytes, start: int, stop: int) -> int:
    """How many of the test inputs from `start` to `stop` the network gets wrong."""
    part = Examples(dataset.test.inputs[start:stop], dataset.test.labels[start:stop])
    return round(int8_error(tflite, part, dataset.scale, dataset.offset, reference=True) * len(part))
