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
_HEAD = struct.Struct("<16sii")
_RING = struct.Struct("<IIIIII")
_WRITTEN_AT, _READ_AT = 12, 16  # in a ring
SPAN = _HEAD.size + 2 * _RING.size


class Memory(Protocol):
    """A core's memory. `halt` before reading and writing, `go` afterwards. Raises SerialException."""

    def halt(self) -> None: ...

    def go(self) -> None: ...

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def close(self) -> None: ...


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
        if size < 2 or written >= size or read >= size:
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
    """A SerialPort over the control block at `address` of `memory`, which it owns."""

    def __init__(self, memory: Memory, address: int) -> None:
        self.timeout: float | None = POLL_S
        self.is_open = True
        self._memory, self._address = memory, address
        self._arrived = bytearray()
        self._poll_s = SHORTEST_POLL_S

    @property
    def in_waiting(self) -> int:
        """Bytes that a read returns at once."""
        return len(self._arrived)

    def read(self, size: int = 1, /) -> bytes:
        """See pyserial."""
        deadline = time.monotonic() + (self.timeout or 0.0)
        while not self._arrived:
            self._exchange(b"")
            if self._arrived:
                self._poll_s = SHORTEST_POLL_S
                break
            left = deadline - time.monotonic()
            if left <= 0:
                return b""
            time.sleep(min(self._poll_s, left))  # the core must come to do something
            self._poll_s = min(2 * self._poll_s, LONGEST_POLL_S)
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def write(self, data: bytes, /) -> int:
        """See pyserial. What the device says meanwhile is kept: it may wait for that before it listens."""
        deadline, left = time.monotonic() + WRITE_S, data
        while left:
            taken = self._exchange(left)
            left = left[taken:]
            if left and time.monotonic() > deadline:
                raise SerialTimeoutException("the device does not take what is written to it")
            if left:
                time.sleep(SHORTEST_POLL_S)  # the core must run to make room in its ring
        self._poll_s = SHORTEST_POLL_S
        return len(data)

    def close(self) -> None:
        """Let go of the memory."""
        if self.is_open:
            self.is_open = False
            self._memory.close()

    def _exchange(self, data: bytes) -> int:
        """Take what there is, give what there is room for of `data`: how many that was. The core runs after it."""
        if not self.is_open:
            raise SerialException("the port is closed")
        self._memory.halt()
        taken = 0
        block = self._memory.read(self._address, SPAN)
        if _HEAD.unpack(block[: _HEAD.size]) == (ID, 1, 1):  # else it has not started yet
            up_at, down_at = self._address + _HEAD.size, self._address + _HEAD.size + _RING.size
            self._take(Ring.parse(up_at, block[_HEAD.size : -_RING.size]))
            if data:
                taken = self._give(Ring.parse(down_at, block[-_RING.size :]), data)
        self._memory.go()
        return taken

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
