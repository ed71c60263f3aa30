"""Campaigns on two 'connected' boards (tests/fake_board.py), one or both of which break in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hil.calibration.calibrate import Request, SampleJobFactory
from hil.calibration.record import from_result
from hil.errors import DeviceLost
from hil.jobs.campaign import Summary, run_campaign
from hil.jobs.store import Result, Store
from hil.link.device import Timeouts
from hil.measure.harness import Harness, Measured, Options
from hil.measure.workers import HarnessFactory
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QEMU
from tests.fake_board import FakeBoard, Trouble, install
from tests.firmware import images
from tests.firmware.test_hardware_measure import on_a_desk

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]
SAMPLES = 6
SHORT = Timeouts(boot_s=3.0, command_s=1.0, inference_s=10.0)


@dataclass(frozen=True)
class Impatient(HarnessFactory):
    """Does not wait long for a board that is broken."""

    def __call__(self) -> Callable[[bytes, str], Measured]:
        harness = Harness(self.board, self.options)
        harness._runner = HardwareRunner(self.options.devices, timeouts=SHORT, reconnect_s=0.3)
        return harness.measure


@dataclass
class TwoBoards:
    """Two boards, a store, and what the campaign says. Trouble comes when as many samples are done as its key says."""

    boards: tuple[FakeBoard, FakeBoard]
    store: Store
    trouble: dict[int, list[tuple[FakeBoard, Trouble]]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    done: int = 0

    def start(self, total: int, resumed: int) -> None:
        self.done = resumed

    def advance(self, result: Result) -> None:
        assert result.status == "ok", result.error
        self.done += 1
        for board, trouble in self.trouble.pop(self.done, []):
            board.give_trouble(trouble)

    def tell(self, message: str) -> None:
        self.said.append(message)

    def stop(self) -> None:
        pass

    def run(self) -> tuple[Summary, list[str | None]]:
        """A campaign; the serial number of the board that each sample was measured on."""
        board = on_a_desk("mps2-an386")
        options = Options(via="hardware", devices=tuple(item.device for item in self.boards))
        request = Request(board, Harness(board, options).identity, Impatient(board, options), Path(), SAMPLES)
        factory = SampleJobFactory(request.measurer, request.seed, request.limits, request.identity)
        run_id = self.store.run_id(request.run)
        summary = run_campaign(self.store, run_id, range(SAMPLES), factory, workers=2, progress=self)
        return summary, [from_result(result).measurement.device for result in self.store.results(run_id)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoBoards]:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    boards = FakeBoard(tmp_path / "A", "mps2-an386", "A1"), FakeBoard(tmp_path / "B", "mps2-an386", "B2")
    for board in boards:
        board.folder.mkdir()
    monkeypatch.setenv("PATH", str(install(boards, tmp_path / "bin")), prepend=":")
    with Store(tmp_path / "store.sqlite") as store:
        yield TwoBoards(boards, store)
    for board in boards:
        board.kill()


def test_both_boards_are_used_and_named(desk: TwoBoards) -> None:
    summary, used = desk.run()
    assert (summary.ok, summary.failed) == (SAMPLES, 0)
    assert set(used) == {"A1", "B2"}
    assert desk.said == []


@pytest.mark.parametrize(
    ("trouble", "cause"), [("gone", "no such probe"), ("silent", "no complete reply"), ("floods", "stop talking")]
)
def test_a_board_that_breaks_is_dropped_and_its_job_goes_elsewhere(
    desk: TwoBoards, trouble: Trouble, cause: str
) -> None:
    broken, whole = desk.boards
    desk.trouble = {2: [(broken, trouble)]}
    summary, used = desk.run()
    assert (summary.ok, summary.failed) == (SAMPLES, 0)
    assert used.count(whole.serial_number) >= SAMPLES - 3
    assert set(used) <= {"A1", "B2"}
    (said,) = desk.said
    assert said.startswith(f"device A1 (fake, port {broken.port}) does not work, tried twice: ")
    assert cause in said
    assert said.endswith("going on without it")


def test_no_board_left_ends_it_and_a_resume_goes_on(desk: TwoBoards) -> None:
    desk.trouble = {2: [(board, "gone") for board in desk.boards]}
    with pytest.raises(DeviceLost, match="no other board is left") as caught:
        desk.run()
    assert caught.value.exit_status == 3
    assert 2 <= desk.done < SAMPLES
    assert len(desk.said) == 1
    for board in desk.boards:
        board.repair()
    summary, used = desk.run()
    assert (summary.ok, summary.failed, summary.resumed) == (SAMPLES - summary.resumed, 0, desk.done - summary.ok)
    assert len(used) == SAMPLES
