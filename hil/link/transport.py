"""Lines over a serial port: time-outs, an end to endless talk, getting back in step, a port that comes back.

Nothing here knows commands. Whoever reads a reply says which sequence number it must carry; lines that do not carry it
(damaged ones, and replies to former commands) are told apart here and never handed on as figures.
"""

from __future__ import annotations

import termios
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from serial import Serial, SerialException, serial_for_url

from hil.boards.machines import USUAL_BAUD
from hil.errors import LinkError, LinkTimeout, ProtocolError
from hil.link import protocol
from hil.link.transcript import Transcript

READY_S = 0.5  # for ``m-ready`` behind a complete reply
WRITE_S = 10.0  # for bytes that a port does not take
CHUNK = 4096  # bytes that are taken in at once
POLL_S = 0.05  # how long one read may block; time-outs are kept with this precision
STOOD_STILL_S = 0.5  # more than this between two looks at a port is no silence of the device: nobody listened
TALK = 4  # a device may talk for this many time-outs without saying anything that can be verified
DRAIN_S = 2.0  # ... and for this long while it is waited for to become quiet
REOPEN_S = 10.0  # how long a port may be gone: a board that resets takes its USB port with it
REOPEN_POLL_S = 0.1
_OF_SERVERS = ("socket", "rfc2217")  # URLs that are HOST:PORT


class SerialPort(Protocol):
    """The part of pyserial's `Serial` that is used."""

    timeout: float | None

    @property
    def in_waiting(self) -> int:
        """Bytes that a read returns at once."""
        ...

    def read(self, size: int = 1, /) -> bytes:
        """Up to `size` bytes; fewer when `timeout` is over. Raises OSError."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """How many bytes were taken. Raises OSError."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


Found = list[tuple[str, list[str]]]
"""Key and fields of each verified line of the extension."""


class Endless(ProtocolError):
    """The device does not stop talking."""


class PortVanished(LinkError):
    """The port is gone, and was waited for in vain."""


def is_url(port: str) -> bool:
    """Whether a port is one of another host: a URL that pyserial knows, such as ``rfc2217://`` or ``socket://``."""
    return "://" in port


def check_url(url: str) -> None:
    """Raises ValueError for a URL that no server can be behind."""
    given, _, rest = url.partition("://")
    scheme = given.lower()
    if scheme not in _OF_SERVERS:
        with suppress(SerialException):  # hwgrep:// looks for its device at once, which need not be there yet
            serial_for_url(url, do_not_open=True)  # ValueError for a kind that pyserial does not know
        return
    example = f"{scheme}://HOST:PORT"
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname and parts.port)  # the latter raises ValueError for what is no port's number
    except ValueError:
        complete = False
    if not complete or " " in rest or scheme != given:
        raise ValueError(f"{url} is not {example}")


def open_port(path: str, baud: int = USUAL_BAUD) -> Serial:
    """The serial port `path` at `baud`, for this process alone, or one behind a URL, whose server sees to that.

    Raises OSError (SerialException is one) and ValueError.
    """
    if is_url(path):
        return _open_url(path, baud)
    try:
        # exclusive: against programs that know the port only, not the lock of the device
        return Serial(path, baud, timeout=POLL_S, write_timeout=WRITE_S, exclusive=True)
    except termios.error as error:  # no OSError; pyserial lets it through when the port vanishes while it is opened
        raise SerialException(f"the port vanished while it was opened: {error}") from error


def _open_url(url: str, baud: int) -> Serial:
    port = serial_for_url(url, baud, timeout=POLL_S, do_not_open=True)
    if not url.startswith("rfc2217://"):  # which knows no time-out for what is written
        port.write_timeout = WRITE_S
    port.open()
    return Gathering(port) if url.startswith("socket://") else port


