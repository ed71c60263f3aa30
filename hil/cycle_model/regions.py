"""Where the inference and its layers are in an image, by symbols: nothing in the firmware is there for our sake."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, Symbol, SymbolTableSection

from hil.errors import BuildError

INFERENCE = "hil_model_infer"
STEPS = "hil_steps"
INTERPRETED_END = "5Marks8EndEvent"  # in the mangled name of what TFLM calls at the end of every operator
_STEP_BYTES = 8  # hil_step_t: pointer to the layer's function, pointer to its table
_THUMB = 1


@dataclass(frozen=True, slots=True)
class Regions:
    """Address of the function that is one inference, and of the functions that are its layers, by name."""

    inference: int
    layers: dict[int, str]


def find_regions(elf: Path) -> Regions:
    """Regions of the firmware at `elf`.

    The inference is `hil_model_infer`. Layers are the functions that its table `hil_steps` names; with an interpreter,
    which has no table, what it calls at the end of each operator. Raises BuildError when the file is no such firmware.
    """
    try:
        with elf.open("rb") as file:
            image = ELFFile(file)
            symbols = {symbol.name: symbol for symbol in _symbols(image)}
            if INFERENCE not in symbols:
                raise BuildError(f"{elf.name} has no symbol {INFERENCE}: it is not our firmware")
            names = {_address(symbol): name for name, symbol in symbols.items() if _is_function(symbol)}
            if STEPS in symbols:
                layers = sorted(set(_step_functions(image, symbols[STEPS])))
            else:
                layers = [address for address, name in names.items() if INTERPRETED_END in name]
            return Regions(_address(symbols[INFERENCE]), {address: names.get(address, "?") for address in layers})
    except (OSError, ELFError) as error:
        raise BuildError(f"{elf} is not a readable ELF image: {error}") from error


def _symbols(image: ELFFile) -> Iterator[Symbol]:
    for section in image.iter_sections():
        if isinstance(section, SymbolTableSection):
            yield from section.iter_symbols()


def _is_function(symbol: Symbol) -> bool:
    return str(symbol["st_info"]["type"]) == "STT_FUNC"


def _address(symbol: Symbol) -> int:
    return int(symbol["st_value"]) & ~_THUMB


def _step_functions(image: ELFFile, steps: Symbol) -> Iterator[int]:
    section: Section = image.get_section(steps["st_shndx"])
    start = int(steps["st_value"]) - int(section["sh_addr"])
    table = section.data()[start : start + int(steps["st_size"])]
    for function, _operands in struct.iter_unpack("<II", table[: len(table) // _STEP_BYTES * _STEP_BYTES]):
        yield function & ~_THUMB
