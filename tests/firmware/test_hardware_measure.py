"""The whole loop on a 'connected' board: QEMU behind the serial port, a script as the probe (tests/fake_board.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil.boards.board import Board, Probe, load_board
from hil.cli.main import app
from hil.errors import DeviceLost, HilError
from hil.measure.harness import Harness, Options
from hil.measure.measurement import measurement_from_json
from hil.targets import detect
from hil.targets.bench_file import Bench
from hil.targets.detect import Found
from hil.targets.runners.qemu import QEMU
from munas.arch.graph import build_graph
from munas.arch.space import MlpArchitecture
from munas.tflite.flatbuffer import write_tflite
from tests.fake_board import SERIAL_NUMBER, FakeBoard
from tests.firmware import images

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]


def network(seed: int) -> bytes:
    """A small MLP as a .tflite."""
    return write_tflite(build_graph(MlpArchitecture((10 + seed,)), (16,), 4), seed=seed)


@pytest.fixture
def model() -> bytes:
    return network(5)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBoard]:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    folder = tmp_path / "board"
    folder.mkdir()
    board = FakeBoard(folder, "mps2-an386")
    monkeypatch.setenv("PATH", str(board.install()), prepend=":")
    yield board
    board.kill()


def on_a_desk(name: str) -> Board:
    """The emulated board `name` as if it were connected."""
    real = load_board(name)
    probe = Probe(pyocd="mps2", openocd="board/mps2.cfg")
    return real.model_copy(update={"hardware": real.qemu, "probe": probe})


def options(fake: FakeBoard) -> Options:
    return Options(via="hardware", devices=(fake.device,))


def test_a_network_on_a_connected_board(fake: FakeBoard, model: bytes) -> None:
    found = Harness(on_a_desk("mps2-an386"), options(fake)).measure(model, "mlp").measurement
    assert (found.outputs.checked, found.outputs.mismatched) == (8, 0)
    assert (found.identity.via, found.identity.simulated) == ("hardware", False)
    assert (found.device, found.to_json()["device"]) == (SERIAL_NUMBER, SERIAL_NUMBER)
    assert measurement_from_json(found.to_json()) == found
    later = ("device", "repeatability", "clock")
    older = {key: value for key, value in found.to_json().items() if key not in later}
    assert measurement_from_json(older) == replace(found, device=None, repeatability=None)
    repeated = found.repeatability
    assert repeated is not None
    assert (len(repeated.times), repeated.is_steady) == (8, True)
    assert repeated.cold == pytest.approx(repeated.median, abs=2)  # an emulated core has no cache to warm


def test_an_image_that_was_not_written_is_noticed(fake: FakeBoard, model: bytes) -> None:
    """The probe says that all went well, and the old firmware answers."""
    harness = Harness(on_a_desk("mps2-an386"), options(fake))
    harness.measure(model, "mlp")
    (fake.folder / "last.elf").rename(fake.folder / "stuck.elf")
    with pytest.raises(DeviceLost, match="it was not flashed, then: it runs another image"):
        harness.measure(network(6), "other")


def test_a_clock_tree_that_did_not_start_is_an_error(fake: FakeBoard, model: bytes) -> None:
    """The F405's clocks do not exist in QEMU: what a board with a broken oscillator would be."""
    f405 = FakeBoard(fake.folder, "netduinoplus2")
    f405.install()
    with pytest.raises(DeviceLost, match="at 976562 Hz instead of 168000000: its clock tree did not start"):
        Harness(on_a_desk("netduinoplus2"), options(f405)).measure(model, "mlp")


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two boards of a kind and one that may be several."""
    monkeypatch.setenv("COLUMNS", "200")
    found = [Found(number, ("nucleo-f746zg",), f"/dev/tty{number}", (), "mbed-tools") for number in ("A1", "B2")]
    found.append(Found("C3", ("nucleo-h743zi", "nucleo-l4r5zi"), "/dev/ttyC3", (), "USB ids"))
    listed = detect.connected_devices(Bench(), [lambda boards: found])
    monkeypatch.setattr("hil.targets.detect.connected_devices", lambda: listed)
    monkeypatch.setattr("hil.targets.place.connected_devices", lambda: listed)


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and error of a command."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, HilError):
        return result.exception.exit_status, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_boards_detect(desk: None) -> None:
    _, listed, _ = run("boards", "--detect", "--json")
    assert [item["serial_number"] for item in json.loads(listed)] == ["A1", "B2", "C3"]
    _, listed, _ = run("boards", "nucleo-l4r5zi", "--detect", "--json")
    assert [item["boards"] for item in json.loads(listed)] == [["nucleo-h743zi", "nucleo-l4r5zi"]]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--board", "nucleo-f746zg"], 2, "2 boards nucleo-f746zg are connected; choose one with --device: A1"),
        (["--board", "nucleo-f746zg", "--device", "D4"], 3, "no device D4 is connected"),
        (["--board", "nucleo-f746zg", "--device", "C3"], 2, "--device C3 is nucleo-h743zi or nucleo-l4r5zi"),
        (["--board", "nucleo-l4r5zi", "--via", "hardware"], 3, "may be one of these"),
        (["--board", "nucleo-l4r5zi", "--via", "renode"], 3, "renode is not installed"),
        (["--board", "mps2-an386", "--via", "hardware"], 2, "no target for --via hardware"),
        (["--board", "nucleo-f746zg", "--device", "A1"], 3, "the drive of A1 is not mounted"),
    ],
)
def test_a_place_that_cannot_be_had(
    desk: None, tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int,
    message: str,
) -> None:  # fmt: skip
    images.need_toolchain()
    monkeypatch.delenv("RENODE_PATH", raising=False)
    if shutil.which("renode") or shutil.which("renode-run"):
        pytest.skip("Renode is installed here")
    (tmp_path / "mlp.tflite").write_bytes(model)
    found = run("measure", str(tmp_path / "mlp.tflite"), *arguments)
    assert (found[0], found[1]) == (status, "")
    assert message in found[2]


def test_the_place_and_the_reason_are_told(desk: None, tmp_path: Path, model: bytes) -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    (tmp_path / "mlp.tflite").write_bytes(model)
    status, out, told = run("measure", str(tmp_path / "mlp.tflite"), "--board", "mps2-an386", "--json")
    assert (status, json.loads(out)[0]["via"]) == (0, "qemu")
    assert "via qemu (simulated; mps2-an386 exists only as QEMU's machine)" in " ".join(told.split())


@pytest.mark.slow
def test_bench_runs_where_it_is_told_to(desk: None) -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    options = ("--board", "mps2-an386", "--samples", "2", "--workers", "1", "--json")
    status, out, told = run("bench", *options)
    assert status == 0, told
    found = json.loads(out)
    assert (found["via"], found["samples"], found["failed"]) == ("qemu", 2, 0)
    assert "via qemu (simulated; mps2-an386 exists only as QEMU's machine)" in " ".join(told.split())
    status, out, told = run("bench", *options, "--via", "hardware")
    assert (status, out) == (2, "")
    assert "no target for --via hardware" in told
