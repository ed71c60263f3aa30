"""The C decoder and cycle models through ctypes: for tests, and to cost code without an emulator."""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass

from hil.cycle_model.native import build_library
from hil.cycle_model.options import ENGINE_CORES, EngineOptions

_SETS = ("writes", "base", "reads", "late", "early", "address", "stored")
_LAYERS_MAX = 64


class _CoreOptions(ctypes.Structure):
    _fields_ = [("core", ctypes.c_int)] + [
        (name, ctypes.c_uint32)
        for name in (
            "refill",
            "refill_split",
            "divide",
            "accumulate",
            "long_multiply",
            "address_stall",
            "mispredict",
            "unaligned",
        )
    ]


class _Span(ctypes.Structure):
    _fields_ = [("origin", ctypes.c_uint32), ("length", ctypes.c_uint32)]


class _Options(ctypes.Structure):
    """engine_options_t"""

    _fields_ = [
        ("core", _CoreOptions),
        ("inference", ctypes.c_uint32),
        ("layers", ctypes.c_uint32 * _LAYERS_MAX),
        ("layer_count", ctypes.c_uint),
        ("flash", _Span),
        ("ram", _Span),
        *((f"{kind}_{what}", ctypes.c_uint32) for kind in ("code", "data") for what in ("line_bytes", "lines", "ways")),
        ("data_covers_ram", ctypes.c_bool),
        ("data_random", ctypes.c_bool),
        ("emit", ctypes.c_void_p),
    ]


class _Decoded(ctypes.Structure):
    """decoded_t"""

    _fields_ = [
        ("mnemonic", ctypes.c_char * 16),
        ("cls", ctypes.c_char * 16),
        *((name, ctypes.c_uint32) for name in ("bytes", "moved", "access_bytes")),
        *((name, ctypes.c_uint64) for name in _SETS),
    ]


@dataclass(frozen=True, slots=True)
class Instruction:
    """A decoded instruction. Register sets are bit masks: 0-15 for the core, 16 for the flags, 17-48 for s0-s31."""

    mnemonic: str
    cls: str
    bytes: int
    moved: int
    access_bytes: int
    writes: int
    base: int
    reads: int
    late: int
    early: int
    address: int
    stored: int

    @property
    def touched(self) -> int:
        """All registers and flags that the instruction has to do with."""
        return self.writes | self.base | self.reads | self.late | self.early | self.address | self.stored


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build_library()))
    library.timing_start.restype = ctypes.c_char_p
    library.timing_header.restype = ctypes.c_char_p
    library.timing_record.restype = ctypes.c_char_p
    library.timing_block.argtypes = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32]
    return library


def decode(code: bytes, in_it: bool = False) -> Instruction | None:
    """The instruction at the start of `code` (little-endian half-words), None when the decoder does not know it."""
    first = int.from_bytes(code[:2], "little")
    second = int.from_bytes(code[2:4], "little")
    found = _Decoded()
    if not _library().timing_decode(first, second, int(in_it), ctypes.byref(found)):
        return None
    sets = {name: int(getattr(found, name)) for name in _SETS}
    return Instruction(
        found.mnemonic.decode(), found.cls.decode(), found.bytes, found.moved, found.access_bytes, **sets
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One step of a trace: `code` at `pc`, run `times` in a row, or (without code) a read of `read_bytes` at `pc`."""

    pc: int
    code: bytes = b""
    times: int = 1
    read_bytes: int = 0


def replay(options: EngineOptions, trace: Iterable[Run]) -> tuple[list[str], dict[str, object]]:
    """Columns, and the record of the last inference in `trace` (empty when none ended). Raises ValueError."""
    library = _library()
    error = library.timing_start(ctypes.byref(_options(options)))
    if error:
        raise ValueError(error.decode())
    try:
        for step in trace:
            if step.code:
                library.timing_block(step.pc, step.code, len(step.code), step.times)
            else:
                library.timing_read(step.pc, step.read_bytes - 1)
        record = library.timing_record()
        return json.loads(library.timing_header())["columns"], json.loads(record) if record else {}
    finally:
        library.timing_stop()


def _options(options: EngineOptions) -> _Options:
    return _Options(
        core=_CoreOptions(
            ENGINE_CORES.index(options.core), options.refill, options.refill_split, options.divide,
            options.accumulate, options.long_multiply, options.address_stall, options.mispredict, options.unaligned,
        ),
        inference=options.inference,
        layers=(ctypes.c_uint32 * _LAYERS_MAX)(*options.layers),
        layer_count=len(options.layers),
        flash=_Span(*options.flash),
        ram=_Span(*options.ram),
        code_line_bytes=options.code.line_bytes, code_lines=options.code.lines, code_ways=options.code.ways,
        data_line_bytes=options.data.line_bytes, data_lines=options.data.lines, data_ways=options.data.ways,
        data_covers_ram=options.data_covers_ram, data_random=options.data_random,
    )  # fmt: skip