class PortAround:
    """A SerialPort that hands everything on to another, `_port`: for those that do one thing otherwise."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port

    @property
    def timeout(self) -> float | None:
        """Seconds that a read may block."""
        return self._port.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._port.timeout = seconds

    @property
    def in_waiting(self) -> int:
        """Bytes that a read returns at once, as far as the port tells."""
        return self._port.in_waiting

    def read(self, size: int = 1, /) -> bytes:
        """See pyserial."""
        return self._port.read(size)

    def write(self, data: bytes, /) -> int | None:
        """See pyserial."""
        return self._port.write(data)

    def set_rate(self, rate: int) -> None:
        """To `rate` baud once all has left; nothing where the port has no rate."""
        if isinstance(self._port, PortAround):
            self._port.set_rate(rate)
        elif isinstance(self._port, Serial):
            self._port.flush()
            self._port.baudrate = rate

    def close(self) -> None:
        """Close the port that is open now."""
        self._port.close()


class Gathering(PortAround):
    """A port that says of no more than one byte that it is there, as a socket's does: a read takes all that is."""

    def read(self, size: int = 1, /) -> bytes:
        """At least one byte unless the time is over; up to `CHUNK`, whatever the size."""
        data = bytearray(self._port.read(1))
        while data and len(data) < CHUNK and self._port.in_waiting:
            try:
                data += self._port.read(1)
            except OSError:  # the other side has closed: what came before counts, and the next read says it
                break
        return bytes(data)

    def send_break(self, duration: float = 0.25) -> None:
        """A socket hands on no break. Raises SerialException."""
        raise SerialException(
            "socket:// cannot send a break: give a reset_command in the bench file, or use rfc2217://"
        )


@runtime_checkable
class Reopenable(Protocol):
    """A port that can be opened again after it has vanished."""

    def reopen(self) -> None:
        """Open it again. Raises OSError while it is still gone."""
        ...


