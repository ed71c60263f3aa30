"""Trainings as jobs: who does them, and whose fault it is when one fails.

Each trial has a fresh process: what leaks goes with it, and a crash, a hang or too much memory is a failed trial with a
message. Workers are forked from a process that has TensorFlow imported already (`munas.jobs`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from munas.errors import JobError, JobsError, MunasError, PreloadError, SearchError, SearchStoreError, TrainingError
from munas.jobs.base import Finished, Job, JobBackend, Jobs, Limits, Needs, Workers
from munas.search.trial import Task, Trained, TrainerFactory

_HOST_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE)

_ENVIRONMENT = {
    # One thread a worker: networks this small gain nothing from more, sums keep their order, and a process without
    # thread pools can be forked.
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",  # errors only
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
}


_WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}
_WITH_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # or the first worker takes all of its memory


def training_needs(memory_limit_bytes: int, *, gpu: bool) -> Needs:
    """What one training occupies on a cluster: with `gpu`, a GPU of its own."""
    return Needs(gpus=1.0 if gpu else 0.0, memory_bytes=memory_limit_bytes)


@contextlib.contextmanager
def training_jobs(
    backend: JobBackend, count: int, memory_limit_bytes: int, logs: Path, preload: Sequence[str], *, gpu: bool = False
) -> Iterator[Jobs]:
    """A place for `count` trainings at a time. `logs` is the folder for what they print; the logs of failed ones stay
    there. `preload` names modules to import before forking. With `gpu` all of them share the GPUs that TensorFlow
    sees on this machine, and have one each on a cluster; without, they see none.

    Raises SearchError for what no trial can cure (a module is missing), SearchStoreError for a host that fails.
    """
    needs = training_needs(memory_limit_bytes, gpu=gpu)
    environment = _ENVIRONMENT | (_WITH_GPU if gpu else _WITHOUT_GPU)
    try:
        with backend.open(Workers(max(1, count), True, tuple(preload), logs, environment, needs)) as jobs:
            yield jobs
    except PreloadError as error:
        raise SearchError(str(error)) from error
    except JobsError as error:
        raise SearchStoreError(str(error)) from error


def training_job(task: Task, trainer: TrainerFactory, limits: Limits) -> Job:
    """The job of a task."""
    return Job(f"trial-{task.trial.index:05d}-{task.trial.seed}", trainer, task, limits)


def task_of(finished: Finished) -> Task:
    """The task of a training."""
    task = finished.job.argument
    assert isinstance(task, Task)
    return task


def trained_of(finished: Finished) -> Trained | None:
    """What came of a training; None when it failed.

    Raises SearchError when the request is to blame (a data set is missing, TensorFlow is not installed), and
    SearchStoreError when the host is (the disk is full).
    """
    error, name = finished.error, f"trial {task_of(finished).trial.index}"
    if isinstance(error, OSError) and error.errno in _HOST_ERRORS:
        text = f"{name}: {finished.message}; free space and run the same command again"
        raise SearchStoreError(text) from error
    of_trial = isinstance(error, TrainingError | JobError)
    if isinstance(error, ImportError) or (isinstance(error, MunasError) and not of_trial):
        raise SearchError(f"{name}: {finished.message}") from error
    if finished.trouble:
        return None
    assert isinstance(finished.value, Trained)
    return finished.value
