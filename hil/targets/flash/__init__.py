"""Ways to get an image onto a board: a drive, flashing programs, GDB servers. `flasher_for` chooses by bench file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from hil.boards.board import Board
from hil.errors import BoardError
from hil.targets.bench_file import FlashMethod
from hil.targets.detect import Connected
from hil.targets.flash.base import Flasher
from hil.targets.flash.command import CommandFlasher
from hil.targets.flash.gdb import GdbServer
from hil.targets.flash.mass_storage import MassStorage
from hil.targets.flash.openocd import OpenOcd
from hil.targets.flash.programs import ProgramFlasher
from hil.targets.flash.pyocd import PyOcd
from hil.targets.flash.uf2 import Uf2Drive

__all__ = ["METHODS", "CommandFlasher", "Flasher", "GdbServer", "MassStorage", "OpenOcd", "ProgramFlasher", "PyOcd",
           "Uf2Drive", "flasher_for", "lacking"]  # fmt: skip

METHODS: tuple[FlashMethod, ...] = get_args(FlashMethod)
_KEYS: Mapping[FlashMethod, str] = {
    "pyocd": "pyocd", "openocd": "openocd", "probe-rs": "probe_rs", "j-link": "j_link", "cubeprogrammer": "openocd",
}  # fmt: skip
"""What of [probe] a program needs to know the chip. STM32CubeProgrammer asks the chip itself, which has to be ST's."""


def lacking(method: FlashMethod, board: Board) -> str | None:
    """What `board`'s file lacks for flashing with `method`; None when it lacks nothing."""
    if method == "uf2":
        return None if board.uf2 else "uf2, the family of its bootloader"
    if method in ("mass-storage", "gdb", "command"):
        return None
    if board.probe is None:
        return "a [probe] table"
    if method == "cubeprogrammer":
        return None if board.soc is not None and board.soc.startswith("stm32") else "a chip of ST's"
    key = _KEYS[method]
    return None if getattr(board.probe, key) else f"[probe] {key}, what {method} calls its chip"


def flasher_for(device: Connected, board: Board) -> Flasher:
    """The flasher that the bench file (or the default, mass storage) names for `device`.

    Raises BoardError when `board` does not say what the flashing program needs, FlashError without a drive.
    """
    if (missing := lacking(device.flash, board)) is not None:
        raise BoardError(f"board {board.name} does not say what flashing with {device.flash} needs: {missing}")
    if device.flash == "mass-storage":
        return MassStorage.of(device)
    if device.flash == "command":
        return CommandFlasher(device.serial_number, device.flash_command, device.reset_command)
    if device.flash == "uf2":
        assert board.uf2 is not None  # it lacks nothing
        return Uf2Drive(board.uf2, device.drives[0] if device.drives else None)
    if device.flash == "gdb":
        assert device.gdb is not None  # the bench file's rule, as the next
        assert device.gdb_server is not None
        return GdbServer(device.gdb, device.gdb_server, board.target("hardware").flash.origin)
    assert board.probe is not None  # it lacks nothing, as the next
    if device.flash == "pyocd":
        return PyOcd(device.serial_number, board.probe.pyocd)
    if device.flash == "openocd":
        return OpenOcd(device.serial_number, board.probe.openocd)
    chips = {"probe-rs": board.probe.probe_rs, "j-link": board.probe.j_link, "cubeprogrammer": ""}
    return ProgramFlasher(device.flash, device.serial_number, chips[device.flash] or "")
