"""Every place that runs jobs: limits, faults that cost one job, and ends that leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from munas.errors import JobError, JobsError, TrainingError
from munas.jobs.base import Finished, Job, JobBackend, Jobs, Limits, Workers
from munas.jobs.cluster import RayBackend
from munas.jobs.local import LocalBackend
from tests.job_kinds import PRELOAD, Play
from tests.ray_cluster import three_nodes
from tests.signals import INTERRUPTIBLE

ROOT = Path(__file__).resolve().parents[2]
MB = 1 << 20
LIMITS = Limits(600.0, 2000 * MB)
DEADLINE_S = 240.0  # for what never takes so long: what is waited for does not depend on the speed of the host

FAILURES = {
    "raise": ("raised", "the loss is not a number"),
    "bug": ("raised", "ZeroDivisionError: division by zero"),
    "stubborn": ("raised", "Stubborn: one and two"),
    "poison": ("raised", "ValueError: invalid literal"),
    "unpicklable": ("raised", "TypeError: cannot pickle 'frame' object"),
    "exit": ("died", "the worker died: exit status 3"),
    "leave": ("died", "the worker died: exit status 4"),
    "crash": ("died", "the worker died: killed by SIGSEGV"),
    "killed": ("died", "the worker died: killed by SIGKILL, perhaps because memory ran out"),
}
"""What comes of each kind of job: trouble and message."""

Open = Callable[..., Jobs]


def state(process: int) -> str:
    """Of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def gone(processes: Sequence[int]) -> bool:
    return all(state(process) in ("", "Z") for process in processes)


def journal(folder: Path, value: object, lines: int = 1) -> list[int]:
    """Processes that have worked on the job of that value, once there are so many."""
    path = folder / f"attempts-{value}"
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= lines)
    return [int(word) for word in path.read_text().split()]


def run(jobs: Jobs, work: Play, kinds: Sequence[str], limits: Limits = LIMITS) -> dict[int, Finished]:
    """One job for each kind, by its number. The tight `limits` are not for those that just do their work."""
    todo = [Job(f"job-{index}", work, (kind, index), limits if kind else LIMITS) for index, kind in enumerate(kinds)]
    finished: dict[int, Finished] = {}
    while len(finished) < len(kinds):
        while todo and jobs.idle:
            jobs.submit(todo.pop(0))
        for item in jobs.wait(DEADLINE_S):
            finished[item.job.argument[1]] = item
    assert jobs.busy == 0
    return finished


