"""What `arm-none-eabi-objdump` says about code, and what class it has: the yardstick for the timing decoder."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

_LINE = re.compile(r"\s*([0-9a-f]+):\t([0-9a-f]{4}(?: [0-9a-f]{4})?) *\t(\S+)\s*([^@;]*)")
_CONDITION = "(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)"
_NAMES = {"sb": 9, "sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}

# Class by mnemonic, written down apart from engine/thumb2.txt. Alternatives are tried in order.
_CLASSES = (
    (r"(mov|mvn|and|eor|orr|orn|bic|add|sub|rsb|neg|adc|sbc|cmp|cmn|tst|teq)s?", "data"),
    (r"(addw|subw|movw|adr)", "addmov"),
    (r"movt", "alu"),
    (r"(lsl|lsr|asr|ror)s?", "shift"),
    (r"rrxs?", "rrx"),
    (r"([su]xt[bh]|[su]xtb16)", "ext"),
    (r"([su]xta[bh]|[su]xtab16|pkhbt|pkhtb)", "exta"),
    (r"(rev|rev16|revsh|rbit)", "rev"),
    (r"(sbfx|ubfx)", "bfx"),
    (r"(bfi|bfc)", "bfi"),
    (r"clz", "clz"),
    (r"(ssat|usat|ssat16|usat16)", "sat"),
    (r"(s|sh|u|uh)(add8|add16|asx|sub8|sub16|sax)|sel", "simd"),
    (r"(q|uq)(add8|add16|asx|sub8|sub16|sax)|qadd|qsub|usad8|usada8", "simdq"),
    (r"qdadd|qdsub", "qd"),
    (r"muls?|smul(bb|bt|tb|tt|wb|wt)|smuadx?|smusdx?|smmulr?", "mul"),
    (r"mla|mls|smla(bb|bt|tb|tt|wb|wt)|smladx?|smlsdx?|smmlar?|smmlsr?", "mla"),
    (r"smull|umull", "mull"),
    (r"smlal|umlal|umaal|smlal(bb|bt|tb|tt)|smlaldx?|smlsldx?", "mlal"),
    (r"sdiv|udiv", "div"),
    (r"ldrt?", "ld"),
    (r"ldrs?[bh]t?", "lds"),
    (r"ldrex[bh]?", "ldx"),
    (r"strex[bh]?", "stx"),
    (r"ldrd", "ldd"),
    (r"strd", "std"),
    (r"str[bh]?t?", "st"),
    (r"ldmia|ldmdb|pop", "ldm"),
    (r"stmia|stmdb|push", "stm"),
    (r"pld|pli", "pld"),
    (r"b" + _CONDITION, "bcond"),
    (r"b", "b"),
    (r"cbz|cbnz", "cbz"),
    (r"bl", "bl"),
    (r"bx", "bx"),
    (r"blx", "blx"),
    (r"tbb|tbh", "tb"),
    (r"it[te]{0,3}", "it"),
    (r"nop|yield|wfe|wfi|sev|sevl|csdb|dbg", "hint"),
    (r"mrs|msr|cps(ie|id)|dsb|dmb|isb|clrex|bkpt|svc|udf|ssbb|pssbb|dfb", "sys"),
    (r"vadd|vsub|vabs|vneg|vmaxnm|vminnm", "valu"),
    (r"vmul|vnmul", "vmul"),
    (r"vmla|vmls|vnmla|vnmls", "vmla"),
    (r"vfma|vfms|vfnma|vfnms", "vfma"),
    (r"vdiv", "vdiv"),
    (r"vsqrt", "vsqrt"),
    (r"vcmpe?", "vcmp"),
    (r"vcvt[rbtanpm]?|vrint[rzxanpm]", "vcvt"),
    (r"vsel(eq|vs|ge|gt)", "vsel"),
    (r"vmov", "vmov"),
    (r"vmsr|vmrs", "vmsr"),
    (r"vldr", "vldr"),
    (r"vstr", "vstr"),
    (r"vldmia|vldmdb|vpop|fldmiax|fldmdbx", "vldm"),
    (r"vstmia|vstmdb|vpush|fstmiax|fstmdbx", "vstm"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One disassembled instruction; `code` is as in memory, `in_it` what the lines before it say."""

    section: str
    address: int
    code: bytes
    mnemonic: str
    operands: str
    in_it: bool

    @property
    def base(self) -> str:
        """Mnemonic without width, data type and, in an IT block, condition."""
        name = re.sub(r"\.(n|w)$", "", self.mnemonic)
        name = re.sub(r"(\.[fsuib]?\d+)+$", "", name)
        return re.sub(_CONDITION + "$", "", name) if self.in_it else name

    @property
    def registers(self) -> int:
        """Core registers (bits 0-15) and s registers (bits 17-48) that the text names."""
        text = re.sub(r"\b[0-9a-f]+ <[^>]*>", "", self.operands)
        found: set[int] = {8} if self.code == b"\xc0\x46" else set()
        for first, last in re.findall(r"\b([rsd]\d+|sb|sl|fp|ip|sp|lr|pc)\b(?:-([rsd]\d+))?", text):
            numbers = _numbers(first)
            if last:
                numbers = range(min(numbers), max(_numbers(last)) + 1)
            found.update(numbers)
        return sum(1 << number for number in found if number < 49)  # no d16-d31 on these cores

    def expected_class(self) -> str:
        """The class by this file's own reckoning. Raises KeyError for a mnemonic that it does not know."""
        kind = next((kind for pattern, kind in _CLASSES if re.fullmatch(pattern, self.base)), None)
        if kind is None:
            raise KeyError(self.mnemonic)
        if self.code == b"\xc0\x46":  # mov r8, r8: the nop of before Thumb-2
            return "addmov"
        return _refined(kind, self.base, self.operands.strip())


