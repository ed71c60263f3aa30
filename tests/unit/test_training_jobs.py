"""Trainings as jobs: whose fault a failure is, and what TensorFlow's import does to forking."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from munas.arch.space import random_cnn
from munas.errors import SearchError, SearchStoreError
from munas.jobs.base import Jobs, Limits, Workers
from munas.jobs.local import LOCAL
from munas.search.training_jobs import task_of, trained_of, training_job, training_jobs
from munas.search.trial import Task, Trained, TrainerFactory, Trial
from tests.stub_trainer import PRELOAD, StubTrainer, trained

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(600.0, 2000 << 20)


def task(index: int) -> Task:
    return Task(Trial(index, random_cnn(np.random.default_rng(index)), 0.2, index + 7, None, "random"), (), 1.0)


def run(
    folder: Path, trainer: TrainerFactory, count: int, preload: tuple[str, ...] = PRELOAD
) -> dict[int, tuple[Trained | None, str]]:
    """What came of the tasks 0..count-1, and the messages."""
    finished: dict[int, tuple[Trained | None, str]] = {}
    todo = [task(index) for index in range(count)]
    with training_jobs(LOCAL, 2, 2000 << 20, folder / "logs", preload) as jobs:
        while len(finished) < count:
            while todo and jobs.idle:
                jobs.submit(training_job(todo.pop(0), trainer, LIMITS))
            for item in jobs.wait(30.0):
                finished[task_of(item).trial.index] = trained_of(item), item.message
    return finished


def troubled(trouble: Mapping[int, str]) -> StubTrainer:
    return StubTrainer(trouble)


def test_every_trial_has_a_process_of_its_own(tmp_path: Path) -> None:
    finished = run(tmp_path, StubTrainer(journal=tmp_path), 6)
    assert finished == {index: (trained(task(index)), "") for index in range(6)}
    assert len({path.read_text() for path in tmp_path.glob("attempts-*")}) == 6


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raise", "the loss is not a number"),
        ("bug", "ZeroDivisionError: division by zero"),
        ("crash", "the worker died: killed by SIGSEGV; its last lines:\nabout to crash\nFatal Python error"),
    ],
)
def test_a_failure_costs_one_trial_and_says_why(tmp_path: Path, kind: str, message: str) -> None:
    finished = run(tmp_path, troubled({1: kind}), 4)
    assert finished[1][0] is None
    assert finished[1][1].startswith(message)
    assert all(finished[index][0] is not None for index in (0, 2, 3))
    logs = {path.name for path in (tmp_path / "logs").iterdir()}
    assert logs == {"fork-server.log", "trial-00001-8.log"}  # what is of use stays


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("dataset", SearchError, "trial 1: digits: install scikit-learn"),
        ("import", SearchError, "trial 1: ModuleNotFoundError: No module named 'tensorflow'"),
        ("full", SearchStoreError, "No space left on device; free space"),
    ],
)
def test_what_no_trial_can_cure_ends_the_search(
    tmp_path: Path, kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(tmp_path, troubled({1: kind}), 4)


def test_a_missing_module_is_the_request_s_fault(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="cannot import no_such_module_here: ModuleNotFoundError"):
        run(tmp_path, StubTrainer(), 1, ("no_such_module_here",))


def test_a_folder_of_logs_that_cannot_be_made_is_the_host_s(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(SearchStoreError, match="folder of logs"):
        run(tmp_path, StubTrainer(), 1)


def test_nothing_of_the_search_imports_tensorflow() -> None:
    code = "import sys, munas.search.study; print(sorted({'tensorflow', 'keras', 'hil'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_tensorflow_can_be_forked_after_its_import(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from tests.tiny_keras import TinyKeras

    finished = run(tmp_path, TinyKeras(), 12, ("tensorflow", "keras"))
    assert {message for _, message in finished.values()} == {""}
    losses = {item.error for item, _ in finished.values() if item is not None}
    assert len(losses) == 1  # one seed, one thread: bit for bit the same
    assert len(finished) == 12


@pytest.mark.parametrize("gpu", [False, True])
def test_workers_see_gpus_only_where_they_are_asked_for(gpu: bool, tmp_path: Path) -> None:
    class Backend:
        """Keeps what it is asked for."""

        def open(self, workers: Workers) -> AbstractContextManager[Jobs]:
            seen.append(dict(workers.environment))
            return contextlib.nullcontext(None)  # type: ignore[arg-type]

    seen: list[dict[str, str]] = []
    with training_jobs(Backend(), 1, 1 << 30, tmp_path, (), gpu=gpu):  # type: ignore[arg-type]
        pass
    (environment,) = seen
    assert ("CUDA_VISIBLE_DEVICES" in environment) == (not gpu)
    assert ("TF_FORCE_GPU_ALLOW_GROWTH" in environment) == gpu
    assert environment["TF_NUM_INTRAOP_THREADS"] == "1"