class ReconnectingPort(PortAround):
    """A SerialPort that `open_port` makes, now and again after it vanished; it raises OSError while it cannot."""

    def __init__(self, open_port: Callable[[], SerialPort], patience_s: float = REOPEN_S) -> None:
        super().__init__(open_port())
        self._open, self._patience_s = open_port, patience_s

    def reopen(self) -> None:
        """Wait until the port is back, and open it. Raises LinkError when it stays away."""
        timeout, deadline = self._port.timeout, time.monotonic() + self._patience_s
        with suppress(OSError):
            self._port.close()
        while True:
            try:
                self._port = self._open()
                if self._port.timeout != timeout:
                    self._port.timeout = timeout
                return
            except OSError as error:  # pyserial's SerialException is one
                if time.monotonic() > deadline:
                    raise PortVanished(
                        f"the serial port vanished and did not come back within {self._patience_s:g} s: {error}; "
                        "check the cable and the board's power"
                    ) from error
                time.sleep(REOPEN_POLL_S)  # nothing tells when a port is back


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence after which a device counts as lost.

    `inference_s` covers an inference whose length nobody knows yet; afterwards the device announces its own estimate,
    which counts twice. `host_per_device` is how many seconds of the host a second of the device's clock may take.
    """

    boot_s: float = 10.0
    command_s: float = 5.0
    inference_s: float = 30.0
    host_per_device: float = 1.0

    def silence_s(self, announced_us: int) -> float:
        """Time-out for a silence that the device announced as `announced_us` microseconds of its clock (0: unknown)."""
        if announced_us == 0:
            return self.inference_s
        return self.command_s + 2e-6 * announced_us * self.host_per_device


@dataclass(slots=True)
class Reply:
    """All lines up to ``m-ready``, or to the `timeout`.

    `found` has key and fields of the extension lines that carry the right sequence number and CRC; `damaged` is the
    error of the first one that does not.
    """

    lines: list[str] = field(default_factory=list)
    found: Found = field(default_factory=list)
    damaged: ProtocolError | None = None
    timeout: LinkTimeout | None = None


class _Listening:
    """A clock of the seconds in which somebody listened: it is not ahead by the time that this machine stood still.

    A virtual machine that is stopped for a while stops its emulators, too, and hears nothing meanwhile.
    """

    def __init__(self) -> None:
        self._seconds, self._looked = 0.0, time.monotonic()

    def __call__(self) -> float:
        now = time.monotonic()
        self._seconds += min(now - self._looked, STOOD_STILL_S)
        self._looked = now
        return self._seconds


class Channel:
    """Commands out and lines in over `port`, which it owns. Raises LinkError for a port that dies."""

    def __init__(self, port: SerialPort, timeouts: Timeouts, transcript: Transcript) -> None:
        self.port = port
        self._timeouts = timeouts
        self._transcript = transcript
        self._pending = bytearray()
        self._now = _Listening()
        self._set_up()

    def _set_up(self) -> None:
        if self.port.timeout != POLL_S:
            self.port.timeout = POLL_S

    def send(self, text: str) -> None:
        """Send the command `text`."""
        data = f"{text}{protocol.TERMINATOR}".encode("ascii")
        self._transcript.sent(data)
        try:
            self.port.write(data)
        except (SerialException, OSError) as error:
            raise LinkError(f"the serial port died while sending {text[:40]!r}: {error}") from error

    def reply(
        self, silence_s: float, what: str, sequence: int = 0, complete: Callable[[Found], bool] = lambda _: False
    ) -> Reply:
        """What the device says up to ``m-ready``, with at most `silence_s` before and between lines.

        A time-out is part of the reply: what came before it may be worth something. When that is `complete` only
        ``m-ready`` is missing, and is not waited for long. Raises TargetFaultError, and Endless for a device that does
        not stop talking.
        """
        reply, received, progress = Reply(), 0, self._now()
        while True:
            try:
                line = self._line(silence_s, progress + TALK * silence_s, what)
            except LinkTimeout as error:
                reply.timeout = error
                return reply
            received += len(line)
            if protocol.is_fault(line):
                raise protocol.fault_error(line)
            if line == protocol.READY:
                return reply
            if received > protocol.MAX_REPLY_BYTES:
                raise _endless(what)
            if line and self._sort(line, sequence, reply):
                progress = self._now()
                silence_s = self._announced(reply) or silence_s
                if complete(reply.found):
                    silence_s = min(silence_s, READY_S)

    def _sort(self, line: str, sequence: int, reply: Reply) -> bool:
        """Add `line` to the reply; whether it could be verified."""
        reply.lines.append(line)
        try:
            found = protocol.parse_extension(line, sequence)
        except ProtocolError as error:
            reply.damaged = reply.damaged or error
            return False
        if found is not None:
            reply.found.append(found)
        return found is not None

    def _announced(self, reply: Reply) -> float | None:
        """The time-out that the last line asks for, None when it is no silence line."""
        key, values = reply.found[-1]
        if key == protocol.KEYS["SILENCE"] and values[0].isdecimal():
            return self._timeouts.silence_s(int(values[0]))
        return None

    def _line(self, silence_s: float, limit: float, what: str) -> str:
        deadline = self._now() + silence_s
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > protocol.MAX_REPLY_BYTES:
                raise Endless(f"the device answers {what} with a line without end")
            chunk = self._read()
            now = self._now()
            if now > limit and chunk:
                raise _endless(what)
            if chunk:
                self._pending += chunk
                deadline = now + silence_s
            elif now > deadline:
                got = f", only {bytes(self._pending[:60])!r}" if self._pending else ""
                raise LinkTimeout(f"no complete reply to {what} within {silence_s:.1f} s{got}")
        line = bytes(self._pending[:end]).rstrip(b"\r").decode("latin-1")
        del self._pending[: end + 1]
        return line

    def _read(self) -> bytes:
        try:
            data = self.port.read(max(1, self.port.in_waiting))
        except (SerialException, OSError) as error:
            raise LinkError(f"the serial port died while waiting for the device: {error}") from error
        self._transcript.received(data)
        return data

    def drain(self, quiet_s: float) -> None:
        """Throw away what arrives until nothing has for `quiet_s`. Raises ProtocolError when that never happens."""
        self._pending.clear()
        started = heard = self._now()
        size = 0
        while self._now() - heard < quiet_s:
            if chunk := self._read():
                heard = self._now()
                size += len(chunk)
                if size > protocol.MAX_REPLY_BYTES or heard - started > DRAIN_S:
                    raise _endless("nothing")

    def reopen(self) -> bool:
        """Open the port again after it died; False when this kind of port cannot be. Raises LinkError."""
        if not isinstance(self.port, Reopenable):
            return False
        self.port.reopen()
        self._pending.clear()
        self._set_up()
        return True


def _endless(what: str) -> Endless:
    return Endless(f"the device does not stop talking after {what}")
