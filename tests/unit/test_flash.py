"""Flashing: a folder plays the mass-storage drive, scripts play the flashing programs."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from hil.boards.board import board_names, load_board
from hil.boards.target import Region
from hil.errors import BoardError, FlashError, ToolMissing
from hil.link.transport import open_port
from hil.targets.detect import Connected
from hil.targets.flash import MassStorage, OpenOcd, ProgramFlasher, PyOcd, flasher_for
from hil.targets.flash.base import flat_binary, require_in_flash, run_probe
from hil.targets.flash.mass_storage import FAIL_NAME, FILE_NAME
from hil.targets.flash.programs import PROGRAMS, ProgramName
from tests.conftest import ROOT
from tests.contract.processes import gone

ORIGIN = 0x08000000
FLAT = b"early\xff\xff\xfflate"  # what `image` is on a drive


def elf(path: Path, segments: list[tuple[int, bytes]]) -> Path:
    """A 32-bit Arm ELF of loadable segments (address, content); an empty one stands for RAM."""
    header, program = 52, 32
    offset = header + program * len(segments)
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    text = ident + struct.pack(
        "<HHIIIIIHHHHHH", 2, 40, 1, ORIGIN, header, 0, 0, header, program, len(segments), 40, 0, 0
    )
    body = b""
    for address, content in segments:
        text += struct.pack("<IIIIIIII", 1, offset + len(body), address, address, len(content), 64, 5, 4)
        body += content
    path.write_bytes(text + body)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return elf(tmp_path / "image.elf", [(ORIGIN + 8, b"late"), (ORIGIN, b"early"), (0x20000000, b"")])


def test_a_flat_binary_is_in_order_and_without_ram(image: Path) -> None:
    assert flat_binary(image) == (ORIGIN, FLAT)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ELF")
    for path in (tmp_path / "text", tmp_path / "absent"):
        with pytest.raises(FlashError, match=path.name):
            flat_binary(path)
    with pytest.raises(FlashError, match="holds nothing"):
        flat_binary(elf(tmp_path / "empty.elf", [(0x20000000, b"")]))


def test_an_image_that_is_cut_off_or_overlaps_or_is_endless(tmp_path: Path, image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-2])
    with pytest.raises(FlashError, match=r"is cut off: 3 of 5 bytes at 0x08000000"):
        flat_binary(image)
    with pytest.raises(FlashError, match="share address 0x08000003"):
        flat_binary(elf(image, [(ORIGIN, b"four"), (ORIGIN + 3, b"x")]))
    with pytest.raises(FlashError, match=r"from 0x08000000 to 0xf0000004: no flash is that long"):
        flat_binary(elf(image, [(ORIGIN, b"four"), (0xF000_0000, b"four")]))


@pytest.mark.parametrize(
    ("segments", "fits"),
    [
        ([(ORIGIN, b"four")], True), ([(ORIGIN, b"four"), (ORIGIN + 12, b"four")], True),
        ([(ORIGIN + 8, b"four")], False),  # a drive would put it at the start
        ([(0x1000_0000, b"four")], False), ([(ORIGIN, b"four"), (ORIGIN + 13, b"four")], False),
    ],
)  # fmt: skip
def test_an_image_is_where_the_boards_flash_is(tmp_path: Path, segments: list[tuple[int, bytes]], fits: bool) -> None:
    made = elf(tmp_path / "made.elf", segments)
    with nullcontext() if fits else pytest.raises(FlashError, match="it was built for another board"):
        require_in_flash(made, Region(origin=ORIGIN, length=16))


# --- the drive --------------------------------------------------------------------------------------------------------


class Drive:
    """A probe's drive: takes a file, goes away, comes back without it, and with FAIL.TXT when something went wrong."""

    def __init__(self, folder: Path, *, says: str = "", vanishes: bool = True, old_failure: str = "") -> None:
        self.folder, self.says, self.vanishes = folder, says, vanishes
        self.written: list[bytes] = []
        self.stop = threading.Event()
        self._mount(old_failure)

    def _mount(self, failure: str) -> None:
        """With all that is on it at once."""
        made = self.folder.with_suffix(".made")
        made.mkdir()
        (made / "DETAILS.TXT").write_text("Version: 0221\n")
        if failure:
            (made / FAIL_NAME).write_text(failure)
        made.rename(self.folder)

    def run(self) -> None:
        file = self.folder / FILE_NAME
        while not self.stop.wait(0.01):
            if not file.exists() or file.stat().st_size < len(FLAT):  # being written
                continue
            self.written.append(file.read_bytes())
            if self.vanishes:
                away = self.folder.with_suffix(".away")
                self.folder.rename(away)
                time.sleep(0.1)
                shutil.rmtree(away)
            else:
                for name in (FAIL_NAME, "DETAILS.TXT", FILE_NAME):  # or it would be back when only our file has gone
                    (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()
            self._mount(self.says)

    @contextmanager
    def running(self) -> Iterator[MassStorage]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield MassStorage(self.folder, timeout_s=60.0, settle_s=0.05)
        finally:
            self.stop.set()
            thread.join()


@pytest.mark.parametrize("vanishes", [True, False])
@pytest.mark.parametrize("old_failure", ["", "the last one failed"])
def test_the_drive_takes_the_image(tmp_path: Path, image: Path, vanishes: bool, old_failure: str) -> None:
    """What FAIL.TXT says of an image before ours is not ours."""
    drive = Drive(tmp_path / "drive", vanishes=vanishes, old_failure=old_failure)
    with drive.running() as flasher:
        flasher.flash(image)
    assert drive.written == [FLAT]


@pytest.mark.parametrize("old_failure", ["", "SWD error\r\n", "other"])
def test_fail_txt_is_reported(tmp_path: Path, image: Path, old_failure: str) -> None:
    """Also when it says the same as the time before."""
    drive = Drive(tmp_path / "drive", says="SWD error\r\n", old_failure=old_failure)
    with drive.running() as flasher, pytest.raises(FlashError, match=r"FAIL\.TXT says: SWD error$"):
        flasher.flash(image)


def test_a_drive_that_does_not_come_back(tmp_path: Path, image: Path) -> None:
    (tmp_path / "drive").mkdir()
    with pytest.raises(FlashError, match=r"did not come back within 0\.3 s; is it remounted"):
        MassStorage(tmp_path / "drive", timeout_s=0.3).flash(image)


def test_a_drive_that_is_not_mounted(tmp_path: Path, image: Path) -> None:
    with pytest.raises(FlashError, match="is not mounted"):
        MassStorage(tmp_path / "drive").flash(image)
    device = Connected("1", ("nucleo-f746zg",), None, (tmp_path / "drive",))
    with pytest.raises(FlashError, match="the drive of 1 is not mounted"):
        flasher_for(device, load_board("nucleo-f746zg"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_drive_that_is_read_only(tmp_path: Path, image: Path) -> None:
    drive = tmp_path / "drive"
    drive.mkdir(mode=0o555)
    with pytest.raises(FlashError, match="cannot copy"):
        MassStorage(drive).flash(image)


def test_the_drives_reset_is_a_break(tmp_path: Path) -> None:
    breaks: list[float] = []

    class Port:
        def send_break(self, duration: float = 0.0) -> None:
            breaks.append(duration)

    MassStorage(tmp_path).reset(Port())
    assert breaks == [0.25]


def test_a_port_that_vanishes_before_the_break(tmp_path: Path) -> None:
    master, slave = os.openpty()
    with open_port(os.ttyname(slave)) as port:
        os.close(slave)
        os.close(master)
        with pytest.raises(FlashError, match="cannot be reset by a serial break"):
            MassStorage(tmp_path).reset(port)


def test_a_drive_that_answers_with_errors_while_it_comes_back(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a FAT drive does whose USB device is gone: not "no such folder", but EIO."""
    real, asked, drive = Path.is_dir, iter(range(1000)), tmp_path / "drive"

    def is_dir(path: Path) -> bool:
        if path == drive and 0 < (number := next(asked)) < 4:
            if number == 3:
                (drive / FILE_NAME).unlink()
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    drive.mkdir()
    (drive / "DETAILS.TXT").touch()
    monkeypatch.setattr(Path, "is_dir", is_dir)
    MassStorage(drive, timeout_s=60.0, settle_s=0.0).flash(image)
    assert next(asked) > 4


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a program on the PATH that logs its arguments, one a line, and then runs `body` (sh)."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def make(name: str, body: str) -> Path:
        (tmp_path / "bin").mkdir(exist_ok=True)
        log, script = tmp_path / f"{name}.log", tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word" >> {log}; done\n{body}\n')
        script.chmod(0o755)
        return log

    return make


def test_openocd_is_told_image_and_adapter(program: Callable[[str, str], Path], image: Path) -> None:
    log = program("openocd", "exit 0")
    device = Connected("066E", ("nucleo-f746zg",), "/dev/null", flash="openocd")
    flasher = flasher_for(device, load_board("nucleo-f746zg"))
    flasher.flash(image)
    flasher.reset(None)  # type: ignore[arg-type]
    assert log.read_text().splitlines() == [
        "-f", "board/st_nucleo_f7.cfg", "-c", "adapter serial 066E", "-c", f"program {{{image}}} verify",
        "-c", "shutdown",
        "-f", "board/st_nucleo_f7.cfg", "-c", "adapter serial 066E", "-c", "init", "-c", "reset run", "-c", "shutdown",
    ]  # fmt: skip


def test_pyocd_is_told_image_target_and_probe(program: Callable[[str, str], Path], image: Path) -> None:
    log = program("pyocd", "exit 0")
    device = Connected("066E", ("nucleo-l4r5zi",), "/dev/null", flash="pyocd")
    flasher_for(device, load_board("nucleo-l4r5zi")).flash(image)
    assert log.read_text().split() == [
        "flash", "--no-wait", "--uid", "066E", "--target", "stm32l4r5zitx", "--format", "elf", str(image),
    ]  # fmt: skip


def test_a_program_that_fails_is_quoted(program: Callable[[str, str], Path], image: Path) -> None:
    program("openocd", "echo 'Open On-Chip Debugger'; echo 'Error: no device found' >&2; echo bye; exit 1")
    with pytest.raises(FlashError, match=r"openocd failed with status 1: Error: no device found$"):
        OpenOcd("066E", "a.cfg").flash(image)


def test_a_program_that_hangs_takes_its_children_along(
    program: Callable[[str, str], Path], image: Path, tmp_path: Path
) -> None:
    program("pyocd", f"sleep 600 & echo $! > {tmp_path}/child; wait")
    child, timeout_s = tmp_path / "child", 0.25
    child.touch()
    while not child.read_text():  # a busy machine does not start it in time
        timeout_s *= 2
        with pytest.raises(FlashError, match=rf"did not finish within {timeout_s:g} s"):
            PyOcd("066E", "x", timeout_s=timeout_s).flash(image)
    assert gone(int(child.read_text()), 1.0)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="nothing to do it with")
def test_a_program_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    """The lock of the board ends with the owner; a program that flashes on would meet the next one's."""
    script = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    code = (
        f"from hil.targets.flash.base import run_probe; run_probe(['sh', '-c', {script!r}], 'a test', 'nothing', 600.0)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    owner.kill()
    owner.wait()
    assert gone(int((tmp_path / "pid").read_text()), 5.0)


def test_a_program_that_is_missing(image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt-get install openocd"):
        OpenOcd("1", "a.cfg").flash(image)
    with pytest.raises(ToolMissing, match="pip install pyocd"):
        PyOcd("1", "x").reset(None)  # type: ignore[arg-type]


def test_a_path_that_tcl_would_read_otherwise(tmp_path: Path) -> None:
    with pytest.raises(FlashError, match="braces"):
        OpenOcd("1", "a.cfg").flash(tmp_path / "a}b.elf")


def test_a_serial_number_that_tcl_would_run(image: Path, program: Callable[[str, str], Path]) -> None:
    program("openocd", "exit 0")
    with pytest.raises(FlashError, match="cannot take the serial number"):
        OpenOcd("1[exec reboot]", "a.cfg").flash(image)


def test_a_board_without_a_probe() -> None:
    device = Connected("1", ("mps2-an386",), None, flash="pyocd")
    with pytest.raises(BoardError, match=r"needs: a \[probe\] table"):
        flasher_for(device, load_board("mps2-an386"))


def test_a_silent_failure_is_told_too() -> None:
    with pytest.raises(FlashError, match="it said nothing"):
        run_probe([sys.executable, "-c", "raise SystemExit(7)"], "a test", "nothing", 10.0)


# --- programs of the table ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_table_is_told_image_chip_and_probe(
    program: Callable[[str, str], Path], image: Path, name: ProgramName
) -> None:
    log = program(PROGRAMS[name].program, 'for last; do :; done; [ ! -f "$last" ] || cat "$last" >> "$0.script"')
    device = Connected("066E", ("nucleo-f746zg",), "/dev/null", flash=name)
    flasher = flasher_for(device, load_board("nucleo-f746zg"))
    flasher.flash(image)
    flashed = log.read_text()
    script = Path(shutil.which(PROGRAMS[name].program) + ".script")  # type: ignore[operator]
    told = flashed + (script.read_text(errors="replace") if name == "j-link" else "")
    assert str(image) in told
    assert "066E" in told
    assert ("STM32F746ZG" in told) == (name != "cubeprogrammer")
    assert "{" not in told
    flasher.reset(None)  # type: ignore[arg-type]
    again = log.read_text().removeprefix(flashed)
    assert "066E" in again
    assert str(image) not in again
    if name == "j-link":
        assert script.read_text() == f"r\nloadfile {image}\nexit\nr\ng\nexit\n"


def test_what_a_program_of_the_table_cannot_take(program: Callable[[str, str], Path], image: Path) -> None:
    program("JLinkExe", "exit 0")
    with pytest.raises(FlashError, match="cannot take the serial number"):
        ProgramFlasher("j-link", "1\nexit", "X").flash(image)
    with pytest.raises(FlashError, match="know no quotes"):
        ProgramFlasher("j-link", "1", "X").flash(image.with_name("two words.elf"))
    board = load_board("nucleo-f746zg")
    assert board.probe is not None
    nameless = board.model_copy(update={"probe": board.probe.model_copy(update={"probe_rs": None})})
    with pytest.raises(BoardError, match=r"\[probe\] probe_rs"):
        flasher_for(Connected("1", (board.name,), None, flash="probe-rs"), nameless)


def test_a_missing_program_of_the_table(image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, row in PROGRAMS.items():
        with pytest.raises(ToolMissing) as caught:
            ProgramFlasher(name, "1", "X").flash(image)
        assert row.install in str(caught.value)
        assert row.source.endswith("never run")


# --- the real programs, as far as they go without a probe -------------------------------------------------------------

WITH_PROBE = [name for name in board_names() if load_board(name).probe is not None]
NO_SUCH_PROBE = "000669123456"  # digits: J-Link's are numbers
NEWER_OPENOCD = ("nucleo-u575zi-q",)  # 0.12 has no file for it


@pytest.mark.parametrize("name", WITH_PROBE)
def test_the_real_openocd_reads_a_boards_configuration(image: Path, name: str) -> None:
    """All of it: what fails is the probe that is not there, and that is recognised."""
    if shutil.which("openocd") is None:
        pytest.skip("openocd is not installed")
    flasher = flasher_for(Connected(NO_SUCH_PROBE, (name,), None, flash="openocd"), load_board(name))
    with pytest.raises(FlashError) as caught:
        flasher.flash(image)
    if name in NEWER_OPENOCD:
        assert "does not have the board's configuration file" in str(caught.value)
    else:
        assert "no such probe is connected" in str(caught.value)


def test_the_real_openocd_without_the_configuration_file(image: Path) -> None:
    if shutil.which("openocd") is None:
        pytest.skip("openocd is not installed")
    with pytest.raises(FlashError, match="does not have the board's configuration file"):
        OpenOcd(NO_SUCH_PROBE, "board/of_nobody.cfg").flash(image)


def test_the_real_openocd_knows_the_commands_of_rtt() -> None:
    """Those of docs/link.md, but for the two that need a probe."""
    if shutil.which("openocd") is None:
        pytest.skip("openocd is not installed")
    said = (ROOT / "docs" / "link.md").read_text()
    setup = 'rtt setup 0x20000000 0x10000 "SEGGER RTT"'
    assert f"'{setup}'" in said
    assert "'rtt server start 9090 0'" in said
    commands = [setup, "rtt server start 0 0", "shutdown"]  # 0: any port that is free
    words = ["openocd", "-f", "board/st_nucleo_f7.cfg", *(word for item in commands for word in ("-c", item))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr


@pytest.mark.slow
def test_the_real_pyocd_without_a_probe(image: Path) -> None:
    if shutil.which("pyocd") is None and not (Path(sys.executable).parent / "pyocd").exists():
        pytest.skip("pyocd is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        with pytest.raises(FlashError, match="no such probe is connected"):
            PyOcd(NO_SUCH_PROBE, "cortex_m").flash(image)
