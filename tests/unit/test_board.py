"""Boards: every shipped file loads; every kind of mistake is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.boards.board import board_names, canonical_name, load_board, read_board
from hil.boards.core import core_names, load_core
from hil.boards.machines import PORT_CORES
from hil.boards.sizes import parse_size_bytes
from hil.boards.soc import load_soc, soc_names
from hil.errors import BoardError
from hil.resources import boards_dir, firmware_dir

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
    assert board.budget.flash == 65536
    assert board.budget.sram == min(65536, board.target("qemu").sram.length)


def test_the_shipped_boards_are_the_promised_ones() -> None:
    promised = {
        "mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547", "nucleo-f746zg", "nucleo-l4r5zi",
        "nucleo-h743zi", "nrf52840-dk", "arduino-nano-33-ble-sense", "nucleo-f446re", "stm32f4-discovery",
        "nucleo-h7a3zi", "disco-f746ng", "raspberry-pi-pico-2", "nucleo-u575zi-q", "microbit",
    }  # fmt: skip
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
        ("cortex-m4", "cortex-m44", r"unknown core 'cortex-m44'; did you mean cortex-m4\? \(known: .*cortex-m7"),
        ('core = "cortex-m4"', 'soc = "stm32l4r6"', r"unknown SoC 'stm32l4r6'; did you mean stm32l4r5\?"),
        ('core = "cortex-m4"', "", r"names its `soc`, or its `core`"),
        ('core = "cortex-m4"', 'core = "../board"', "unknown core"),
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


HARDWARE = """
[hardware]
port = "stm32l4"
timer = "dwt-cycles"
flash = { origin = 0x08000000, length = "1M" }
sram = { origin = 0x20000000, length = "256K" }
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"icount-instructions"', '"dwt-cycles"', "QEMU counts 'icount-instructions'"),
        ('"icount-instructions"', '"renode-instructions"', "QEMU counts 'icount-instructions'"),
        ('port = "mps2"', 'port = "mps2"\ntick_ns = 7', r"tick_ns is 7; machine mps2-an386 has 40"),
        ('port = "mps2"', 'port = "mps2"\ntick_ns = 0', r"tick_ns is 0"),
        ('port = "mps2"', f'port = "mps2"\ntick_ns = 1{"0" * 30}', "a number that is too large"),
        ('port = "mps2"', 'port = "stm32f4"', "qemu.port is 'stm32f4'; machine mps2-an386 has 'mps2'"),
        ('port = "mps2"', 'port = "mps2"\ndefines = { HIL_RENODE = 1 }', "qemu.defines"),
        ('"mps2-an386"', '"virt"', "no port of ours"),
        ('"mps2-an386"', '"mps2-an500"', "has a cortex-m7, the board a cortex-m4"),
        ("origin = 0x00000000", "origin = 0x60000000", "not the memory that mps2-an386 boots from"),
        ("origin = 0x00000000", "origin = 0x00001000", "not the memory that mps2-an386 boots from"),
        ('"1M"', '"5M"', "not the memory that mps2-an386 boots from"),
        ("0x20000000", "0x203f0000", "not in the RAM of mps2-an386: 0x20000000-0x20400000 or 0x21000000"),
        ('timer = "dwt-cycles"', 'timer = "icount-instructions"', "a board has 'dwt-cycles'"),
        ('timer = "dwt-cycles"', 'timer = "dwt-cycles"\ntick_ns = 40', r"hardware.tick_ns: only \[qemu\] has it"),
        ('timer = "dwt-cycles"', 'timer = "dwt-cycles"\nmachine = "mps2-an386"', "hardware.machine: only"),
        ("stm32l4", "stm32h7", "is for cortex-m7, not for cortex-m4"),
        ("stm32l4", "stm32x9", "does not exist"),
    ],
)
def test_a_place_has_the_timer_tick_and_memory_that_it_has(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (GOOD + HARDWARE).replace(old, new)
    assert text != GOOD + HARDWARE
    assert read_board(write(tmp_path, GOOD + HARDWARE)).hardware is not None
    with pytest.raises(BoardError, match=message):
        read_board(write(tmp_path, text))


@pytest.mark.parametrize(
    ("baud", "message"), [("300", "greater than or equal to 4800"), ("2000000", "less than or equal to 921600"),
                          ('"9600"', "valid integer"), ("true", "valid integer")]
)  # fmt: skip
def test_the_rate_of_the_line(tmp_path: Path, baud: str, message: str) -> None:
    text = GOOD + HARDWARE + '[uart]\nname = "mine"\n'
    assert read_board(write(tmp_path, f"{text}baud = 9600\n")).target("hardware").defines == {"HIL_BAUD": 9600}
    assert read_board(write(tmp_path, f"{text}baud = 115200\n")).target("hardware").defines == {}
    with pytest.raises(BoardError, match=f"uart.baud.*{message}"):
        read_board(write(tmp_path, f"{text}baud = {baud}\n"))


def test_a_tick_need_not_be_said() -> None:
    assert load_board("mps2-an386").target("qemu").tick_ns == 40
    assert load_board("netduinoplus2").target("qemu").tick_ns == 1024
    assert load_board("nucleo-f746zg").target("hardware").tick_ns == 0


def test_every_port_has_a_core() -> None:
    ports = {path.stem for path in (firmware_dir() / "port").glob("*.c")}
    assert set(PORT_CORES) == ports - {"rtt"}  # which is a part of any port


def test_a_missing_and_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="does not exist"):
        load_board(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BoardError, match="cannot be read"):
        load_board(str(tmp_path / "binary.toml"))


