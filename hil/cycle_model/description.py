"""Reads `engine/thumb2.txt` (encodings) and `engine/classes.txt` (costs); `tables.py` renders them as C."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

UNITS = ("alu", "shift", "mac", "load", "store", "branch", "simd", "vfp", "vport")
ISSUES = ("any", "slot0", "alone")
EARLY = ("never", "older", "either")
KINDS = ("w", "r", "k", "s", "a", "b", "v", "w*", "v*", "w#", "v#")
FLAGS = ("S", "F", "C")

_CHOICE = re.compile(r"<([^>]*)>")
_USE = re.compile(r"\{(\d)('?)\}")
_OPERAND = re.compile(r"(?P<kind>[wrksabv][*#]?):(?P<register>\d+|[sxf]?[a-z])(?P<plus>\+?)")
_T = TypeVar("_T")


class DescriptionError(ValueError):
    """A line of the description files is malformed; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Operand:
    """What happens to which register.

    `bank` is ``core``, ``single``, ``double``, ``sized`` (single or double by field z) or ``fixed``; `register` is the
    letter of the register's field, or the number itself when fixed; `plus` is added to the number.
    """

    kind: str
    bank: str
    register: str
    plus: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """One pattern with all choices made; `bits` has 16 or 32 characters, first the highest."""

    mnemonic: str
    cls: str
    bits: str
    operands: tuple[Operand, ...]
    flags: frozenset[str]
    access_bytes: int

    @property
    def mask(self) -> int:
        """The fixed bits."""
        return int("".join("1" if bit in "01" else "0" for bit in self.bits), 2)

    @property
    def value(self) -> int:
        """What the fixed bits are."""
        return int("".join(bit if bit in "01" else "0" for bit in self.bits), 2)

    def positions(self, letter: str) -> tuple[int, ...]:
        """Bit positions of a field, high to low; empty when the pattern has no such field."""
        last = len(self.bits) - 1
        return tuple(last - index for index, bit in enumerate(self.bits) if bit == letter)


@dataclass(frozen=True, slots=True)
class InstructionClass:
    """One line of classes.txt: `m4_*` make up the Cortex-M4's cycles, `m7_*` are LLVM's facts for the Cortex-M7.

    `m4_rule` is ``L`` (single load), ``I`` (IT folding), ``D`` (divide), ``W`` (store) or empty;
    `m4_accumulates` and `m4_long`: a multiplication that takes longer on the Cortex-M3. `m7_free_shift`: the shifter is
    not taken in the younger slot. `m7_hold` is the number of cycles the issue stage is held, 0 meaning half
    the registers moved. `m7_early` says in which slot the early ALU can run it, `m7_load_wait` that it waits a cycle
    longer for a loaded word. `m33_*` make up the Cortex-M33's: cycles in its issue stage, ``I`` (pairs like IT), ``D``
    (divide) or ``M`` (2-byte multiplication) as `m33_rule`, and cycles until the result can be used.
    """

    name: str
    group: str
    m4_base: int
    m4_per_register: int
    m4_refill: bool
    m4_rule: str
    m4_accumulates: bool
    m4_long: bool
    m7_units: tuple[str, ...]
    m7_free_shift: bool
    m7_latency: int
    m7_issue: str
    m7_hold: int
    m7_early: str
    m7_load_wait: bool
    m33_base: int
    m33_per_register: int
    m33_rule: str
    m33_latency: int