def _numbers(name: str) -> range:
    if name in _NAMES:
        return range(_NAMES[name], _NAMES[name] + 1)
    number = int(name[1:])
    if name[0] == "r":
        return range(number, number + 1)
    return range(17 + number, 18 + number) if name[0] == "s" else range(17 + 2 * number, 19 + 2 * number)


def _refined(kind: str, base: str, operands: str) -> str:
    """Classes that depend on the operands."""
    shifted = re.search(r", (lsl|lsr|asr|ror) #\d+$|, rrx$", operands)
    to_pc = re.match(r"pc\b", operands)
    if kind == "data" and base in ("mov", "movs") and shifted:
        return "rrx" if operands.endswith("rrx") else "shift"
    if kind == "data" and base in ("mov", "add") and to_pc:
        return "movpc"
    if kind == "data":
        if not shifted:
            return "addmov" if base.removesuffix("s") in ("add", "sub", "mov") else "alu"
        return "cmpx" if base in ("cmp", "cmn", "tst", "teq") else "alux"
    if kind == "ld" and to_pc:
        return "ldpc"
    if kind == "ldm" and re.search(r"\bpc\}", operands):
        return "ldmpc"
    if kind in ("vldr", "vstr"):
        return {"vldr": "vld", "vstr": "vst"}[kind] + ("d" if operands.startswith("d") else "")
    if kind == "vmov":
        return _vmov_class(operands)
    return kind


def _vmov_class(operands: str) -> str:
    parts = [re.sub(r"\[\d\]", "", part.strip()) for part in operands.split(",")]
    core = sum(1 for part in parts if re.fullmatch(r"r\d+|sb|sl|fp|ip|sp|lr|pc", part))
    return {0: "vmov", 1: "vmov1", 2: "vmov2"}[core]


def disassemble(path: Path) -> Iterator[Line]:
    """Every instruction of the executable sections of the ELF or object at `path`; data in them is left out."""
    text = subprocess.run(
        ["arm-none-eabi-objdump", "-d", str(path)], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    section, remaining = "", 0
    for row in text.splitlines():
        if row.startswith("Disassembly of section "):
            section = row.removeprefix("Disassembly of section ").rstrip(":")
        match = _LINE.match(row)
        if match and not match[3].startswith((".word", ".short", ".byte")):
            halves = [int(half, 16).to_bytes(2, "little") for half in match[2].split()]
            yield Line(section, int(match[1], 16), b"".join(halves), match[3], match[4], remaining > 0)
            remaining = len(match[3]) - 1 if re.fullmatch("it[te]{0,3}", match[3]) else max(0, remaining - 1)


def is_thumb(path: Path) -> bool:
    """Whether the file is an ELF for Arm, which disassemble() expects."""
    with path.open("rb") as file:
        return str(ELFFile(file)["e_machine"]) == "EM_ARM"
