"""A place of a real labgrid coordinator: a board behind its exporter's serial ports, labgrid's probe and power.

Run with ``LABGRID_CLIENT=.../bin/labgrid-client`` where labgrid is not on the PATH. The board is QEMU.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.errors import DeviceLost, DeviceMissing, HilError
from hil.link.device import Timeouts
from hil.measure.harness import Harness, Options
from hil.targets import labgrid
from hil.targets.place import choose_place
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QEMU
from tests.fake_board import FakeBoard
from tests.firmware import images
from tests.firmware.test_hardware_measure import network, on_a_desk
from tests.labgrid_lab import Lab, free_port, lab, power_switch, program, write_environment
from tests.serial_server import COMPLAINTS, PtyPort, served

pytestmark = [
    pytest.mark.firmware,
    pytest.mark.qemu,
    pytest.mark.slow,
    *COMPLAINTS,
]

MODEL = network(5)
BOARD = on_a_desk("mps2-an386")
SHORT = Timeouts(boot_s=3.0, command_s=1.0, inference_s=10.0)


class Resetting(PtyPort):
    """The port of a probe: a break resets the board."""

    fake: FakeBoard

    @property
    def break_condition(self) -> bool:
        return False

    @break_condition.setter
    def break_condition(self, begins: bool) -> None:
        if begins:
            self.fake.reset()


def port_of(fake: FakeBoard) -> Resetting:
    Resetting.fake = fake
    return Resetting(str(fake.port))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBoard]:
    program("client")
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    board = FakeBoard(tmp_path_factory.mktemp("board"), "mps2-an386")
    board.install()
    yield board
    board.kill()


@pytest.fixture(scope="module")
def switched() -> list[bool]:
    return []


@pytest.fixture(scope="module")
def rig(fake: FakeBoard, switched: list[bool], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Places: `board`, `raw` (the same, without RFC 2217), and `blind`, which has no serial port."""

    def switch(on: bool) -> None:
        switched.append(on)
        if not on:
            (fake.folder / "trouble").unlink(missing_ok=True)
        elif fake.pid() is not None:
            fake.reset()

    def serial(url: str) -> dict[str, object]:
        protocol, _, port = url.partition("://127.0.0.1:")
        return {
            "host": "127.0.0.1", "port": int(port), "speed": 115200,
            "protocol": "raw" if protocol == "socket" else protocol,
        }  # fmt: skip

    with (
        served(lambda: port_of(fake), rfc2217=True) as rfc2217,
        served(lambda: PtyPort(str(fake.port)), rfc2217=False) as raw,
        power_switch(switch) as relay,
    ):
        power: dict[str, object] = {"model": "rest", "host": relay, "index": "1"}
        groups = {
            "board": {"NetworkSerialPort": serial(rfc2217), "NetworkPowerPort": power},
            "raw": {"NetworkSerialPort": serial(raw), "NetworkPowerPort": power},
            "blind": {"NetworkPowerPort": power},
        }
        with lab(tmp_path_factory.mktemp("lab"), groups) as running:
            yield running


