"""Which boards are connected, and which of them is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial.tools.list_ports
from serial.tools.list_ports_common import ListPortInfo

from hil.boards.board import Board, load_board
from hil.errors import DeviceAmbiguous, DeviceMissing, InfrastructureError, UsageError
from hil.targets import detect
from hil.targets.bench_file import Bench, BenchDevice, read_bench
from hil.targets.detect import Connected, Found, choose, connected_devices, mbed_devices, usb_ports

F7, L4 = "nucleo-f746zg", "nucleo-l4r5zi"
NOTHING = Bench()


def source(*found: Found) -> detect.Source:
    return lambda boards: found


def f7(number: str, port: str | None = "/dev/ttyACM0", name: str = F7) -> Found:
    return Found(number, (name,), port, (Path("/media") / number,), "mbed-tools")


def port_info(device: str, number: str | None, vid: int = 0x0483, pid: int = 0x374B) -> ListPortInfo:
    info = ListPortInfo(device)
    info.vid, info.pid, info.serial_number = vid, pid, number
    return info


# --- sources ------------------------------------------------------------------------------------------------------


def test_usb_ids_tell_what_a_port_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [port_info("/dev/ttyACM0", "066E"), port_info("/dev/ttyACM1", None), port_info("/dev/ttyUSB0", "x", 0x403)]
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: ports)
    first, second = usb_ports([load_board(F7), load_board(L4), load_board("mps2-an386")])
    assert (first.serial_number, first.port, first.boards) == ("066E", "/dev/ttyACM0", (F7, L4))
    assert second.serial_number == "/dev/ttyACM1"  # a port without a number is known by its name


def mbed(monkeypatch: pytest.MonkeyPatch, *devices: object) -> None:
    found = SimpleNamespace(identified_devices=list(devices), unidentified_devices=[])
    monkeypatch.setattr("mbed_tools.devices.get_connected_devices", lambda: found)


def mbed_device(board_type: str, number: str) -> SimpleNamespace:
    kind = SimpleNamespace(board_type=board_type)
    return SimpleNamespace(
        mbed_board=kind, serial_number=number, serial_port="/dev/ttyACM3", mount_points=(Path("/m"),)
    )


def test_mbed_tools_names_boards_by_its_own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose entries are really there: see the names in the board files."""
    from mbed_tools.targets._internal.board_database import get_offline_board_data

    known = {entry["board_type"] for entry in get_offline_board_data()}
    boards = [load_board(name) for name in (F7, L4, "nucleo-h743zi")]
    assert {name for board in boards for name in detect._mbed_names(board)} <= known
    mbed(monkeypatch, mbed_device("NUCLEO_H743ZI2", "1"), mbed_device("K64F", "2"))
    assert mbed_devices(boards) == [Found("1", ("nucleo-h743zi",), "/dev/ttyACM3", (Path("/m"),), "mbed-tools")]


def test_mbed_tools_failing_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no udev")

    monkeypatch.setattr("mbed_tools.devices.get_connected_devices", fail)
    with pytest.raises(InfrastructureError, match="no udev"):
        mbed_devices([])


def test_the_real_sources_run_here() -> None:
    assert all(isinstance(device, Connected) for device in connected_devices(NOTHING))


# --- merging --------------------------------------------------------------------------------------------------------


def test_the_surer_source_wins_and_the_other_fills_in() -> None:
    unsure = Found("066E", (F7, L4), "/dev/ttyACM7", (), "USB ids")
    (device,) = connected_devices(NOTHING, [source(f7("066E", None)), source(unsure)])
    assert (device.boards, device.port, device.source) == ((F7,), "/dev/ttyACM7", "mbed-tools")
    assert device.drives == (Path("/media/066E"),)


def test_the_bench_file_pins_what_detection_cannot_know() -> None:
    entry = BenchDevice(board="NUCLEO_L4R5ZI", serial_number="066E", flash="openocd", baud=921600)
    unsure = Found("066E", (F7, L4), "/dev/ttyACM7", (), "USB ids")
    (device,) = connected_devices(Bench(device=(entry,)), [source(unsure)])
    assert device == Connected("066E", (L4,), "/dev/ttyACM7", (), "openocd", 921600, "bench file")


