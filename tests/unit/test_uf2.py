"""UF2: the encoder against a reader of the format, and a folder that behaves as a bootloader's drive."""

from __future__ import annotations

import errno
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.boards.board import board_names, load_board
from hil.errors import BoardError, FlashError
from hil.targets.bench_file import BenchDevice
from hil.targets.detect import Connected
from hil.targets.flash import METHODS, Uf2Drive, flasher_for, lacking
from hil.targets.flash.base import segments_of
from hil.targets.flash.uf2 import FAMILIES, FILE_NAME, INFO_NAME, encode
from tests.conftest import ROOT
from tests.unit.test_flash import elf

INFO = {
    "rp2040": "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n",
    "rp2350": "UF2 Bootloader v1.0\r\nModel: Raspberry Pi RP2350\r\nBoard-ID: RP2350\r\n",
    "nrf52840": "UF2 Bootloader 0.6.2\nModel: Seeed XIAO nRF52840\nBoard-ID: nRF52840-SeeedXiao-v1\n",
}


def decoded(data: bytes, family: int) -> dict[int, bytes]:
    """Pages by address, as a bootloader reads them: blocks that are not UF2, or another family's, are an error here."""
    assert len(data) % 512 == 0
    found: dict[int, bytes] = {}
    for number in range(len(data) // 512):
        block = data[512 * number : 512 * (number + 1)]
        first, second, flags, address, size, index, count, kind = struct.unpack_from("<8I", block)
        assert (first, second, struct.unpack_from("<I", block, 508)[0]) == (0x0A324655, 0x9E5D5157, 0x0AB16F30)
        assert (flags, size, index, count, kind) == (0x2000, 256, number, len(data) // 512, family)
        assert address % 256 == 0
        assert block[32 + size : 508] == bytes(476 - size)
        found[address] = block[32 : 32 + size]
    return found


@st.composite
def images(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Segments that do not overlap, in any order."""
    at, parts = draw(st.integers(0x1000_0000, 0x1000_0400)), []
    for _ in range(draw(st.integers(1, 5))):
        at += draw(st.integers(0, 700))
        content = draw(st.binary(max_size=900))
        parts.append((at, content))
        at += len(content)
    return list(draw(st.permutations(parts)))


@settings(max_examples=150, deadline=None)
@given(images())
def test_every_byte_is_where_it_belongs_and_the_rest_is_erased(parts: list[tuple[int, bytes]]) -> None:
    if not any(content for _, content in parts):
        with pytest.raises(FlashError, match="nothing to flash"):
            encode(parts, 1)
        return
    pages = decoded(encode(parts, 0xE48BFF56), 0xE48BFF56)
    assert list(pages) == sorted(pages)
    memory = {address + i: byte for address, page in pages.items() for i, byte in enumerate(page)}
    wanted = {address + i: byte for address, content in parts for i, byte in enumerate(content)}
    assert {address: memory[address] for address in wanted} == wanted
    assert all(byte == 0xFF for address, byte in memory.items() if address not in wanted)
    assert set(pages) == {address & ~0xFF for address in wanted}


def test_segments_that_overlap() -> None:
    with pytest.raises(FlashError, match="share address 0x10000003"):
        encode([(0x1000_0000, b"four"), (0x1000_0003, b"x")], 1)


def test_the_families_are_those_of_the_format() -> None:
    """github.com/microsoft/uf2, uf2families.json: RP2040, RP2350 (Arm, secure), NRF52840."""
    assert {name: hex(row.family) for name, row in FAMILIES.items()} == {
        "rp2040": "0xe48bff56", "rp2350": "0xe48bff59", "nrf52840": "0xada52840",
    }  # fmt: skip
    for name, text in INFO.items():
        assert [other for other, row in FAMILIES.items() if row.says.search(text)] == [name]


# --- the drive --------------------------------------------------------------------------------------------------------


class Board:
    """A folder as a bootloader's drive: takes the file, and is gone once it has all blocks."""

    def __init__(self, folder: Path, family: str, *, starts: bool = True) -> None:
        self.folder, self.family, self.starts = folder, family, starts
        self.flashed: dict[int, bytes] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def mount(self) -> None:
        self.folder.mkdir()
        (self.folder / INFO_NAME).write_text(INFO[self.family])
        (self.folder / "INDEX.HTM").write_text("<html>")
        if self.starts:
            self._thread.start()

    def _run(self) -> None:
        file = self.folder / FILE_NAME
        while not self._stop.wait(0.005):
            try:
                data = file.read_bytes()
            except OSError:  # not there yet, gone with its drive, or a folder in its place
                data = b""
            if len(data) >= 512 and len(data) == 512 * struct.unpack_from("<I", data, 24)[0]:
                self.flashed = decoded(data, FAMILIES[self.family].family)  # type: ignore[index]
                self.folder.rename(self.folder.with_name("gone"))
                return

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return elf(
        tmp_path / "image.elf", [(0x1000_0000, bytes(range(256)) * 3), (0x1000_0500, b"data"), (0x2000_0000, b"")]
    )


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path / "RP 2350", "rp2350")
    yield made
    made.stop()


def mounts(tmp_path: Path, *drives: Path) -> Path:
    """A table of mounted drives, as Linux shows it."""
    lines = [
        f"/dev/sd{index} {str(drive).replace(' ', chr(92) + '040')} vfat rw 0 0" for index, drive in enumerate(drives)
    ]
    path = tmp_path / "mounts"
    path.write_text("\n".join(["proc /proc proc rw 0 0", f"/dev/sdz {tmp_path / 'ext'} ext4 rw 0 0", *lines]) + "\n")
    return path


def test_an_image_gets_onto_the_drive_that_is_its_kind(tmp_path: Path, board: Board, image: Path) -> None:
    other = tmp_path / "camera"
    other.mkdir()
    board.mount()
    flasher = Uf2Drive("rp2350", timeout_s=60, mounts=mounts(tmp_path, other, board.folder))
    flasher.flash(image)
    assert board.flashed is not None
    assert list(board.flashed) == [0x1000_0000, 0x1000_0100, 0x1000_0200, 0x1000_0500]
    assert board.flashed[0x1000_0500] == b"data" + b"\xff" * 252
    flasher.reset(None)  # type: ignore[arg-type]


def test_a_drive_is_waited_for(tmp_path: Path, board: Board, image: Path) -> None:
    late = threading.Timer(0.2, board.mount)
    late.start()
    Uf2Drive("rp2350", board.folder, timeout_s=60).flash(image)
    assert board.flashed is not None


def test_no_drive_and_another_chips_drive(tmp_path: Path, board: Board, image: Path) -> None:
    with pytest.raises(FlashError, match="no drive of a rp2350's bootloader is mounted: hold BOOTSEL"):
        Uf2Drive("rp2350", timeout_s=0.1, mounts=mounts(tmp_path)).flash(image)
    board.family = "rp2040"
    board.mount()
    with pytest.raises(FlashError, match="is mounted at"):
        Uf2Drive("rp2350", board.folder, timeout_s=0.1).flash(image)
    assert not (board.folder / FILE_NAME).exists()


def test_two_drives_of_a_kind(tmp_path: Path, image: Path) -> None:
    drives = [tmp_path / "one", tmp_path / "two"]
    for drive in drives:
        drive.mkdir()
        (drive / INFO_NAME).write_text(INFO["nrf52840"])
    with pytest.raises(FlashError, match="several drives are of a nrf52840"):
        Uf2Drive("nrf52840", timeout_s=1, mounts=mounts(tmp_path, *drives)).flash(image)


def test_a_drive_that_stays(board: Board, image: Path) -> None:
    board.starts = False
    board.mount()
    started = time.monotonic()
    with pytest.raises(FlashError, match=r"did not start it within 0\.3 s"):
        Uf2Drive("rp2350", board.folder, timeout_s=0.3).flash(image)
    assert time.monotonic() - started < 5


def test_what_is_no_image_touches_no_drive(tmp_path: Path, board: Board) -> None:
    board.mount()
    (tmp_path / "text").write_text("no ELF")
    with pytest.raises(FlashError, match="text"):
        Uf2Drive("rp2350", board.folder, timeout_s=1).flash(tmp_path / "text")
    assert not (board.folder / FILE_NAME).exists()
    with pytest.raises(FlashError):
        segments_of(tmp_path / "absent")


def test_a_drive_that_is_full(board: Board, image: Path) -> None:
    board.starts = False
    board.mount()
    (board.folder / FILE_NAME).symlink_to("/dev/full")
    with pytest.raises(FlashError, match=r"cannot copy the image .*took 0 of 2048 bytes: No space left on device"):
        Uf2Drive("rp2350", board.folder, timeout_s=1).flash(image)


def test_a_drive_that_is_read_only(board: Board, image: Path) -> None:
    board.starts = False
    board.mount()
    (board.folder / FILE_NAME).mkdir()  # what cannot be written, for root neither
    with pytest.raises(FlashError, match=r"cannot copy the image to .*: Is a directory"):
        Uf2Drive("rp2350", board.folder, timeout_s=1).flash(image)


@pytest.mark.parametrize("blocks", [0, 2, 3])
def test_a_drive_that_goes_before_it_has_the_image(
    board: Board, image: Path, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four blocks: only with the last one the board may have started the image."""
    board.starts = False
    board.mount()
    real = Path.open

    def goes(path: Path, *words: Any, **others: Any) -> Any:
        if path.name != FILE_NAME:
            return real(path, *words, **others)
        board.folder.rename(board.folder.with_name("gone"))
        if not blocks:
            raise OSError(errno.ENODEV, "No such device")
        return Vanishing(blocks)

    monkeypatch.setattr(Path, "open", goes)
    flasher = Uf2Drive("rp2350", board.folder, timeout_s=1)
    if blocks == 3:
        flasher.flash(image)
    else:
        with pytest.raises(FlashError, match=rf"it took {512 * blocks} of 2048 bytes: .*(device|error)"):
            flasher.flash(image)


class Vanishing:
    """A file on a drive that goes after so many blocks."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def __enter__(self) -> Vanishing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, data: bytes) -> int:
        if not self.left:
            raise OSError(errno.EIO, "Input/output error")
        self.left -= 1
        return len(data)


# --- which board which way --------------------------------------------------------------------------------------------


def test_the_bench_file_and_the_boards_name_it(tmp_path: Path) -> None:
    device = BenchDevice(board="raspberry-pi-pico-2", serial_number="1", flash="uf2", drive=tmp_path)
    assert device.flash == "uf2"
    connected = Connected("1", ("raspberry-pi-pico-2",), None, (tmp_path,), flash="uf2")
    assert flasher_for(connected, load_board("raspberry-pi-pico-2")) == Uf2Drive("rp2350", tmp_path)
    with pytest.raises(BoardError, match="does not say what flashing with uf2 needs: uf2, the family"):
        flasher_for(connected, load_board("nucleo-f746zg"))


def test_the_documentation_says_which_boards_each_method_knows() -> None:
    """docs/link.md has one row a board and one column a method."""
    rows = {}
    for line in (ROOT / "docs" / "link.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "board" and "uf2" in cells:
            assert tuple(cells[1:]) == METHODS
        elif len(cells) == len(METHODS) + 1 and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1:]
    probed = [name for name in board_names() if load_board(name).probe or load_board(name).uf2]
    assert rows == {
        name: ["yes" if lacking(method, load_board(name)) is None else "-" for method in METHODS] for name in probed
    }
