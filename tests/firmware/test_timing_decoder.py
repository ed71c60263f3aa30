"""The timing plugin's Thumb-2 decoder against objdump, instruction by instruction."""

from __future__ import annotations

import collections
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from hil.boards.core import load_core
from hil.build.sources import CMSIS_DEFINES, find_cmsis
from hil.cycle_model.description import Encoding, load_description
from hil.cycle_model.library import decode
from hil.cycle_model.native import engine_dir
from tests.firmware import timing_objdump as objdump

pytestmark = [pytest.mark.firmware, pytest.mark.slow]

FLAGS = 1 << 16

_PC_RELATIVE = ("b", "bcond", "bx", "tb", "movpc", "alu", "addmov", "ld", "lds", "ldd", "ldpc", "vld", "vldd", "pld")
# Registers that the instruction touches though its text does not name them, by our class.
_IMPLIED = {
    "bl": (14, 15), "blx": (14, 15), "ldmpc": (13, 15), "ldm": (13,), "stm": (13,), "vldm": (13,), "vstm": (13,),
    **dict.fromkeys(_PC_RELATIVE, (15,)),
}  # fmt: skip


def compare(lines: Iterable[objdump.Line]) -> tuple[int, list[str]]:
    """How many instructions were compared, and what is wrong with the others."""
    wrong, count = [], 0
    for line in lines:
        count += 1
        found = decode(line.code, line.in_it)
        said = f"{line.section} {line.address:x}: {line.code.hex()} {line.mnemonic} {line.operands}"
        if found is None:
            wrong.append(f"unknown: {said}")
            continue
        if found.bytes != len(line.code) or found.cls != line.expected_class():
            wrong.append(f"{found.cls} instead of {line.expected_class()}: {said}")
        named, touched = line.registers, found.touched & ~FLAGS
        implied = sum(1 << number for number in _IMPLIED.get(found.cls, ()))
        if named & ~touched or touched & ~(named | implied):
            wrong.append(f"touches {touched:#x}, not {named:#x}: {said}")
    return count, wrong


