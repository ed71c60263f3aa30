"""A serial port without a UART: RTT's two rings in the target's RAM (firmware/port/rtt.c), through its debugger.

The layout is SEGGER's (UM08001): an ID of 16 bytes, counts of rings up (to the host) and down, and for each ring six
words: name, start, size, where the writer writes next, where the reader reads next, flags. Whoever has only the memory
of the target needs no more than this.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Protocol

from serial import SerialException, SerialTimeoutException

from hil.link.transport import POLL_S, WRITE_S

ID = b"SEGGER RTT".ljust(16, b"\0")
SYMBOL = "_SEGGER_RTT"
SHORTEST_POLL_S, LONGEST_POLL_S = 0.0005, 0.01
MOST_RING_BYTES = 1 << 16  # SEGGER's have 1 KB, ours half of that
_HEAD = struct.Struct("<16sii")
_RING = struct.Struct("<IIIIII")
_WRITTEN_AT, _READ_AT = 12, 16  # in a ring
SPAN = _HEAD.size + 2 * _RING.size


class Memory(Protocol):
    """A core's memory. `halt` before reading and writing, `go` afterwards. Raises SerialException."""

    def halt(self) -> None:
        """Stop the core."""
        ...

    def go(self) -> None:
        """Let the core run."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address`."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`."""
        ...

    def close(self) -> None:
        """Let go of the core, which runs on."""
        ...


@dataclass(frozen=True, slots=True)
class Ring:
    """One ring as it stands: `at` is the address of its six words."""

    at: int
    start: int
    size: int
    written: int
    read: int

    @classmethod
    def parse(cls, at: int, words: bytes) -> Ring:
        """From its six words. Raises SerialException when they are none."""
        _, start, size, written, read, _ = _RING.unpack(words)
        if not 2 <= size <= MOST_RING_BYTES or written >= size or read >= size:
            raise SerialException(f"the RTT ring at 0x{at:08x} is damaged: size {size}, indices {written} and {read}")
        return cls(at, start, size, written, read)

    def pieces(self, begin: int, count: int) -> list[tuple[int, int]]:
        """(address, bytes) of `count` bytes from index `begin` on: two where they go over the end."""
        first = min(count, self.size - begin)
        return [(self.start + begin, first), *([(self.start, count - first)] if count > first else [])]

    @property
    def used(self) -> int:
        """Bytes to read."""
        return (self.written - self.read) % self.size

    @property
    def free(self) -> int:
        """Bytes that can be written: one less than there are, or full would be empty."""
        return self.size - 1 - self.used


class RttPort:
    """A SerialPort over the control block at `address` of `memory`, which it owns.

    The core runs while it is waited for, and stays halted from what it said to the next read or write: whoever has a
    memory that is read of a halted core only has an emulator, whose time stands still then, and which costs nothing.
    """

    def __init__(self, memory: Memory, address: int) -> None:
        self.timeout: float | None = POLL_S
        self.is_open = True
        self._memory, self._address = memory, address
        self._arrived = bytearray()
        self._rings: tuple[tuple[int, int], ...] | None = None  # start and size, once it runs
        self._poll_s = SHORTEST_POLL_S
        self._looking_s = 0.0

    @property
    def in_waiting(self) -> int:
        """Bytes that a read returns at once."""
        return len(self._arrived)

    def read(self, size: int = 1, /) -> bytes:
        """See pyserial."""
        deadline, left = time.monotonic() + (self.timeout or 0.0), 0.0
        while not self._arrived and left >= 0:
            left = deadline - time.monotonic()
            self._run(left)
            self._exchange(b"")
        if self._arrived:
            self._poll_s = SHORTEST_POLL_S
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def write(self, data: bytes, /) -> int:
        """See pyserial. What the device says meanwhile is kept: it may wait for that before it listens."""
        deadline, left = time.monotonic() + WRITE_S, data
        while left := left[self._exchange(left) :]:
            if time.monotonic() > deadline:
                raise SerialTimeoutException("the device does not take what is written to it")
            self._run(LONGEST_POLL_S)  # it must make room in its ring
        self._memory.go()
        self._poll_s = SHORTEST_POLL_S
        return len(data)

    def close(self) -> None:
        """Let go of the memory."""
        if self.is_open:
            self.is_open = False
            self._memory.close()

    def _exchange(self, data: bytes) -> int:
        """Take what there is, give what there is room for of `data`: how many that was. The core is halted after it."""
        self._require_open()
        started, taken = time.monotonic(), 0
        self._memory.halt()
        if rings := self._found(self._memory.read(self._address, SPAN)):
            up, down = rings
            self._take(up)
            taken = self._give(down, data) if data else 0
        self._looking_s = time.monotonic() - started
        return taken

    def _run(self, at_most_s: float) -> None:
        """Let the core run: longer each time that nothing comes of it, and as long as it took to look at it. A server
        that takes long to stop it takes long to start it, too, and it would never get on."""
        self._require_open()
        self._memory.go()
        # Nothing tells that the rings have changed: they are memory of a core that has no way to call.
        time.sleep(max(0.0, min(self._poll_s, at_most_s), self._looking_s))
        self._poll_s = min(2 * self._poll_s, LONGEST_POLL_S)

    def _found(self, block: bytes) -> tuple[Ring, ...]:
        """Up and down, none where the firmware has not started yet. Raises SerialException for a block that was there,
        and is not as it was."""
        up, down = block[_HEAD.size : -_RING.size], block[-_RING.size :]
        sizes = [_RING.unpack(words)[2] for words in (up, down)]  # start-up copies them last of what is looked at
        is_there = _HEAD.unpack(block[: _HEAD.size]) == (ID, 1, 1) and all(sizes)
        if not is_there and self._rings is None:
            return ()
        if is_there:
            up_at, down_at = self._address + _HEAD.size, self._address + _HEAD.size + _RING.size
            rings = Ring.parse(up_at, up), Ring.parse(down_at, down)
            places = tuple((ring.start, ring.size) for ring in rings)
            self._rings = self._rings or places
            if places == self._rings:
                return rings
        raise SerialException(f"something has written over the RTT block at 0x{self._address:08x}")

    def _require_open(self) -> None:
        if not self.is_open:
            raise SerialException("the port is closed")

    def _take(self, ring: Ring) -> None:
        if not ring.used:
            return
        for address, count in ring.pieces(ring.read, ring.used):
            self._arrived += self._memory.read(address, count)
        self._memory.write(ring.at + _READ_AT, struct.pack("<I", ring.written))

    def _give(self, ring: Ring, data: bytes) -> int:
        count = min(ring.free, len(data))
        if not count:
            return 0
        given = 0
        for address, part in ring.pieces(ring.written, count):
            self._memory.write(address, data[given : given + part])
            given += part
        self._memory.write(ring.at + _WRITTEN_AT, struct.pack("<I", (ring.written + count) % ring.size))
        return count
