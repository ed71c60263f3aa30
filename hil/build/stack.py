"""The most stack that an image can use, by its call graph: an upper bound beside what painting the stack shows.

Frames and calls are read from the disassembly of the linked image, so that they are those of all code in it, the C
library's too. A frame counts every push and every lowering of the stack pointer in its function; a jump to another
function counts as a call that has no frame below it. Armv6-M has no instruction for a large frame: a constant is added
from a register. Calls through pointers go to what those pointers can hold: the layers of a network to the kernels that
its tables name, commands to what the command tables name, and all others to functions whose address is in code. No
function of ours calls itself, which is what ends cycles among the last ones.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hil.build.toolchain import Toolchain, run_tool
from hil.errors import BuildError

ENTRY = "hil_reset"
_BY_TABLE = {"hil_model_infer": ".weights", "hil_feed": ".rodata", "hil_extension": ".rodata"}
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t(\S+)(?:\t(.*))?$")
_TARGET = re.compile(r"\b([0-9a-f]+) <")
_CONSTANT = re.compile(r"(r\d+), \[pc, #\d+\]\s*@ \(?([0-9a-f]+)")
_ADDED = re.compile(r"sp, (?:sp, )?(\w+)")
_RANGE = re.compile(r"[rsd](\d+)-[rsd](\d+)")
_BELOW = re.compile(r"\[sp, #-(\d+)\]!")
_SUB = re.compile(r"sp, (?:sp, )?#(\d+)")
_ENDLESS = 1 << 30


@dataclass(slots=True)
class _Function:
    address: int
    frame: int = 0
    calls: set[str] = field(default_factory=set)
    jumps: set[str] = field(default_factory=set)
    by_pointer: bool = False
    words: set[int] = field(default_factory=set)
    constants: dict[str, int] = field(default_factory=dict)  # by register, where it was loaded from last
    added: list[int | None] = field(default_factory=list)  # addresses of constants that the stack pointer was moved by


class Unbounded(Exception):
    """The image has code whose stack cannot be known: an array of variable length, a call that leads nowhere."""


def stack_bound(elf: Path, toolchain: Toolchain) -> int | None:
    """Bytes of stack that the image at `elf` uses at most; None where that cannot be known. Raises BuildError."""
    objdump = str(toolchain.gcc).removesuffix("gcc") + "objdump"
    functions, tables = _symbols_and_tables(elf)
    if ENTRY not in functions:
        return None
    _parse(run_tool([objdump, "-d", "--no-show-raw-insn", elf]), functions)
    try:
        _connect(functions, tables)
        return _Walk(functions).deepest(ENTRY, ())[0]
    except Unbounded:
        return None


def _parse(text: str, functions: dict[str, _Function]) -> None:
    """Add the instructions to their functions. By address: objdump's own names are also those of linker constants."""
    starts = sorted((function.address, name) for name, function in functions.items())
    addresses = [address for address, _ in starts]

    def owner(address: int) -> str | None:
        index = bisect_right(addresses, address) - 1
        return starts[index][1] if index >= 0 else None

    words: dict[int, int] = {}
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        name = owner(int(match[1], 16)) if match else None
        if match and name is not None:
            operands = (match[3] or "").split("@")[0].strip()
            target = _TARGET.search(operands)
            if match[2] == ".word":
                words[int(match[1], 16)] = int(operands.split()[0], 16)
            elif constant := _CONSTANT.match(match[3] or ""):
                functions[name].constants[constant[1]] = int(constant[2], 16)
            _take(functions[name], match[2], operands, owner(int(target[1], 16)) if target else None, name)
    for function in functions.values():
        function.frame += _lowered_by([None if address is None else words.get(address) for address in function.added])


def _lowered_by(added: list[int | None]) -> int:
    """How far the words that are added to the stack pointer take it down. One that is computed takes it back up, where
    another one took it down; else it is without end."""
    lowered = sum((1 << 32) - word for word in added if word is not None and word >> 31)
    return _ENDLESS if None in added and not lowered else lowered


