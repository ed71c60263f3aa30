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
    entry = BenchDevice(board="NUCLEO_L4R5ZI", serial_number="066E", flash="openocd", baud=9600)
    unsure = Found("066E", (F7, L4), "/dev/ttyACM7", (), "USB ids")
    (device,) = connected_devices(Bench(device=(entry,)), [source(unsure)])
    assert device == Connected("066E", (L4,), "/dev/ttyACM7", (), "openocd", "bench file", baud=9600)
    assert (device.rate(), Connected("1", (L4,), None).rate(), Connected("1", (), None).rate()) == (
        9600,
        115200,
        115200,
    )


def test_a_device_of_the_bench_file_that_is_not_there(tmp_path: Path) -> None:
    absent = BenchDevice(board=F7, serial_number="1", port=str(tmp_path / "tty"))
    assert connected_devices(Bench(device=(absent,)), []) == ()
    (tmp_path / "tty").touch()
    assert [device.serial_number for device in connected_devices(Bench(device=(absent,)), [])] == ["1"]


def test_two_boards_with_one_serial_number_go_by_their_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one with several ports is one."""
    ports = [port_info("/dev/ttyACM0", "066E"), port_info("/dev/ttyACM1", "066E"), port_info("/dev/ttyACM2", "066E")]
    for info, location in zip(ports, ("1-2:1.0", "1-2:1.2", "1-3:1.0"), strict=True):
        info.location = location
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: ports)
    found = connected_devices(NOTHING, [usb_ports])
    assert [device.serial_number for device in found] == ["/dev/ttyACM0", "/dev/ttyACM1", "/dev/ttyACM2"]
    ports.pop()
    (one,) = connected_devices(NOTHING, [usb_ports])
    assert (one.serial_number, one.port) == ("066E", "/dev/ttyACM0")


@pytest.mark.parametrize("mounted", [1, 2])
def test_a_shared_serial_number_finds_no_drive(monkeypatch: pytest.MonkeyPatch, mounted: int) -> None:
    """Another board would be flashed. mbed-tools gives each of them the port that it finds first."""
    drives = [mbed_device("NUCLEO_F746ZG", "066E"), mbed_device("NUCLEO_L4R5ZI", "066E")]
    drives[1].mount_points = (Path("/n"),)
    mbed(monkeypatch, *drives[:mounted])
    ports = [port_info("/dev/ttyACM3", "066E"), port_info("/dev/ttyACM4", "066E")]
    ports[0].location, ports[1].location = "1-2:1.2", "1-3:1.2"
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: ports)
    found = connected_devices(NOTHING)
    assert [(device.serial_number, device.drives) for device in found] == [("/dev/ttyACM3", ()), ("/dev/ttyACM4", ())]
    with pytest.raises(DeviceMissing, match="it may be one of these, which --device chooses: /dev/ttyACM3"):
        choose(F7, found)
    assert connected_devices(NOTHING, [mbed_devices]) == () or mounted == 1


def test_a_board_that_the_bench_file_names_by_its_port_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "tty").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "tty")
    entry = BenchDevice(board=F7, serial_number="lab-1", port=str(tmp_path / "by-id"))
    (device,) = connected_devices(Bench(device=(entry,)), [source(f7("066E", str(tmp_path / "tty")))])
    assert (device.serial_number, device.drives) == ("lab-1", (Path("/media/066E"),))


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


RTT = """
[[device]]
board = "nucleo-f746zg"
serial_number = "066E"
flash = "gdb"
gdb = "here:3333"
gdb_server = "openocd"
link = "rtt"
port = "socket://here:9090"
"""


def bench(tmp_path: Path, text: str) -> Path:
    (tmp_path / "bench.toml").write_text(text)
    return tmp_path / "bench.toml"


def test_a_bench_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_BENCH", str(bench(tmp_path, GOOD)))
    (device,) = read_bench().device
    assert (device.board, device.drive, device.baud) == (F7, Path("/media/me/NODE_F746ZG"), None)
    (device,) = read_bench(bench(tmp_path, f"{GOOD}baud = 115200")).device
    assert device.baud == 115_200


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
        (GOOD, f"{GOOD}baud = 300", r"device\.0\.baud: Input should be greater than or equal to 4800"),
        (GOOD, f"{GOOD}baud = true", r"device\.0\.baud: Input should be a valid integer"),
        (GOOD, f'{GOOD}baud = ["115200"]', r"device\.0\.baud: Input should be a valid integer"),
        (GOOD, f"{RTT}baud = 9600", "baud is of a serial line, which link = 'rtt' does without"),
        (GOOD, RTT.replace("here:3333", "3333"), r"device\.0\.gdb: '3333' is not HOST:PORT"),
        (GOOD, RTT.replace("here", "-x"), r"device\.0\.gdb: '-x:3333' is not HOST:PORT"),
        (GOOD, RTT.replace("3333", "70000"), r"device\.0\.gdb: 'here:70000' ends with a number that no port has"),
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
