"""A device at the other end of an open serial port: commands out, checked replies in, retried where that is safe.

Nothing here knows what the port leads to: pyserial's object for a real board, an emulator's pty, or a test's own.

Every command of the extension may be repeated, and is when its reply is damaged, late or lost. Its frame makes sure
that the device runs no damaged command and that no reply to another one is taken for its own. What a device that reset
in between has forgotten, its input, is recognised by its CRC and sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from hil.errors import LinkError, LinkTimeout, ProtocolError
from hil.link import protocol
from hil.link.mlperf_protocol import BaseTiming, bracketed, parse_base_reply, parse_buffer
from hil.link.protocol import DeviceIdentity, MemoryMap, MemoryReport, RefusalCode, RunReply
from hil.link.session import Exchange, InputLost, Refused, refuse_errors
from hil.link.transcript import Transcript
from hil.link.transport import POLL_S, Endless, Found, PortVanished, ReconnectingPort, SerialPort, Timeouts
from hil.patterns import Pattern

__all__ = ["POLL_S", "BaseTiming", "Device", "ReconnectingPort", "SerialPort", "Timeouts"]

ATTEMPTS = 10  # for one command: getting back in step and giving the input again can fail as well
MAX_LONG = 3  # among them of those that take long: time-outs and floods
MAX_DIED = 5  # ... and of those with which the port was gone: it had to be waited for each time
GET_BYTES = 256  # output bytes asked for at once

Parsed = TypeVar("Parsed")


class Device:
    """One device on `port`, which it owns from now on. Not for several threads. `transcript` gets what is said."""

    def __init__(
        self, port: SerialPort, timeouts: Timeouts | None = None, transcript: Transcript | None = None
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.retries = 0  # commands that had to be sent again, for reports
        self._exchange = Exchange(port, self.timeouts, Transcript() if transcript is None else transcript)
        self._identity: tuple[DeviceIdentity, MemoryMap] | None = None
        self._present: Pattern | bytes | None = None
        self._lost = False  # the device has forgotten its input
        self._another = False  # the port was away: another device may have come back

    def close(self) -> None:
        """Close the port."""
        self._exchange.port.close()

    # --- lines --------------------------------------------------------------------------------------------------

    def wait_ready(self) -> list[str]:
        """Lines up to ``m-ready`` after a reset, or those so far of a device that has long been ready.

        Raises LinkTimeout, TargetFaultError for a fault at start-up, LinkError when the port dies.
        """
        return self._exchange.wait_ready()

    def command(self, text: str, silence_s: float | None = None) -> list[str]:
        """Send `text` once, as it is, and return the reply's lines without ``m-ready``: nothing is verified.

        `silence_s` is the time-out until the first line and between lines (default: that of a plain command).
        Raises LinkError, LinkTimeout, ProtocolError and TargetFaultError.
        """
        return self._exchange.command(text, silence_s or self.timeouts.command_s)

    def synchronise(self) -> None:
        """Get in step with a device that booted long ago, holds half a command or has more to say."""
        self._exchange.synchronise()

    # --- extension ----------------------------------------------------------------------------------------------

    def has_extension(self) -> bool:
        """Whether this is firmware of ours; stock MLPerf firmware does not know the word ``hil``."""
        try:
            self._known()
        except Refused as error:
            refusal = error.refusal
            if refusal.code is RefusalCode.UNKNOWN_COMMAND and refusal.about == "hil":
                return False
            raise
        return True

    def _ask(self, text: str, parse: Callable[[Found], Parsed], silence_s: float = 0.0) -> Parsed:
        """Send an extension command until `parse` accepts the verified lines of the reply (it raises ProtocolError)."""
        failures: list[LinkError] = []
        while True:
            try:
                self._recover(failures)
                return self._exchange.ask(text, parse, silence_s or self.timeouts.command_s)
            except LinkError as error:
                self._exchange.astray = True
                self._lost = self._lost or isinstance(error, InputLost)
                self.retries += 1
                _give_up(error, failures)
                failures.append(error)

    def _recover(self, failures: Sequence[LinkError]) -> None:
        """Undo what the last failure may have left behind."""
        last = failures[-1] if failures else None
        if last is not None and _is_death(last):
            if not self._exchange.reopen():
                raise last
            self._another = self._identity is not None
        if self._exchange.astray:
            self._exchange.synchronise(max(len(failures) - 1, 0), last if isinstance(last, LinkTimeout) else None)
        if self._another:
            self._recognise()
        if self._lost:
            self._restore()

    def _recognise(self) -> None:
        """That the device at the port that was away is the one that it was."""
        self._another = False  # for the question itself
        try:
            if self._identify() != self._identity:
                raise ProtocolError("another firmware answers at the port after it was gone; flash again")
        except LinkError:
            self._another = True
            raise

    def _restore(self) -> None:
        present, self._lost = self._present, False  # giving it is a command of its own
        try:
            if isinstance(present, Pattern):
                self.fill(present)
            elif present is not None:
                self.upload(present)
        except LinkError:
            self._present, self._lost = present, True
            raise

    def identity(self) -> DeviceIdentity:
        """Who answers; asked for once."""
        return self._known()[0]

    def memory_map(self) -> MemoryMap:
        """Where things lie on the device; asked for once."""
        return self._known()[1]

    def _known(self) -> tuple[DeviceIdentity, MemoryMap]:
        if self._identity is None:
            self._identity = self._identify()
        return self._identity

    def _identify(self) -> tuple[DeviceIdentity, MemoryMap]:
        return self._ask(
            protocol.hil_command("ID"),
            lambda found: (protocol.parse_identity(_one(found, "ID")), protocol.parse_map(_one(found, "MAP"))),
        )

    def _input(self, found: Found) -> int:
        """CRC-32 of the input that a reply is about. Raises InputLost when it is not what the device was given."""
        size, crc = protocol.parse_input(_one(found, "INPUT"))
        return self._present_crc(size, crc, InputLost)

    def _present_crc(self, size: int, crc: int, otherwise: type[ProtocolError]) -> int:
        present, identity = self._present, self.identity()
        if isinstance(present, Pattern):
            present = present.data(identity.input_bytes, identity.input_zero_point)
        if present is not None and (size, crc) != (len(present), protocol.crc32(present)):
            raise otherwise("the device's input differs from the host's")
        return crc

    def fill(self, pattern: Pattern) -> int:
        """Make `pattern` the present input; returns its CRC-32. Raises ProtocolError when the device makes another."""
        self.identity()
        self._present = pattern

        def parse(found: Found) -> int:
            return self._present_crc(*protocol.parse_input(_one(found, "INPUT")), ProtocolError)

        return self._ask(protocol.hil_command("FILL", pattern.seed, int(pattern.kind)), parse)

    def upload(self, data: bytes) -> None:
        """Make `data` (int8, all of the input) the present input, checked by CRC-32."""
        size = self.identity().input_bytes
        if len(data) != size:
            raise ValueError(f"the input has {size} bytes, not {len(data)}")
        self._present = None  # so that nothing is restored in the middle
        for attempt in range(ATTEMPTS):
            for offset in range(0, size, protocol.CHUNK_BYTES):
                self._put(offset, data[offset : offset + protocol.CHUNK_BYTES])
            with suppress(Refused):  # "incomplete": it reset, and what came before is lost
                arrived = self._ask(
                    protocol.hil_command("INPUT"), lambda found: protocol.parse_input(_one(found, "INPUT"))
                )
                if arrived == (size, protocol.crc32(data)):
                    break
            if attempt == ATTEMPTS - 1:
                raise ProtocolError(f"the uploaded input has another CRC on the device (after {ATTEMPTS} attempts)")
        self._present = data

    def _put(self, offset: int, chunk: bytes) -> None:
        wanted = [str(offset), str(len(chunk))]

        def parse(found: Found) -> None:
            if _one(found, "PUT") != wanted:
                raise ProtocolError("another part of the input was acknowledged")

        self._ask(protocol.put_command(offset, chunk), parse)

    def download(self) -> bytes:
        """The int8 output of the last inference."""
        size = self.identity().output_bytes
        parts = []
        for offset in range(0, size, GET_BYTES):
            count = min(GET_BYTES, size - offset)
            parts.append(self._ask(protocol.hil_command("GET", offset, count), _data_parser(offset, count)))
        return b"".join(parts)

    def run(self, pattern: Pattern | None = None) -> RunReply:
        """One timed inference of `pattern`, or of the present input, whose CRC is checked."""
        identity = self.identity()
        if pattern is not None:
            self._present = pattern
        command = protocol.hil_command("RUN", *([] if pattern is None else [pattern.seed, int(pattern.kind)]))

        def parse(found: Found) -> RunReply:
            reply = protocol.parse_run(_one(found, "RUN"), identity.output_bytes)
            self._present_crc(identity.input_bytes, reply.input_crc, ProtocolError if pattern else InputLost)
            return reply

        return self._ask(command, parse, self.timeouts.inference_s)

    def answer(self, pattern: Pattern | None = None, expected: bytes | None = None) -> tuple[int, bytes]:
        """Ticks and output of one inference, as `run`: the output is that of this inference, however long it is.

        A long output whose size and CRC-32 are those of `expected` is `expected`: it is not sent.
        """
        size = self.identity().output_bytes
        for attempt in range(ATTEMPTS):
            reply = self.run(pattern)
            if reply.output is not None:
                return reply.ticks, reply.output
            if expected is not None and len(expected) == size and protocol.crc32(expected) == reply.output_crc:
                return reply.ticks, expected
            try:
                output = self.download()
            except Refused:  # "no output": it reset
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            if protocol.crc32(output) == reply.output_crc:
                return reply.ticks, output
        raise ProtocolError(f"the output does not have the CRC that the device computed (after {ATTEMPTS} attempts)")

    def infer(self, count: int, warmup: int) -> list[int]:
        """Ticks of `count` single inferences of the present input, after `warmup` that are not counted."""

        def parse(found: Found) -> list[int]:
            self._input(found)
            return protocol.parse_series("ticks", _all(found, "TICKS"), count)

        if count < 1 or warmup < 0:
            raise ValueError(f"count {count} and warmup {warmup} make no measurement")
        self.identity()
        return self._ask(protocol.hil_command("INFER", count, warmup), parse, self.timeouts.inference_s)

    def profile(self) -> list[int]:
        """Ticks of each layer in one inference (in as many as it takes when there are more than PROFILE_SLOTS)."""
        layers = self.identity().layers

        def parse(found: Found) -> list[int]:
            self._input(found)
            ticks = protocol.parse_series("layers", _all(found, "LAYERS"), layers)
            if max(ticks) >= 2**32 - 1:
                raise ProtocolError("a layer took longer than the 2^32 ticks that a profile can hold")
            return ticks

        return self._ask(protocol.hil_command("PROFILE"), parse, self.timeouts.inference_s)

    def memory(self) -> MemoryReport:
        """How much of arena and stack an inference touches."""
        return self._ask(
            protocol.hil_command("MEMORY"),
            lambda found: protocol.parse_memory(_one(found, "MEMORY")),
            self.timeouts.inference_s,
        )

    # --- MLPerf's own commands, which stock firmware knows too --------------------------------------------------

    def name(self) -> str:
        """Vendor string of ``name%``."""
        return bracketed(self.command("name"), "m-name-dut-[")

    def model(self) -> str:
        """Model id of ``profile%``, such as ``kws01``."""
        return bracketed(self.command("profile"), "m-model-[")

    def load(self, data: bytes) -> None:
        """Load `data` in the form that the model takes through ``db`` (no checksum exists there)."""
        self._present = None
        lines: list[str] = []
        for text in protocol.db_commands(data):
            lines = self.command(text)
            refuse_errors(lines, text)
        if "m-load-done" not in lines:
            raise ProtocolError(f"the device did not acknowledge {len(data)} bytes of `db load`")

    def buffer(self) -> bytes | None:
        """What was loaded, as the device shows it; None when it does not."""
        return parse_buffer(self.command("db print"))

    def base_infer(self, count: int, warmup: int, silence_s: float | None = None) -> BaseTiming:
        """`count` inferences between two time stamps, as MLPerf Tiny measures."""
        text = f"infer {count} {warmup}"
        lines = self.command(text, silence_s or self.timeouts.inference_s * (count + warmup))
        refuse_errors(lines, text)
        return parse_base_reply(lines, count, warmup)


def _give_up(error: LinkError, failures: Sequence[LinkError]) -> None:
    """Raise `error` unless another attempt may do better; `failures` are those before it."""
    last = failures[-1] if failures else None
    if error is last or isinstance(error, PortVanished):
        raise error  # no answer to a ping either, or a port that cannot be opened again
    is_meant = isinstance(error, Refused) and not error.refusal.is_of_the_line
    if is_meant and isinstance(last, Refused) and error.refusal == last.refusal:  # type: ignore[attr-defined]
        raise error  # it comes twice
    for kind, most in ((_is_long, MAX_LONG), (_is_death, MAX_DIED)):
        if kind(error) and sum(map(kind, failures)) == most - 1:
            raise error
    if len(failures) == ATTEMPTS - 1:
        text = f"{error} (after {ATTEMPTS} attempts)"
        raise (type(error)(text, error.refusal) if isinstance(error, Refused) else type(error)(text)) from error


def _is_long(error: LinkError) -> bool:
    return isinstance(error, (LinkTimeout, Endless))


def _is_death(error: LinkError) -> bool:
    """Of the port."""
    return not isinstance(error, (LinkTimeout, ProtocolError))


def _all(found: Sequence[tuple[str, list[str]]], name: str) -> list[list[str]]:
    """Fields of every line whose key is KEYS[name]."""
    return [fields for key, fields in found if key == protocol.KEYS[name]]


def _one(found: Sequence[tuple[str, list[str]]], name: str) -> list[str]:
    """Fields of the one line whose key is KEYS[name]. Raises ProtocolError unless there is exactly one."""
    lines = _all(found, name)
    if len(lines) != 1:
        raise ProtocolError(f"{len(lines)} lines {protocol.KEYS[name]!r} came back instead of one")
    return lines[0]


def _data_parser(offset: int, count: int) -> Callable[[Found], bytes]:
    def parse(found: Found) -> bytes:
        fields = _one(found, "DATA")
        if len(fields) != 2 or fields[0] != str(offset):
            raise ProtocolError(f"output bytes from {offset} on did not come back")
        return protocol.parse_hex(fields[1], count)

    return parse
