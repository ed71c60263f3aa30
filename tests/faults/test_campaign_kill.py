"""A campaign that is killed: nothing stored is lost, nothing is counted twice, no process stays behind.

The file is also the program that the tests kill: ``python test_campaign_kill.py FOLDER SAMPLES HANGS``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hil.jobs.campaign import run_campaign
from hil.jobs.store import Result, Run, Store
from tests.signals import INTERRUPTIBLE

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RUN = Run("kill-test", {}, 0, {})
SAMPLES = 40
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Slow:
    """Samples that take a moment in a child process, as an emulator does; each leaves its process numbers behind."""

    folder: Path
    seconds: float = 0.05
    hangs: int = sys.maxsize  # the first of those that never end

    def __call__(self) -> Callable[[int], Result]:
        return self._job

    def _job(self, sample: int) -> Result:
        with subprocess.Popen(["sleep", str(self.seconds) if sample < self.hangs else "3600"]) as child:
            with (self.folder / f"attempts-{sample}").open("a") as file:
                file.write(f"{os.getpid()} {child.pid}\n")
            try:
                child.wait()
            except BaseException:
                child.kill()
                raise
        return Result(sample, "ok", record={"square": sample * sample})


def start(folder: Path, hangs: int = SAMPLES) -> subprocess.Popen[bytes]:
    """The campaign; with samples that hang it cannot be over before it is killed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*INTERRUPTIBLE, sys.executable, __file__, str(folder), str(SAMPLES), str(hangs)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def stored(folder: Path) -> list[int]:
    with Store(folder / "s.sqlite") as store:
        return sorted(store.samples(store.run_id(RUN)))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(folder: Path) -> list[int]:
    pids = {int(word) for file in folder.glob("attempts-*") for word in file.read_text().split()}
    return [pid for pid in pids if _state(pid) not in ("", "Z")]


def _state(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def check_resume(folder: Path, before: list[int]) -> None:
    """The rest is done, and nothing of what was stored is done again."""
    finished = start(folder)
    assert finished.wait(DEADLINE_S) == 0
    assert stored(folder) == list(range(SAMPLES))
    attempts = {sample: len((folder / f"attempts-{sample}").read_text().splitlines()) for sample in range(SAMPLES)}
    assert all(attempts[sample] == 1 for sample in before)
    assert sum(attempts.values()) <= SAMPLES + 4  # two samples were under way, two perhaps done but not yet stored


@pytest.mark.parametrize("after", [1, 12])
def test_kill_minus_nine_loses_nothing_and_leaves_nothing(tmp_path: Path, after: int) -> None:
    main = start(tmp_path, SAMPLES // 2)
    wait_for(lambda: (tmp_path / "s.sqlite").exists() and len(stored(tmp_path)) >= after)
    main.kill()
    assert main.wait() == -signal.SIGKILL
    wait_for(lambda: not alive(tmp_path))
    before = stored(tmp_path)
    assert after <= len(before) < SAMPLES
    check_resume(tmp_path, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_clean(tmp_path: Path, number: signal.Signals) -> None:
    main = start(tmp_path, SAMPLES // 2)
    wait_for(lambda: (tmp_path / "s.sqlite").exists() and len(stored(tmp_path)) >= 3)
    os.killpg(main.pid, number)  # as a terminal does: the workers get it too
    assert main.wait(DEADLINE_S) == (130 if number is signal.SIGINT else -signal.SIGTERM)
    wait_for(lambda: not alive(tmp_path))
    check_resume(tmp_path, stored(tmp_path))


def test_a_killed_worker_costs_no_stored_sample(tmp_path: Path) -> None:
    main, journal = start(tmp_path), tmp_path / "attempts-6"
    wait_for(lambda: journal.exists() and journal.read_text().endswith("\n"))
    worker = int(journal.read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    assert main.wait(DEADLINE_S) == 0
    assert stored(tmp_path) == list(range(SAMPLES))


def _main(folder: Path, samples: int, hangs: int) -> int:
    try:
        with Store(folder / "s.sqlite") as store:
            run_campaign(store, store.run_id(RUN), range(samples), Slow(folder, hangs=hangs), workers=2)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
