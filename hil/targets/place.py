"""Where firmware runs: `--via auto|hardware|renode|qemu` and `--device`, decided once, with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from hil.boards.board import Board, Via
from hil.errors import BoardError, DeviceMissing, InfrastructureError, ToolMissing, UsageError
from hil.targets import labgrid
from hil.targets.detect import Connected, choose, connected_devices, matching
from hil.targets.runners.base import Runner
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QEMU, QemuRunner
from hil.targets.runners.renode import RenodeRunner, find_renode, platform_file
from hil.timers import TIMERS

VIAS = ("auto", "hardware", "renode", "qemu")


@dataclass(frozen=True, slots=True)
class Place:
    """The decision: `devices` are those to use via hardware; `reason` is for people."""

    via: Via
    reason: str
    devices: tuple[Connected, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether figures come from an emulator."""
        return self.via != "hardware"


def has_qemu() -> bool:
    """Whether QEMU is installed."""
    return shutil.which(QEMU) is not None


def choose_place(
    board: Board,
    via: str = "auto",
    device: str | None = None,
    *,
    several: bool = False,
    timer: str | None = None,
    connected: Callable[[], tuple[Connected, ...]] | None = None,
    qemu: Callable[[], bool] = has_qemu,
    renode: Callable[[], object] = find_renode,
) -> Place:
    """The place for `board`. `device` is a serial number, a port, or ``labgrid:PLACE``; `several` allows all boards of
    that kind at once.

    auto: a connected board, else QEMU, else Renode where only that is installed; or the one place that has the `timer`
    which is asked for. Raises UsageError, BoardError, DeviceMissing, DeviceAmbiguous, ToolMissing, and for a place of
    labgrid what `hil.targets.labgrid.acquired` does.
    """
    connected = connected or connected_devices
    if via == "auto" and timer is not None and timer in TIMERS and device is None:
        (only,) = TIMERS[timer].via
        found = choose_place(board, only, several=several, connected=connected, renode=renode)
        return replace(found, reason=f"only {only} has {timer}")
    if via not in VIAS:
        raise UsageError(f"--via {via} does not exist (known: {', '.join(VIAS)})")
    if device is not None and via not in ("auto", "hardware"):
        raise UsageError(f"--device {device} is for --via hardware, not for --via {via}")
    if via == "hardware" or device is not None:
        board.target("hardware")
        if device is not None and labgrid.is_place(device):
            devices: tuple[Connected, ...] = (labgrid.acquired(device, (board.name,)),)
        else:
            devices = _devices(board, connected(), device, several)
        return Place("hardware", f"asked for: {_named(devices)}", devices)
    if via == "renode":
        platform_file(board)
        renode()
        return Place("renode", "asked for")
    if via == "qemu":
        board.target("qemu")
        return Place("qemu", "asked for")
    return _auto(board, several, connected, qemu, renode)


def vias_of(board: Board) -> tuple[Via, ...]:
    """What `--via` takes for `board`, whether or not it is connected or installed."""
    found: list[Via] = ["hardware"] if board.hardware is not None else []
    with suppress(BoardError):
        platform_file(board)
        found.append("renode")
    return (*found, "qemu") if board.qemu is not None else tuple(found)


def _devices(board: Board, devices: tuple[Connected, ...], wanted: str | None, several: bool) -> tuple[Connected, ...]:
    found = matching(board.name, devices)
    if several and wanted is None and found:
        return found
    return (choose(board.name, devices, wanted),)


def _named(devices: tuple[Connected, ...]) -> str:
    return ", ".join(f"{device.serial_number} at {device.port or 'no port'} ({device.source})" for device in devices)


def _auto(
    board: Board,
    several: bool,
    connected: Callable[[], tuple[Connected, ...]],
    qemu: Callable[[], bool],
    renode: Callable[[], object],
) -> Place:
    if board.hardware is None:
        board.target("qemu")
        return Place("qemu", f"{board.name} exists only as QEMU's machine")
    try:
        devices = _devices(board, connected(), None, several)
        return Place("hardware", f"connected: {_named(devices)}", devices)
    except DeviceMissing:
        why = "no such board is connected"
    except InfrastructureError as error:
        why = str(error)
    if board.qemu is None or not qemu():
        with suppress(BoardError, ToolMissing):
            platform_file(board)
            renode()
            return Place("renode", f"{why}; of the emulators Renode is installed")
    board.target("qemu")
    return Place("qemu", why)


def make_runner(
    via: Via, devices: tuple[Connected, ...] = (), *, modelled: bool = False, keep_loaded: bool = False
) -> Runner:
    """The runner for a place. Without devices, the one for hardware raises DeviceMissing when it is to open.

    `modelled`: with the timing model, which only QEMU has. Raises UsageError for it elsewhere. `keep_loaded`: QEMU is
    loaded once for many images.
    """
    if modelled and via != "qemu":
        raise UsageError(f"modelled cycles need --via qemu: --via {via} has a timer of its own and no timing model")
    makers: Mapping[Via, Callable[[], Runner]] = {
        "hardware": lambda: HardwareRunner(devices),
        "renode": RenodeRunner,
        "qemu": lambda: QemuRunner(modelled=modelled, keep_loaded=keep_loaded),
    }
    return makers[via]()