def test_a_board_without_an_emulator_has_that_of_its_core(tmp_path: Path) -> None:
    board = read_board(write(tmp_path, GOOD.split("[qemu]")[0]))
    assert board.qemu == load_core("cortex-m4").emulator


@pytest.mark.parametrize("name", core_names())
def test_every_shipped_core_loads(name: str) -> None:
    core = load_core(name)
    assert core.name == name
    assert any(flag.startswith(f"-mcpu={name}") for flag in core.flags)
    assert core.emulator.machine


@pytest.mark.parametrize("name", soc_names())
def test_every_shipped_soc_has_a_core_that_we_know(name: str) -> None:
    assert load_soc(name).core in core_names()


def test_a_board_is_what_its_soc_says_and_its_own_file_adds() -> None:
    board, soc = load_board("nucleo-f746zg"), load_soc("stm32f746")
    assert (board.soc, board.core, board.clock_hz) == (soc.name, soc.core, soc.clock_hz)
    assert board.hardware == soc.hardware
    assert soc.timing is not None
    assert board.timing is not None
    assert (board.timing.scale, board.timing.data) == (soc.timing.scale, soc.timing.data)
    assert board.timing.evidence == soc.timing.evidence
    assert board.probe is not None


@pytest.mark.parametrize(
    "own",
    [
        "clock_hz = 16_000_000", "[timing]\nscale = 0.5", "[timing.data]\nmiss_cycles = 0",
        '[[banks]]\nname = "ALL"\nregion = { origin = 0x20000000, length = "640K" }',
    ],
)  # fmt: skip
def test_evidence_does_not_hold_for_a_board_that_changes_what_it_is_of(tmp_path: Path, own: str) -> None:
    """Milliseconds of other wait states, constants or banks would have an interval that nothing supports."""
    chip = 'name = "mine"\ndescription = "mine"\nsource = "none"\nsoc = "stm32l4r5"\n'
    same = read_board(write(tmp_path, chip))
    assert same.timing is not None
    assert same.timing.evidence is not None
    changed = read_board(write(tmp_path, chip + own))
    assert changed.timing is not None
    assert changed.timing.evidence is None


