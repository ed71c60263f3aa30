"""A device at the other end of an open serial port: commands out, checked replies in, time-outs.

Nothing here knows what the port leads to: pyserial's object for a real board, an emulator's pty, or a test's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from serial import SerialException

from hil import wire
from hil.errors import LinkError, LinkTimeout, ProtocolError
from hil.wire import DeviceIdentity, MemoryMap, MemoryReport, Pattern, RunReply

POLL_S = 0.05  # how long one read may block; time-outs are kept with this precision
ATTEMPTS = 3  # for a command whose reply arrives damaged; every command of the extension may be repeated
GET_BYTES = 256  # output bytes asked for at once

Parsed = TypeVar("Parsed")


class SerialPort(Protocol):
    """The part of pyserial's `Serial` that is used."""

    timeout: float | None

    @property
    def in_waiting(self) -> int: ...

    def read(self, size: int = 1, /) -> bytes: ...

    def write(self, data: bytes, /) -> int | None: ...

    def close(self) -> None: ...


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


@dataclass(frozen=True, slots=True)
class BaseTiming:
    """What MLPerf's own `infer` answers: `iterations` inferences took `elapsed_us` microseconds; the last's results."""

    iterations: int
    elapsed_us: int
    results: tuple[float, ...]


class Device:
    """One device on `port`, which it owns from now on. Not for several threads."""

    def __init__(self, port: SerialPort, timeouts: Timeouts | None = None) -> None:
        self.timeouts = timeouts or Timeouts()
        self._port = port
        self._pending = bytearray()
        self._identity: tuple[DeviceIdentity, MemoryMap] | None = None
        if port.timeout != POLL_S:
            port.timeout = POLL_S

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    # --- lines --------------------------------------------------------------------------------------------------

    def wait_ready(self) -> list[str]:
        """Lines up to ``m-ready`` after a reset.

        Raises LinkTimeout, TargetFaultError for a fault at start-up, LinkError when the port dies.
        """
        return self._until_ready(self.timeouts.boot_s, "the boot message")

    def command(self, text: str, silence_s: float | None = None) -> list[str]:
        """Send `text` and return the reply's lines without ``m-ready``.

        `silence_s` is the time-out until the first line and between lines (default: that of a plain command).
        Raises LinkError, LinkTimeout, ProtocolError and TargetFaultError.
        """
        self._write(text)
        return self._until_ready(silence_s or self.timeouts.command_s, f"{text[:40]!r}")

    def synchronise(self) -> None:
        """Get in step with a device that booted long ago or holds half a command."""
        self._write("")
        self._until_ready(self.timeouts.command_s, "an empty command")

    def _write(self, text: str) -> None:
        try:
            self._port.write(f"{text}{wire.TERMINATOR}".encode("ascii"))
        except (SerialException, OSError) as error:
            raise LinkError(f"the serial port died while sending {text[:40]!r}: {error}") from error

    def _until_ready(self, silence_s: float, what: str) -> list[str]:
        lines: list[str] = []
        received = 0
        while True:
            line = self._line(silence_s, what)
            received += len(line)
            if wire.is_fault(line):
                raise wire.fault_error(line)
            if line == wire.READY:
                return lines
            if received > wire.MAX_REPLY_BYTES:
                raise ProtocolError(f"the device does not stop talking after {what}")
            if line:
                lines.append(line)
                silence_s = self._announced(line) or silence_s

    def _announced(self, line: str) -> float | None:
        """The time-out that a silence line asks for, None for any other or a damaged line."""
        if not line.startswith(f"m-hil-{wire.KEYS['SILENCE']}-"):
            return None
        try:
            parsed = wire.parse_extension(line)
            return self.timeouts.silence_s(int(parsed[1][0])) if parsed else None
        except (ProtocolError, ValueError):
            return None

    def _line(self, silence_s: float, what: str) -> str:
        deadline = time.monotonic() + silence_s
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > wire.MAX_REPLY_BYTES:
                raise ProtocolError(f"the device answers {what} with a line without end")
            chunk = self._read()
            self._pending += chunk
            if not chunk and time.monotonic() > deadline:
                got = f", only {bytes(self._pending[:60])!r}" if self._pending else ""
                raise LinkTimeout(f"no complete reply to {what} within {silence_s:.1f} s{got}")
        line = bytes(self._pending[:end]).rstrip(b"\r").decode("latin-1")
        del self._pending[: end + 1]
        return line

    def _read(self) -> bytes:
        try:
            return self._port.read(max(1, self._port.in_waiting))
        except (SerialException, OSError) as error:
            raise LinkError(f"the serial port died while waiting for the device: {error}") from error

    # --- extension ----------------------------------------------------------------------------------------------

    def has_extension(self) -> bool:
        """Whether this is firmware of ours; stock MLPerf firmware does not know the word ``hil``."""
        errors = [wire.parse_error(line) or "" for line in self.command(wire.hil_command("ID"))]
        return not any(text.startswith(wire.UNKNOWN_COMMAND) for text in errors)

    def _ask(self, text: str, parse: Callable[[list[tuple[str, list[str]]]], Parsed], silence_s: float = 0.0) -> Parsed:
        """Send an extension command; `parse` gets (key, fields) of each line. Damaged replies are asked for again."""
        for attempt in range(ATTEMPTS):
            lines = self.command(text, silence_s or None)
            try:
                _refuse_errors(lines, text)  # a refusal may be of a damaged command, so it is tried again as well
                return parse([found for line in lines if (found := wire.parse_extension(line)) is not None])
            except ProtocolError as error:
                if attempt == ATTEMPTS - 1:
                    raise ProtocolError(f"{error} (after {ATTEMPTS} attempts)") from error
        raise AssertionError("unreachable")

    def identity(self) -> DeviceIdentity:
        """Who answers; asked for once."""
        return self._known()[0]

    def memory_map(self) -> MemoryMap:
        """Where things lie on the device; asked for once."""
        return self._known()[1]

    def _known(self) -> tuple[DeviceIdentity, MemoryMap]:
        if self._identity is None:
            self._identity = self._ask(
                wire.hil_command("ID"),
                lambda found: (
                    wire.parse_identity(_one(found, "ID")),
                    wire.parse_map(_one(found, "MAP")),
                ),
            )
        return self._identity

    def fill(self, pattern: Pattern) -> int:
        """Make `pattern` the present input; returns its CRC-32. Raises ProtocolError when the device made another."""
        command = wire.hil_command("FILL", pattern.seed, int(pattern.kind))
        crc = self._ask(command, lambda found: wire.parse_input(_one(found, "INPUT"))[1])
        self._check_input(pattern, crc)
        return crc

    def _check_input(self, pattern: Pattern, crc: int) -> None:
        identity = self.identity()
        if wire.crc32(pattern.data(identity.input_bytes, identity.input_zero_point)) != crc:
            raise ProtocolError(f"the device's input for {pattern} differs from the host's")

    def upload(self, data: bytes) -> None:
        """Make `data` (int8, all of the input) the present input, checked by CRC-32."""
        size = self.identity().input_bytes
        if len(data) != size:
            raise ValueError(f"the input has {size} bytes, not {len(data)}")
        for offset in range(0, size, wire.CHUNK_BYTES):
            chunk = data[offset : offset + wire.CHUNK_BYTES]
            self._ask(wire.put_command(offset, chunk), lambda found: _one(found, "PUT"))
        arrived = self._ask(wire.hil_command("INPUT"), lambda found: wire.parse_input(_one(found, "INPUT")))
        if arrived != (size, wire.crc32(data)):
            raise ProtocolError("the uploaded input has another CRC on the device")

    def download(self) -> bytes:
        """The int8 output of the last inference."""
        size = self.identity().output_bytes
        parts = []
        for offset in range(0, size, GET_BYTES):
            count = min(GET_BYTES, size - offset)
            parts.append(self._ask(wire.hil_command("GET", offset, count), _data_parser(offset, count)))
        return b"".join(parts)

    def run(self, pattern: Pattern | None = None) -> RunReply:
        """One timed inference of `pattern`, or of the present input. The input's CRC is checked for a pattern."""
        size = self.identity().output_bytes
        command = wire.hil_command("RUN", *([] if pattern is None else [pattern.seed, int(pattern.kind)]))
        reply = self._ask(
            command, lambda found: wire.parse_run(_one(found, "RUN"), size), self.timeouts.inference_s
        )  # fmt: skip
        if pattern is not None:
            self._check_input(pattern, reply.input_crc)
        return reply

    def infer(self, count: int, warmup: int) -> list[int]:
        """Ticks of `count` single inferences of the present input, after `warmup` that are not counted."""

        def parse(found: list[tuple[str, list[str]]]) -> list[int]:
            ticks = [tick for fields in _all(found, "TICKS") for tick in wire.parse_ticks(fields)]
            if len(ticks) != count:
                raise ProtocolError(f"{len(ticks)} samples came back instead of {count}")
            return ticks

        if count < 1 or warmup < 0:
            raise ValueError(f"count {count} and warmup {warmup} make no measurement")
        return self._ask(wire.hil_command("INFER", count, warmup), parse, self.timeouts.inference_s)

    def profile(self) -> list[int]:
        """Ticks of each layer in one inference (in as many as it takes when there are more than PROFILE_SLOTS)."""
        layers = self.identity().layers

        def parse(found: list[tuple[str, list[str]]]) -> list[int]:
            ticks: list[int] = []
            for fields in _all(found, "LAYERS"):
                first, more = wire.parse_layers(fields)
                if first != len(ticks):
                    raise ProtocolError(f"layer {len(ticks)} is missing from the profile")
                ticks += more
            if len(ticks) != layers:
                raise ProtocolError(f"the profile has {len(ticks)} layers instead of {layers}")
            if max(ticks) >= 2**32 - 1:
                raise ProtocolError("a layer took longer than the 2^32 ticks that a profile can hold")
            return ticks

        return self._ask(wire.hil_command("PROFILE"), parse, self.timeouts.inference_s)

    def memory(self) -> MemoryReport:
        """How much of arena and stack an inference touches."""
        return self._ask(
            wire.hil_command("MEMORY"),
            lambda found: wire.parse_memory(_one(found, "MEMORY")),
            self.timeouts.inference_s,
        )

    # --- MLPerf's own commands, which stock firmware knows too --------------------------------------------------

    def name(self) -> str:
        """Vendor string of ``name%``."""
        return _bracketed(self.command("name"), "m-name-dut-[")

    def model(self) -> str:
        """Model id of ``profile%``, such as ``kws01``."""
        return _bracketed(self.command("profile"), "m-model-[")

    def load(self, data: bytes) -> None:
        """Load `data` in the form that the model takes through ``db`` (no checksum exists there)."""
        lines: list[str] = []
        for text in wire.db_commands(data):
            lines = self.command(text)
            _refuse_errors(lines, text)
        if "m-load-done" not in lines:
            raise ProtocolError(f"the device did not acknowledge {len(data)} bytes of `db load`")

    def base_infer(self, count: int, warmup: int) -> BaseTiming:
        """`count` inferences between two time stamps, as MLPerf Tiny measures."""
        text = f"infer {count} {warmup}"
        lines = self.command(text, self.timeouts.inference_s * (count + warmup))
        _refuse_errors(lines, text)
        try:
            laps = [int(line.removeprefix("m-lap-us-")) for line in lines if line.startswith("m-lap-us-")]
            start, stop = laps
            results = tuple(float(value) for value in _bracketed(lines, "m-results-[").split(","))
        except ValueError as error:
            raise ProtocolError(f"the reply to {text!r} is not what MLPerf firmware answers: {lines[:8]}") from error
        return BaseTiming(count, stop - start, results)


