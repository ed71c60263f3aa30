"""A search whose main process is killed: nothing stored is lost, nothing is done twice, no process stays behind.

The file is also the program that the tests kill: ``python test_search_kill.py FOLDER EVALUATIONS WORKERS HANGS``.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from munas.search.store import SearchStore
from munas.search.study import SearchSettings, run_search
from munas.search.trial import Task, TrialResult
from tests.signals import INTERRUPTIBLE
from tests.stub_trainer import ASSESSOR, BOUNDS, PRELOAD, StubTrainer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
TROUBLE = {5: "raise", 11: "exit"}


@contextlib.contextmanager
def running(folder: Path, trials: int, workers: int, hangs: int = -1) -> Iterator[subprocess.Popen[bytes]]:
    """The search as a process that leads a session; killed at the end if it still runs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*INTERRUPTIBLE, sys.executable, __file__, str(folder), str(trials), str(workers), str(hangs)]
    with subprocess.Popen(command, env=environment, start_new_session=True) as main:
        try:
            yield main
        finally:
            main.kill()


def finalists(session: int) -> list[int]:
    """Processes of a session; zombies are gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(its_session) == session and state != "Z":
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def started(folder: Path) -> int:
    """Starts of trials, repeated ones included."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob("attempts-*"))


def stored(folder: Path) -> tuple[list[Task], list[TrialResult]]:
    """Tasks by index, trials as they finished; times, which no two runs share, set to 0."""
    with SearchStore(folder / "search.sqlite") as store:
        return list(store.tasks()), [replace(item, seconds=0, finished_s=0) for item in store.results()]


def finish(folder: Path, trials: int, workers: int) -> None:
    """Resume to the end: every trial has one result, and what was stored was not done again."""
    before = {item.trial.index for item in stored(folder)[1]} if (folder / "search.sqlite").exists() else set()
    attempts = {path: path.read_text() for path in folder.glob("attempts-*")}
    with running(folder, trials, workers) as main:
        assert main.wait(DEADLINE_S) == 0
    tasks, finished = stored(folder)
    assert [task.trial.index for task in tasks] == list(range(trials))
    assert sorted(item.trial.index for item in finished) == list(range(trials))
    for path, text in attempts.items():
        if int(path.name.removeprefix("attempts-")) in before:
            assert path.read_text() == text
    assert {item.trial.index for item in finished if item.status == "failed"} == set(TROUBLE)


def kill_at_random(folder: Path, trials: int, workers: int, rng: random.Random) -> None:
    """One run that is killed a random while after it has started its next trial."""
    before = started(folder)
    with running(folder, trials, workers) as main:
        wait_for(lambda: started(folder) > before or main.poll() is not None)
        time.sleep(rng.uniform(0.0, 0.4))
        main.kill()
    wait_for(lambda: not finalists(main.pid))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Task], list[TrialResult]]:
    folder = tmp_path_factory.mktemp("whole")
    with running(folder, 40, 1) as main:
        assert main.wait(DEADLINE_S) == 0
    return stored(folder)


def test_with_one_worker_a_killed_search_is_the_same_search(
    tmp_path: Path, uninterrupted: tuple[list[Task], list[TrialResult]]
) -> None:
    rng = random.Random(1)
    for _ in range(5):
        kill_at_random(tmp_path, 40, 1, rng)
    finish(tmp_path, 40, 1)
    assert stored(tmp_path) == uninterrupted
    assert started(tmp_path) <= 40 + 5


def test_with_two_workers_a_killed_search_runs_each_trial_once(tmp_path: Path) -> None:
    rng = random.Random(2)
    for _ in range(4):
        kill_at_random(tmp_path, 40, 2, rng)
    finish(tmp_path, 40, 2)
    assert started(tmp_path) <= 40 + 4 * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_and_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, 14, 2, hangs=7) as main:  # so that it cannot be over before the signal
        wait_for(lambda: started(tmp_path) >= 4)
        os.killpg(main.pid, number)  # as a terminal does
        assert main.wait(DEADLINE_S) == 128 + number
    wait_for(lambda: not finalists(main.pid))
    finish(tmp_path, 14, 2)
    assert started(tmp_path) <= 14 + 2


def test_a_killed_worker_costs_one_trial(tmp_path: Path) -> None:
    journal = tmp_path / "attempts-7"
    with running(tmp_path, 14, 2, hangs=7) as main:
        wait_for(lambda: journal.exists() and journal.read_text().endswith("\n"))
        os.kill(int(journal.read_text()), signal.SIGKILL)
        assert main.wait(DEADLINE_S) == 0
        wait_for(lambda: not finalists(main.pid))
    finished = stored(tmp_path)[1]
    assert len(finished) == 14
    failed = {item.trial.index: item.message for item in finished if item.status == "failed"}
    assert set(failed) == {*TROUBLE, 7}
    assert failed[7].startswith("the worker died: killed by SIGKILL")


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as hil.cli does


def _main(folder: Path, trials: int, workers: int, hangs: int) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    settings = SearchSettings(
        "stub", BOUNDS, population=10, sample=4, trials=trials, rung_epochs=(1, 2), sparsity=(0.1, 0.5),
        workers=workers, seed=3,
    )  # fmt: skip
    trainer = StubTrainer({**TROUBLE, hangs: "hang"}, folder, seconds=0.03)
    try:
        with SearchStore(folder / "search.sqlite") as store:
            run_search(settings, store, ASSESSOR, trainer, preload=PRELOAD)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
