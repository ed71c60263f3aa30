"""A board of another host: QEMU behind a socket and an RFC 2217 server, flashed by a command of the bench file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.errors import DeviceLost, HilError
from hil.link.device import Timeouts
from hil.measure.harness import Harness, Options
from hil.targets.bench_file import words_of
from hil.targets.detect import Connected
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QEMU
from tests.fake_board import FakeBoard
from tests.firmware import images
from tests.firmware.test_hardware_measure import network, on_a_desk
from tests.serial_server import COMPLAINTS, PtyPort, served

pytestmark = [
    pytest.mark.firmware,
    pytest.mark.qemu,
    pytest.mark.slow,
    *COMPLAINTS,
]

FLASH = words_of("pyocd flash --no-wait --uid {serial} --target mps2 --format elf {image}")
RESET = words_of("pyocd reset --uid {serial}")
SHORT = Timeouts(boot_s=3.0, command_s=1.0, inference_s=10.0)


MODEL = network(5)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBoard]:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    board = FakeBoard(tmp_path / "board", "mps2-an386")
    board.folder.mkdir()
    monkeypatch.setenv("PATH", str(board.install()), prepend=":")
    yield board
    board.kill()


@pytest.fixture(params=[False, True], ids=["socket", "rfc2217"])
def device(request: pytest.FixtureRequest, fake: FakeBoard) -> Iterator[Connected]:
    with served(lambda: PtyPort(str(fake.port)), rfc2217=request.param) as url:
        port = f"{url}?timeout=60" if request.param else url  # pyserial's own for its server's word: 3 s
        yield replace(fake.device, port=port, flash="command", flash_command=FLASH, reset_command=RESET)


def test_a_network_is_measured_over_the_network(device: Connected) -> None:
    harness = Harness(on_a_desk("mps2-an386"), Options(via="hardware", devices=(device,)))
    for _ in range(2):  # the port is closed and opened again
        found = harness.measure(MODEL, "mlp").measurement
        assert (found.outputs.checked, found.outputs.mismatched) == (8, 0)
        assert found.device == device.serial_number


def test_a_board_that_hangs_has_its_power_cycled(
    device: Connected,
    fake: FakeBoard,
    tmp_path: Path,
) -> None:
    """The command repairs it: the measurement failed, the board is kept. Without the command it is lost."""
    script = tmp_path / "cycle"
    script.write_text(f"#!/bin/sh\nrm -f {fake.folder}/trouble\necho $1 >> {tmp_path}/cycled\n")
    script.chmod(0o755)
    board = on_a_desk("mps2-an386")
    for power, lost in ((words_of(f"{script} {{serial}}"), False), ((), True)):
        harness = Harness(board, Options(via="hardware", devices=(device,)))
        harness._runner = HardwareRunner(
            [replace(device, power_cycle_command=power)], timeouts=SHORT, reconnect_s=0.3
        )  # fmt: skip
        fake.give_trouble("gone")
        with pytest.raises(HilError) as caught:
            harness.measure(MODEL, "mlp")
        assert isinstance(caught.value, DeviceLost) is lost
    assert (tmp_path / "cycled").read_text().split() == [fake.serial_number]
