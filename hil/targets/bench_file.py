"""The bench file: which boards a desk has, for what detection cannot know. TOML, strictly validated.

[[device]]
board = "nucleo-f746zg"
serial_number = "066EFF..."          # as `munas-hil boards --detect` shows it
port = "/dev/ttyACM0"                # optional where the serial number finds it
flash = "mass-storage"               # or pyocd, openocd, gdb, probe-rs, cubeprogrammer, j-link, uf2, command
drive = "/media/me/NODE_F746ZG"      # optional likewise; mass-storage and uf2 only
gdb = "localhost:3333"               # gdb only: the address of a GDB server
gdb_server = "openocd"               # gdb only: whose it is
flash_command = "lab-flash {serial} {image}"    # command only; words as a shell splits them, but no shell runs it
reset_command = "lab-reset {serial}"            # command only; without it, a serial break resets
power_cycle_command = "uhubctl -a cycle -l 1-1 -p 2"    # any method: run once before a board that hangs is dropped
baud = 9600                          # optional: of the serial line, where it is not to be the board file's
link = "uart"                        # or rtt: `port` is then where a program of the probe serves it, see docs/link.md
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hil.boards.board import Baud, canonical_name
from hil.boards.linked import Link
from hil.errors import UsageError
from hil.files import read_toml
from hil.link.transport import check_url, is_url

FlashMethod = Literal[
    "mass-storage", "pyocd", "openocd", "gdb", "probe-rs", "cubeprogrammer", "j-link", "uf2", "command"
]  # fmt: skip
GdbServerKind = Literal["openocd", "pyocd", "probe-rs", "j-link", "st-link", "black-magic", "qemu", "renode"]
VARIABLE = "MUNAS_HIL_BENCH"
FILE_NAME = "bench.toml"
MAX_NAME = 255  # characters of a serial number, a port or a part of a drive's path


def words_of(command: str | None) -> tuple[str, ...]:
    """The words of a command, as a shell splits them. Raises ValueError for quotes without an end."""
    return () if command is None else tuple(shlex.split(command))


def _checked(command: object) -> object:
    """What can be run, and asks for nothing but ``{image}`` and ``{serial}``."""
    if isinstance(command, str):
        if not (words := words_of(command)):
            raise ValueError("a command of no words")
        unknown = {name for word in words for name in re.findall(r"{([^{}]*)}", word)} - {"image", "serial"}
        if unknown:
            raise ValueError(f"{{{min(unknown)}}} is neither {{image}} nor {{serial}}")
        if open_ended := re.search(r"{(image|serial)\b(?!})", command):
            raise ValueError(f"{open_ended[0]} has no closing brace")
    return command


def _port(port: object) -> object:
    """A path, or a URL that can be opened once its server is there."""
    if isinstance(port, str) and is_url(port):
        check_url(port)
    return port


def _address(text: object) -> object:
    """HOST:PORT of a TCP server."""
    if isinstance(text, str):
        host, _, port = text.rpartition(":")
        if not re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+", host) or host.startswith("-"):
            raise ValueError(f"{text!r} is not HOST:PORT")
        if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
            raise ValueError(f"{text!r} ends with a number that no port has")
    return text


Command = Annotated[str, BeforeValidator(_checked), Field(max_length=4096)]


class BenchDevice(BaseModel):
    """One `[[device]]`: a board that is told apart by its probe's serial number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    board: Annotated[str, BeforeValidator(lambda name: canonical_name(str(name)))]
    serial_number: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    port: Annotated[str, BeforeValidator(_port), Field(min_length=1, max_length=MAX_NAME)] | None = None
    flash: FlashMethod = "mass-storage"
    drive: Path | None = None
    gdb: Annotated[str, BeforeValidator(_address)] | None = None
    gdb_server: GdbServerKind | None = None
    flash_command: Command | None = None
    reset_command: Command | None = None
    power_cycle_command: Command | None = None
    baud: Baud | None = None
    link: Link = "uart"

    @model_validator(mode="after")
    def _drive_is_used(self) -> Self:
        if self.drive == Path():
            raise ValueError("drive is empty")
        if self.drive is not None and any(len(part) > MAX_NAME for part in self.drive.parts):
            raise ValueError("drive has a name that no folder can have")
        if self.drive is not None and self.flash not in ("mass-storage", "uf2"):
            raise ValueError(f"drive is for flash = 'mass-storage' or 'uf2', not for {self.flash!r}")
        if (self.gdb is not None, self.gdb_server is not None) != (self.flash == "gdb",) * 2:
            raise ValueError("gdb (HOST:PORT of the GDB server) and gdb_server (whose it is) go with flash = 'gdb'")
        if self.link == "rtt" and self.port is None:
            raise ValueError("link = 'rtt' needs port: where a program of the probe serves it")
        if self.link == "rtt" and self.baud is not None:
            raise ValueError("baud is of a serial line, which link = 'rtt' does without")
        if (self.flash_command is not None) != (self.flash == "command"):
            raise ValueError("flash_command goes with flash = 'command', and the other way round")
        if self.flash_command is not None and "{image}" not in self.flash_command:
            raise ValueError("flash_command does not say where {image} belongs, so that it cannot flash it")
        if self.reset_command is not None and self.flash != "command":
            raise ValueError(f"reset_command is for flash = 'command', not for {self.flash!r}")
        if "{image}" in (self.reset_command or ""):
            raise ValueError("reset_command has {image}, but there is none when it runs")
        return self


class Bench(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: tuple[BenchDevice, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen = [item.serial_number for item in self.device]
        twice = next((number for number in seen if seen.count(number) > 1), None)
        if twice is not None:
            raise ValueError(f"serial number {twice} is listed twice")
        return self


def bench_path() -> Path:
    """``$MUNAS_HIL_BENCH``, or bench.toml in the user's configuration folder."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_dir("munas-hil")) / FILE_NAME


def read_bench(path: Path | None = None) -> Bench:
    """The bench in `path` (default: `bench_path`); an empty one where the default does not exist.

    Raises UsageError for a file that was named but is absent, cannot be read or does not validate.
    """
    file = path or bench_path()
    if path is None and VARIABLE not in os.environ and not file.is_file():
        return Bench()
    raw = read_toml(file, "bench file")
    try:
        return Bench.model_validate(raw)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(str(part) for part in item["loc"])
        what = str(item["msg"]).removeprefix("Value error, ")
        raise UsageError(f"bench file {file}: {where + ': ' if where else ''}{what}") from error
