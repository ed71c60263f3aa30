"""A plan's model.c as the object file that the compiler makes of it, without the compiler.

The network of a generated project is data: tables, arrays, an arena. What is linked with this object is the image that
is linked with the compiler's, byte for byte (tests/firmware/test_network_object.py; `hil.measure.harness` compares the
two for each toolchain and library before it trusts this one, and for one network in so many after that).

GCC writes what a file defines in the reverse of that order, and names symbols in the order in which they are met.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from hil.build.object_file import Part, Symbol, Symbols, TableLayouts, object_file
from hil.codegen.layer import Arena, ConstantOf, Value
from hil.codegen.plan import Plan, Port, Step
from hil.elf_file import (
    SHF_ALLOC,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_WRITE,
    SHN_ABS,
    SHT_PROGBITS,
    STT_FILE,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
)
from munas.cost.kernels import align
from munas.cost.optimise import Optimise

POINTER_BYTES = 4
_ARENA, _STEPS, _MODEL = "hil_arena", "hil_steps", "hil_model"
_STRINGS, _MODEL_PART, _NETWORK_PART, _ARENA_PART = range(1, 5)  # positions in the file
_STRINGS_KEY = "the strings"

Parts = tuple[list[Part], dict[str, tuple[int, int]], int]
"""Sections, (offset, bytes) of each object in the network's, and the flags of the file's header."""


def can_be_written(plan: Plan, weights: str, optimise: Optimise) -> bool:
    """Whether the plan is nothing but data in flash: states have code of their own; strings at -Os lie otherwise."""
    return not plan.states and weights == "flash" and optimise is not Optimise.SIZE


def tensor_offsets(plan: Plan) -> dict[int, int]:
    """Bytes from the start of the arena to each tensor's storage."""
    return {item.label: item.offset for item in plan.buffers if item.kind == "tensor"}


def _model_fields(plan: Plan) -> dict[str, int | float]:
    """What the template says of hil_model_t, its two strings apart."""
    ports = {"input": stated(plan.input), "output": stated(plan.output)}
    return {
        "layers": len(plan.steps),
        "arena_size": plan.arena_bytes,
        **{f"{name}_offset": port.offset for name, port in ports.items()},
        **{f"{name}_size": port.size for name, port in ports.items()},
        **{f"{name}_zero_point": port.zero_point for name, port in ports.items()},
        **{f"{name}_scale": float(port.scale) for name, port in ports.items()},
    }


def stated(port: Port) -> Port:
    """What the firmware says of a port: of 16 bits it only knows the bytes."""
    return replace(port, scale=1.0, zero_point=0) if port.is_wide else port


def offset_in_arena(place: Arena, step: Step, offsets: Mapping[int, int]) -> int:
    """Bytes from the start of the arena."""
    start = step.scratch_offset if place.storage is None else offsets[place.storage]
    assert start is not None
    return start + place.offset


@dataclass(slots=True)
class _Data:
    """An object in the C file: bytes, and the pointers in it: (offset, symbol), what is added being in the bytes."""

    name: str
    content: bytearray
    pointers: list[tuple[int, str]] = field(default_factory=list)


def network_object(plan: Plan, build_id: str, profile: str, layouts: TableLayouts) -> bytes:
    """The object file. Raises BuildError when the compiler cannot say how a table is laid out."""
    tables = list(_tables(plan, layouts))
    arrays = [
        _Data(f"{constant.role}_{step.index}", bytearray(constant.values.ljust(constant.size_bytes, b"\0")))
        for step in reversed(plan.steps)
        for constant in reversed(step.layer.constants)
    ]
    items, model = [*tables, *arrays], _model(plan, layouts)
    parts, places, flags = _parts([build_id, profile], model, items, plan.arena_bytes, layouts)
    return object_file(parts, _symbols(model, items, places, (len(tables), plan.arena_bytes)), flags)


def _tables(plan: Plan, layouts: TableLayouts) -> Iterator[_Data]:
    """The table of steps, then the steps' tables, last first."""
    offsets = tensor_offsets(plan)
    entries: list[_Row] = [{"run": _To(step.layer.kernel), "op": _To(f"layer_{step.index}")} for step in plan.steps]
    yield _array(_STEPS, "hil_step_t", entries, layouts)
    for step in reversed(plan.steps):
        fields: _Row = {name: _resolved(value, step, offsets) for name, value in step.layer.fields}
        yield _array(f"layer_{step.index}", step.layer.table, [fields], layouts)
        if step.layer.parts:
            rows: list[_Row] = [
                {"data": _To(_ARENA, offset_in_arena(place, step, offsets)), "run_bytes": size}
                for place, size in step.layer.parts
            ]
            yield _array(f"parts_{step.index}", "hil_part_t", rows, layouts)


@dataclass(frozen=True, slots=True)
class _To:
    """A pointer: `add` bytes behind `symbol`."""

    symbol: str
    add: int = 0


_Field = int | tuple[int, ...] | _To | bytes
_Row = dict[str, _Field]


