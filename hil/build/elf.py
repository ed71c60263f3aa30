"""Sizes of an image, read from the ELF itself: program headers and the symbols that firmware/link.ld defines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hil.elf_file import PT_LOAD, STT_FUNC, STT_OBJECT, ElfFile, NotElf, Symbol
from hil.errors import BuildError

_SYMBOLS = ("_flash_used", "_weights_size", "_code_size", "_static_size", "_arena_size", "_ram_used", "_stack_size")


@dataclass(frozen=True, slots=True)
class Sizes:
    """All in bytes. `ram_total` = stack + static + arena with alignment.

    `weights` is the network: weights, biases, multipliers and layer tables; `code` is all other flash.
    """

    flash_total: int
    weights: int
    code: int
    static_ram: int
    arena: int
    stack_reserved: int
    ram_total: int


class LinkedElf:
    """The ELF file at `path`, read once. Raises BuildError when it is not a readable ELF."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = path.read_bytes()
            self._elf = ElfFile(self.data)
            self.symbols = list(self._elf.symbols())
            # What a programmer writes: file sizes of all PT_LOAD segments.
            self.loaded_bytes = sum(part[4] for part in self._elf.segments() if part[0] == PT_LOAD)
        except (OSError, NotElf) as error:
            raise BuildError(f"{path} is not a readable ELF image: {error}") from error
        self.values = {symbol.name: symbol.value for symbol in self.symbols}


def read_symbols(path: Path) -> dict[str, int]:
    """Value of every named symbol of the ELF at `path`. Raises BuildError when it is not a readable ELF."""
    return LinkedElf(path).values


def sizes_of(elf: LinkedElf) -> Sizes:
    """Sizes of the image `elf`.

    The linker's own symbols give the split; the program headers have to agree on the total, else BuildError: a figure
    that two sources disagree on is not shown.
    """
    path, symbols = elf.path, elf.values
    missing = [name for name in _SYMBOLS if name not in symbols]
    if missing:
        raise BuildError(f"{path} was not linked with firmware/link.ld: it has no {', '.join(missing)}")
    flash, weights, code, static, arena, ram, stack = (symbols[name] for name in _SYMBOLS)
    loaded = elf.loaded_bytes
    if not flash - 16 <= loaded <= flash:  # alignment between sections is not in the headers' file sizes
        raise BuildError(f"BUG: {path} loads {loaded} bytes, its symbols say {flash}; report this")
    return Sizes(flash, weights, code, static, arena, stack, ram)


def functions_of(elf: LinkedElf) -> dict[str, int]:
    """Bytes of every function and constant in flash that is not weights, by name (of several with one name, all).

    What the linker kept of the library for one network. Raises BuildError when it is no image of ours.
    """
    edges = elf.values
    try:
        start, end = edges["_text_start"], edges["_flash_start"] + edges["_flash_used"]
        weights_start, weights_end = edges["_weights_start"], edges["_weights_end"]
    except KeyError as error:
        raise BuildError(f"{elf.path} is not an image of ours: {error}") from error
    return _bytes_by_name(
        symbol
        for symbol in elf.symbols
        if start <= symbol.address < end and not weights_start <= symbol.address < weights_end
    )


def read_kept(path: Path) -> dict[str, int]:
    """Bytes of every function and constant in an ELF without a layout of ours, by name. Raises BuildError."""
    return _bytes_by_name(symbol for symbol in LinkedElf(path).symbols if symbol.kind in (STT_FUNC, STT_OBJECT))


def _bytes_by_name(symbols: Iterable[Symbol]) -> dict[str, int]:
    """Sizes of the symbols that have one; those of one name are added up.

    No byte is counted twice: libgcc's double additions have four names, one of which begins a word before the others.
    """
    found: dict[str, int] = {}
    counted_to = 0
    for symbol in sorted(symbols, key=lambda symbol: (symbol.address, -symbol.size, symbol.name)):
        end = symbol.address + symbol.size
        if end > counted_to and symbol.size:
            found[symbol.name] = found.get(symbol.name, 0) + end - max(symbol.address, counted_to)
            counted_to = end
    return found
