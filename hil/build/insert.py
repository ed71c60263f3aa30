"""Another network in the place of the one in a linked image: what the linker would make of it, without the linker.

The network's bytes are the last section in flash (`.model`, firmware/link.ld), so no address depends on how many they
are. What does is its section, its segment, a few absolute symbols, and where in the file everything behind it lies.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hil.elf_file import PHDR, PT_LOAD, SHF_ALLOC, SHT_NOBITS, ElfFile, NotElf, Symbol

SECTION = ".model"
_MODEL_SYMBOL = "g_model"
_GROWING = ("_model_end", "_flash_used", "_weights_size")  # by as many bytes as the network
_GROWING_WORD = ("hil_memory", 24)  # hil_memory_t.flash_bytes, which the linker made of one of these
_PAGE = 0x1000


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a symbol's entry is in the file, its value and size, and the file offset of what it names (or None)."""

    entry: int
    value: int
    size: int
    offset: int | None


class Template:
    """An image that was linked with some network, and into which others can be put. Immutable.

    Raises ValueError when it is no ELF image of ours.
    """

    def __init__(self, image: bytes) -> None:
        self._image = image
        try:
            self._read()
        except (NotElf, KeyError, ValueError) as error:
            raise ValueError(f"not an image that was linked with firmware/link.ld: {error}") from error

    def _read(self) -> None:
        elf = ElfFile(self._image)
        self._phoff, self._phnum, self._sections = elf.phoff, elf.phnum, elf.sections
        self._model = elf.names.index(SECTION)
        self.symbols = {symbol.name: _place(elf, symbol) for symbol in elf.symbols() if symbol.name}
        missing = [name for name in (*_GROWING, _MODEL_SYMBOL) if name not in self.symbols]
        if missing:
            raise KeyError(missing[0])

    @property
    def model_bytes(self) -> int:
        """Of the network that is in it."""
        return self._sections[self._model].size

    def with_network(self, data: bytes, patches: Mapping[str, tuple[int, bytes]]) -> bytes:
        """The image with the network `data`, and with bytes of other objects replaced: by symbol, (offset, bytes).

        Raises ValueError for a patch that is outside its object.
        """
        image, delta = bytearray(self._image), len(data) - self.model_bytes
        for name, (start, content) in patches.items():
            symbol = self.symbols[name]
            if symbol.offset is None or start + len(content) > symbol.size:
                raise ValueError(f"{name} has {symbol.size} bytes, not {start + len(content)}")
            position = symbol.offset + start
            image[position : position + len(content)] = content
        for name in _GROWING:
            struct.pack_into("<I", image, self.symbols[name].entry + 4, self.symbols[name].value + delta)
        struct.pack_into("<I", image, self.symbols[_MODEL_SYMBOL].entry + 8, len(data))
        name, start = _GROWING_WORD
        memory = self.symbols.get(name)
        if memory is not None and memory.offset is not None:
            (word,) = struct.unpack_from("<I", image, memory.offset + start)
            struct.pack_into("<I", image, memory.offset + start, word + delta)
        self._grow_segment(image, delta)
        return self._laid_out(image, data)

    def _grow_segment(self, image: bytearray, delta: int) -> None:
        """The segment that ends with the network: its size in the file and in memory."""
        model = self._sections[self._model]
        for index in range(self._phnum):
            position = self._phoff + 32 * index
            kind, offset, _, _, filesz, memsz, _, _ = PHDR.unpack_from(image, position)
            if kind == PT_LOAD and offset <= model.offset and offset + filesz == model.offset + model.size:
                struct.pack_into("<2I", image, position + 16, filesz + delta, memsz + delta)
                return
        raise ValueError("no segment ends with the network")

    def _laid_out(self, image: bytearray, data: bytes) -> bytes:
        """Everything behind the network at its new place, in the order and with the alignment that it has."""
        model = self._sections[self._model]
        found = bytearray(image[: model.offset]) + data
        moved = [replace(section) for section in self._sections]
        moved[self._model].size = len(data)
        behind = [
            index
            for index, section in enumerate(self._sections)
            if index != self._model and section.offset >= model.offset + model.size and not section.flags & SHF_ALLOC
        ]
        for index in sorted(behind, key=lambda index: (self._sections[index].offset, index)):
            section = self._sections[index]
            found += bytes(-len(found) % max(section.align, 1))
            moved[index].offset = len(found)
            found += image[section.offset : section.offset + section.size]
        for section in moved:  # in RAM, nothing in the file: the linker has them begin at the page behind
            if section.type == SHT_NOBITS and section.offset > model.offset:
                section.offset = -(-(model.offset + len(data)) // _PAGE) * _PAGE
        found += bytes(-len(found) % 4)
        struct.pack_into("<I", found, 32, len(found))  # e_shoff
        return bytes(found) + b"".join(section.pack() for section in moved)


def _place(elf: ElfFile, symbol: Symbol) -> _Place:
    section = elf.sections[symbol.section] if 0 < symbol.section < len(elf.sections) else None
    in_file = section is not None and section.type != SHT_NOBITS
    offset = section.offset + symbol.value - section.addr if section is not None and in_file else None
    return _Place(symbol.position, symbol.value, symbol.size, offset)
