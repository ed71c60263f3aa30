"""A serial line that does everything a serial line can do wrong, from a seed.

`FaultyLine` stands between a device and the host. In each exchange (a command written, and the reply to it) each fault
that is switched on strikes with the same probability, at a random place. Faults of the bytes strike the command or the
reply.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serial import SerialException

from hil.link import protocol
from hil.link.transport import POLL_S


class Target(Protocol):
    """A device without faults: `replies` reads up to the n-th ``m-ready``."""

    def write(self, data: bytes) -> None: ...

    def replies(self, commands: int) -> bytes: ...

    def reset(self) -> None: ...


MAX_GARBAGE = 2000
FLOOD_BYTES = (1_000, 300_000)
DELAYS_S = (0.01, 0.4)  # some shorter, some longer than the host's time-outs
SNIPPETS = (
    b"m-ready\r\n", b"e-[", b"m-hil-run-[", b"\r\n", b"%", b"m-init-done\r\n", b"\n", b"e-[Unknown command: hil]\r\n",
)  # fmt: skip


def _slice(data: bytes, rng: random.Random, longest: int) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.randint(1, longest))


def lose(data: bytes, rng: random.Random) -> bytes:
    """A few bytes never arrive."""
    start, end = _slice(data, rng, 8)
    return data[:start] + data[end:]


def double(data: bytes, rng: random.Random) -> bytes:
    """A part, or all, arrives twice."""
    start, end = (0, len(data)) if rng.random() < 0.3 else _slice(data, rng, 100)
    return data[:end] + data[start:end] + data[end:]


def double_line(data: bytes, rng: random.Random) -> bytes:
    """One line arrives in place of another one: the worst of loss and duplication."""
    lines = data.split(b"\n")
    lines[rng.randrange(len(lines))] = lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def corrupt(data: bytes, rng: random.Random) -> bytes:
    """One to four bytes arrive as others: half of the time as others of the kind, digits as digits."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(damaged))
        damaged[place] = rng.choice(b"0123456789") if rng.random() < 0.5 else rng.randrange(256)
    return bytes(damaged)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """All from some place on never arrives."""
    return data[: rng.randrange(len(data))]


def garbage(rng: random.Random) -> bytes:
    """Noise, with pieces in it that look like the protocol."""
    noise = bytearray(rng.randbytes(rng.randint(1, MAX_GARBAGE)))
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(noise) + 1)
        noise[place:place] = rng.choice(SNIPPETS)
    return bytes(noise)


def flood(rng: random.Random) -> bytes:
    """A device that talks and talks: lines, or one line without an end."""
    size = rng.randint(*FLOOD_BYTES)
    line = rng.choice(
        [b"m-lap-us-12\r\n", b"x", b"e-[y]\r\n", protocol.extension_line("ticks", 0, 1).encode() + b"\r\n"]
    )
    return line * (size // len(line))


Damage = Callable[[bytes, random.Random], bytes]
BYTES: dict[str, Damage] = {
    "loss": lose, "duplication": double, "swapped line": double_line, "corruption": corrupt, "truncation": truncate,
}  # fmt: skip
FAULTS = (*BYTES, "delay", "silence", "reset", "garbage at boot", "flood", "vanishing port")


@dataclass
class FaultyLine:
    """`faults` strike each exchange with probability `rate`. `struck` counts them; `exchanges` counts all."""

    device: Target
    faults: Sequence[str]
    rate: float
    rng: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    exchanges: int = 0
    arriving: list[tuple[float, bytes]] = field(default_factory=list)
    absent: int = 0  # attempts to open the port that will fail
    generation: int = 0

    def open(self) -> FaultyPort:
        """A handle of the port; those from before it vanished stay dead. Raises SerialException while it is gone."""
        if self.absent > 0:
            self.absent -= 1
            raise SerialException("could not open port: No such file or directory")
        return FaultyPort(self)

    def strikes(self, fault: str) -> bool:
        """Whether this one happens now."""
        if fault not in self.faults or self.rng.random() >= self.rate:
            return False
        self.struck[fault] += 1
        return True

    def boot(self, noise: bool = False) -> None:
        """(Re)start the device; its boot message arrives."""
        self.device.reset()
        said = self.device.replies(1)
        self.arrive((garbage(self.rng) if noise or self.strikes("garbage at boot") else b"") + said)

    def arrive(self, data: bytes, delay_s: float = 0.0) -> None:
        """`data` reaches the host."""
        due = max(time.monotonic() + delay_s, self.arriving[-1][0] if self.arriving else 0.0)  # never overtakes
        self.arriving.append((due, data))

    def exchange(self, command: bytes) -> None:
        """The host has written `command`; what follows from it."""
        self.exchanges += 1
        if self.strikes("vanishing port"):
            self.vanish()
            raise SerialException("write failed: device disconnected")
        if self.strikes("reset"):
            self.boot()
        if self.strikes("garbage at boot"):
            self.boot(noise=True)
        if self.strikes("silence"):
            return
        reply = self._answer(command)
        if self.strikes("flood"):
            place = self.rng.randrange(len(reply) + 1)
            reply = reply[:place] + flood(self.rng) + reply[place:]
        if self.strikes("delay"):
            place = self.rng.randrange(len(reply) + 1)
            self.arrive(reply[:place])
            self.arrive(reply[place:], self.rng.uniform(*DELAYS_S))
        else:
            self.arrive(reply)

    def _answer(self, command: bytes) -> bytes:
        wound = [name for name in BYTES if self.strikes(name)]
        for name in wound:
            if command and self.rng.random() < 0.5:
                command, wound = BYTES[name](command, self.rng), [other for other in wound if other != name]
        self.device.write(command)
        reply = self.device.replies(command.count(b"%"))
        if "reset" in self.faults and self.rng.random() < self.rate:  # in the middle of the reply
            self.struck["reset"] += 1
            self.device.reset()
            reply = reply[: self.rng.randrange(len(reply) + 1)] + self.device.replies(1)
        for name in wound:
            reply = BYTES[name](reply, self.rng) if reply else reply
        return reply

    def vanish(self) -> None:
        """The port is gone for a while, sometimes with the device's memory."""
        self.generation += 1
        self.absent = self.rng.randrange(3)
        self.arriving.clear()
        if self.rng.random() < 0.5:
            self.boot()


class FaultyPort:
    """A SerialPort at the host's end of the line."""

    def __init__(self, line: FaultyLine) -> None:
        self.timeout: float | None = POLL_S
        self._line, self._generation = line, line.generation
        self._buffer = b""

    def _check(self) -> None:
        if self._generation != self._line.generation:
            raise SerialException("read failed: device disconnected")

    def _receive(self) -> None:
        self._check()
        now = time.monotonic()
        while self._line.arriving and self._line.arriving[0][0] <= now:
            self._buffer += self._line.arriving.pop(0)[1]

    @property
    def in_waiting(self) -> int:
        self._receive()
        return len(self._buffer)

    def read(self, size: int = 1, /) -> bytes:
        self._receive()
        if not self._buffer:
            due = self._line.arriving[0][0] - time.monotonic() if self._line.arriving else POLL_S
            time.sleep(max(0.0, min(due, self.timeout or 0.0)))
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def write(self, data: bytes, /) -> int:
        self._check()
        self._line.exchange(data)
        return len(data)

    def close(self) -> None:
        pass
