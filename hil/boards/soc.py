"""Systems on chip as data: one TOML file a chip in ``boards/socs/``. A board names its SoC and adds pins and probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hil.boards.bank import Bank
from hil.boards.core import CoreName
from hil.boards.files import load_named, names_in
from hil.boards.target import Strict, Target
from hil.boards.timing import Timing
from hil.resources import boards_dir


class Soc(Strict):
    """One chip: its core, the clock that its port brings it to, where it runs, and what modelled cycles become on it.

    `hardware` is absent where no port for the chip's clock tree and serial port has been written. `banks` are its RAM,
    in the order in which an emulated machine has them; `ram` names the one that firmware uses from its start on
    (absent: the first). `double_precision`: its FPU has it, which the core alone does not tell.
    """

    name: CoreName
    description: str
    source: str
    core: CoreName
    clock_hz: Annotated[int, Field(gt=0, le=2_000_000_000)]
    hardware: Target | None = None
    banks: tuple[Bank, ...] = ()
    ram: str | None = None
    double_precision: bool | None = None
    timing: Timing | None = None


def socs_dir() -> Path:
    """Folder of the shipped SoC files."""
    return boards_dir() / "socs"


def soc_names() -> tuple[str, ...]:
    """Names of all shipped SoCs, sorted."""
    return names_in(socs_dir())


def load_soc(name: str, beside: Path | None = None) -> Soc:
    """The SoC called `name`: of the folder ``socs`` in `beside`, or shipped. Raises BoardError."""
    own = () if beside is None else (beside / "socs",)
    return load_named("SoC", name, (*own, socs_dir()), Soc)