def test_a_device_of_the_bench_file_that_is_not_there(tmp_path: Path) -> None:
    absent = BenchDevice(board=F7, serial_number="1", port=str(tmp_path / "tty"))
    assert connected_devices(Bench(device=(absent,)), []) == ()
    (tmp_path / "tty").touch()
    assert [device.serial_number for device in connected_devices(Bench(device=(absent,)), [])] == ["1"]


# --- choosing --------------------------------------------------------------------------------------------------------


def devices(*found: Found) -> Sequence[Connected]:
    return connected_devices(NOTHING, [source(*found)])


def test_one_is_taken() -> None:
    assert choose(F7, devices(f7("1"), f7("2", name=L4))).serial_number == "1"


def test_none_and_several_are_different_errors() -> None:
    with pytest.raises(DeviceMissing, match="no board nucleo-f746zg is connected; connected are: 2") as none:
        choose(F7, devices(f7("2", name=L4)))
    with pytest.raises(DeviceAmbiguous, match=r"2 boards nucleo-f746zg .* --device: 1 \(.*; 2 \(") as several:
        choose(F7, devices(f7("1"), f7("2", "/dev/ttyACM1")))
    assert (none.value.exit_status, several.value.exit_status) == (3, 2)
    with pytest.raises(DeviceMissing, match="nothing is"):
        choose(F7, [])


def test_the_id_or_the_port_chooses() -> None:
    two = devices(f7("1"), f7("2", "/dev/ttyACM1"))
    assert choose(F7, two, "2").serial_number == choose(F7, two, "/dev/ttyACM1").serial_number == "2"
    with pytest.raises(DeviceMissing, match="no device 3 is connected"):
        choose(F7, two, "3")
    with pytest.raises(UsageError, match="--device 2 is nucleo-f746zg, not nucleo-l4r5zi"):
        choose(L4, two, "2")


def test_a_device_that_may_be_it_has_to_be_chosen() -> None:
    unsure = devices(Found("066E", (F7, L4), "/dev/ttyACM7", (), "USB ids"))
    with pytest.raises(DeviceMissing, match="may be one of these, which --device chooses: 066E"):
        choose(F7, unsure)
    assert choose(F7, unsure, "066E").port == "/dev/ttyACM7"


# --- bench file -------------------------------------------------------------------------------------------------------

GOOD = """
[[device]]
board = "NUCLEO_F746ZG"
serial_number = "066E"
flash = "mass-storage"
drive = "/media/me/NODE_F746ZG"
"""


def bench(tmp_path: Path, text: str) -> Path:
    (tmp_path / "bench.toml").write_text(text)
    return tmp_path / "bench.toml"


def test_a_bench_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_BENCH", str(bench(tmp_path, GOOD)))
    (device,) = read_bench().device
    assert (device.board, device.drive, device.baud) == (F7, Path("/media/me/NODE_F746ZG"), None)


def test_without_a_bench_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUNAS_HIL_BENCH", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert read_bench() == NOTHING
    monkeypatch.setenv("MUNAS_HIL_BENCH", str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        read_bench()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("serial_number", "serial", r"device\.0\.serial"),
        ("mass-storage", "jtag", r"device\.0\.flash"),
        ("mass-storage", "pyocd", "drive is for flash = 'mass-storage'"),
        ("[[device]]", "[device]", "device"),
        ("[[device]]", "[[device", "cannot be read"),
        (GOOD, GOOD + GOOD, "066E is listed twice"),
    ],
)
def test_mistakes_in_a_bench_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(UsageError, match=message):
        read_bench(bench(tmp_path, text))


def test_boards_know_their_probe() -> None:
    for name in (F7, L4, "nucleo-h743zi"):
        board: Board = load_board(name)
        assert board.probe
        assert board.usb
        assert board.usb.mbed
