"""The serial protocol as text: what is sent, what comes back, how it is checked. No I/O.

The base is MLPerf Tiny's command protocol (``name%`` ... ``m-ready``); our extension travels under the one command
word ``hil``. Everything that host and firmware must agree on is declared here once: `render_header` writes the C side
(``firmware/runtime/hil_wire.h``). An extension reply is one line

    m-hil-KEY-[FIELD,FIELD,...]-XXXXXXXX

whose last part is the CRC-32 (IEEE, hexadecimal) of all the characters before its dash. A host that must not take an
old reply for a new one, or a damaged command for another one, frames its commands: `` #SSSSCCCCCCCC`` behind the text
is a sequence number of its choice and the CRC-32 of the text, started from that number. The device refuses a command
whose frame does not fit, and starts the CRC-32 of its reply lines from the number as well, so that they fit no other
command. Sequence number 0 is that of commands without a frame.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum

from hil.errors import ProtocolError, TargetFaultError
from hil.patterns import PatternKind

VERSION = 2  # of the extension; the device says its own in `hil id`
TERMINATOR = "%"
READY = "m-ready"
LINE_MAX = 319  # characters of a command without its `%`; MLPerf's own host needs 79
CHUNK_BYTES = 128  # data bytes in one `hil put`, two characters each
SAMPLES_PER_LINE = 16  # figures in one line of ticks
PROFILE_SLOTS = 64  # layers that one inference can be profiled for; more layers take more inferences
INLINE_OUTPUT_BYTES = 64  # outputs up to this come back in `hil run` itself
ARENA_GUARD_BYTES = 64  # watched behind the arena, where there is memory behind it
MAX_REPLY_BYTES = 1 << 20  # a device that talks for longer than this is not one of ours
FAULT = "fault"
FRAME_MARK = "#"

_EXTENSION = re.compile(r"m-hil-([a-z]+)-\[([^\]]*)\]-([0-9a-f]{8})\Z")
_ERROR = re.compile(r"e-\[(.*)\]\Z")
_FAULT_FIELD = re.compile(r"([a-z]+)=([0-9a-f]{1,8})\b")
_LAYER = re.compile(r"[0-9]{1,9}\Z")
_FAULT_CRC = re.compile(r" crc=([0-9a-f]{8})\]\Z")

# Every command and reply key of the extension: name of the C macro -> text on the wire.
COMMANDS = {
    "ID": "id", "FILL": "fill", "PUT": "put", "INPUT": "input", "GET": "get", "RUN": "run", "INFER": "infer",
    "PROFILE": "profile", "MEMORY": "memory",
}  # fmt: skip
KEYS = {
    "ID": "id", "MAP": "map", "INPUT": "input", "PUT": "put", "DATA": "data", "RUN": "run", "SILENCE": "silence",
    "TICKS": "ticks", "LAYERS": "layers", "MEMORY": "memory",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What runs on the device. Sizes in bytes; `input_zero_point` and `output_zero_point` of the int8 tensors."""

    version: int
    build_id: str
    profile: str
    timer: str
    ticks_hz: int
    layers: int
    arena_bytes: int
    input_bytes: int
    output_bytes: int
    input_zero_point: int
    output_zero_point: int


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Addresses and bytes as linked. `static_bytes` is .data + .bss + handler stack; `spare_bytes` lies behind all."""

    flash_bytes: int
    stack_address: int
    stack_bytes: int
    static_bytes: int
    arena_address: int
    spare_bytes: int


@dataclass(frozen=True, slots=True)
class RunReply:
    """One timed inference. `output` is None when it is too long to travel along (see INLINE_OUTPUT_BYTES)."""

    ticks: int
    input_crc: int
    output_crc: int
    output: bytes | None


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """High-water marks in bytes. `arena_used` counts from the arena's start and exceeds the arena after an overrun.

    `stack_used` is that of an inference with the measuring around it, `stack_peak` that of all commands since boot.
    """

    arena_used: int
    stack_used: int
    stack_peak: int


def crc32(data: bytes) -> int:
    """CRC-32 as the device computes it."""
    return zlib.crc32(data)


# --- refusals ---------------------------------------------------------------------------------------------------


class RefusalCode(Enum):
    """Why a device refuses a command, as far as the host acts on it; the value is what the firmware's words begin with.

    The last one fits all words that are none of the others.
    """

    DAMAGED = "Damaged command"  # its frame does not fit
    UNREADABLE = "Command too long or not text"
    UNKNOWN_COMMAND = "Unknown command: "
    INPUT_INCOMPLETE = "Input incomplete"
    INPUT_SPENT = "Input spent"
    KERNEL_REFUSED = "Kernel refused: layer "
    PREPARE_REFUSED = "Prepare refused: layer "  # said at start-up: an interpreter sets the network up there
    OTHER = ""


INPUT_LOST = (RefusalCode.INPUT_INCOMPLETE, RefusalCode.INPUT_SPENT)  # they end when the input is sent again


@dataclass(frozen=True, slots=True)
class Refusal:
    """The device's answer to a command that it does not run: `text` is all that it said."""

    code: RefusalCode
    text: str

    @property
    def about(self) -> str:
        """What stands behind the words of the code: the unknown command's name, for one."""
        return self.text.removeprefix(self.code.value)

    @property
    def layer(self) -> int | None:
        """Place in execution order of the layer that is refused; None where the refusal is about something else."""
        is_about_one = self.code in (RefusalCode.KERNEL_REFUSED, RefusalCode.PREPARE_REFUSED)
        return int(self.about) if is_about_one and _LAYER.match(self.about) else None

    @property
    def is_of_the_line(self) -> bool:
        """Whether the line, and not the host, made the command that is refused.

        The host sends commands of the extension, framed and of a length that the device takes: all of it that may be
        unknown is the word ``hil`` itself, to firmware that is not ours.
        """
        if self.code is RefusalCode.UNKNOWN_COMMAND:
            return self.about.partition(" ")[0] != "hil"
        return self.code in (RefusalCode.DAMAGED, RefusalCode.UNREADABLE)


