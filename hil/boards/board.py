"""Boards as data: one TOML file a board, strictly validated, in ``boards/``.

A board names its SoC (``boards/socs/``), which names its core (``boards/cores/``), and adds pins, probe and evidence.
It has one or two *targets*, the places its firmware can run: ``hardware`` (the real thing) and ``qemu`` (the
machine with the same core). Both have their own memory map and port; the budget is the same for both. Renode runs the
hardware's target, with a timer of its own.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hil.boards.bank import Bank, check_banks, emulated_banks
from hil.boards.core import Core, CoreName, load_core
from hil.boards.files import names_in, read_table, validated
from hil.boards.machines import HIGHEST_BAUD, LOWEST_BAUD, USUAL_BAUD
from hil.boards.places import check_hardware, check_qemu
from hil.boards.sizes import KIB, SizeBytes
from hil.boards.soc import Soc, load_soc, soc_names
from hil.boards.target import Region, Strict, Target
from hil.boards.timing import Timing
from hil.errors import BoardError
from hil.resources import boards_dir
from hil.timers import own_timer
from munas.cost.optimise import Optimise

Via = Literal["hardware", "renode", "qemu"]
Uf2Family = Literal["rp2040", "rp2350", "nrf52840"]
Baud = Annotated[int, Field(strict=True, ge=LOWEST_BAUD, le=HIGHEST_BAUD)]


class Uart(Strict):
    """Serial port of the board as a user sees it: names are documentation, the port file holds the registers. The
    firmware is built for `baud`."""

    name: str
    tx: str | None = None
    rx: str | None = None
    baud: Baud = USUAL_BAUD


class Usb(Strict):
    """How the board's probe shows up on USB; `mbed` are its names in Mbed's board database."""

    vendor_id: Annotated[int, Field(ge=0, lt=2**16)]
    product_ids: tuple[Annotated[int, Field(ge=0, lt=2**16)], ...]
    mbed: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")], ...] = ()


class Probe(Strict):
    """What the flashing programs call the chip: pyOCD's target, OpenOCD's configuration file, probe-rs' and SEGGER's
    names. STM32CubeProgrammer finds out by itself."""

    pyocd: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    openocd: Annotated[str, Field(pattern=r"^[a-z0-9_/.-]+\.cfg$")]
    probe_rs: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] | None = None
    j_link: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] | None = None


class Budget(Strict):
    """What a network may use, all included: code, weights, arena, stack."""

    flash: SizeBytes = 64 * KIB
    sram: SizeBytes = 64 * KIB


class Board(Strict):
    """One board: its file, with what its SoC and its core bring in.

    `core` names the core, `processor` is what is known of it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    description: str
    core: CoreName
    processor: Core
    soc: CoreName | None = None
    clock_hz: Annotated[int, Field(gt=0, le=2_000_000_000)]
    source: str
    budget: Budget = Budget()
    optimise: Optimise = Optimise.BALANCED  # what firmware is built for: --optimise
    uart: Uart | None = None
    usb: Usb | None = None
    probe: Probe | None = None
    uf2: Uf2Family | None = None  # whose UF2 bootloader it has
    emulated_only: bool = False  # the SoC's port is for another board's clock source and serial port
    hardware: Target | None = None
    banks: tuple[Bank, ...] = ()
    ram: str | None = None
    double_precision: bool = False  # of the chip's FPU
    qemu: Target | None = None
    timing: Timing | None = None  # what modelled cycles become on this board
    tflm_root: str | None = None  # folder of TensorFlow Lite Micro; $TFLM_ROOT where absent

    @property
    def core_flags(self) -> tuple[str, ...]:
        """Compiler flags for the core."""
        return self.processor.flags

    @property
    def baud(self) -> int:
        """Of the serial line that the firmware is built for; emulators' lines have none."""
        return USUAL_BAUD if self.uart is None else self.uart.baud

    def banks_via(self, via: Via) -> tuple[Bank, ...]:
        """The chip's banks of RAM, at the addresses that they have there; none where the SoC names none."""
        return emulated_banks(self.banks, self.processor.emulator.sram) if via == "qemu" else self.banks

    def target(self, via: Via) -> Target:
        """The target for `via`; raises BoardError when the board has none."""
        found = {"hardware": self.hardware, "renode": self.hardware, "qemu": self.qemu}[via]
        if found is None:
            raise BoardError(f"board {self.name} has no target for --via {via}")
        defines = dict(found.defines)
        if via != "qemu" and self.baud != USUAL_BAUD:
            defines["HIL_BAUD"] = self.baud
        if via == "renode":
            return found.model_copy(update={"timer": own_timer("renode").kind, "defines": {**defines, "HIL_RENODE": 1}})
        return found if defines == found.defines else found.model_copy(update={"defines": defines})

    def most(self, region: Literal["flash", "sram"]) -> int:
        """The largest budget that it can have, bytes."""
        targets = [target for target in (self.hardware, self.qemu) if target is not None]
        return max(int(getattr(target, region).length) for target in targets)

    def with_budget(self, flash: int | None, sram: int | None) -> Board:
        """A copy with another budget in bytes; None keeps the board's own. Raises BoardError for one it cannot have."""
        regions: tuple[tuple[Literal["flash", "sram"], int | None], ...] = (("flash", flash), ("sram", sram))
        for region, wanted in regions:
            most = self.most(region)
            if wanted is not None and wanted > most:
                raise BoardError(f"board {self.name} has {most} bytes of {region} at most, not {wanted}")
        update = {"flash": flash or self.budget.flash, "sram": sram or self.budget.sram}
        return self.model_copy(update={"budget": Budget(**update)})

    def optimised(self, optimise: str | None) -> Board:
        """A copy whose firmware is built for ``speed``, ``balanced`` or ``size``; None keeps it. Raises BoardError."""
        if optimise is None:
            return self
        if optimise not in set(Optimise):
            raise BoardError(f"--optimise {optimise} does not exist (known: {', '.join(Optimise)})")
        return self.model_copy(update={"optimise": Optimise(optimise)})

    @model_validator(mode="after")
    def _budget_fits(self) -> Self:
        if self.qemu is not None and self.qemu.machine is None:
            raise ValueError("[qemu] needs `machine`, the name that `qemu-system-arm -M` takes")
        for via, target in (("hardware", self.hardware), ("qemu", self.qemu)):
            for region in ("flash", "sram"):
                if target is None:
                    continue
                have, want = getattr(target, region).length, getattr(self.budget, region)
                if want > have:
                    raise ValueError(f"budget.{region} of {want} bytes exceeds {via}.{region}, which has {have}")
        return self

    @model_validator(mode="after")
    def _banks_are_apart(self) -> Self:
        check_banks(self.banks, self.ram)
        return self

    @model_validator(mode="after")
    def _evidence_is_of_this_clock(self) -> Self:
        # Cycles of a miss depend on the clock: figures of another one support nothing here.
        rows = self.timing.evidence.rows if self.timing is not None and self.timing.evidence is not None else ()
        for row in rows:
            if abs(row.clock_mhz * 1e6 / self.clock_hz - 1) > 0.001:
                raise ValueError(
                    f"timing.evidence: {row.board} was measured at {row.clock_mhz:g} MHz; "
                    f"the clock is {self.clock_hz / 1e6:g} MHz"
                )
        return self

    @model_validator(mode="after")
    def _targets_are_what_their_place_has(self) -> Self:
        # A place has the timer, tick and memory that it has: a file that says otherwise would mislabel figures.
        if self.hardware is not None:
            check_hardware(self.processor.cpu, self.hardware, self.baud)
        if self.qemu is not None:
            check_qemu(self.processor.cpu, self.qemu)
        return self


