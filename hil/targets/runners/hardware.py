"""Runs an image on a connected board: lock, flash, open the serial port, reset.

No board is attached where this project is developed. Here it runs with an emulator behind the serial port; the probes
themselves are only what their programs and drives are documented to do, so this file is kept thin.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import serial

from hil.boards.board import Board
from hil.boards.linked import link_of
from hil.errors import (
    DeviceLost,
    DeviceMissing,
    FlashError,
    LinkError,
    RunnerError,
    TargetFaultError,
    ToolMissing,
    UsageError,
)
from hil.link.device import Device, ReconnectingPort, Timeouts
from hil.link.transport import open_port
from hil.targets.detect import Connected
from hil.targets.flash import Flasher, flasher_for
from hil.targets.flash.base import require_in_flash
from hil.targets.flash.command import run_words
from hil.targets.locks import any_device
from hil.targets.runners.base import Session
from hil.timers import is_simulated

LOCK_WAIT_S = 600.0  # a campaign hands its jobs to whichever board is free
OPEN_TIMEOUT_S = 10.0  # a probe's port comes back a moment after its drive
RECONNECT_S = 10.0  # how long the port may be gone during a session: a probe that resets takes it along
QUIET_S = 0.15  # of silence before the reset: the boot message of flashing's own reset is over
QUIET_TIMEOUT_S = 5.0
_RETRY_S = 0.1


class HardwareRunner:
    """Runner for connected boards: a session takes whichever of `devices` is free.

    After a session whose board failed, the same image is flashed and started once more: when the board then answers
    as it should, the error stands, otherwise it becomes DeviceLost. So nothing else is blamed for a broken board.
    `reconnect_s` is how long a port that vanishes during a session is waited for; at 0 it is lost at once.
    """

    def __init__(
        self,
        devices: Sequence[Connected],
        *,
        flasher: Callable[[Connected, Board], Flasher] = flasher_for,
        timeouts: Timeouts | None = None,
        lock_wait_s: float = LOCK_WAIT_S,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self._devices = {device.serial_number: device for device in devices}
        self._flasher = flasher
        self._timeouts = timeouts or Timeouts()
        self._lock_wait_s = lock_wait_s
        self._reconnect_s = reconnect_s

    @contextmanager
    def open(self, image: Path, board: Board) -> Iterator[Session]:
        """See `Runner.open`. Raises DeviceLost, DeviceBusy, DeviceMissing, FlashError and RunnerError."""
        link = link_of(board.target("hardware"))
        if not self._devices:
            raise DeviceMissing(f"no device was chosen to run {board.name} on; see: munas-hil boards --detect")
        if not image.is_file():
            raise RunnerError(f"the image {image.name} does not exist")
        require_in_flash(image, board.target("hardware").flash)  # no board is to blame for it
        with any_device(tuple(self._devices), self._lock_wait_s) as serial_number:
            device = self._devices[serial_number]
            if device.link != link:
                raise UsageError(
                    f"the firmware talks over {link}, {serial_number} is reached by {device.link}: say link = "
                    f'"{link}" in its entry of the bench file, and with it what its port is'
                )
            try:
                with self._session(device, image, board) as session:
                    yield session
            except DeviceLost:
                raise
            except (LinkError, RunnerError) as error:
                self._require_alive(device, image, board, error)
                if isinstance(error, LinkError):
                    raise type(error)(f"{error} (device {device.describe()})") from error
                raise

    @contextmanager
    def _session(self, device: Connected, image: Path, board: Board) -> Iterator[Session]:
        """Flash before any serial port is opened: a flash that fails is no silent console."""
        target = board.target("hardware")
        flasher = self._flasher(device, board)
        _refuse_used(device)
        flasher.flash(image)
        first = _open_port(device, board.baud)
        port = (
            ReconnectingPort(_opener(device, board.baud, first), self._reconnect_s) if self._reconnect_s > 0 else first
        )
        try:
            _until_quiet(first, device)
            flasher.reset(first)
            yield Session(
                port, "hardware", is_simulated("hardware"), target.timer, Fraction(1), self._timeouts,
                board.clock_hz, device.serial_number
            )  # fmt: skip
        finally:
            with suppress(OSError, serial.SerialException):
                port.close()

    def _require_alive(self, device: Connected, image: Path, board: Board, error: LinkError | RunnerError) -> None:
        """Raise DeviceLost unless the device takes `image` again and runs it; `error` is what raises the doubt.

        One that does not has its power cycled, where the bench file says how, and another chance.
        """
        trouble: list[Exception] = []
        for attempt in (self._try, self._try_after_power_cycle):
            try:
                if attempt(device, image, board):
                    return
            except (LinkError, RunnerError, TargetFaultError, ToolMissing) as second:
                trouble.append(second)
        again = "".join(f", then: {item}" for item in trouble if str(item) != str(error))
        how = "tried twice" + (", and after a power cycle" if device.power_cycle_command else "")
        text = f"device {device.describe()} does not work, {how}: {error}{again}"
        raise DeviceLost(device.serial_number, text) from error

    def _try(self, device: Connected, image: Path, board: Board) -> bool:
        """Whether the device runs `image`: yes, or an error says why not."""
        with self._session(device, image, board) as session:
            link = Device(session.port, session.timeouts)
            link.wait_ready()
            if link.identity().build_id.encode() not in image.read_bytes():
                raise FlashError("it runs another image than the one that was flashed")
        return True

    def _try_after_power_cycle(self, device: Connected, image: Path, board: Board) -> bool:
        """As `_try`; no where nobody can cycle its power."""
        if not device.power_cycle_command:
            return False
        run_words(
            device.power_cycle_command, device.serial_number, f"cycling the power of {device.serial_number}", image
        )
        return self._try(device, image, board)


def _opener(device: Connected, baud: int, first: serial.Serial) -> Callable[[], serial.Serial]:
    """What opens the port: `first`, which is open already, and new ones when it has vanished."""
    unused = [first]
    return lambda: unused.pop() if unused else open_port(str(device.port), baud)


def _refuse_used(device: Connected) -> None:
    """Raise RunnerError when a program that does not know our locks has the port: flashing would ruin its work."""
    if device.port is None:
        raise RunnerError(f"device {device.serial_number} has no serial port; name it in the bench file")
    try:
        open_port(device.port).close()
    except (OSError, ValueError) as error:  # otherwise the port may only come with the image
        if getattr(error, "errno", None) in (errno.EAGAIN, errno.EBUSY):
            raise RunnerError(f"another program uses the serial port {device.port}: {error}") from error


def _open_port(device: Connected, baud: int) -> serial.Serial:
    assert device.port is not None
    deadline = time.monotonic() + OPEN_TIMEOUT_S
    while True:
        try:
            return open_port(device.port, baud)
        except (serial.SerialException, OSError, ValueError) as error:
            if time.monotonic() > deadline or getattr(error, "errno", None) == errno.EACCES:
                raise _unopened(device, error) from error
            time.sleep(_RETRY_S)  # nothing tells when a port comes


def _unopened(device: Connected, error: Exception) -> RunnerError:
    return RunnerError(f"the serial port {device.port} of {device.serial_number} cannot be opened: {error}")


def _until_quiet(port: serial.Serial, device: Connected) -> None:
    """Drop what flashing made the device say, so that the next boot message is the one of our reset."""
    deadline = time.monotonic() + QUIET_TIMEOUT_S
    try:
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:
            if port.read(max(1, port.in_waiting)):
                quiet_since = time.monotonic()
                if quiet_since > deadline:  # one that says nothing is quiet, however late it is looked at
                    raise RunnerError(f"device {device.describe()} does not stop talking after it was flashed")
    except (serial.SerialException, OSError) as error:
        raise RunnerError(f"the serial port {device.port} died after flashing: {error}") from error