def compile_source(source: Path, target: Path, core: str, level: str) -> None:
    cmsis = find_cmsis()
    subprocess.run(
        ["arm-none-eabi-gcc", *load_core(core).flags, level, "-std=c11", "-w", *CMSIS_DEFINES, f"-I{cmsis.nn}/Include",
         f"-I{cmsis.core}/Include", "-c", str(source), "-o", str(target)],
        check=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("level", ["-O2", "-O3"])
def test_kernels_decode_as_objdump_says(core: str, level: str, tmp_path: Path) -> None:
    total, wrong = 0, []
    for source in sorted((find_cmsis().nn / "Source").rglob("*.c")):
        compiled = tmp_path / f"{source.stem}.o"
        compile_source(source, compiled, core, level)
        count, bad = compare(objdump.disassemble(compiled))
        total += count
        wrong += bad
    assert wrong == []
    assert total > 3000


@pytest.mark.slow
def test_libraries_decode_as_objdump_says(tmp_path: Path) -> None:
    """newlib: other idioms than the kernels have, and floating point."""
    total = 0
    for name in ("libc.a", "libm.a"):
        flags = load_core("cortex-m7").flags
        said = subprocess.run(
            ["arm-none-eabi-gcc", *flags, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        )
        whole = tmp_path / f"{name}.o"
        subprocess.run(
            ["arm-none-eabi-ld", "-r", "--whole-archive", "--allow-multiple-definition", said.stdout.strip(),
             "-o", str(whole)],
            check=True,
        )  # fmt: skip
        count, wrong = compare(objdump.disassemble(whole))
        assert wrong == []
        total += count
    assert total > 50_000


# Random fields hit what compilers never emit for these cores: PC or SP where Arm forbids them, bits that have to be
# zero, encodings that a later architecture took for something else. objdump then says one of these, or names those.
_ODD = ("UNPREDICTABLE", "undefined", "illegal", "unallocated", "invalid", "UNDEF", "ldr??", "str??", "overflow")
_LATER = ("hlt", "setend", "setpan", "bxns", "blxns", "clrm", "vscclrm", "autg", "bxaut", "pac", "pacg", "pldw", "sevl")


def plain(line: objdump.Line) -> bool:
    if any(word in line.mnemonic + line.operands for word in _ODD) or line.base in _LATER:
        return False
    word = int.from_bytes(line.code, "little")
    nonzero_bx = len(line.code) == 2 and word >> 8 == 0x47 and word & 7 != 0
    unprivileged_literal = line.base.endswith("t") and "[pc" in line.operands
    written_back_hint = line.base in ("pld", "pli") and word >> 24 in (0xFE, 0xFF)
    return not nonzero_bx and not unprivileged_literal and not written_back_hint and not line.base.startswith("f")


def assembled(encodings: Iterable[Encoding], seed: int, each: int, folder: Path) -> Path:
    """An object with `each` random instances of every encoding."""
    chance = random.Random(seed)
    rows = [".syntax unified", ".thumb", ".text"]
    for encoding in encodings:
        width = len(encoding.bits)
        for _ in range(each):
            word = (chance.getrandbits(width) & ~encoding.mask) | encoding.value
            rows.append(f".inst.{'n' if width == 16 else 'w'} 0x{word:0{width // 4}x}")
    source, compiled = folder / "encodings.s", folder / "encodings.o"
    source.write_text("\n".join(rows) + "\n", encoding="ascii")
    subprocess.run(
        ["arm-none-eabi-as", "-mcpu=cortex-m7", "-mfpu=fpv5-d16", "-o", str(compiled), str(source)], check=True
    )
    return compiled


def test_every_encoding_of_the_description_is_what_objdump_calls_it(tmp_path: Path) -> None:
    """One description line at a time: objdump has to give the mnemonic of the line, or an alias of it."""
    encodings = [item for item in load_description(engine_dir()).encodings if item.cls != "it"]
    wrong, met = collections.Counter[str](), set()
    for line in objdump.disassemble(assembled(encodings, 11, 12, tmp_path)):
        found = decode(line.code)
        assert found is not None, line
        base = line.base
        if plain(line) and (base == found.mnemonic or base in _aliases(found.mnemonic, found.cls)):
            met.add((found.mnemonic, found.cls))
        elif plain(line):
            wrong[f"{found.mnemonic} ({found.cls}) is {line.mnemonic} {line.operands}: {line.code.hex()}"] += 1
    assert wrong == collections.Counter()
    assert {(item.mnemonic, item.cls) for item in encodings} - met == set()


def _aliases(mnemonic: str, cls: str) -> set[str]:
    """Other names that objdump gives an instruction."""
    special = {
        "adr": {"add", "addw", "subw"}, "rsb": {"negs"}, "hint": {"nop"}, "cps": {"cpsie", "cpsid"},
        "pop": {"ldmia"}, "push": {"stmdb"}, "dsb": {"ssbb", "pssbb", "dfb"}, "mov": {"nop"},
    }  # fmt: skip
    conditions = ("eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
    if cls == "bcond":
        return {f"b{condition}" for condition in conditions}
    shifts = {"mov", "movs"} if cls in ("shift", "rrx") else set()
    return {f"{mnemonic}s"} | shifts | special.get(mnemonic, set())


def test_all_half_words(tmp_path: Path) -> None:
    """Every 16-bit encoding there is: known to us exactly when objdump knows it for ARMv7E-M, and the same."""
    words = [word for word in range(0xE800) if not (word >> 8 == 0xBF and word & 15)]
    source, compiled = tmp_path / "all.s", tmp_path / "all.o"
    source.write_text(".thumb\n" + "".join(f".inst.n 0x{word:04x}\n" for word in words), encoding="ascii")
    subprocess.run(["arm-none-eabi-as", "-mcpu=cortex-m7", "-o", str(compiled), str(source)], check=True)
    lines = [line for line in objdump.disassemble(compiled) if plain(line)]
    count, wrong = compare(lines)
    assert wrong == []
    assert count > 58_000


@pytest.mark.parametrize("pattern", range(1, 16))
def test_it_blocks_cover_what_objdump_says(pattern: int, tmp_path: Path) -> None:
    """IT with every mask, followed by five moves: as many are conditional as objdump makes conditional."""
    source, compiled = tmp_path / "it.s", tmp_path / "it.o"
    source.write_text(f".thumb\n.inst.n 0x{0xBF00 | pattern:04x}\n" + ".inst.n 0x1c40\n" * 5, encoding="ascii")
    subprocess.run(["arm-none-eabi-as", "-mcpu=cortex-m7", "-o", str(compiled), str(source)], check=True)
    it, *moves = objdump.disassemble(compiled)
    found = decode(it.code)
    assert found is not None
    assert found.cls == "it"
    for line in moves:
        conditional = decode(line.code, line.in_it)
        assert conditional is not None
        assert bool(conditional.writes & FLAGS) is not line.in_it  # adds outside, add without flags inside
        assert bool(conditional.reads & FLAGS) is line.in_it
