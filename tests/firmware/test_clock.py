"""The clocks of 'connected' boards (tests/fake_board.py) against a host's clock that the test keeps.

An emulated core's time is virtual, so the host's has to be made: it is what the device's own ticks take at the
frequency that its crystal is said to have here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hil.api import calibration as api
from hil.boards.board import Board
from hil.bring_up import clock
from hil.bring_up.clock import SECONDS, clock_of, clocks_of
from hil.bring_up.contact import TEMPERATURE, Contact
from hil.errors import DeviceLost
from hil.link.device import Device
from hil.measure.harness import Harness, Options
from hil.patterns import Pattern
from hil.targets.clock import ClockReading
from hil.targets.detect import Connected
from hil.targets.runners.qemu import QEMU
from munas.arch.graph import build_graph
from munas.arch.space import MlpArchitecture
from munas.tflite.flatbuffer import write_tflite
from tests.fake_board import FakeBoard, install
from tests.firmware import images
from tests.firmware.test_hardware_measure import on_a_desk

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]
BOARD = on_a_desk("mps2-an386")
CLAIMED = 25_000_000


class HostClock:
    """Seconds of a host beside a device whose crystal makes it run at `hertz`; each command takes some on the line."""

    def __init__(self, patch: pytest.MonkeyPatch, hertz: float, line_s: tuple[float, ...] = (0.01,)) -> None:
        self.seconds, self._hertz, self._line, self._count = 100.0, hertz, line_s, 0
        patch.setattr(clock, "Device", partial(_Watched, self))

    def now(self) -> float:
        return self.seconds

    def passed(self, ticks: int) -> None:
        self.seconds += ticks / self._hertz + self._line[self._count % len(self._line)]
        self._count += 1


class _Watched(Device):
    """A device whose inferences make the host's time pass."""

    def __init__(self, host: HostClock, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._host = host

    def answer(self, pattern: Pattern | None = None, expected: bytes | None = None) -> tuple[int, bytes]:
        ticks, output = super().answer(pattern, expected)
        self._host.passed(ticks)
        return ticks, output


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeBoard, FakeBoard]]:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    boards = FakeBoard(tmp_path / "A", "mps2-an386", "A1"), FakeBoard(tmp_path / "B", "mps2-an386", "B2")
    for board in boards:
        board.folder.mkdir()
    monkeypatch.setenv("PATH", str(install(boards, tmp_path / "bin")), prepend=":")
    yield boards
    for board in boards:
        board.kill()


def test_a_clock_that_is_right(desk: tuple[FakeBoard, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostClock(monkeypatch, CLAIMED * 1.0004)
    found = clock_of(BOARD, desk[0].device, now=host.now)
    assert (found.device, found.claimed_hz, found.celsius) == ("A1", CLAIMED, None)
    assert found.measured_hz == pytest.approx(CLAIMED * 1.0004, rel=1e-6)
    assert found.is_right
    assert found.over_s == pytest.approx(SECONDS, rel=0.01)
    assert found.words() == f"{found.measured_hz:,} Hz by the host's clock, +0.04 %"


@pytest.mark.slow
@pytest.mark.parametrize("error", [-0.02, 0.015])
def test_a_clock_that_is_wrong_is_an_error(
    desk: tuple[FakeBoard, ...], monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    host = HostClock(monkeypatch, CLAIMED * (1 + error))
    with pytest.raises(
        DeviceLost, match=rf"A1 .* runs at .*[+-]{abs(error) * 100:.2f} %, not at 25,000,000 Hz"
    ) as caught:
        clock_of(BOARD, desk[0].device, now=host.now)
    assert (caught.value.device, caught.value.exit_status) == ("A1", 3)


@pytest.mark.slow
def test_a_clock_tree_that_did_not_start(desk: tuple[FakeBoard, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostClock(monkeypatch, CLAIMED)
    other = BOARD.model_copy(update={"clock_hz": 168_000_000})
    with pytest.raises(DeviceLost, match=r"says that it runs at 25,000,000 Hz, not at 168,000,000: its clock tree"):
        clock_of(other, desk[0].device, now=host.now)


@pytest.mark.slow
def test_a_line_that_jitters_is_measured_for_longer(
    desk: tuple[FakeBoard, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = HostClock(monkeypatch, CLAIMED, line_s=(0.002, 0.018))
    found = clock_of(BOARD, desk[0].device, now=host.now)
    assert found.over_s == pytest.approx(4 * 0.016 / 0.01, rel=0.02)
    assert 0.0 < found.within < 0.003
    assert abs(found.off) <= found.within


@pytest.mark.parametrize(("words", "celsius"), [((1, 25_500), 25.5), ((1, 2**32 - 12_000), -12.0), ((0, 0), None)])
def test_a_temperature_below_zero_and_a_port_without_a_sensor(words: tuple[int, int], celsius: float | None) -> None:
    class Answering(Contact):
        def ask(self, command: int, *arguments: int) -> tuple[int, tuple[int, ...], float]:
            assert command == TEMPERATURE
            return 1, (*words, 0, 0, 0, 0, 0, 0), 0.0

    assert Answering(BOARD, None, None).celsius() == celsius  # type: ignore[arg-type]


def reading(device: str, error: float = 0.0) -> ClockReading:
    return ClockReading(device, CLAIMED, round(CLAIMED * (1 + error)), 2.0, 0.001, "2026-01-01T00:00:00+00:00")


def test_a_board_with_a_wrong_clock_is_left_out_and_the_last_one_is_an_error() -> None:
    devices = [Connected(name, ("fake",), None) for name in ("A1", "B2")]
    told: list[str] = []

    def measured(_: Board, device: Connected) -> ClockReading:
        if device.serial_number == "A1":
            raise DeviceLost("A1", "device A1 runs at half the clock")
        return reading(device.serial_number)

    assert clocks_of(BOARD, devices, told.append, measured) == (reading("B2"),)
    assert told == ["device A1 runs at half the clock; going on without it"]
    with pytest.raises(DeviceLost, match="half the clock"):
        clocks_of(BOARD, devices[:1], told.append, measured)


@pytest.mark.slow
def test_a_calibration_leaves_the_board_out_and_measurements_carry_the_clock(
    desk: tuple[FakeBoard, FakeBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "clocks_of", lambda board, devices, tell: (reading("B2"),))
    options = api.with_clocks(BOARD, Options(via="hardware", devices=tuple(item.device for item in desk)))
    assert [item.serial_number for item in options.devices] == ["B2"]
    data = write_tflite(build_graph(MlpArchitecture((10,)), (16,), 4), seed=1)
    found = Harness(BOARD, options).measure(data, "mlp").measurement
    assert found.clock == reading("B2")
    assert found.to_json()["clock"]["measured_hz"] == CLAIMED
