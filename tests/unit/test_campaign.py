"""Campaigns over worker processes: everything once, resumable, one bad sample costs one sample."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hil.errors import (
    BuildError,
    DeviceBusy,
    DeviceLost,
    HilError,
    ImagesDiffer,
    InfrastructureError,
    ModelError,
    NeverBooted,
    RunnerError,
    StoreError,
    TargetFaultError,
    ToolMissing,
)
from hil.jobs.campaign import Silent, run_campaign
from hil.jobs.store import Result, Run, Store

RUN = Run("test", {}, 0, {})


@dataclass(frozen=True)
class Script:
    """A job factory whose samples behave as told: it makes real processes fail in real ways."""

    folder: Path
    raises: dict[int, HilError | Exception] | None = None
    once: bool = False  # the trouble is over at the second attempt
    killed: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()

    def __call__(self) -> Callable[[int], Result]:
        return self._job

    def _job(self, sample: int) -> Result:
        attempts = self.folder / f"attempts-{sample}"
        with attempts.open("a") as file:
            file.write(f"{os.getpid()}\n")
        first = len(attempts.read_text().splitlines()) == 1
        if sample in self.killed:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.raises and sample in self.raises and (first or not self.once):
            raise self.raises[sample]
        status = "failed" if sample in self.failed else "ok"
        return Result(sample, status, record={"square": sample * sample})

    def attempts(self, sample: int) -> int:
        file = self.folder / f"attempts-{sample}"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.sqlite") as opened:
        yield opened


def test_every_sample_is_done_once_over_two_workers(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    script = Script(tmp_path)
    summary = run_campaign(store, run, range(12), script, workers=2)
    assert (summary.ok, summary.failed, summary.resumed) == (12, 0, 0)
    assert [result.record["square"] for result in store.results(run)] == [sample**2 for sample in range(12)]
    assert [script.attempts(sample) for sample in range(12)] == [1] * 12
    workers = {line for file in tmp_path.glob("attempts-*") for line in file.read_text().split()}
    assert len(workers) in (1, 2)  # who comes late may find nothing to do
    assert str(os.getpid()) not in workers


def test_two_commands_cannot_fill_one_store(store: Store, tmp_path: Path) -> None:
    """Each would do what the other one does."""
    script = Script(tmp_path)
    run_campaign(store, store.run_id(RUN), range(2), script, workers=1)
    with Store(tmp_path / "s.sqlite") as other:
        assert len(other.samples(other.run_id(RUN))) == 2  # reading is fine
        with pytest.raises(StoreError, match="another process works for this results store; let it finish or end it"):
            run_campaign(other, other.run_id(RUN), range(4), script, workers=1)
        store.close()
        assert run_campaign(other, other.run_id(RUN), range(4), script, workers=1).resumed == 2


def test_a_second_run_does_only_what_is_missing(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    script = Script(tmp_path)
    run_campaign(store, run, range(4), script, workers=1)
    summary = run_campaign(store, run, range(6), script, workers=1)
    assert (summary.ok, summary.resumed) == (2, 4)
    assert [script.attempts(sample) for sample in range(6)] == [1] * 6
    again = run_campaign(store, run, range(6), script, workers=2)
    assert (again.ok, again.failed, again.resumed) == (0, 0, 6)


@pytest.mark.parametrize("error", [ModelError("operator 3: bad"), TargetFaultError("HardFault", {"pc": 1})])
def test_a_bad_sample_is_stored_with_its_error_and_costs_one_sample(
    store: Store, tmp_path: Path, error: Exception
) -> None:
    run = store.run_id(RUN)
    script = Script(tmp_path, raises=dict.fromkeys(range(6), error), failed=(7,))
    summary = run_campaign(store, run, range(8), script, workers=2)
    assert (summary.ok, summary.failed) == (1, 7)
    first = next(store.results(run))
    assert str(error) in first.error
    assert script.attempts(0) == 1


def test_a_worker_that_dies_is_replaced(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    script = Script(tmp_path, killed=(1,))
    summary = run_campaign(store, run, range(5), script, workers=1)
    assert (summary.ok, summary.failed) == (4, 1)
    assert "SIGSEGV" in {result.sample: result.error for result in store.results(run)}[1]
    assert script.attempts(1) == 3  # in case the host was to blame


def test_trouble_of_the_host_that_passes_leaves_no_trace(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    script = Script(tmp_path, raises={2: RunnerError("emulator died")}, once=True)
    summary = run_campaign(store, run, range(5), script, workers=1)
    assert (summary.ok, summary.failed) == (5, 0)
    assert script.attempts(2) == 2


def test_trouble_that_sticks_to_one_sample_fails_that_sample(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    summary = run_campaign(store, run, range(5), Script(tmp_path, raises={4: RunnerError("emulator died")}), workers=1)
    assert (summary.ok, summary.failed) == (4, 1)


def test_five_infrastructure_errors_in_a_row_stop_it_and_a_resume_does_them(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    broken = Script(tmp_path, raises={sample: BuildError("compiler crashed") for sample in range(3, 100)})
    with pytest.raises(BuildError, match="compiler crashed"):
        run_campaign(store, run, range(100), broken, workers=1)
    assert sorted(store.samples(run)) == [0, 1, 2]
    assert sum(broken.attempts(sample) for sample in range(100)) < 20
    summary = run_campaign(store, run, range(10), Script(tmp_path), workers=2)
    assert (summary.ok, summary.resumed) == (7, 3)


def test_a_bug_of_ours_stops_it_too_and_is_not_stored_as_the_samples_fault(store: Store, tmp_path: Path) -> None:
    broken = Script(tmp_path, raises=dict.fromkeys(range(100), ZeroDivisionError("by zero")))
    with pytest.raises(InfrastructureError, match="ZeroDivisionError: by zero"):
        run_campaign(store, store.run_id(RUN), range(100), broken, workers=1)
    assert store.samples(store.run_id(RUN)) == {}


@dataclass(frozen=True)
class Boards(Script):
    """A job factory on several boards, of which every sample takes the first; `broken` ones do not work."""

    boards: tuple[str, ...] = ("A", "B", "C")
    broken: tuple[str, ...] = ()

    def without(self, device: str) -> Boards | None:
        others = tuple(board for board in self.boards if board != device)
        return replace(self, boards=others) if others else None

    def _job(self, sample: int) -> Result:
        if self.boards[0] in self.broken:
            raise DeviceLost(self.boards[0], f"device {self.boards[0]} does not work")
        return replace(super()._job(sample), record={"board": self.boards[0]})


class Listening(Silent):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_lost_board_is_left_alone_and_no_sample_is_blamed(store: Store, tmp_path: Path, workers: int) -> None:
    """Three workers meet the same dead board; then the next one is dead too."""
    run, told = store.run_id(RUN), Listening()
    summary = run_campaign(
        store, run, range(8), Boards(tmp_path, broken=("A", "B")), workers=workers, progress=told
    )  # fmt: skip
    assert (summary.ok, summary.failed) == (8, 0)
    assert [result.record for result in store.results(run)] == [{"board": "C"}] * 8
    assert told.said == [f"device {name} does not work; going on without it" for name in "AB"]


def test_no_board_left_is_no_sample_s_fault(store: Store, tmp_path: Path) -> None:
    run = store.run_id(RUN)
    with pytest.raises(DeviceLost, match=r"device C does not work; no other board is left: .* results are kept"):
        run_campaign(store, run, range(8), Boards(tmp_path, broken=("A", "B", "C")), workers=2)
    assert store.samples(run) == {}
    assert run_campaign(store, run, range(8), Boards(tmp_path, broken=("A",)), workers=2).ok == 8


def test_a_job_that_knows_no_boards_ends_with_its_board(store: Store, tmp_path: Path) -> None:
    script = Script(tmp_path, raises={1: DeviceLost("A", "dead")})
    with pytest.raises(DeviceLost, match="no other board"):
        run_campaign(store, store.run_id(RUN), range(8), script, workers=1)
    assert sorted(store.samples(store.run_id(RUN))) == [0]


@pytest.mark.parametrize(
    "error",
    [
        ToolMissing("gcc", "apt install gcc"),
        OSError(28, "No space left on device"),
        DeviceBusy("no gcc board is free"),
        NeverBooted("gcc made an image that locks up"),
        ImagesDiffer("we and gcc make other images"),
    ],
)
def test_hopeless_trouble_stops_it_at_once(store: Store, tmp_path: Path, error: Exception) -> None:
    run = store.run_id(RUN)
    script = Script(tmp_path, raises={1: error})
    with pytest.raises(HilError, match=r"gcc|free space"):
        run_campaign(store, run, range(50), script, workers=1)
    assert sorted(store.samples(run)) == [0]
    assert script.attempts(1) == 1


@dataclass(frozen=True)
class BrokenFactory:
    """Its job cannot even be made."""

    def __call__(self) -> Callable[[int], Result]:
        raise BuildError("kernels do not compile")


def test_a_job_that_cannot_be_made_stops_it(store: Store) -> None:
    with pytest.raises(BuildError, match="kernels do not compile"):
        run_campaign(store, store.run_id(RUN), range(50), BrokenFactory(), workers=2)


@dataclass(frozen=True)
class Unpicklable:
    """A factory that dies while a worker unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (3,)

    def __call__(self) -> Callable[[int], Result]:
        raise NotImplementedError


def test_workers_that_never_come_up_stop_it(store: Store) -> None:
    started = time.monotonic()
    with pytest.raises(HilError, match="exit status 3"):
        run_campaign(store, store.run_id(RUN), range(50), Unpicklable(), workers=2)
    assert store.samples(store.run_id(RUN)) == {}
    assert time.monotonic() - started < 60