# --- commands ---------------------------------------------------------------------------------------------------


def hil_command(name: str, *arguments: int | str) -> str:
    """``hil NAME ARG ARG`` without the terminator; `name` is a key of COMMANDS."""
    return " ".join(["hil", COMMANDS[name], *map(str, arguments)])


def frame(text: str, sequence: int) -> str:
    """`text` in its frame; `sequence` is a number of 16 bits, not 0."""
    if not 0 < sequence < 1 << 16:
        raise ValueError(f"{sequence} is no sequence number")
    return f"{text} {FRAME_MARK}{sequence:04x}{zlib.crc32(text.encode('ascii'), sequence):08x}"


def unframe(text: str) -> tuple[str, int] | None:
    """The command and its sequence number (0 without a frame), as the device takes them; None when the frame does not
    fit.
    """
    body, mark, found = text.rpartition(f" {FRAME_MARK}")
    if not mark:
        return text, 0
    try:
        sequence = int(found[:4], 16)
    except ValueError:
        return None
    return (body, sequence) if sequence and frame(body, sequence) == text else None


def put_command(offset: int, data: bytes) -> str:
    """Upload of at most CHUNK_BYTES bytes to `offset` of the input, with the CRC-32 of the bytes."""
    if not 0 < len(data) <= CHUNK_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit a chunk of {CHUNK_BYTES}")
    return hil_command("PUT", offset, data.hex(), f"{crc32(data):08x}")


def db_commands(data: bytes, step: int = 31) -> list[str]:
    """MLPerf's own way to load `data`: ``db load N``, then `step` bytes a command."""
    chunks = (data[i : i + step] for i in range(0, len(data), step))
    return [f"db load {len(data)}", *(f"db {chunk.hex()}" for chunk in chunks)]


# --- replies ----------------------------------------------------------------------------------------------------


def extension_line(key: str, *values: int | str, sequence: int = 0) -> str:
    """The line a device sends for `values` under `key` to the command of that sequence number (for tests and fake
    devices).
    """
    body = f"m-hil-{key}-[{','.join(map(str, values))}]"
    return f"{body}-{zlib.crc32(body.encode(), sequence):08x}"


