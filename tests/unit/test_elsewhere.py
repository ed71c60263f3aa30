"""Ports behind URLs, and the commands of a bench file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import serial

from hil.boards.board import load_board
from hil.errors import FlashError, ToolMissing, UsageError
from hil.link.transport import CHUNK, Gathering, open_port
from hil.targets.bench_file import read_bench
from hil.targets.detect import connected_devices
from hil.targets.flash import CommandFlasher, flasher_for
from tests.serial_server import PtyPort, served

ENTRY = '[[device]]\nboard = "nucleo-f746zg"\nserial_number = "lab-3"\nport = "socket://127.0.0.1:9"\n'


def bench(folder: Path, text: str) -> Path:
    path = folder / "bench.toml"
    path.write_text(ENTRY + text)
    return path


def test_a_device_behind_a_url_is_connected_with_its_commands(tmp_path: Path) -> None:
    text = 'flash = "command"\nflash_command = "put \'a b\' {image}"\nreset_command = "go {serial}"\n'
    found = connected_devices(read_bench(bench(tmp_path, text)), [])
    (device,) = found
    assert (device.port, device.flash_command, device.reset_command) == (
        "socket://127.0.0.1:9", ("put", "a b", "{image}"), ("go", "{serial}")
    )  # fmt: skip
    assert device.power_cycle_command == ()
    flasher = flasher_for(device, load_board("nucleo-f746zg"))
    assert flasher == CommandFlasher("lab-3", device.flash_command, device.reset_command)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('flash = "command"', "flash_command goes with"),
        ('flash_command = "a"', "flash_command goes with"),
        ('reset_command = "a"', "reset_command is for flash = 'command', not for 'mass-storage'"),
        ('power_cycle_command = "a \'b"', "No closing quotation"),
        ('power_cycle_command = " "', "a command of no words"),
        ('flash = "command"\nflash_command = "a {images}"', r"\{images\} is neither \{image\} nor \{serial\}"),
        ("power_cycle_command = 3", "string"),
        ('flash = "command"\nflash_command = "a {image"', r"\{image has no closing brace"),
        ('flash = "command"\nflash_command = "a {serial}"', r"does not say where \{image\} belongs"),
        ('flash = "command"\nflash_command = "a {image}"\nreset_command = "b {image}"', r"reset_command has \{image\}"),
        ('flash = "uf2"\ndrive = ""', "drive is empty"),
        ('flash = "gdb"\ngdb_server = "openocd"\ngdb = "localhost:70000"', "a number that no port has"),
    ],
)
def test_commands_that_cannot_be_run_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_bench(bench(tmp_path, text))


@pytest.mark.parametrize(
    "url",
    [
        "socket://", "socket://:", "socket://h", "socket://h:0", "socket://h:-1", "socket://h:70000", "socket://[::1",
        "socket:// h:1", "rfc2217://", "rfc2217://lab", "rfc2217://lab:telnet", "RFC2217://lab:1", "bogus://x:1",
    ],
)  # fmt: skip
def test_a_url_that_leads_nowhere_is_refused(tmp_path: Path, url: str) -> None:
    """When the file is read, rather than by a Python message after the image was flashed twice."""
    path = tmp_path / "bench.toml"
    path.write_text(ENTRY.replace("socket://127.0.0.1:9", url))
    with pytest.raises(UsageError, match=r"port: .*(is not (socket|rfc2217)://HOST:PORT|not known)"):
        read_bench(path)


def test_a_url_whose_device_is_not_there_yet_is_none_of_the_files_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(ENTRY.replace("socket://127.0.0.1:9", "hwgrep://no-such-adapter"))
    assert read_bench(path).device[0].port == "hwgrep://no-such-adapter"


def test_a_command_gets_image_and_serial_number(tmp_path: Path) -> None:
    image = tmp_path / "{serial} x.elf"
    image.touch()
    script = tmp_path / "put"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/said"\n')
    script.chmod(0o755)
    CommandFlasher("A1", (str(script), "{image}", "{serial}")).flash(image)
    assert (tmp_path / "said").read_text().splitlines() == [str(image), "A1"]
    with pytest.raises(FlashError, match="flashing A1: false failed with status 1"):
        CommandFlasher("A1", ("false",)).flash(image)
    with pytest.raises(ToolMissing, match="no-such-program-here"):
        CommandFlasher("A1", ("no-such-program-here",)).flash(image)


class Broken:
    """A port that counts breaks."""

    breaks = 0

    def send_break(self, duration: float = 0.25) -> None:
        self.breaks += 1


def test_without_a_command_a_break_resets() -> None:
    port = Broken()
    CommandFlasher("A1", ("put",)).reset(port)
    assert port.breaks == 1


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")
@pytest.mark.parametrize("rfc2217", [False, True])
def test_what_is_sent_arrives_either_way(rfc2217: bool) -> None:
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    message = bytes(range(256)) * 8
    raw = serial.Serial(os.ttyname(theirs))  # as a device leaves its port
    with raw, served(lambda: PtyPort(os.ttyname(theirs)), rfc2217=rfc2217) as url:
        port = open_port(f"{url}?timeout=60" if rfc2217 else url)  # pyserial's own for its server's word: 3 s
        try:
            port.write(message)
            assert _taken(lambda: _read(ours), len(message)) == message
            os.write(ours, message[:1000])
            assert _taken(lambda: port.read(max(1, port.in_waiting)), 1000) == message[:1000]
            assert port.read(1) == b""
        finally:
            port.close()
    os.close(ours)
    os.close(theirs)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


def _taken(read, size: int) -> bytes:  # type: ignore[no-untyped-def]
    data, deadline = b"", time.monotonic() + 60
    while len(data) < size and time.monotonic() < deadline:
        data += read()
    return data


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(serial.SerialException):
        open_port("socket://127.0.0.1:9")
    with pytest.raises(ValueError, match="invalid URL"):
        open_port("nonsense://x")


class Ending:
    """A socket's port with three bytes, after which the other side has closed."""

    timeout: float | None = 0.05
    in_waiting = 1

    def __init__(self) -> None:
        self.left = list(b"abc")

    def read(self, size: int = 1, /) -> bytes:
        if not self.left:
            raise serial.SerialException("socket disconnected")
        return bytes([self.left.pop(0)])

    def write(self, data: bytes, /) -> int:
        return len(data)

    def close(self) -> None:
        pass


def test_the_last_words_of_a_socket_are_heard() -> None:
    port = Gathering(Ending())
    assert port.read(CHUNK) == b"abc"
    with pytest.raises(serial.SerialException, match="disconnected"):
        port.read(1)
    with pytest.raises(serial.SerialException, match="reset_command"):
        port.send_break()