def use(one: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the lab of whoever runs commands."""
    for name, value in one.environment.items():
        monkeypatch.setenv(name, value)


@contextmanager
def lab_of_one(fake: FakeBoard, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab that may be broken: its place `board` is of no other test."""
    with served(lambda: port_of(fake), rfc2217=True) as url:
        port = {"host": "127.0.0.1", "port": int(url.rpartition(":")[2])}
        with lab(folder, {"board": {"NetworkSerialPort": port}}) as own:
            use(own, monkeypatch)
            yield own


@pytest.fixture
def here(rig: Lab, fake: FakeBoard, switched: list[bool], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    use(rig, monkeypatch)
    monkeypatch.setenv("PATH", str(fake.folder / "bin"), prepend=":")
    switched.clear()
    yield rig
    labgrid.release_all()


@pytest.mark.parametrize("place", ["board", "raw"])
def test_a_network_is_measured_at_a_place(
    place: str, here: Lab, fake: FakeBoard, switched: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reset by a break where the port takes one, else by the power."""
    monkeypatch.setenv("LG_ENV", str(write_environment(tmp_path, place, fake.serial_number)))
    chosen = choose_place(BOARD, "auto", f"labgrid:{place}")
    assert here.owner(place) == "desk/me"
    harness = Harness(BOARD, Options(via="hardware", devices=chosen.devices))
    for _ in range(2):
        found = harness.measure(MODEL, "mlp").measurement
        assert (found.outputs.checked, found.outputs.mismatched) == (8, 0)
        assert found.device == f"labgrid:{place}"
    assert switched == ([False, True] * 2 if place == "raw" else [])
    labgrid.release_all()
    assert here.owner(place) == ""


def test_a_board_that_hangs_has_its_power_cycled(
    here: Lab, fake: FakeBoard, switched: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_ENV", str(write_environment(tmp_path, "board", fake.serial_number)))
    (device,) = choose_place(BOARD, "hardware", "labgrid:board").devices
    harness = Harness(BOARD, Options(via="hardware", devices=(device,)))
    harness._runner = HardwareRunner([device], timeouts=SHORT, reconnect_s=0.3)
    fake.give_trouble("gone")
    with pytest.raises(HilError) as caught:
        harness.measure(MODEL, "mlp")
    assert not isinstance(caught.value, DeviceLost)
    assert switched[:2] == [False, True]
    harness.measure(MODEL, "mlp")


def test_a_place_without_a_probe_is_lost_with_labgrids_words(here: Lab) -> None:
    """Without an environment file labgrid has no driver that flashes."""
    devices = choose_place(BOARD, "hardware", "labgrid:board").devices
    with pytest.raises(DeviceLost, match=r"flashing labgrid:board: .*target has no compatible resource available"):
        Harness(BOARD, Options(via="hardware", devices=devices)).measure(MODEL, "mlp")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """munas-hil as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hil", *words], env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def bring_up(device: str, **environment: str) -> str:
    """The one line that is said."""
    done = command("bring-up", "--board", "nucleo-f746zg", "--device", device, **environment)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_place_that_cannot_be_had_is_one_line(here: Lab) -> None:
    assert here.client("--place", "board", "acquire", user="other").returncode == 0
    try:
        assert "labgrid:board: Place board is already acquired by desk/other" in bring_up("labgrid:board")
        assert here.owner("board") == "desk/other"
    finally:
        here.client("--place", "board", "release", user="other")
    assert "labgrid:nowhere: place pattern nowhere matches nothing" in bring_up("labgrid:nowhere")
    assert "labgrid:blind has 0 serial ports (NetworkSerialPort), and one is needed" in bring_up("labgrid:blind")
    assert here.owner("blind") == ""
    away = f"127.0.0.1:{free_port()}"
    said = bring_up("labgrid:board", LG_COORDINATOR=away)
    assert f"labgrid:board: Could not connect to coordinator (labgrid's coordinator {away})" in said
    assert "no-such-client is not installed" in bring_up("labgrid:board", LABGRID_CLIENT="no-such-client")


def test_a_place_that_was_acquired_before_is_kept(here: Lab) -> None:
    here.client("--place", "board", "acquire")
    try:
        choose_place(BOARD, "hardware", "labgrid:board")
        labgrid.release_all()
        assert here.owner("board") == "desk/me"
    finally:
        here.client("--place", "board", "release")


HOLDER = """
import sys, time
from hil.targets.labgrid import acquired
acquired("labgrid:board", ("nucleo-f746zg",))
print("acquired", flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
if sys.argv[1] == "error":
    raise ValueError
"""


@pytest.mark.parametrize("how", ["end", "error", signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_the_place_is_released_at_every_kind_of_end(here: Lab, how: str | signal.Signals) -> None:
    """Whoever waits for the place by our lock gets it when it is free, not when the process that had it is gone."""
    argument = how if isinstance(how, str) else "wait"
    with subprocess.Popen([sys.executable, "-c", HOLDER, argument], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"acquired\n"
        assert here.owner("board") == "desk/me" or isinstance(how, str)
        if not isinstance(how, str):
            holder.send_signal(how)
        holder.wait(60)
    choose_place(BOARD, "hardware", "labgrid:board")
    labgrid.release_all()
    assert here.owner("board") == ""


def test_an_exporter_that_dies_midway(fake: FakeBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The board cannot be flashed any more; the place is released all the same, and cannot be had again."""
    with lab_of_one(fake, tmp_path, monkeypatch) as own:
        devices = choose_place(BOARD, "hardware", "labgrid:board").devices
        own.exporter.kill()
        own.exporter.wait()
        with pytest.raises(DeviceLost, match=r"flashing labgrid:board: .*labgrid-client failed") as caught:
            Harness(BOARD, Options(via="hardware", devices=devices)).measure(MODEL, "mlp")
        assert "\n" not in str(caught.value)
        labgrid.release_all()
        assert own.owner("board") == ""
        with pytest.raises(DeviceMissing, match=r"labgrid:board: Match shelf/board/\* has no matching remote resource"):
            choose_place(BOARD, "hardware", "labgrid:board")
        assert own.owner("board") == ""


def test_a_coordinator_that_dies_midway(
    fake: FakeBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The board cannot be flashed any more, which is one line; so is that the place was not released."""
    with lab_of_one(fake, tmp_path, monkeypatch) as own:
        devices = choose_place(BOARD, "hardware", "labgrid:board").devices
        own.coordinator.kill()
        own.coordinator.wait()
        with pytest.raises(DeviceLost, match="Could not connect to coordinator") as caught:
            Harness(BOARD, Options(via="hardware", devices=devices)).measure(MODEL, "mlp")
        assert "\n" not in str(caught.value)
        labgrid.release_all()
    said = capfd.readouterr().err.splitlines()
    assert said == ["munas-hil: labgrid:board was not released: Server error: Error: Could not connect to coordinator"]