def parse_extension(line: str, sequence: int = 0) -> tuple[str, list[str]] | None:
    """Key and fields of an extension line, None for any other line.

    Raises ProtocolError when it is damaged, or answers the command of another sequence number: its CRC is wrong then.
    """
    if not line.startswith("m-hil-"):
        return None
    match = _EXTENSION.match(line)
    if match is None:
        raise ProtocolError(f"malformed reply {line[:80]!r}")
    if zlib.crc32(line[:-9].encode("latin-1"), sequence) != int(match[3], 16):
        raise ProtocolError(f"reply {line[:80]!r} arrived with a wrong CRC")
    return match[1], match[2].split(",")


def parse_refusal(line: str) -> Refusal | None:
    """What an ``e-[...]`` line says; None for any other line."""
    match = _ERROR.match(line)
    if match is None:
        return None
    code = next((code for code in RefusalCode if match[1].startswith(code.value)), RefusalCode.OTHER)
    return Refusal(code, match[1])


def is_fault(line: str) -> bool:
    """Whether `line` is the last words of a fault handler."""
    return line.startswith(f"e-[{FAULT} ")


def fault_error(line: str) -> TargetFaultError:
    """The error for a fault line; its registers are those of the line (pc, lr, sp, cfsr, hfsr, bfar, mmfar, stack).

    When the line was damaged on its way (its `crc` is wrong) it has none.
    """
    sent = _FAULT_CRC.search(line)
    if sent is None or crc32(line[: sent.start()].encode("latin-1", "replace")) != int(sent[1], 16):
        return TargetFaultError("the firmware faulted; what it said of where and why arrived damaged")
    line = line[: sent.start()]
    registers = {name: int(value, 16) for name, value in _FAULT_FIELD.findall(line)}
    overflow = registers.pop("stack", 0) == 1
    what = "the stack overflowed (reserve more with _stack_size)" if overflow else fault_name(registers)
    shown = " ".join(f"{name}=0x{value:08x}" for name, value in registers.items())
    return TargetFaultError(f"the firmware faulted: {what}; {shown}", registers)


# Bits of CFSR (Armv7-M architecture reference manual, B3.2.15) and HFSR, most telling first.
_CFSR_BITS = (
    (25, "division by zero"), (24, "unaligned access"), (19, "no coprocessor (FPU off)"),
    (18, "bad exception return"), (17, "invalid state (branch to an even address)"), (16, "undefined instruction"),
    (9, "bus error at bfar"), (10, "imprecise bus error"), (8, "instruction fetch from nowhere"),
    (12, "bus error while stacking"), (11, "bus error while unstacking"), (13, "bus error in lazy FPU stacking"),
    (1, "data access forbidden at mmfar"), (0, "instruction fetch forbidden"), (4, "MPU fault while stacking"),
    (3, "MPU fault while unstacking"), (5, "MPU fault in lazy FPU stacking"),
)  # fmt: skip


def fault_name(registers: dict[str, int]) -> str:
    """What the fault status registers say, in words."""
    named = [text for bit, text in _CFSR_BITS if registers.get("cfsr", 0) >> bit & 1]
    if not named and registers.get("hfsr", 0) >> 1 & 1:
        named = ["vector table read failed"]
    return ", ".join(named) or "HardFault"


def _integers(key: str, values: Sequence[str], count: int | None = None) -> list[int]:
    try:
        numbers = [int(value) for value in values]
    except ValueError as error:
        raise ProtocolError(f"reply {key!r} has a field that is not a number: {values!r}") from error
    if count is not None and len(numbers) != count:
        raise ProtocolError(f"reply {key!r} has {len(numbers)} fields instead of {count}")
    return numbers


def parse_identity(values: Sequence[str]) -> DeviceIdentity:
    """From the fields of the ``id`` reply."""
    if len(values) != len(fields(DeviceIdentity)):
        raise ProtocolError(f"the device speaks another version of the extension: {values[:1]} instead of {VERSION}")
    version, *rest = _integers("id", [values[0], *values[4:]])
    if version != VERSION:
        raise ProtocolError(f"the device speaks another version of the extension: {version} instead of {VERSION}")
    return DeviceIdentity(version, values[1], values[2], values[3], *rest)


