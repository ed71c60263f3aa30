"""The host's parser against mutated replies: whatever a device says, a right figure or a HilError comes of it.

By hand: ``python -m tests.faults.fuzz_host --seconds 600``. Each round gives a Device replies that are mixed from real
ones (of the firmware itself, damaged, cut, repeated, with another sequence) and noise.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from unittest import mock

from hil.errors import HilError, ProtocolError, TargetFaultError
from hil.link import protocol
from hil.link.device import Device, Timeouts
from hil.link.mlperf_protocol import parse_base_reply, parse_buffer, parse_results
from hil.patterns import Pattern, PatternKind
from tests.faults.faulty import BYTES, garbage
from tests.faults.host_device import HostDevice, layer_ticks, output, ticks

PATTERN = Pattern(PatternKind.RANDOM, 77)
DATA = PATTERN.data(100, -3)
INSTANT = Timeouts(boot_s=0.002, command_s=0.002, inference_s=0.002)
Check = Callable[[Device], bool]

CHECKS: dict[str, Check] = {
    "identity": lambda device: device.identity().build_id == "0123456789abcdef" * 2,
    "run": lambda device: device.run(PATTERN).ticks == ticks(DATA),
    "answer": lambda device: device.answer(PATTERN) == (ticks(DATA), output(DATA)),
    "infer": lambda device: device.fill(PATTERN) > 0 and device.infer(40, 1) == [ticks(DATA)] * 40,
    "profile": lambda device: device.fill(PATTERN) > 0 and device.profile() == layer_ticks(DATA),
    "memory": lambda device: device.memory().arena_used == 1124,
    "upload": lambda device: device.upload(DATA) is None and device.run().ticks == ticks(DATA),
}


@dataclass
class Echo:
    """A SerialPort whose device is real, and whose replies are mutated with probability `rate` a command."""

    host: HostDevice
    rng: random.Random
    rate: float
    said: list[bytes] = field(default_factory=list)  # of this and former commands: material
    timeout: float | None = None
    _buffer: bytes = b""

    @property
    def in_waiting(self) -> int:
        return len(self._buffer)

    def read(self, size: int = 1, /) -> bytes:
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def write(self, data: bytes, /) -> int:
        self.host.write(data)
        reply = self.host.replies(data.count(b"%"))
        self.said = [*self.said[-20:], reply]
        if self.rng.random() < self.rate:
            for _ in range(self.rng.randint(1, 3)):
                reply = self._mutated(reply or b"\n")
        self._buffer += reply
        return len(data)

    def _mutated(self, reply: bytes) -> bytes:
        choice = self.rng.randrange(5)
        if choice == 0:
            return self.rng.choice(self.said)
        if choice == 1:
            return garbage(self.rng) + reply
        if choice == 2:
            place = self.rng.randrange(len(reply) + 1)
            return reply[:place] + self.rng.choice(self.said) + reply[place:]
        if choice == 3:
            return self._resigned(reply)
        return BYTES[self.rng.choice(list(BYTES))](reply, self.rng)

    def _resigned(self, reply: bytes) -> bytes:
        """Fields that do not belong, under a right CRC of another command: a confused device, not a noisy line."""
        key = self.rng.choice(list(protocol.KEYS.values()))
        values = [self.rng.choice(["", "0", "-1", "x", "9" * 30, "4294967296"]) for _ in range(self.rng.randrange(13))]
        return protocol.extension_line(key, *values, sequence=self.rng.randrange(1 << 16)).encode() + b"\r\n" + reply

    def close(self) -> None:
        pass


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Silence costs a millisecond instead of the time that real lines need."""
    with mock.patch("hil.link.session.QUIET_S", 0.0), mock.patch("hil.link.transport.POLL_S", 0.0):
        yield


def talk(host: HostDevice, rng: random.Random, counts: Counter[str]) -> None:
    """One conversation. AssertionError when a wrong figure got through, other exceptions are bugs as well."""
    device = Device(Echo(host, rng, 0.5), INSTANT)
    for _ in range(4):
        name = rng.choice(list(CHECKS))
        try:
            assert CHECKS[name](device), f"a wrong figure got through: {name}"
        except HilError as error:
            counts[type(error).__name__] += 1
        else:
            counts["right"] += 1


def parse(rng: random.Random, lines: Sequence[str], counts: Counter[str]) -> None:
    """One line, and lines, through every parser."""
    text = "\n".join(rng.choice(lines) for _ in range(rng.randint(1, 8)))
    for _ in range(rng.randint(0, 3)):
        text = BYTES[rng.choice(list(BYTES))](text.encode("latin-1") or b"m", rng).decode("latin-1")
    mutated = text.split("\n")
    counts["lines"] += len(mutated)
    for line in mutated:
        fault = protocol.fault_error(line) if protocol.is_fault(line) else None
        assert fault is None or isinstance(fault, TargetFaultError)
        protocol.parse_refusal(line)
        found = None
        with contextlib.suppress(ProtocolError):
            found = protocol.parse_extension(line)
        values = found[1] if found else line.split(",")
        for parser in (
            protocol.parse_identity, protocol.parse_map, protocol.parse_memory, protocol.parse_input,
            lambda fields: protocol.parse_run(fields, 4), lambda fields: protocol.parse_series("ticks", [fields], 3),
        ):  # fmt: skip
            with contextlib.suppress(ProtocolError):
                parser(values)
    for base in (lambda given: parse_base_reply(given, 10, 1), parse_buffer, parse_results):
        with contextlib.suppress(ProtocolError):
            base(mutated)


def material(host: HostDevice) -> list[str]:
    """Lines of real replies."""
    commands = ["hil id", "hil run 5 0", "hil infer 20 1", "hil profile", "hil memory", "hil get 0 300", "infer 10 1",
                "results", "name", "profile", "help", "db print", "nonsense"]  # fmt: skip
    lines = ["e-[fault pc=00000012 lr=0 sp=0 cfsr=00010000 hfsr=0 bfar=0 mmfar=0 stack=0 crc=01234567]"]
    for command in commands:
        host.write(f"{command}%".encode())
        lines += host.replies(1).decode("latin-1").split("\r\n")
    return lines


def fuzz(seconds: float, seed: int, conversations: int = 0) -> Counter[str]:
    """Fuzz for a while, and that many conversations at least; what came out of it.

    AssertionError and foreign exceptions are findings.
    """
    counts: Counter[str] = Counter()
    host = HostDevice()
    try:
        host.replies(1)
        lines, deadline, case = material(host), time.monotonic() + seconds, 0
        with impatient():
            while case < conversations or time.monotonic() < deadline:
                rng = random.Random(f"{seed} {case}")
                for _ in range(50):
                    parse(rng, lines, counts)
                talk(host, rng, counts)
                case += 1
        counts["conversations"] = case
    finally:
        host.stop()
    return counts


def main() -> int:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts = fuzz(options.seconds, options.seed)
    print(f"host parser, {options.seconds:.0f} s, no finding: {dict(counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
