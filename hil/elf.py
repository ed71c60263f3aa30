"""Sizes of an image, read from the ELF itself: program headers and the symbols that firmware/link.ld defines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

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


def read_symbols(path: Path) -> dict[str, int]:
    """Value of every named symbol of the ELF at `path`. Raises BuildError when it is not a readable ELF."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            tables = (section for section in elf.iter_sections() if isinstance(section, SymbolTableSection))
            return {symbol.name: int(symbol["st_value"]) for table in tables for symbol in table.iter_symbols()}
    except (OSError, ELFError) as error:
        raise BuildError(f"{path} is not a readable ELF image: {error}") from error


def read_sizes(path: Path) -> Sizes:
    """Sizes of the image at `path`.

    The linker's own symbols give the split; the program headers have to agree on the total, else BuildError: a figure
    that two sources disagree on is not shown.
    """
    symbols = read_symbols(path)
    missing = [name for name in _SYMBOLS if name not in symbols]
    if missing:
        raise BuildError(f"{path} was not linked with firmware/link.ld: it has no {', '.join(missing)}")
    flash, weights, code, static, arena, ram, stack = (symbols[name] for name in _SYMBOLS)
    loaded = _loaded_bytes(path)
    if not flash - 16 <= loaded <= flash:  # alignment between sections is not in the headers' file sizes
        raise BuildError(f"BUG: {path} loads {loaded} bytes, its symbols say {flash}; report this")
    return Sizes(flash, weights, code, static, arena, stack, ram)


def read_functions(path: Path) -> dict[str, int]:
    """Bytes of every function and constant in flash that is not weights, by name (of several with one name, all).

    What the linker kept of the library for one network. Raises BuildError when it is not a readable ELF.
    """
    found: dict[str, int] = {}
    edges = read_symbols(path)
    try:
        with path.open("rb") as file:
            for section in ELFFile(file).iter_sections():
                if not isinstance(section, SymbolTableSection):
                    continue
                for symbol in section.iter_symbols():
                    address, size = int(symbol["st_value"]) & ~1, int(symbol["st_size"])
                    code = edges["_text_start"] <= address < edges["_flash_start"] + edges["_flash_used"]
                    if size and code and not edges["_weights_start"] <= address < edges["_weights_end"]:
                        found[symbol.name] = found.get(symbol.name, 0) + size
    except (OSError, ELFError, KeyError) as error:
        raise BuildError(f"{path} is not an image of ours: {error}") from error
    return found


def read_kept(path: Path) -> dict[str, int]:
    """Bytes of every function and constant in an ELF without a layout of ours, by name. Raises BuildError."""
    found: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            tables = (item for item in ELFFile(file).iter_sections() if isinstance(item, SymbolTableSection))
            for symbol in (symbol for table in tables for symbol in table.iter_symbols()):
                if symbol["st_size"] and symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT"):
                    found[symbol.name] = found.get(symbol.name, 0) + int(symbol["st_size"])
    except (OSError, ELFError) as error:
        raise BuildError(f"{path} is not a readable ELF image: {error}") from error
    return found


def _loaded_bytes(path: Path) -> int:
    """Bytes that a programmer writes: file sizes of all PT_LOAD segments."""
    with path.open("rb") as file:
        return sum(int(item["p_filesz"]) for item in ELFFile(file).iter_segments() if item["p_type"] == "PT_LOAD")
