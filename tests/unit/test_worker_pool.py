"""WorkerPool: a fresh process for each trial, limits, and what is made of a worker that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from munas.arch.space import random_cnn
from munas.errors import SearchError, SearchStoreError
from munas.search.trial import Task, Trial
from munas.search.worker_pool import Finished, Limits, WorkerPool
from tests.stub_trainer import PRELOAD, StubTrainer, trained

ROOT = Path(__file__).resolve().parents[2]
MB = 1 << 20
LIMITS = Limits(60.0, 2000 * MB)

Start = Callable[..., WorkerPool]


def task(index: int) -> Task:
    return Task(Trial(index, random_cnn(np.random.default_rng(index)), 0.2, index + 7, None, "random"), (), 1.0)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Start]:
    """Starts a pool with the stub trainer, and ends it after the test."""
    opened: list[WorkerPool] = []

    def start(
        trouble: Mapping[int, str] | None = None,
        count: int = 2,
        limits: Limits = LIMITS,
        preload: tuple[str, ...] = PRELOAD,
        **more: object,
    ) -> WorkerPool:
        opened.append(WorkerPool(StubTrainer(trouble or {}, **more), count, limits, tmp_path / "logs", preload))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for workers in opened:
        workers.close()


def run(workers: WorkerPool, count: int) -> list[Finished]:
    """All of the tasks 0..count-1, in the order in which they finish."""
    finished: list[Finished] = []
    started = 0
    while len(finished) < count:
        while workers.idle and started < count:
            workers.start(task(started))
            started += 1
        finished += workers.wait(30.0)
    return finished


def test_every_trial_has_a_process_of_its_own(pool: Start, tmp_path: Path) -> None:
    finished = run(pool(journal=tmp_path), 8)
    for item in finished:
        assert item.trained == trained(item.task)
        assert item.message == ""
        assert 0 < item.seconds < 30
    assert sorted(item.task.trial.index for item in finished) == list(range(8))
    assert len({path.read_text() for path in tmp_path.glob("attempts-*")}) == 8


def test_workers_run_side_by_side(pool: Start, tmp_path: Path) -> None:
    """Each of the three trials waits until all have started: one after the other, the first would end at its limit."""
    finished = run(pool(count=3, journal=tmp_path, together=3), 3)
    assert [item.message for item in finished] == ["", "", ""]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raise", "the loss is not a number"),
        ("bug", "ZeroDivisionError: division by zero"),
        ("exit", "the worker died: exit status 3"),
        ("crash", "the worker died: killed by SIGSEGV; its last lines:\nabout to crash\nFatal Python error"),
    ],
)
def test_a_failure_costs_one_trial_and_says_why(pool: Start, tmp_path: Path, kind: str, message: str) -> None:
    finished = {item.task.trial.index: item for item in run(pool({1: kind}), 4)}
    assert finished[1].trained is None
    assert finished[1].message.startswith(message)
    assert all(finished[index].trained is not None for index in (0, 2, 3))
    logs = {path.name for path in (tmp_path / "logs").iterdir()}
    assert logs == {"fork-server.log", "trial-00001-8.log"}  # what is of use stays


@pytest.mark.parametrize("kind", ["hang", "stop"])
def test_a_hang_ends_at_the_limit(pool: Start, kind: str) -> None:
    workers = pool({1: kind}, limits=Limits(1.0, 2000 * MB))
    finished = {item.task.trial.index: item for item in run(workers, 3)}
    assert finished[1].message == "took longer than the limit of 1 s"
    assert 1.0 <= finished[1].seconds < 5.0
    assert finished[2].trained is not None


def test_too_much_memory_ends_a_trial(pool: Start) -> None:
    finished = {item.task.trial.index: item for item in run(pool({0: "eat"}, limits=Limits(60.0, 300 * MB)), 2)}
    assert finished[0].trained is None
    assert finished[0].message.startswith("used ")
    assert finished[0].message.endswith("the limit is 300 MiB")
    assert finished[1].trained is not None


def test_a_large_answer_arrives_whole(pool: Start) -> None:
    (finished,) = run(pool(blob_bytes=20 * MB), 1)
    assert finished.trained == trained(finished.task, blob_bytes=20 * MB)


def test_what_workers_print_stays_off_the_terminal(pool: Start, capfd: pytest.CaptureFixture[str]) -> None:
    run(pool({0: "noise", 1: "crash"}), 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("dataset", SearchError, "trial 1: digits: install scikit-learn"),
        ("import", SearchError, "No module named 'tensorflow'"),
        ("full", SearchStoreError, "No space left on device; free space"),
    ],
)
def test_what_no_trial_can_cure_ends_the_search(pool: Start, kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace(".", r"\.").replace("[", r"\[")):
        run(pool({1: kind}), 6)


def test_a_missing_module_is_named(pool: Start) -> None:
    with pytest.raises(SearchError, match="cannot import no_such_module_here: ModuleNotFoundError"):
        run(pool(preload=("no_such_module_here",)), 1)


def test_a_module_with_threads_is_refused(pool: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "has_threads.py").write_text("import threading\nthreading.Timer(30, print).start()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SearchError, match="has_threads started 1 threads on import"):
        run(pool(preload=("has_threads",)), 1)


def test_a_folder_of_logs_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(SearchStoreError, match="folder of logs"):
        WorkerPool(StubTrainer(), 1, LIMITS, tmp_path / "logs")


def test_closing_leaves_no_process_and_no_variable(pool: Start, tmp_path: Path) -> None:
    before = dict(os.environ)
    workers = pool({0: "hang", 1: "hang"}, journal=tmp_path)
    workers.start(task(0))
    workers.start(task(1))
    paths = [tmp_path / f"attempts-{index}" for index in (0, 1)]
    while not all(path.exists() and path.read_text() for path in paths):
        time.sleep(0.02)
    processes = [int(path.read_text()) for path in paths]
    parents = {int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]) for process in processes}
    workers.close()
    assert len(parents) == 1
    assert not any(Path(f"/proc/{process}").exists() for process in {*processes, *parents})
    assert dict(os.environ) == before


def test_a_fork_server_that_dies_is_no_trials_fault(pool: Start, tmp_path: Path) -> None:
    workers = pool({0: "hang"}, journal=tmp_path)
    workers.start(task(0))
    journal = tmp_path / "attempts-0"
    while not (journal.exists() and journal.read_text()):
        time.sleep(0.02)
    os.kill(
        int(Path(f"/proc/{int(journal.read_text())}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGTERM
    )
    with pytest.raises(SearchStoreError, match="forked from has died; run the same command again"):
        workers.wait(30.0)


def test_another_pool_can_follow_with_other_modules(pool: Start) -> None:
    first = pool(preload=("no_such_module_here",))
    with pytest.raises(SearchError):
        run(first, 1)
    first.close()
    assert run(pool(), 1)[0].trained is not None


def test_nothing_of_the_search_imports_tensorflow() -> None:
    code = "import sys, munas.search.study; print(sorted({'tensorflow', 'keras', 'hil'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_tensorflow_can_be_forked_after_its_import(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from tests.tiny_keras import TinyKeras

    with WorkerPool(TinyKeras(), 1, LIMITS, tmp_path / "logs", ("tensorflow", "keras")) as workers:
        finished = run(workers, 12)
    assert {item.message for item in finished} == {""}
    losses = {item.trained.error for item in finished if item.trained is not None}
    assert len(losses) == 1  # one seed, one thread: bit for bit the same
