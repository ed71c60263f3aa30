"""An object file of data, for the linker: sections, symbols, and pointers that it fills in."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hil.elf_file import (
    EHDR,
    SHDR,
    SHF_INFO_LINK,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    SYM,
    Section,
)

FieldNames = tuple[tuple[str, bool], ...]
"""Fields of a struct, and whether each is an array."""

Frame = tuple[int, tuple[tuple[str, Section, bytes], ...]]
"""Flags in the header of a compiler's objects; the sections (name, header, bytes) that it adds to each."""

_R_ARM_ABS32 = 2
_ET_REL, _EM_ARM = 1, 40
_IDENT = b"\x7fELF\x01\x01\x01" + bytes(9)


@dataclass(frozen=True, slots=True)
class Layout:
    """A struct of `size` bytes. `places` are parallel to the fields asked for: (offset, bytes of one element)."""

    size: int
    places: tuple[tuple[int, int], ...]


class TableLayouts(Protocol):
    """What a compiler has to say to whoever writes an object in its place (hil.build.layouts)."""

    def of(self, struct: str, fields: FieldNames) -> Layout:
        """Where `struct` of hil_kernels.h or hil_model.h has `fields`. Raises BuildError."""
        ...

    def object_frame(self) -> Frame:
        """What is in every object of that compiler. Raises BuildError."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A section: its name, SHT_..., SHF_..., alignment, bytes of an entry (or 0), and content.

    `pointers` are the offsets of words that name a symbol; what is added to its address is in them.
    """

    name: str
    kind: int
    flags: int
    alignment: int
    content: bytes
    entry: int = 0
    pointers: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class Symbol:
    """`section` is the position of its part, counted from 1; 0 for what another object has, SHN_ABS for a file's name.

    `key` is what pointers call it where that is not its name.
    """

    name: str
    kind: int
    section: int = 0
    value: int = 0
    size: int = 0
    key: str = ""


@dataclass(slots=True)
class Symbols:
    """Symbols of an object in the order in which they were met; those that others see come last in its file."""

    local: list[Symbol] = field(default_factory=list)
    shared: list[Symbol] = field(default_factory=list)

    def table(self) -> tuple[bytes, bytes]:
        """Names and entries, as they are in the file."""
        names, entries, starts = bytearray(b"\0"), bytearray(SYM.size), {"": 0}
        for binding, symbols in ((STB_LOCAL, self.local), (STB_GLOBAL, self.shared)):
            for item in symbols:
                if item.name not in starts:
                    starts[item.name] = len(names)
                    names += item.name.encode("ascii") + b"\0"
                entries += SYM.pack(starts[item.name], item.value, item.size, binding << 4 | item.kind, 0, item.section)
        return bytes(names), bytes(entries)

    def numbers(self) -> dict[str, int]:
        """Position of each symbol in the table, by what pointers call it."""
        everyone = enumerate([*self.local, *self.shared], start=1)
        return {item.key or item.name: number for number, item in everyone}


def object_file(parts: Sequence[Part], symbols: Symbols, flags: int) -> bytes:
    """The ELF file; `flags` are the machine's in its header. Raises KeyError for a pointer to no symbol."""
    numbers = symbols.numbers()
    moved = [(number, part) for number, part in enumerate(parts, start=1) if part.pointers]
    symtab = 1 + len(parts) + len(moved)
    files = [(part.name, part.content, _header(part.kind, part.flags, part.alignment, part.entry)) for part in parts]
    for number, part in moved:
        words = (struct.pack("<2I", at, numbers[name] << 8 | _R_ARM_ABS32) for at, name in part.pointers)
        header = _header(SHT_REL, SHF_INFO_LINK, 4, 8, symtab, number)
        files.append((f".rel{part.name}", b"".join(words), header))
    names, entries = symbols.table()
    files.append((".symtab", entries, _header(SHT_SYMTAB, 0, 4, SYM.size, symtab + 1, 1 + len(symbols.local))))
    files.append((".strtab", names, _header(SHT_STRTAB, 0, 1)))
    titles, starts = _titles([*(name for name, _, _ in files), ".shstrtab"])
    files.append((".shstrtab", titles, _header(SHT_STRTAB, 0, 1)))
    body, headers = bytearray(EHDR.size), [bytes(SHDR.size)]
    for (_, content, header), start in zip(files, starts, strict=True):
        body += bytes(-len(body) % header.align)
        header.name, header.offset, header.size = start, len(body), len(content)
        headers.append(header.pack())
        body += content
    body += bytes(-len(body) % 4)
    EHDR.pack_into(
        body, 0, _IDENT, _ET_REL, _EM_ARM, 1, 0, 0, len(body), flags, EHDR.size, 0, 0, SHDR.size, len(headers),
        len(files),
    )  # fmt: skip
    return bytes(body) + b"".join(headers)


def _header(kind: int, flags: int, alignment: int, entry: int = 0, link: int = 0, info: int = 0) -> Section:
    return Section(0, kind, flags, 0, 0, 0, link, info, alignment, entry)


def _titles(names: Iterable[str]) -> tuple[bytes, list[int]]:
    """One string of all names, and where each starts."""
    text, starts = bytearray(b"\0"), list[int]()
    for name in names:
        starts.append(len(text))
        text += name.encode("ascii") + b"\0"
    return bytes(text), starts
