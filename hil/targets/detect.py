"""Which boards are connected: the bench file, mbed-tools' device list, and serial ports by their USB ids.

A device is known by its probe's serial number. Where several sources know it, the bench file wins, then mbed-tools,
which reads the board's own drive. A USB id alone only says what a device may be: boards of one family share theirs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from hil.boards.board import Board, board_names, load_board
from hil.boards.linked import Link, at_baud, linked
from hil.boards.machines import USUAL_BAUD
from hil.errors import DeviceAmbiguous, DeviceMissing, InfrastructureError, UsageError
from hil.link.transport import is_url
from hil.targets.bench_file import Bench, FlashMethod, GdbServerKind, read_bench, words_of


@dataclass(frozen=True, slots=True)
class Found:
    """What one source says of one device. `boards` are names that it may have: exactly one when that is certain.
    `place` is where it hangs, where that is known: one device may have several ports there."""

    serial_number: str
    boards: tuple[str, ...]
    port: str | None
    drives: tuple[Path, ...]
    source: str
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Connected:
    """A connected device. `serial_number` tells it from all others; `port` is None where it has no serial port."""

    serial_number: str
    boards: tuple[str, ...]
    port: str | None
    drives: tuple[Path, ...] = ()
    flash: FlashMethod = "mass-storage"
    source: str = "bench file"
    gdb: str | None = None  # address of its GDB server, with flash = "gdb"
    gdb_server: GdbServerKind | None = None
    flash_command: tuple[str, ...] = ()
    reset_command: tuple[str, ...] = ()  # without one, a serial break resets
    power_cycle_command: tuple[str, ...] = ()
    link: Link = "uart"  # what its firmware talks over
    baud: int | None = None  # of its serial line, where it is not the board file's

    def rate(self) -> int:
        """Baud of its serial line: the bench file's, the board file's where it is certain which, else the usual."""
        known = load_board(self.boards[0]).baud if len(self.boards) == 1 else USUAL_BAUD
        return self.baud or known

    def describe(self) -> str:
        """One line for a message."""
        drives = f", drive {', '.join(map(str, self.drives))}" if self.drives else ""
        return f"{self.serial_number} ({' or '.join(self.boards)}, port {self.port or 'none'}{drives})"


Source = Callable[[Sequence[Board]], Iterable[Found]]


def mbed_devices(boards: Sequence[Board]) -> list[Found]:
    """Devices that mbed-tools identifies as one of `boards`. Raises InfrastructureError."""
    os.environ.setdefault("MBED_DATABASE_MODE", "OFFLINE")  # what is not in its own database is not ours either
    logging.getLogger("mbed_tools").setLevel(logging.CRITICAL)
    try:
        from mbed_tools.devices import get_connected_devices

        devices = get_connected_devices().identified_devices
    except ImportError as error:
        raise InfrastructureError(
            f"mbed-tools does not load: {error}; install it with: pip install mbed-tools"
        ) from error
    except Exception as error:  # it lets through whatever udev, the registry or a half-mounted drive raise
        raise InfrastructureError(f"mbed-tools cannot list the connected devices: {error}") from error
    names = {name: board.name for board in boards for name in _mbed_names(board)}
    return [
        Found(
            serial_number=str(device.serial_number),
            boards=(names[device.mbed_board.board_type],),
            port=device.serial_port,
            drives=tuple(Path(mount) for mount in device.mount_points),
            source="mbed-tools",
            place=", ".join(map(str, device.mount_points)),  # its port is that of any device with this number
        )
        for device in devices
        if device.mbed_board.board_type in names
    ]


def _mbed_names(board: Board) -> tuple[str, ...]:
    return (board.usb.mbed if board.usb else ()) or (board.name.upper().replace("-", "_"),)


def usb_ports(boards: Sequence[Board]) -> list[Found]:
    """Serial ports whose USB ids are those of one or several of `boards`."""
    from serial.tools.list_ports import comports

    found = []
    for port in comports():
        names = tuple(
            board.name
            for board in boards
            if board.usb and port.vid == board.usb.vendor_id and port.pid in board.usb.product_ids
        )
        if names:
            place = (port.location or "").partition(":")[0]  # the rest of it tells the interfaces of a device apart
            found.append(Found(port.serial_number or port.device, names, port.device, (), "USB ids", place))
    return found


def _apart(sources: Sequence[Sequence[Found]]) -> Iterator[Found]:
    """What all sources have found. A serial number that two devices have, as cheap copies of probes do, is nobody's:
    they go by their ports. Whoever has found a drive has looked for its port by that number, and may have taken the
    other's: that is left out."""
    places: dict[tuple[int, str], set[str]] = {}
    for source, devices in enumerate(sources):
        for item in devices:
            places.setdefault((source, item.serial_number), set()).add(item.place)
    shared = {number for (_, number), found in places.items() if len(found) > 1}
    for item in chain.from_iterable(sources):
        if item.serial_number not in shared:
            yield item
        elif not item.drives:
            yield replace(item, serial_number=item.port or f"{item.serial_number} at {item.place}")


