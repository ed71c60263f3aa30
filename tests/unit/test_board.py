"""Boards: every shipped file loads; every kind of mistake is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.boards.board import board_names, canonical_name, load_board, parse_size_bytes, read_board
from hil.errors import BoardError
from hil.resources import boards_dir

GOOD = """
name = "mine"
description = "a board of mine"
core = "cortex-m4"
clock_hz = 80_000_000
source = "data sheet"

[qemu]
machine = "mps2-an386"
port = "mps2"
timer = "icount-instructions"
flash = { origin = 0x00000000, length = "1M" }
sram = { origin = 0x20000000, length = "256K" }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", board_names())
def test_every_shipped_board_loads(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.target("qemu").machine
    assert board.budget.flash == board.budget.sram == 65536


def test_the_shipped_boards_are_the_promised_ones() -> None:
    promised = {"mps2-an386", "mps2-an500", "nucleo-f746zg", "nucleo-l4r5zi", "nucleo-h743zi"}
    assert promised <= set(board_names())


@pytest.mark.parametrize("spelling", ["nucleo_f746zg", "NUCLEO_F746ZG", " Nucleo-F746ZG "])
def test_spellings_of_a_name(spelling: str) -> None:
    assert canonical_name(spelling) == "nucleo-f746zg"
    assert load_board(spelling) is not None


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(BoardError, match=r"did you mean nucleo-f746zg\?"):
        load_board("nucleo-f764zg")


@pytest.mark.parametrize("name", ["../pyproject", "", "mps2-an386/../mps2-an500", "no\x00such"])
def test_a_name_never_leaves_the_folder(name: str) -> None:
    with pytest.raises(BoardError):
        load_board(name)


def test_a_board_file_of_the_user(tmp_path: Path) -> None:
    board = load_board(str(write(tmp_path, GOOD)))
    assert (board.name, board.budget.flash) == ("mine", 65536)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_hz", "clok_hz", "did you mean 'clock_hz'"),
        ("machine =", "machin =", r"qemu\.machin: unknown key; did you mean 'machine'"),
        ('length = "1M"', 'lenght = "1M"', r"qemu\.flash\.lenght: unknown key; did you mean 'length'"),
        ("0x20000000", "0x00080000", "overlap"),
        ("0x20000000", "0xFFFFFFF0", "leaves the 32-bit address space"),
        ('"256K"', '"32K"', "exceeds qemu.sram"),
        ('"256K"', '"many"', "is not a size"),
        ('"256K"', "0", "greater than 0"),
        ("cortex-m4", "cortex-m3", "core"),
        ("80_000_000", "-1", "clock_hz"),
        ("80_000_000", '"fast"', "clock_hz"),
        ('port = "mps2"', 'port = "../../etc/passwd"', "port"),
        ('machine = "mps2-an386"', "", "machine"),
        ('name = "mine"', 'name = "Mine!"', "name"),
        ("[qemu]", "[qemu", "cannot be read"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(BoardError, match=message):
        read_board(write(tmp_path, text))


def test_a_missing_and_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="does not exist"):
        load_board(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BoardError, match="cannot be read"):
        load_board(str(tmp_path / "binary.toml"))


def test_a_board_without_a_target(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="needs a"):
        read_board(write(tmp_path, GOOD.split("[qemu]")[0]))


def test_no_target_for_a_via(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="no target for --via hardware"):
        read_board(write(tmp_path, GOOD)).target("hardware")


def test_the_name_in_the_file_is_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(BoardError, match="has to be the file's name"):
        load_board("other", tmp_path)


@pytest.mark.parametrize(("text", "size"), [("64K", 65536), ("1M", 1 << 20), (12, 12), ("64 KiB", 65536), ("7", 7)])
def test_sizes(text: object, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["-1", "64G", "", "0x10", True, None, 1.5])
def test_what_is_not_a_size(text: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size_bytes(text)


def test_budget_override() -> None:
    board = load_board("mps2-an386").with_budget(1 << 20, None)
    assert (board.budget.flash, board.budget.sram) == (1 << 20, 65536)


def test_the_readme_of_the_boards_names_every_key() -> None:
    text = (boards_dir() / "README.md").read_text(encoding="utf-8")
    for key in ("name", "core", "clock_hz", "budget", "uart", "usb", "hardware", "qemu", "machine", "port", "timer"):
        assert f"`{key}`" in text or f"`[{key}" in text or f"{key}`" in text
