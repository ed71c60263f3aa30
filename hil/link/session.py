"""One command and its reply: sent once, and what the device must be in step for.

What is sent again, and when, is decided in hil/link/device.py; text and time-outs of the line are in
hil/link/transport.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hil.errors import LinkTimeout, ProtocolError
from hil.link import protocol
from hil.link.protocol import Refusal
from hil.link.transcript import Transcript
from hil.link.transport import Channel, Found, SerialPort, Timeouts

PINGS = 3  # that a device may leave unanswered before it counts as dead
PING_S = 2.0  # at most: a device that is ready answers at once
QUIET_S = 0.02  # how long nothing must arrive before the device counts as in step; doubled when that was too short
MAX_DOUBLINGS = 4

Parsed = TypeVar("Parsed")


class Refused(ProtocolError):
    """The device answered ``e-[...]``; `refusal` is what it said."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message)
        self.refusal = refusal

    def __reduce__(self) -> tuple[type[Refused], tuple[Any, ...]]:
        return type(self), (str(self), self.refusal)


class KernelRefused(Refused):
    """... because a layer's kernel did not run (`refusal.layer`), for the reasons `said`: the network is to blame."""

    def __init__(self, message: str, refusal: Refusal, said: tuple[str, ...] = ()) -> None:
        super().__init__(message, refusal)
        self.said = said

    def __reduce__(self) -> tuple[type[KernelRefused], tuple[Any, ...]]:
        return type(self), (str(self), self.refusal, self.said)


class InputLost(ProtocolError):
    """The device has another input than the one it was given, or none."""


class InputRefused(InputLost, Refused):
    """... and says so."""


class Exchange:
    """Commands and replies at `port`, which it owns from now on."""

    def __init__(self, port: SerialPort, timeouts: Timeouts, transcript: Transcript) -> None:
        self.astray = False  # what comes next may answer a former command
        self._timeouts = timeouts
        self._channel = Channel(port, timeouts, transcript)
        # Replies to a former session at this port must not fit either.
        self._sequence = (os.getpid() ^ time.monotonic_ns() >> 20) & 0xFFFF

    @property
    def port(self) -> SerialPort:
        """Where the device is."""
        return self._channel.port

    def reopen(self) -> bool:
        """See `Channel.reopen`."""
        return self._channel.reopen()

    def wait_ready(self) -> list[str]:
        """See `Device.wait_ready`."""
        reply = self._channel.reply(self._timeouts.boot_s, "the boot message")
        if reply.timeout is not None:
            self.synchronise(0, reply.timeout)
        return reply.lines

    def command(self, text: str, silence_s: float) -> list[str]:
        """See `Device.command`."""
        if self.astray:
            self.synchronise()
        self._channel.send(text)
        self.astray = True
        reply = self._channel.reply(silence_s, f"{text[:40]!r}")
        if reply.timeout is not None:
            raise reply.timeout
        self.astray = False
        return reply.lines

    def synchronise(self, doublings: int = 0, dead: LinkTimeout | None = None) -> None:
        """Get in step with a device that booted long ago, holds half a command or has more to say.

        `doublings` of the time that it must be quiet for. A device that does not answer is dead, for the reason `dead`
        if there is one.
        """
        quiet_s = QUIET_S * 2 ** min(doublings, MAX_DOUBLINGS)
        for attempt in range(PINGS):
            self._channel.drain(quiet_s)
            self._channel.send("")
            reply = self._channel.reply(min(self._timeouts.command_s, PING_S), "an empty command")
            if reply.timeout is None:
                break
            if attempt == PINGS - 1:
                raise dead or reply.timeout
        self._channel.drain(quiet_s)
        self.astray = False

    def ask(self, text: str, parse: Callable[[Found], Parsed], silence_s: float) -> Parsed:
        """Send an extension command once; what `parse` makes of the verified lines (it raises ProtocolError)."""
        self._sequence = self._sequence % 0xFFFF + 1
        self._channel.send(protocol.frame(text, self._sequence))
        self.astray = True

        def complete(found: Found) -> bool:
            try:
                parse(found)
            except ProtocolError:
                return False
            return True

        reply = self._channel.reply(silence_s, f"{text[:40]!r}", self._sequence, complete)
        try:
            value = parse(reply.found)
        except ProtocolError as error:
            if reply.timeout is not None:
                raise reply.timeout from error
            refuse_errors(reply.lines, text)
            if isinstance(error, InputLost) or reply.damaged is None:
                raise
            raise reply.damaged from error
        self.astray = reply.timeout is not None or reply.damaged is not None
        return value


def refuse_errors(lines: Sequence[str], text: str) -> None:
    """Raise Refused (InputRefused) for the first error line of the reply to `text`, KernelRefused for one that names a
    layer: an interpreter's own words stand before it."""
    refusals = [found for line in lines if (found := protocol.parse_refusal(line)) is not None]
    for refusal in refusals:
        if refusal.layer is not None:
            said = tuple(dict.fromkeys(other.text for other in refusals if other is not refusal))
            text_of_all = "; ".join([*said, refusal.text])
            raise KernelRefused(f"the device refused {text[:40]!r}: {text_of_all}", refusal, said)
    for refusal in refusals:
        kind = InputRefused if refusal.code in protocol.INPUT_LOST else Refused
        raise kind(f"the device refused {text[:40]!r}: {refusal.text}", refusal)
