"""A flatbuffer reader that believes nothing: every offset is checked, and all reading is paid for from one budget.

The offsets of a flatbuffer may point anywhere, and many references may point at one vector; both are legal and both
make a naive reader crash, hang or eat all memory. Here each access stays inside the file, and the sum of everything
read is bounded by a multiple of the file's size, so that time and memory are, too.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hil.errors import ModelError

_BUDGET_PER_BYTE = 2
_BUDGET_FLOOR, _BUDGET_CEILING = 65536, 8 * 1024 * 1024  # bytes of structure; weights are never read through here

_I8, _U8, _U16 = struct.Struct("<b"), struct.Struct("<B"), struct.Struct("<H")
_I32, _U32, _U64, _F32 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<f")


_POINTER = b"version https://git-lfs"


class Flatbuffer:
    """The bytes of one file with the budget that reading them may use up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._budget = min(_BUDGET_FLOOR + _BUDGET_PER_BYTE * len(data), _BUDGET_CEILING)

    def root(self, identifier: bytes) -> Table:
        """The root table. Raises ModelError unless the file carries `identifier`."""
        if self.data.startswith(_POINTER):
            raise ModelError("this is a Git LFS pointer in the place of a .tflite file; `git lfs pull` fetches that")
        if len(self.data) < 8 or self.data[4:8] != identifier:
            raise ModelError("this is not a .tflite file (no TFL3 identifier)")
        return self.table_at(self.offset(0))

    def spend(self, amount: int) -> None:
        """Take from the budget. Raises ModelError when nothing is left."""
        self._budget -= amount
        if self._budget < 0:
            raise corrupt("parts of the file refer to each other more often than a real model does")

    def unpack(self, form: struct.Struct, position: int) -> int | float:
        """One scalar at a byte position."""
        if position < 0 or position + form.size > len(self.data):
            raise corrupt("a field lies outside the file")
        value: int | float = form.unpack_from(self.data, position)[0]
        return value

    def offset(self, position: int) -> int:
        """Absolute target of the unsigned relative offset at a position."""
        target = position + int(self.unpack(_U32, position))
        if target >= len(self.data):
            raise corrupt("an offset points outside the file")
        return target

    def table_at(self, position: int) -> Table:
        """The table at an absolute position; its vtable is checked as a whole."""
        self.spend(16)
        vtable = position - int(self.unpack(_I32, position))
        size = int(self.unpack(_U16, vtable))
        if size < 4 or size % 2 or vtable + size > len(self.data):
            raise corrupt("a table has a broken layout")
        return Table(self, position, vtable, size)


class Table:
    """One table; fields are read by slot number, with the schema's default when absent."""

    __slots__ = ("_file", "_position", "_size", "_vtable")

    def __init__(self, file: Flatbuffer, position: int, vtable: int, size: int) -> None:
        self._file, self._position, self._vtable, self._size = file, position, vtable, size

    def _field(self, slot: int) -> int:
        """Absolute position of a field, 0 when absent."""
        entry = 4 + 2 * slot
        if entry + 2 > self._size:
            return 0
        relative = int(self._file.unpack(_U16, self._vtable + entry))
        return self._position + relative if relative else 0

    def _scalar(self, form: struct.Struct, slot: int, default: int | float) -> int | float:
        position = self._field(slot)
        return self._file.unpack(form, position) if position else default

    def has(self, slot: int) -> bool:
        """Whether a field is present."""
        return self._field(slot) != 0

    def position(self, slot: int) -> int:
        """Absolute position of a field in the file, 0 when absent."""
        return self._field(slot)

    def int8(self, slot: int, default: int = 0) -> int:
        """A signed byte."""
        return int(self._scalar(_I8, slot, default))

    def uint8(self, slot: int, default: int = 0) -> int:
        """An unsigned byte."""
        return int(self._scalar(_U8, slot, default))

    def flag(self, slot: int, default: bool = False) -> bool:
        """A boolean, `default` when absent."""
        return self._scalar(_U8, slot, int(default)) != 0

    def int32(self, slot: int, default: int = 0) -> int:
        """A signed 32-bit integer."""
        return int(self._scalar(_I32, slot, default))

    def uint32(self, slot: int, default: int = 0) -> int:
        """An unsigned 32-bit integer."""
        return int(self._scalar(_U32, slot, default))

    def uint64(self, slot: int, default: int = 0) -> int:
        """An unsigned 64-bit integer."""
        return int(self._scalar(_U64, slot, default))

    def float32(self, slot: int, default: float = 0.0) -> float:
        """A 32-bit float, which may be NaN or infinite."""
        return float(self._scalar(_F32, slot, default))

    def table(self, slot: int) -> Table | None:
        """A referenced table, None when absent."""
        position = self._field(slot)
        return self._file.table_at(self._file.offset(position)) if position else None

    def tables(self, slot: int, limit: int, what: str) -> list[Table]:
        """A vector of tables (empty when absent) of at most `limit`; `what` names them in the error."""
        start, count = self._vector(slot, 4)
        if count > limit:
            raise ModelError(f"the model has {count} {what}; at most {limit} are supported")
        return [self._file.table_at(self._file.offset(start + 4 * i)) for i in range(count)]

    def int32s(self, slot: int) -> tuple[int, ...]:
        """A vector of signed 32-bit integers, empty when absent."""
        return tuple(int(value) for value in self._scalars(slot, "i", 4))

    def int64s(self, slot: int) -> tuple[int, ...]:
        """A vector of signed 64-bit integers, empty when absent."""
        return tuple(int(value) for value in self._scalars(slot, "q", 8))

    def float32s(self, slot: int) -> tuple[float, ...]:
        """A vector of 32-bit floats, empty when absent."""
        return tuple(self._scalars(slot, "f", 4))

    def raw(self, slot: int) -> memoryview:
        """A vector of bytes, not copied; empty when absent."""
        start, count = self._vector(slot, 1)
        return memoryview(self._file.data)[start : start + count]

    def text(self, slot: int, limit: int) -> str:
        """A string made harmless: at most `limit` printable ASCII characters, the rest shown as '?'."""
        shown = bytes(self.raw(slot)[:limit])
        return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in shown)

    def _scalars(self, slot: int, form: str, size: int) -> Sequence[int | float]:
        start, count = self._vector(slot, size)
        self._file.spend(size * count)
        return struct.unpack_from(f"<{count}{form}", self._file.data, start)

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        """(absolute position of the first element, number of elements) of a vector that lies inside the file."""
        position = self._field(slot)
        if not position:
            return 0, 0
        start = self._file.offset(position)
        count = int(self._file.unpack(_U32, start))
        if start + 4 + size * count > len(self._file.data):
            raise corrupt("a list is longer than the file")
        return start + 4, count


def corrupt(reason: str) -> ModelError:
    """The error for a file that contradicts itself."""
    return ModelError(f"the .tflite file is damaged: {reason}; export the model again")
