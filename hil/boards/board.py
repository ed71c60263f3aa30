"""Boards as data: one TOML file a board, strictly validated, in ``boards/``.

A board has one or two *targets*, the places its firmware can run: ``hardware`` (the real thing) and ``qemu`` (the
machine with the same core). Both have their own memory map and port; the budget is the same for both. Renode runs the
hardware's target, with a timer of its own.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hil.boards.timing import CodeLines, DataLines, Evidence, Pipeline, Timing
from hil.errors import BoardError, UsageError
from hil.files import read_regular
from hil.resources import boards_dir

Via = Literal["hardware", "renode", "qemu"]

KIB = 1024
MAX_FILE_BYTES = 1 << 20
_SIZE = re.compile(r"^\s*([0-9]{1,12})\s*([kKmM]?)(?:i?[bB])?\s*$")
_FACTORS = {"": 1, "k": KIB, "m": KIB * KIB}

# Compiler flags a core is built with. The float ABI is part of the identity: two ABIs are two builds.
CORE_FLAGS: Mapping[str, tuple[str, ...]] = {
    "cortex-m4": ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
}


def parse_size_bytes(value: object) -> int:
    """Bytes from an integer or from ``"64K"``, ``"1M"`` (binary multiples). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or a number with K or M such as 64K")
    return int(match[1]) * _FACTORS[match[2].lower()]