@dataclass(frozen=True, slots=True)
class Description:
    """Both files."""

    encodings: tuple[Encoding, ...]
    classes: tuple[InstructionClass, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Counter groups, in order of appearance."""
        return tuple(dict.fromkeys(item.group for item in self.classes))


def load_description(folder: Path) -> Description:
    """Parse both files in `folder`. Raises DescriptionError naming file and line."""
    classes = tuple(_parse_lines(folder / "classes.txt", parse_class))
    encodings = tuple(itertools.chain.from_iterable(_parse_lines(folder / "thumb2.txt", parse_encoding)))
    known = {item.name for item in classes}
    for encoding in encodings:
        if encoding.cls not in known:
            raise DescriptionError(f"thumb2.txt: {encoding.mnemonic}: class {encoding.cls!r} is not in classes.txt")
    return Description(encodings, classes)


def _parse_lines(path: Path, parse: Callable[[str], _T]) -> Iterator[_T]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                yield parse(line)
            except (ValueError, IndexError) as error:
                raise DescriptionError(f"{path.name}:{number}: {error}") from error


def parse_encoding(line: str) -> tuple[Encoding, ...]:
    """All encodings that one line of thumb2.txt stands for. Raises ValueError."""
    groups = [[part.partition("=") for part in text.split("|")] for text in _CHOICE.findall(line)]
    made = []
    for choice in itertools.product(*groups):
        bits = iter(choice)
        names = [name.removeprefix("-") for name, _, _ in choice]
        text = _CHOICE.sub(lambda _match, bits=bits: next(bits)[2], line)  # type: ignore[misc]
        made.append(_parse_plain(_USE.sub(lambda use, names=names: _chosen(use, names), text)))  # type: ignore[misc]
    return tuple(made)


def _chosen(use: re.Match[str], names: list[str]) -> str:
    before, _, behind = names[int(use[1])].partition("/")
    return behind if use[2] else before


def _parse_plain(line: str) -> Encoding:
    mnemonic, cls, bits, *rest = line.split()
    if rest and re.fullmatch(r"[01a-zA-Z]{16}", rest[0]):
        bits += rest.pop(0)
    if len(bits) not in (16, 32) or not re.fullmatch(r"[01a-zA-Z]+", bits):
        raise ValueError(f"{mnemonic}: pattern {bits!r} has {len(bits)} bits, not 16 or 32")
    flags, operands, access_bytes = set(), [], 0
    for token in rest:
        if token in FLAGS:
            flags.add(token)
        elif re.fullmatch(r"m[1248]", token):
            access_bytes = int(token[1:])
        else:
            operands.append(_parse_operand(token, bits))
    return Encoding(mnemonic, cls, bits, tuple(operands), frozenset(flags), access_bytes)


def _parse_operand(token: str, bits: str) -> Operand:
    match = _OPERAND.fullmatch(token)
    if match is None:
        raise ValueError(f"operand {token!r} is not KIND:REGISTER")
    text = match["register"]
    bank, letter = ("fixed", text) if text.isdigit() else ("core", text)
    if len(text) == 2 and not text.isdigit():
        bank, letter = {"s": "single", "x": "double", "f": "sized"}[text[0]], text[1]
    if bank != "fixed" and letter not in bits:
        raise ValueError(f"operand {token!r} names a field that the pattern does not have")
    return Operand(match["kind"], bank, letter, len(match["plus"]))


def parse_class(line: str) -> InstructionClass:
    """One line of classes.txt. Raises ValueError."""
    name, group, m4, units, latency, issue, ways, m33 = line.split()
    base, per_register, refill, rule, extra = 0, 0, False, "", set()
    for term in m4.split("+"):
        if term.isdigit():
            base += int(term)
        elif term in ("L", "I", "D", "W"):
            rule = term
        elif term in ("A", "G"):
            extra.add(term)
        elif term in ("N", "P"):
            per_register, refill = per_register + (term == "N"), refill or term == "P"
        else:
            raise ValueError(f"class {name}: M4 term {term!r} is none of a number, A, G, N, P, L, I, D, W")
    taken = () if units == "-" else tuple(unit.removesuffix("?") for unit in units.split(","))
    slot, _, hold = issue.partition(",")
    if slot not in ISSUES or not set(taken) <= set(UNITS) or not re.fullmatch(r"(x\d+|xN/2)?", hold):
        raise ValueError(f"class {name}: M7 units {units!r} or issue {issue!r} unknown")
    held = 0 if hold == "xN/2" else int(hold[1:] or 1)
    early, waits = ("never" if ways in ("-", "load+1") else ways), ways == "load+1"
    if early not in EARLY or ("?" in units and "shift?" not in units.split(",")):
        raise ValueError(f"class {name}: M7 ways {ways!r} or units {units!r} unknown")
    free = "shift?" in units.split(",")
    return InstructionClass(
        name, group, base, per_register, refill, rule, "A" in extra, "G" in extra,
        taken, free, int(latency), slot, held, early, waits, *_parse_m33(name, m33),
    )  # fmt: skip


def _parse_m33(name: str, text: str) -> tuple[int, int, str, int]:
    issue, _, latency = text.partition("/")
    base, per_register, rule = 0, 0, ""
    for term in issue.split("+"):
        if term.isdigit():
            base += int(term)
        elif term in ("I", "D", "M"):
            rule = term
        elif term == "N":
            per_register += 1
        else:
            raise ValueError(f"class {name}: M33 term {term!r} is none of a number, N, I, D, M")
    if not latency.isdigit():
        raise ValueError(f"class {name}: M33 latency {latency!r} is no number")
    return base, per_register, rule, int(latency)