def parse_map(values: Sequence[str]) -> MemoryMap:
    """From the fields of the ``map`` reply."""
    return MemoryMap(*_integers("map", values, len(fields(MemoryMap))))


def parse_memory(values: Sequence[str]) -> MemoryReport:
    """From the fields of the ``memory`` reply."""
    return MemoryReport(*_integers("memory", values, len(fields(MemoryReport))))


def parse_run(values: Sequence[str], output_bytes: int) -> RunReply:
    """From the fields of the ``run`` reply; `output_bytes` is the output's size by the identity."""
    if len(values) != 4:
        raise ProtocolError(f"reply 'run' has {len(values)} fields instead of 4")
    ticks, input_crc, output_crc = _integers("run", values[:3])
    if output_bytes > INLINE_OUTPUT_BYTES:
        return RunReply(ticks, input_crc, output_crc, None)
    output = parse_hex(values[3], output_bytes)
    if crc32(output) != output_crc:
        raise ProtocolError("the output in reply 'run' does not have the CRC that the device computed")
    return RunReply(ticks, input_crc, output_crc, output)


def parse_series(key: str, lines: Sequence[Sequence[str]], count: int) -> list[int]:
    """The `count` figures of all ``ticks`` or ``layers`` lines; each begins with the index of its first figure."""
    figures: list[int] = []
    for values in lines:
        numbers = _integers(key, values)
        if len(numbers) < 2 or numbers[0] != len(figures):
            raise ProtocolError(f"a line of {key!r} is missing: figure {len(figures)} did not follow the one before it")
        figures += numbers[1:]
    if len(figures) != count:
        raise ProtocolError(f"{len(figures)} figures of {key!r} came back instead of {count}")
    return figures


def parse_input(values: Sequence[str]) -> tuple[int, int]:
    """Size in bytes and CRC-32 of the present input, of an ``input`` line."""
    size, crc = _integers("input", values, 2)
    return size, crc


def parse_hex(text: str, size: int) -> bytes:
    """`size` bytes from hexadecimal. Raises ProtocolError."""
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise ProtocolError(f"{text[:40]!r} is not hexadecimal") from error
    if len(data) != size:
        raise ProtocolError(f"{len(data)} bytes came back instead of {size}")
    return data


# --- the C side -------------------------------------------------------------------------------------------------


def render_header() -> str:
    """Text of firmware/runtime/hil_wire.h."""
    numbers = {
        "VERSION": VERSION, "LINE_MAX": LINE_MAX, "CHUNK_BYTES": CHUNK_BYTES, "SAMPLES_PER_LINE": SAMPLES_PER_LINE,
        "PROFILE_SLOTS": PROFILE_SLOTS, "INLINE_OUTPUT_BYTES": INLINE_OUTPUT_BYTES,
        "ARENA_GUARD_BYTES": ARENA_GUARD_BYTES,
    }  # fmt: skip
    lines = [
        "/* Written by hil/link/protocol.py (render_header); tests/unit/test_wire.py checks that it is up to date. */",
        "#ifndef HIL_WIRE_H",
        "#define HIL_WIRE_H",
        "",
        *(f"#define HIL_WIRE_{name} {value}u" for name, value in numbers.items()),
        "",
        f"#define HIL_WIRE_TERMINATOR '{TERMINATOR}'",
        f'#define HIL_WIRE_READY "{READY}"',
        f'#define HIL_WIRE_UNKNOWN_COMMAND "{RefusalCode.UNKNOWN_COMMAND.value}"',
        f'#define HIL_WIRE_FAULT "{FAULT}"',
        f"#define HIL_WIRE_FRAME_MARK '{FRAME_MARK}'",
        f'#define HIL_WIRE_UNREADABLE "{RefusalCode.UNREADABLE.value}"',
        f'#define HIL_WIRE_DAMAGED "{RefusalCode.DAMAGED.value}"',
        "",
        *(f'#define HIL_WIRE_CMD_{name} "{text}"' for name, text in COMMANDS.items()),
        "",
        *(f'#define HIL_WIRE_KEY_{name} "{text}"' for name, text in KEYS.items()),
        "",
        *(f"#define HIL_WIRE_PATTERN_{kind.name} {kind.value}u" for kind in PatternKind),
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"