def _all(found: Sequence[tuple[str, list[str]]], name: str) -> list[list[str]]:
    """Fields of every line whose key is KEYS[name]."""
    return [fields for key, fields in found if key == wire.KEYS[name]]


def _one(found: Sequence[tuple[str, list[str]]], name: str) -> list[str]:
    """Fields of the one line whose key is KEYS[name]. Raises ProtocolError unless there is exactly one."""
    lines = _all(found, name)
    if len(lines) != 1:
        raise ProtocolError(f"{len(lines)} lines {wire.KEYS[name]!r} came back instead of one")
    return lines[0]


def _data_parser(offset: int, count: int) -> Callable[[list[tuple[str, list[str]]]], bytes]:
    def parse(found: list[tuple[str, list[str]]]) -> bytes:
        fields = _one(found, "DATA")
        if len(fields) != 2 or fields[0] != str(offset):
            raise ProtocolError(f"output bytes from {offset} on did not come back")
        return wire.parse_hex(fields[1], count)

    return parse


def _refuse_errors(lines: Sequence[str], text: str) -> None:
    for line in lines:
        if (refusal := wire.parse_error(line)) is not None:
            raise ProtocolError(f"the device refused {text[:40]!r}: {refusal}")


def _bracketed(lines: Sequence[str], prefix: str) -> str:
    """What stands between `prefix` and ``]`` in the line that starts with it. Raises ProtocolError."""
    for line in lines:
        if line.startswith(prefix) and line.endswith("]"):
            return line[len(prefix) : -1]
    raise ProtocolError(f"no line {prefix}...] in the reply, which starts with {list(lines[:4])}")