def test_banks_in_a_board_file_are_checked(tmp_path: Path) -> None:
    chip = GOOD.replace('core = "cortex-m4"', 'soc = "stm32l4r5"').split("[qemu]")[0]
    with pytest.raises(BoardError, match=r"banks\.0\.region: Field required"):
        read_board(write(tmp_path, f'{chip}\n[[banks]]\nname = "ALL"\n'))
    rows = "".join(
        f'[[banks]]\nname = "{name}"\nregion = {{ origin = {origin}, length = "64K" }}\n'
        for name, origin in (("A", 0x20000000), ("B", 0x20010000))
    )
    for text, problem in (
        (rows.replace('"B"', '"A"'), "two are called A"),
        (rows.replace(str(0x20010000), str(0x20008000)), "A and B overlap"),
    ):
        with pytest.raises(BoardError, match=f"banks: {problem}"):
            read_board(write(tmp_path, f"{chip}\n{text}"))
    with pytest.raises(BoardError, match=r"ram 'C' is none of the banks \(A, B\)"):
        read_board(write(tmp_path, f"{chip}\n{rows}".replace("soc =", 'ram = "C"\nsoc =')))


def test_evidence_of_another_clock_is_refused(tmp_path: Path) -> None:
    chip = (boards_dir() / "socs" / "stm32l4r5.toml").read_text().replace("120_000_000", "80_000_000")
    (tmp_path / "socs").mkdir()
    (tmp_path / "socs" / "stm32l4r5.toml").write_text(chip)
    with pytest.raises(BoardError, match="NUCLEO_L4R5ZI was measured at 120 MHz; the clock is 80 MHz"):
        read_board(write(tmp_path, 'name = "mine"\ndescription = "mine"\nsource = "none"\nsoc = "stm32l4r5"\n'))


def test_evidence_does_not_hold_with_other_constants_of_the_core(tmp_path: Path) -> None:
    core = (boards_dir() / "cores" / "cortex-m4.toml").read_text()
    (tmp_path / "cores").mkdir()
    path = write(tmp_path, 'name = "mine"\ndescription = "mine"\nsource = "none"\nsoc = "stm32l4r5"\n')
    for text, holds in ((core, True), (core.replace("refill = 2", "refill = 1"), False)):
        (tmp_path / "cores" / "cortex-m4.toml").write_text(text)
        timing = read_board(path).timing
        assert timing is not None
        assert (timing.evidence is not None) == holds


def test_a_soc_and_a_core_of_the_user_lie_beside_the_board(tmp_path: Path) -> None:
    for folder, text in (
        ("cores", (boards_dir() / "cores" / "cortex-m4.toml").read_text().replace('"cortex-m4"\n', '"mine"\n', 1)),
        ("socs", (boards_dir() / "socs" / "stm32l4r5.toml").read_text().replace('"cortex-m4"', '"mine"')),
    ):
        (tmp_path / folder).mkdir()
        name = "mine" if folder == "cores" else "stm32l4r5"
        (tmp_path / folder / f"{name}.toml").write_text(text)
    board = read_board(write(tmp_path, GOOD.replace('core = "cortex-m4"', 'soc = "stm32l4r5"')))
    assert (board.core, board.processor.name) == ("mine", "mine")
    assert board.hardware is not None


def test_a_row_of_evidence_has_to_add_up(tmp_path: Path) -> None:
    text = (boards_dir() / "socs" / "stm32l4r5.toml").read_text()
    (tmp_path / "socs").mkdir()
    (tmp_path / "socs" / "stm32l4r5.toml").write_text(text.replace("error_pct = 2.5", "error_pct = 0.2"))
    (tmp_path / "mine.toml").write_text((boards_dir() / "nucleo-l4r5zi.toml").read_text())
    with pytest.raises(BoardError, match=r"error_pct is \+2\.5 by the two figures, not \+0\.2"):
        read_board(tmp_path / "mine.toml")


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