class JobBackendContract:
    """What every place does."""

    @pytest.fixture
    def backend(self) -> JobBackend:
        raise NotImplementedError

    @pytest.fixture
    def opened(self, backend: JobBackend) -> Iterator[Open]:
        kept: list[Jobs] = []

        def start(count: int = 2, **more: Any) -> Jobs:
            kept.append(backend.open(Workers(count, **{"preload": PRELOAD, **more})))
            return kept[-1]

        yield start
        for jobs in kept:
            jobs.close()

    def test_every_job_is_done_once(self, opened: Open, tmp_path: Path) -> None:
        jobs, started = opened(), time.monotonic()
        finished = run(jobs, Play(tmp_path), ["process"] * 12)
        assert {item.trouble for item in finished.values()} == {""}
        assert all(0 < item.seconds < time.monotonic() - started for item in finished.values())
        assert [len(journal(tmp_path, index)) for index in range(12)] == [1] * 12
        assert len({item.value for item in finished.values()}) in (1, 2)  # who comes late may find nothing to do
        assert os.getpid() not in {item.value for item in finished.values()}

    def test_a_fresh_worker_does_one_job(self, opened: Open) -> None:
        finished = run(opened(fresh=True), Play(), ["process"] * 6)
        assert len({item.value for item in finished.values()}) == 6

    def test_other_workers_make_their_work_once(self, opened: Open) -> None:
        finished = run(opened(1), Play(), ["made", "process", "made", "process"])
        assert len({item.value for item in finished.values()}) == 1

    def test_other_work_takes_the_place_of_the_first(self, opened: Open) -> None:
        jobs, first, second = opened(1), Play(), Play()
        one, two = run(jobs, first, ["process"])[0].value, run(jobs, second, ["process"])[0].value
        assert one != two
        assert run(jobs, second, ["process"])[0].value == two

    def test_jobs_run_side_by_side(self, opened: Open, tmp_path: Path) -> None:
        jobs, work = opened(3), Play(tmp_path)
        for index in range(3):
            jobs.submit(Job(f"job-{index}", work, ("hang", index), LIMITS))
        assert (jobs.idle, jobs.busy) == (0, 3)
        wait_for(lambda: jobs.wait(0.01) == [] and len(list(tmp_path.glob("attempts-*"))) == 3)
        assert len({process for index in range(3) for process in journal(tmp_path, index)}) == 3

    @pytest.mark.parametrize("fresh", [False, True])
    def test_a_failure_costs_one_job_and_says_why(self, opened: Open, fresh: bool) -> None:
        kinds = [kind for bad in FAILURES for kind in ("", bad)]
        finished = run(opened(fresh=fresh), Play(), [*kinds, ""])
        for index, kind in enumerate([*kinds, ""]):
            trouble, message = FAILURES.get(kind, ("", ""))
            item = finished[index]
            assert (item.trouble, item.value) == (trouble, None if trouble else index), kind
            assert item.message.startswith(message)

    def test_errors_arrive_as_they_were(self, opened: Open) -> None:
        finished = run(opened(), Play(), ["raise", "full", "stubborn"])
        assert isinstance(finished[0].error, TrainingError)
        assert isinstance(finished[1].error, OSError)
        assert finished[1].error.errno == 28
        assert isinstance(finished[2].error, JobError)

    @pytest.mark.parametrize("kind", ["raise", "exit"])
    def test_work_that_cannot_be_made_fails_its_jobs(self, opened: Open, kind: str) -> None:
        finished = run(opened(), Play(trouble=kind), [""] * 3)
        assert {item.trouble for item in finished.values()} == {"raised" if kind == "raise" else "died"}

    @pytest.mark.parametrize("fresh", [False, True])
    def test_a_hang_ends_at_the_limit(self, opened: Open, fresh: bool) -> None:
        """Asleep, stopped, and deaf to a request to end."""
        finished = run(opened(3, fresh=fresh), Play(), ["hang", "stop", "deaf", ""], Limits(1.0))
        for index in range(3):
            assert (finished[index].trouble, finished[index].message) == ("limit", "took longer than the limit of 1 s")
            assert finished[index].seconds >= 1.0
        assert finished[3].value == 3

    @pytest.mark.slow
    def test_too_much_memory_ends_a_job(self, opened: Open) -> None:
        finished = run(opened(), Play(), ["eat", ""], Limits(600.0, 300 * MB))
        assert finished[0].trouble == "limit"
        assert finished[0].message.startswith("used ")
        assert finished[0].message.endswith("the limit is 300 MiB")
        assert finished[1].value == 1

    def test_large_values_arrive_whole(self, opened: Open) -> None:
        blob = os.urandom(20 * MB)
        jobs, work = opened(), Play()
        jobs.submit(Job("large", work, ("", blob)))
        (finished,) = jobs.wait(DEADLINE_S)
        assert finished.value == blob

    def test_what_a_crashed_job_had_started_goes_with_it(self, opened: Open, tmp_path: Path) -> None:
        finished = run(opened(), Play(tmp_path), ["orphan"])
        assert finished[0].trouble == "died"
        processes = journal(tmp_path, 0, 2)
        wait_for(lambda: gone(processes))

    def test_a_missing_module_is_named(self, opened: Open) -> None:
        with pytest.raises(JobsError, match="cannot import no_such_module_here: ModuleNotFoundError"):
            run(opened(preload=("no_such_module_here",)), Play(), [""])

    def test_what_cannot_be_sent_is_an_error(self, opened: Open) -> None:
        jobs = opened()
        with pytest.raises(JobsError, match=r"strange cannot be sent to a worker: TypeError"):
            jobs.submit(Job("strange", Play(), ("", sys._getframe())))

    @pytest.mark.slow
    @pytest.mark.parametrize("fresh", [False, True])
    def test_closing_leaves_no_process_and_no_variable(self, opened: Open, tmp_path: Path, fresh: bool) -> None:
        before = dict(os.environ)
        jobs, work = opened(3, fresh=fresh), Play(tmp_path)
        for index, kind in enumerate(("hang", "child", "stop")):
            jobs.submit(Job(f"job-{index}", work, (kind, index)))
        wait_for(lambda: jobs.wait(0.01) == [] and len(list(tmp_path.glob("attempts-*"))) == 3)
        processes = [*journal(tmp_path, 0), *journal(tmp_path, 1, 2), *journal(tmp_path, 2)]
        jobs.close()
        wait_for(lambda: gone(processes))
        assert dict(os.environ) == before

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_whoever_asks_may_die(self, backend: JobBackend, tmp_path: Path, number: signal.Signals) -> None:
        """Jobs are under way, one of them with a program of its own; nothing of them is left."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [*INTERRUPTIBLE, sys.executable, __file__, str(tmp_path), repr(backend)]
        with subprocess.Popen(command, env=environment, start_new_session=True) as main:
            processes = [*journal(tmp_path, 0), *journal(tmp_path, 1, 2)]
            os.kill(main.pid, number)
            assert main.wait(DEADLINE_S) == (130 if number is signal.SIGINT else -number)
        wait_for(lambda: gone(processes))


class TestLocal(JobBackendContract):
    @pytest.fixture
    def backend(self) -> JobBackend:
        return LocalBackend()

    def test_what_workers_print_stays_off_the_terminal(
        self, opened: Open, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        finished = run(opened(fresh=True, logs=tmp_path / "logs"), Play(), ["noise", "crash"])
        assert capfd.readouterr() == ("", "")
        assert "; its last lines:\nabout to crash\nFatal Python error: Segmentation fault" in finished[1].message
        assert {path.name for path in (tmp_path / "logs").iterdir()} == {"fork-server.log", "job-1.log"}

    def test_a_module_with_threads_is_refused(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "has_threads.py").write_text("import threading\nthreading.Timer(30, print).start()\n")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(JobsError, match="has_threads started 1 threads on import"):
            run(opened(preload=("has_threads",)), Play(), [""])

    def test_a_folder_of_logs_that_cannot_be_made_is_an_error(self, opened: Open, tmp_path: Path) -> None:
        (tmp_path / "logs").write_text("")
        with pytest.raises(JobsError, match="folder of logs"):
            opened(logs=tmp_path / "logs")

    @pytest.mark.parametrize("fresh", [False, True])
    def test_a_fork_server_that_dies_is_no_job_s_fault(self, opened: Open, tmp_path: Path, fresh: bool) -> None:
        jobs = opened(fresh=fresh)
        jobs.submit(Job("job", Play(tmp_path), ("hang", 0)))
        (process,) = journal(tmp_path, 0)
        server = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        with pytest.raises(JobsError, match="forked from has died; run the same command again"):
            jobs.wait(DEADLINE_S)
        jobs.close()
        wait_for(lambda: gone([process]))

    def test_a_worker_that_dies_idle_is_replaced(self, opened: Open) -> None:
        jobs, work = opened(1), Play()
        first = run(jobs, work, ["process"])[0].value
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: gone([first]))
        assert jobs.wait(0.1) == []  # nobody is waited for
        finished = run(jobs, work, ["process"])
        assert finished[0].trouble in ("", "died")
        assert run(jobs, work, ["process"])[0].value != first


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of three nodes of one processor each on this machine, on loopback only."""
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.lock)")
    with three_nodes() as (address, _):
        yield address


@pytest.mark.slow
class TestRay(JobBackendContract):
    @pytest.fixture
    def backend(self, cluster: str) -> JobBackend:
        return RayBackend(cluster)


def _main(folder: Path, backend: JobBackend) -> None:
    try:
        with backend.open(Workers(2, preload=PRELOAD)) as jobs:
            work = Play(folder)
            for index, kind in enumerate(("hang", "child")):
                jobs.submit(Job(f"job-{index}", work, (kind, index)))
            jobs.wait()
    except KeyboardInterrupt:  # also when the jobs have begun, and this process has not come as far as to wait
        sys.exit(130)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), eval(sys.argv[2], {"LocalBackend": LocalBackend, "RayBackend": RayBackend}))