def _resolved(value: Value, step: Step, offsets: Mapping[int, int]) -> _Field:
    match value:
        case Arena():
            return _To(_ARENA, offset_in_arena(value, step, offsets))
        case ConstantOf(role):
            return _To(f"{role}_{step.index}")
        case _:
            return value


def _array(name: str, table: str, rows: list[_Row], layouts: TableLayouts) -> _Data:
    """The C array (or the one struct) `name` of `table`, filled in."""
    data = _Data(name, bytearray())
    for row in rows:
        layout = layouts.of(table, tuple((key, isinstance(value, tuple)) for key, value in row.items()))
        start = len(data.content)
        data.content += bytes(layout.size)
        for (offset, width), value in zip(layout.places, row.values(), strict=True):
            _fill(data, start + offset, width, value)
    data.content += bytes(align(len(data.content)) - len(data.content))
    return data


def _fill(data: _Data, offset: int, width: int, value: _Field) -> None:
    match value:
        case _To():
            data.pointers.append((offset, value.symbol))
            data.content[offset : offset + POINTER_BYTES] = value.add.to_bytes(POINTER_BYTES, "little")
        case tuple():
            for number, item in enumerate(value):
                data.content[offset + number * width : offset + (number + 1) * width] = _bytes_of(item, width)
        case bytes():
            data.content[offset : offset + width] = value
        case _:
            data.content[offset : offset + width] = _bytes_of(value, width)


def _bytes_of(value: int, width: int) -> bytes:
    """Of a field that may be signed or not. Raises OverflowError when it is too large for either."""
    return value.to_bytes(width, "little", signed=value < 0)


def _model(plan: Plan, layouts: TableLayouts) -> _Data:
    """hil_model_t; its two strings are the first objects of their section."""
    values = _model_fields(plan).items()
    numbers: _Row = {name: struct.pack("<f", value) if isinstance(value, float) else value for name, value in values}
    return _array(
        _MODEL, "hil_model_t", [{"build_id": _To(_STRINGS_KEY), "profile": _To(_STRINGS_KEY), **numbers}], layouts
    )


def _parts(
    strings: Sequence[str], model: _Data, items: Sequence[_Data], arena_bytes: int, layouts: TableLayouts
) -> Parts:
    """The sections of the file: strings, hil_model, the network, the arena, and what the compiler adds to each file."""
    text = bytearray()
    for (offset, _), string in zip(model.pointers, strings, strict=True):
        text += bytes(align(len(text)) - len(text))
        model.content[offset : offset + POINTER_BYTES] = len(text).to_bytes(POINTER_BYTES, "little")
        text += string.encode("ascii") + b"\0"
    starts = list(accumulate((len(item.content) for item in items), initial=0))
    places = {item.name: (start, len(item.content)) for item, start in zip(items, starts, strict=False)}
    pointers = [(places[item.name][0] + offset, name) for item in items for offset, name in item.pointers]
    network = b"".join(item.content for item in items)
    flags, added = layouts.object_frame()
    parts = [
        Part(".rodata.str1.4", SHT_PROGBITS, SHF_ALLOC | SHF_MERGE | SHF_STRINGS, 4, bytes(text), 1),
        Part(".rodata.hil_model", SHT_PROGBITS, SHF_ALLOC, 4, bytes(model.content), 0, model.pointers),
        Part(".rodata.hil_weights", SHT_PROGBITS, SHF_ALLOC, 4, network, 0, pointers),
        Part(".arena", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 16, bytes(arena_bytes)),
        *(Part(name, item.type, item.flags, item.align, content, item.entry) for name, item, content in added),
    ]
    return parts, places, flags


def _symbols(
    model: _Data, items: Sequence[_Data], places: Mapping[str, tuple[int, int]], arena: tuple[int, int]
) -> Symbols:
    """In the order in which the compiler's assembly names them. `arena` is (number of items before it, its bytes)."""
    found = Symbols()
    found.local += [
        Symbol("model.c", STT_FILE, SHN_ABS),
        Symbol("", STT_SECTION, _STRINGS, key=_STRINGS_KEY),
        Symbol("$d", STT_NOTYPE, _STRINGS),
        Symbol("$d", STT_NOTYPE, _MODEL_PART),
    ]
    found.shared.append(Symbol(_MODEL, STT_OBJECT, _MODEL_PART, 0, len(model.content)))
    found.shared.append(Symbol(_STEPS, STT_OBJECT, _NETWORK_PART, *places[_STEPS]))
    known = {_STEPS}
    for number, item in enumerate(items):
        if number == arena[0]:
            found.local.append(Symbol("$d", STT_NOTYPE, _ARENA_PART))
        found.local.append(Symbol("$d", STT_NOTYPE, _NETWORK_PART, places[item.name][0]))
        for _, name in item.pointers:
            if name in known:
                continue
            known.add(name)
            if name == _ARENA:
                found.shared.append(Symbol(name, STT_OBJECT, _ARENA_PART, 0, arena[1]))
            elif name in places:
                found.local.append(Symbol(name, STT_OBJECT, _NETWORK_PART, *places[name]))
            else:
                found.shared.append(Symbol(name, STT_NOTYPE))  # a kernel
    return found