def canonical_name(name: str) -> str:
    """``NUCLEO_F746ZG`` and ``nucleo_f746zg`` are ``nucleo-f746zg``."""
    return name.strip().lower().replace("_", "-")


def board_names(directory: Path | None = None) -> tuple[str, ...]:
    """Names of all boards in `directory` (default: shipped), sorted."""
    return names_in(directory or boards_dir())


def load_board(name: str, directory: Path | None = None) -> Board:
    """The board called `name`, or in the TOML file `name` (when it has a separator or ends with .toml).

    Raises BoardError for an unknown name (with the nearest one) and for a file that does not validate.
    """
    if name.endswith(".toml") or os.sep in name:
        return read_board(Path(name))
    folder = directory or boards_dir()
    wanted, known = canonical_name(name), board_names(folder)
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BoardError(f"unknown board {name!r}{hint} (known: {', '.join(known)}; or give a .toml file)")
    board = read_board(folder / f"{wanted}.toml")
    if board.name != wanted:
        raise BoardError(f"{wanted}.toml says name = {board.name!r}; it has to be the file's name")
    return board


def read_board(path: Path) -> Board:
    """The board in the TOML file `path`; its SoC and core may lie beside it, in ``socs`` and ``cores``.

    Raises BoardError.
    """
    table = read_table("board", path)
    return validated("board", path, Board, _with_chip(table, path))


class _Banks(Strict):
    """The part of a board's file that is needed before the whole of it is made."""

    banks: tuple[Bank, ...]


def _stand_in(core: Core, table: dict[str, Any]) -> Target:
    """The machine that stands in for a board with `core`; its RAM starts with the same bank as the board's own."""
    machine, real = core.emulator, table.get("banks", ())
    for bank in emulated_banks(real, machine.sram):
        if bank.name == table.get("ram"):
            sram = Region(origin=bank.region.origin, length=machine.sram.end - bank.region.origin)
            return machine.model_copy(update={"sram": sram})
    return machine


def _shipped_chip_of_another_core(soc: Soc, beside: Path) -> bool:
    """Whether a core's file in `beside` takes the place of the one that a shipped chip's figures were modelled with."""
    shipped = soc.name in soc_names() and soc == load_soc(soc.name)
    return shipped and load_core(soc.core, beside) != load_core(soc.core)


def _with_chip(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """`table` with what its SoC and core bring in; the machine that stands in for the core too."""
    full = dict(table)
    if "banks" in table:
        full["banks"] = validated("board", path, _Banks, {"banks": table["banks"]}).banks
    if isinstance(table.get("soc"), str):
        soc = load_soc(table["soc"], path.parent)
        places = () if table.get("emulated_only") is True else ("hardware",)
        for key in ("core", "clock_hz", "banks", "ram", "double_precision", *places):
            if getattr(soc, key) is not None:
                full.setdefault(key, getattr(soc, key))
        if soc.timing is not None:
            own = table.get("timing", {})
            chips = soc.timing.model_dump(exclude_none=True)
            changed = any(full.get(key) != getattr(soc, key) for key in ("core", "clock_hz", "banks"))
            if own or changed or _shipped_chip_of_another_core(soc, path.parent):
                chips.pop("evidence", None)  # other constants, waits or RAM are not what its rows were measured of
            full["timing"] = {**chips, **own} if isinstance(own, dict) else own
    if "processor" in table:
        raise BoardError(f"board file {path.name}: processor: unknown key; did you mean 'core'?")
    if isinstance(full.get("core"), str):
        core = load_core(full["core"], path.parent)
        full["processor"] = core
        full.setdefault("qemu", _stand_in(core, full))
    else:
        raise BoardError(f"board file {path.name}: core: a board names its `soc`, or its `core`")
    return full
