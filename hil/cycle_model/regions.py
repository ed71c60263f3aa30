"""Where the inference and its layers are in an image, by symbols: nothing in the firmware is there for our sake."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hil.elf_file import STT_FUNC, ElfFile, NotElf, Symbol
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
        image = ElfFile(elf.read_bytes())
        symbols = {symbol.name: symbol for symbol in image.symbols()}
        if INFERENCE not in symbols:
            raise BuildError(f"{elf.name} has no symbol {INFERENCE}: it is not our firmware")
        names = {symbol.address: name for name, symbol in symbols.items() if symbol.kind == STT_FUNC}
        if STEPS in symbols:
            layers = sorted(set(_step_functions(image, symbols[STEPS])))
        else:
            layers = [address for address, name in names.items() if INTERPRETED_END in name]
        return Regions(symbols[INFERENCE].address, {address: names.get(address, "?") for address in layers})
    except (OSError, NotElf) as error:
        raise BuildError(f"{elf} is not a readable ELF image: {error}") from error


def _step_functions(image: ElfFile, steps: Symbol) -> Iterator[int]:
    if steps.section >= len(image.sections):
        raise NotElf(f"its symbol {STEPS} is in no section")
    section = image.sections[steps.section]
    start = section.offset + steps.value - section.addr
    table = image.data[start : start + steps.size]
    for function, _operands in struct.iter_unpack("<II", table[: len(table) // _STEP_BYTES * _STEP_BYTES]):
        yield function & ~_THUMB
