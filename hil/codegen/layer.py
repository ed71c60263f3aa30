"""A layer as the firmware sees it: a kernel, its table of constants, and arrays in flash. All of it numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from munas.cost.kernels import Work, align
from munas.cost.variants import layer_bytes


@dataclass(frozen=True, slots=True)
class Arena:
    """A field that points into the arena: `offset` bytes into tensor `storage`, or (None) the layer's scratch."""

    storage: int | None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ConstantOf:
    """A field that points to the layer's constant `role`."""

    role: str


Value = int | tuple[int, ...] | Arena | ConstantOf


@dataclass(frozen=True, slots=True)
class Constant:
    """An array in flash: `values` are C-ordered `dtype` (int8_t, int16_t or int32_t), `size_bytes` is with fill."""

    role: str
    dtype: str
    values: bytes
    comment: str

    @property
    def size_bytes(self) -> int:
        """Bytes in flash; arrays are filled up to whole words."""
        return align(len(self.values))


@dataclass(frozen=True, slots=True)
class Layer:
    """A C function and the table that it gets. `parts` are the inputs of a CONCATENATION: (place, bytes of a run)."""

    kernel: str
    table: str
    fields: tuple[tuple[str, Value], ...]
    constants: tuple[Constant, ...] = ()
    parts: tuple[tuple[Arena, int], ...] = ()

    def renumbered(self, numbers: Mapping[int, int]) -> Layer:
        """The same layer with other numbers for storage."""
        fields = tuple((name, _renumbered(value, numbers)) for name, value in self.fields)
        return replace(self, fields=fields, parts=tuple((_placed(place, numbers), size) for place, size in self.parts))


def _renumbered(value: Value, numbers: Mapping[int, int]) -> Value:
    return _placed(value, numbers) if isinstance(value, Arena) else value


def _placed(place: Arena, numbers: Mapping[int, int]) -> Arena:
    return place if place.storage is None else replace(place, storage=numbers[place.storage])


@dataclass(frozen=True, slots=True)
class Lowered:
    """A layer and what is known of its cost. `in_place` are the inputs whose memory the output may take over."""

    layer: Layer
    work: Work
    in_place: tuple[int, ...] = ()

    @property
    def table_bytes(self) -> int:
        """Flash for the layer's table, its parts and its entry in the table of steps."""
        return layer_bytes(self.work.variant, len(self.layer.parts))
