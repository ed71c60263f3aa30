"""`munas-hil worker`: what it advertises, and what it runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.board import Board, load_board
from hil.cli import worker
from hil.errors import DeviceMissing, ToolMissing, UsageError
from hil.measure import workers
from hil.measure.harness import Options
from hil.measure.workers import NodeHarnessFactory
from hil.targets import detect
from hil.targets.clock import ClockReading
from hil.targets.detect import Connected
from munas.errors import PlaceUnfit

NUCLEO = Connected("A1", ("nucleo-f746zg",), "/dev/ttyACM0")
OTHER = Connected("B2", ("nucleo-l4r5zi",), "/dev/ttyACM1")
UNSURE = Connected("C3", ("nucleo-f746zg", "nucleo-h743zi"), "/dev/ttyACM2")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "connected_devices", lambda: (NUCLEO, OTHER, UNSURE))


@pytest.mark.usefixtures("desk")
def test_only_boards_that_are_sure_are_advertised() -> None:
    assert worker.advertised(()) == Counter({"nucleo-f746zg": 1, "nucleo-l4r5zi": 1})
    assert worker.advertised(("NUCLEO_F746ZG",)) == Counter({"nucleo-f746zg": 1})
    with pytest.raises(DeviceMissing, match="no board nucleo-h743zi is connected here"):
        worker.advertised(("nucleo-h743zi",))


def test_ray_is_started_with_the_boards_and_listens_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolMissing, match=r"munas-hil\[ray\]"):
        worker.ray_command("head:6379", Counter(), None, None)
    (tmp_path / "ray").touch()
    boards = Counter({"nucleo-f746zg": 2})
    command = worker.ray_command("head:6379", boards, 4, "10.0.0.7")
    assert command[:4] == [str(tmp_path / "ray"), "start", "--address=head:6379", "--num-cpus=4"]
    assert '--resources={"board:nucleo-f746zg": 2}' in command
    assert "--node-ip-address=10.0.0.7" in command
    with pytest.raises(UsageError, match="for this machine alone"):
        worker.ray_command("127.0.0.1:6379", Counter(), 1, None)
    assert not any("node-ip" in word for word in worker.ray_command("head:6379", boards, 1, None))


@pytest.mark.parametrize("address", ["auto", "head", "ray://head:10001", ":6379", "head:port"])
def test_an_address_that_nobody_can_join_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        worker.ray_command(address, Counter(), None, None)


def test_a_node_whose_boards_are_lost_does_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "connected_devices", lambda: (NUCLEO, OTHER))
    factory = NodeHarnessFactory(load_board("nucleo-f746zg"), Options(via="hardware"))
    with pytest.raises(PlaceUnfit, match=r"no nucleo-f746zg is connected to .* any more"):
        factory.without("A1")()


def test_the_clocks_of_a_nodes_boards_are_measured_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with them is left out, and the reading goes along with what the others measure."""
    other = replace(NUCLEO, serial_number="D4")
    reading = ClockReading("D4", 216_000_000, 216_000_100, 2.0, 0.001, "2026-01-01T00:00:00+00:00")
    made: list[Options] = []

    class Made:
        def __init__(self, board: Board, options: Options) -> None:
            made.append(options)

        def measure(self, data: bytes, name: str) -> None:
            pass

    monkeypatch.setattr(workers, "connected_devices", lambda: (NUCLEO, other, OTHER))
    monkeypatch.setattr(workers, "Harness", Made)
    seen: list[str] = []

    def clocks(_: Board, devices: Sequence[Connected]) -> tuple[ClockReading, ...]:
        seen.extend(item.serial_number for item in devices)
        return (reading,)

    NodeHarnessFactory(load_board("nucleo-f746zg"), Options(via="hardware"), clocks=clocks)()
    assert seen == ["A1", "D4"]
    assert [(options.devices, options.clocks) for options in made] == [((other,), (reading,))]