def _take(function: _Function, word: str, operands: str, target: str | None, name: str) -> None:
    """Add one instruction to what is known of its function."""
    base = word.split(".")[0]
    if word == ".word":
        function.words.add(int(operands.split()[0], 16))
    elif base in ("push", "vpush") or (base in ("stmdb", "vstmdb") and operands.startswith("sp!")):
        function.frame += _registers_bytes(operands)
    elif below := _BELOW.search(operands):
        function.frame += int(below[1])
    elif base in ("sub", "subw") and operands.startswith("sp,"):
        amount = _SUB.fullmatch(operands)
        function.frame += _ENDLESS if amount is None else int(amount[1])
    elif base == "add" and (added := _ADDED.fullmatch(operands)):
        function.added.append(function.constants.get(added[1]))
    elif base == "mov" and operands.startswith("sp,") and operands != "sp, r7":
        function.frame += _ENDLESS  # r7 is the frame pointer, which puts the stack pointer back
    elif base in ("blx", "bx") and target is None and operands != "lr":
        function.by_pointer = True
    elif base.startswith("b") and target is not None and target != name:
        (function.calls if base == "bl" else function.jumps).add(target)


def _registers_bytes(operands: str) -> int:
    inside = operands[operands.index("{") + 1 : operands.index("}")]
    total = 0
    for part in inside.split(","):
        text = part.strip()
        several = _RANGE.fullmatch(text)
        count = int(several[2]) - int(several[1]) + 1 if several else 1
        total += count * (8 if text.startswith("d") else 4)
    return total


def _symbols_and_tables(elf: Path) -> tuple[dict[str, _Function], dict[str, set[int]]]:
    """All functions without what they do, and the words of the sections with tables. Raises BuildError."""
    functions, words = {}, {}
    try:
        with elf.open("rb") as file:
            for section in ELFFile(file).iter_sections():
                if isinstance(section, SymbolTableSection):
                    for symbol in section.iter_symbols():
                        if symbol["st_info"]["type"] == "STT_FUNC":
                            address = int(symbol["st_value"]) & ~1
                            # Of several static functions with one name each is its own.
                            name = f"{symbol.name}@{address:x}" if symbol.name in functions else symbol.name
                            functions[name] = _Function(address)
                elif section.name in (".weights", ".rodata"):
                    raw = section.data()
                    words[section.name] = {int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)}
    except (OSError, ELFError) as error:
        raise BuildError(f"{elf} is not a readable ELF image: {error}") from error
    return functions, words


def _connect(functions: dict[str, _Function], tables: dict[str, set[int]]) -> None:
    """Turn calls through pointers into calls of what the pointers can hold."""
    by_address = {function.address | 1: name for name, function in functions.items()}

    def named(words: set[int]) -> set[str]:
        return {by_address[word] for word in words & by_address.keys()}

    in_tables = {section: named(words) for section, words in tables.items()}
    in_code = named(set().union(*(function.words for function in functions.values())))
    for name, function in functions.items():
        if function.by_pointer:
            table = _BY_TABLE.get(name)
            also = in_code if table != ".rodata" else set()
            function.calls |= (in_tables.get(table, set()) if table else set()) | (also - {name})
            if not function.calls:
                raise Unbounded(name)


class _Walk:
    """Depth first; what was found with a cycle cut short is not remembered, as it holds for that way only."""

    def __init__(self, functions: dict[str, _Function]) -> None:
        self._functions = functions
        self._known: dict[str, int] = {}

    def deepest(self, name: str, path: tuple[str, ...]) -> tuple[int, bool]:
        """Bytes below and including the frame of `name`, called by `path`; whether a cycle was cut."""
        if name in self._known:
            return self._known[name], False
        function = self._functions.get(name)
        if function is None or function.frame >= _ENDLESS:
            raise Unbounded(name)
        below = beside = 0
        is_cut = False
        for kind, others in (("call", function.calls), ("jump", function.jumps)):
            for other in others:
                if other in path or other == name:
                    is_cut = True
                    continue
                depth, cut = self.deepest(other, (*path, name))
                is_cut = is_cut or cut
                below, beside = (max(below, depth), beside) if kind == "call" else (below, max(beside, depth))
        depth = max(function.frame + below, beside)
        if not is_cut:
            self._known[name] = depth
        return depth, is_cut
