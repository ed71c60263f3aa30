"""Ways to get an image onto a board: a drive, flashing programs, GDB servers. `flasher_for` chooses by bench file."""

from __future__ import annotations

from hil.boards.board import Board
from hil.errors import BoardError
from hil.targets.detect import Connected
from hil.targets.flash.base import Flasher
from hil.targets.flash.gdb import GdbServer
from hil.targets.flash.mass_storage import MassStorage
from hil.targets.flash.openocd import OpenOcd
from hil.targets.flash.programs import ProgramFlasher
from hil.targets.flash.pyocd import PyOcd

__all__ = ["Flasher", "GdbServer", "MassStorage", "OpenOcd", "ProgramFlasher", "PyOcd", "flasher_for"]


def flasher_for(device: Connected, board: Board) -> Flasher:
    """The flasher that the bench file (or the default, mass storage) names for `device`.

    Raises BoardError when `board` does not say what the flashing program needs, FlashError without a drive.
    """
    if device.flash == "mass-storage":
        return MassStorage.of(device)
    if device.flash == "gdb":
        assert device.gdb is not None  # the bench file's rule, as the next
        assert device.gdb_server is not None
        return GdbServer(device.gdb, device.gdb_server, board.target("hardware").flash.origin)
    if board.probe is None:
        raise BoardError(f"board {board.name} has no [probe] table, which flashing with {device.flash} needs")
    if device.flash == "pyocd":
        return PyOcd(device.serial_number, board.probe.pyocd)
    if device.flash == "openocd":
        return OpenOcd(device.serial_number, board.probe.openocd)
    chips = {"probe-rs": board.probe.probe_rs, "j-link": board.probe.j_link, "cubeprogrammer": ""}
    chip = chips[device.flash]
    if chip is None:
        key = device.flash.replace("-", "_")
        raise BoardError(f"board {board.name} does not say what {device.flash} calls its chip: [probe] {key}")
    return ProgramFlasher(device.flash, device.serial_number, chip)
