"""What the engine is told: numbers only. Board constants come from `config.py`, addresses from the ELF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Lines:
    """A cache of `lines` lines of `line_bytes` each; 0 lines: none. `ways` 0: any line goes anywhere."""

    line_bytes: int = 32
    lines: int = 0
    ways: int = 0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of `timing/engine.h`. Addresses are the emulated machine's; `flash` and `ram` are (origin, bytes).

    The Cortex-M4's `refill` is P of Arm's table, `refill_split` the same for a 4-byte target across two words, `divide`
    the cycles of SDIV and UDIV, `address_stall` what an address computed by the instruction before costs.
    """

    core: Literal[4, 7]
    inference: int
    layers: tuple[int, ...] = ()
    flash: tuple[int, int] = (0, 0)
    ram: tuple[int, int] = (0, 0)
    refill: int = 2
    refill_split: int = 2
    divide: int = 7
    address_stall: int = 0
    mispredict: int = 4
    code: Lines = Lines()
    data: Lines = Lines()
    data_covers_ram: bool = False