SOURCES: tuple[Source, ...] = (mbed_devices, usb_ports)


def connected_devices(bench: Bench | None = None, sources: Sequence[Source] = SOURCES) -> tuple[Connected, ...]:
    """All connected devices, sorted by serial number; `bench` defaults to the user's file.

    A device of the bench file counts as connected when a source sees it, by its serial number or its port, or when the
    port that it names exists; one behind a URL always does.
    Raises UsageError for a bad bench file, InfrastructureError when a source fails.
    """
    chosen = read_bench() if bench is None else bench
    boards = [board for board in map(load_board, board_names()) if board.hardware is not None]
    seen: dict[str, Found] = {}
    for found in _apart([tuple(source(boards)) for source in sources]):
        seen[found.serial_number] = _merged(seen.get(found.serial_number), found)
    devices = {number: Connected(number, item.boards, item.port, item.drives, source=item.source)
               for number, item in seen.items()}  # fmt: skip
    listed = {item.serial_number for item in chosen.device}
    for item in chosen.device:
        known = seen.get(item.serial_number) or _at(item.port, seen)
        if known is not None and known.serial_number not in listed:
            devices.pop(known.serial_number, None)  # the file calls it otherwise
        if known is None and (item.port is None or not (is_url(item.port) or Path(item.port).exists())):
            continue
        drives = (item.drive,) if item.drive else (known.drives if known else ())
        devices[item.serial_number] = Connected(
            serial_number=item.serial_number,
            boards=(item.board,),
            port=item.port or (known.port if known else None),
            drives=drives,
            flash=item.flash,
            source="bench file",
            gdb=item.gdb,
            gdb_server=item.gdb_server,
            link=item.link,
            baud=item.baud,
            flash_command=words_of(item.flash_command),
            reset_command=words_of(item.reset_command),
            power_cycle_command=words_of(item.power_cycle_command),
        )
    return tuple(devices[number] for number in sorted(devices))


def _at(port: str | None, seen: Mapping[str, Found]) -> Found | None:
    """The device whose port that is, by whatever name."""
    if port is None or is_url(port):
        return None
    same = os.path.realpath(port)
    return next((found for found in seen.values() if found.port and os.path.realpath(found.port) == same), None)


def linked_as(board: Board, devices: Sequence[Connected]) -> Board:
    """`board` with firmware that talks the way in which all `devices` are reached: their link, their rate.

    Raises UsageError when they do not agree, for it is one firmware, or when the board has no such rate.
    """
    ways = {(device.link, device.baud or board.baud) for device in devices}
    if len(ways) > 1:
        named = ", ".join(
            f"{device.serial_number} by {device.link}{f' at {device.baud} baud' if device.baud else ''}"
            for device in devices
        )
        raise UsageError(f"the bench file links the boards differently ({named}): choose one of them with --device")
    if not ways:
        return board
    link, baud = ways.pop()
    return at_baud(linked(board, link), baud)


def _merged(first: Found | None, second: Found) -> Found:
    """What both say, the first being surer of the board."""
    if first is None:
        return second
    return Found(
        first.serial_number, first.boards, first.port or second.port, first.drives or second.drives, first.source
    )


def matching(board: str, devices: Sequence[Connected]) -> tuple[Connected, ...]:
    """Devices that certainly are a `board`."""
    return tuple(device for device in devices if device.boards == (board,))


def choose(board: str, devices: Sequence[Connected], wanted: str | None = None) -> Connected:
    """The one device to use as `board`; `wanted` is its serial number (or its port).

    Raises DeviceMissing when there is none, DeviceAmbiguous when there are several and none was asked for, UsageError
    when the one asked for is another board.
    """
    if wanted is not None:
        return _wanted(board, devices, wanted)
    candidates = matching(board, devices)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = "; ".join(device.describe() for device in candidates)
        raise DeviceAmbiguous(f"{len(candidates)} boards {board} are connected; choose one with --device: {listed}")
    perhaps = [device.describe() for device in devices if board in device.boards]
    hint = f"; it may be one of these, which --device chooses: {'; '.join(perhaps)}" if perhaps else ""
    raise DeviceMissing(f"no board {board} is connected{hint or _connected_text(devices)}")


def _wanted(board: str, devices: Sequence[Connected], wanted: str) -> Connected:
    device = named(devices, wanted)
    if board not in device.boards:
        raise UsageError(f"--device {wanted} is {' or '.join(device.boards)}, not {board}")
    return device


def named(devices: Sequence[Connected], wanted: str) -> Connected:
    """The device of serial number (or port) `wanted`, whatever board it is. Raises DeviceMissing."""
    for device in devices:
        if wanted in (device.serial_number, device.port):
            return device
    raise DeviceMissing(f"no device {wanted} is connected{_connected_text(devices)}")


def _connected_text(devices: Sequence[Connected]) -> str:
    if not devices:
        return "; nothing is (is the USB cable in, and may you open its serial port?)"
    return f"; connected are: {'; '.join(device.describe() for device in devices)}"