def typed_size_bytes(option: str, text: str) -> int:
    """Positive bytes from what was typed behind `option`. Raises UsageError."""
    try:
        size_bytes = parse_size_bytes(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if size_bytes <= 0:
        raise UsageError(f"{option}: {text} is not a positive size")
    return size_bytes


SizeBytes = Annotated[int, BeforeValidator(parse_size_bytes), Field(gt=0, lt=2**32)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Region(_Strict):
    """A memory region: `origin` (address) and `length` in bytes."""

    origin: Annotated[int, Field(ge=0, lt=2**32)]
    length: SizeBytes

    @property
    def end(self) -> int:
        """First address behind the region."""
        return self.origin + self.length

    @model_validator(mode="after")
    def _inside_address_space(self) -> Self:
        if self.end > 2**32:
            raise ValueError(f"region 0x{self.origin:08x} + {self.length} leaves the 32-bit address space")
        return self


class Target(_Strict):
    """Where an image can run: memory map, port file, timer (`tick_ns`: the emulated timer's tick)."""

    port: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    flash: Region
    sram: Region
    timer: Literal["dwt-cycles", "icount-instructions", "renode-instructions"]
    tick_ns: Annotated[int, Field(gt=0)] = 40
    machine: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    defines: dict[Annotated[str, Field(pattern=r"^HIL_[A-Z0-9_]+$")], int] = {}

    @model_validator(mode="after")
    def _no_overlap(self) -> Self:
        if self.flash.origin < self.sram.end and self.sram.origin < self.flash.end:
            raise ValueError(
                f"flash 0x{self.flash.origin:08x}-0x{self.flash.end:08x} and sram "
                f"0x{self.sram.origin:08x}-0x{self.sram.end:08x} overlap"
            )
        return self


class Uart(_Strict):
    """Serial port of the board as a user sees it (documentation; the port file holds the registers)."""

    name: str
    tx: str | None = None
    rx: str | None = None
    baud: Annotated[int, Field(ge=1200, le=4_000_000)] = 115_200


class Usb(_Strict):
    """How the board's probe shows up on USB; `mbed` are its names in Mbed's board database."""

    vendor_id: Annotated[int, Field(ge=0, lt=2**16)]
    product_ids: tuple[Annotated[int, Field(ge=0, lt=2**16)], ...]
    mbed: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")], ...] = ()


class Probe(_Strict):
    """What the flashing programs call the chip: pyOCD's target, OpenOCD's configuration file."""

    pyocd: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    openocd: Annotated[str, Field(pattern=r"^[a-z0-9_/.-]+\.cfg$")]


class Budget(_Strict):
    """What a network may use, all included: code, weights, arena, stack."""

    flash: SizeBytes = 64 * KIB
    sram: SizeBytes = 64 * KIB


class Board(_Strict):
    """One board. `targets` is keyed by `Via`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    description: str
    core: Literal["cortex-m4", "cortex-m7"]
    clock_hz: Annotated[int, Field(gt=0, le=2_000_000_000)]
    source: str
    budget: Budget = Budget()
    uart: Uart | None = None
    usb: Usb | None = None
    probe: Probe | None = None
    hardware: Target | None = None
    qemu: Target | None = None
    timing: Timing | None = None  # what modelled cycles become on this board
    tflm_root: str | None = None  # folder of TensorFlow Lite Micro; $TFLM_ROOT where absent

    @property
    def core_flags(self) -> tuple[str, ...]:
        """Compiler flags for the core."""
        return CORE_FLAGS[self.core]

    def target(self, via: Via) -> Target:
        """The target for `via`; raises BoardError when the board has none."""
        found = {"hardware": self.hardware, "renode": self.hardware, "qemu": self.qemu}[via]
        if found is None:
            raise BoardError(f"board {self.name} has no target for --via {via}")
        if via == "renode":
            return found.model_copy(
                update={"timer": "renode-instructions", "defines": {**found.defines, "HIL_RENODE": 1}}
            )
        return found

    def with_budget(self, flash: int | None, sram: int | None) -> Board:
        """A copy with another budget in bytes; None keeps the board's own. Raises BoardError for one it cannot have."""
        targets = [target for target in (self.hardware, self.qemu) if target is not None]
        for region, wanted in (("flash", flash), ("sram", sram)):
            most = max(getattr(target, region).length for target in targets)
            if wanted is not None and wanted > most:
                raise BoardError(f"board {self.name} has {most} bytes of {region} at most, not {wanted}")
        update = {"flash": flash or self.budget.flash, "sram": sram or self.budget.sram}
        return self.model_copy(update={"budget": Budget(**update)})

    @model_validator(mode="after")
    def _budget_fits(self) -> Self:
        if self.hardware is None and self.qemu is None:
            raise ValueError("a board needs a [qemu] or a [hardware] table")
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


@dataclass(frozen=True, slots=True)
class _Problem:
    where: str
    text: str


def canonical_name(name: str) -> str:
    """``NUCLEO_F746ZG`` and ``nucleo_f746zg`` are ``nucleo-f746zg``."""
    return name.strip().lower().replace("_", "-")


def board_names(directory: Path | None = None) -> tuple[str, ...]:
    """Names of all boards in `directory` (default: shipped), sorted."""
    return tuple(sorted(path.stem for path in (directory or boards_dir()).glob("*.toml")))


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
    """The board in the TOML file `path`. Raises BoardError."""
    try:
        raw = tomllib.loads(read_regular(path, MAX_FILE_BYTES).decode())
    except FileNotFoundError as error:
        raise BoardError(f"board file {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, an endless number
        raise BoardError(f"board file {path} cannot be read: {error}") from error
    try:
        return Board.model_validate(raw)
    except ValidationError as error:
        raise BoardError(f"board file {path.name}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    # A misspelt key also shows up as a missing one: the misspelling is what the reader has to see.
    items = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    problems = [_describe(item) for item in items]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    first = problems[0]
    return f"{first.where}: {first.text}{more}" if first.where else f"{first.text}{more}"


def _describe(item: Mapping[str, Any]) -> _Problem:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return _Problem(where, str(item["msg"]).removeprefix("Value error, "))
    keys = _fields_at(item["loc"][:-1])
    near = difflib.get_close_matches(str(item["loc"][-1]), keys, n=1)
    return _Problem(where, "unknown key" + (f"; did you mean {near[0]!r}?" if near else ""))


def _fields_at(loc: tuple[Any, ...]) -> list[str]:
    """Field names of the model at `loc`, for suggestions."""
    tables: dict[str, type[BaseModel]] = {
        "budget": Budget, "uart": Uart, "usb": Usb, "probe": Probe, "hardware": Target, "qemu": Target,
        "flash": Region, "sram": Region, "timing": Timing, "pipeline": Pipeline, "code": CodeLines, "data": DataLines,
        "evidence": Evidence,
    }  # fmt: skip
    names = [part for part in loc if part in tables]
    model: type[BaseModel] = tables[names[-1]] if names else Board
    return list(model.model_fields)
