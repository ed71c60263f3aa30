"""Banks of RAM: where they lie on the chip, and where an emulated machine with one piece of RAM has them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hil.boards.target import Region, Strict


class Bank(Strict):
    """One bank of RAM of a chip.

    `cached`: reads go through the data cache. `timed`: the constants of `[timing]` hold for it; where not, `note` says
    what is known, and a network that uses the bank gets cycles and no milliseconds.
    """

    name: str
    region: Region
    cached: bool = False
    timed: bool = True
    note: str = ""


def check_banks(banks: Sequence[Bank], ram: str | None) -> None:
    """That `banks` are told apart by name and address, and that `ram`, if any, is one of them. Raises ValueError."""
    names = [bank.name for bank in banks]
    if ram is not None and names and ram not in names:
        raise ValueError(f"ram {ram!r} is none of the banks ({', '.join(names)})")
    for one, other in itertools.combinations(banks, 2):
        if one.name == other.name:
            raise ValueError(f"banks: two are called {one.name}")
        if banks_touched([one], other.region.origin, other.region.end):
            raise ValueError(f"banks: {one.name} and {other.name} overlap")


def emulated_banks(banks: Sequence[Bank], ram: Region) -> tuple[Bank, ...]:
    """The banks one behind the other in `ram`, the RAM of an emulated machine; those for which there is no room are
    left out."""
    placed, origin = [], ram.origin
    for bank in banks:
        if origin + bank.region.length > ram.end:
            break
        placed.append(bank.model_copy(update={"region": Region(origin=origin, length=bank.region.length)}))
        origin += bank.region.length
    return tuple(placed)


def banks_touched(banks: Sequence[Bank], origin: int, end: int) -> tuple[Bank, ...]:
    """The banks that the bytes from `origin` up to `end` lie in."""
    return tuple(bank for bank in banks if bank.region.origin < end and origin < bank.region.end)
