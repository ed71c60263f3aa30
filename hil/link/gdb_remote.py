"""GDB's remote serial protocol, as much of it as reading and writing memory takes ("Debugging with GDB", appendix E).

Spoken to whatever serves a core's memory: an emulator, or a probe's server. Memory is read and written while the core
is halted, which every server can; an emulated core's time stands still meanwhile.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

from serial import SerialException

ANSWER_S = 10.0  # a busy machine's emulator
ONCE_MORE_S = 1.0  # whoever waits may have been stopped for all of that time, and an emulator with him
MOST_BYTES = 512  # in one packet: every server takes 1 KB of hex digits
_INTERRUPT = b"\x03"
_STOPPED = (b"T", b"S")
_GONE = (b"W", b"X")


class GdbRemote:
    """A core behind `line`, halted when this is made. Raises SerialException for whatever goes wrong there: to those
    above it is a port that died."""

    def __init__(self, line: socket.socket, answer_s: float = ANSWER_S) -> None:
        self._line, self._answer_s = line, answer_s
        self._pending = b""
        self._is_halted = True
        self._ask(b"?")

    def halt(self) -> None:
        """Stop the core, and wait until it has."""
        if self._is_halted:
            return
        self._send(_INTERRUPT)
        deadline = time.monotonic() + self._answer_s
        while not self._packet(deadline).startswith(_STOPPED):
            pass
        self._is_halted = True

    def go(self) -> None:
        """Let the core run."""
        if self._is_halted:
            self._send(_framed(b"c"))
            self._is_halted = False

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of memory from `address` on, of a halted core."""
        data = b""
        while len(data) < size:
            count = min(MOST_BYTES, size - len(data))
            answer = self._ask(b"m%x,%x" % (address + len(data), count))
            try:
                part = bytes.fromhex(answer.decode("ascii"))
            except ValueError:
                part = b""
            if not part:
                raise SerialException(f"the target's memory at 0x{address + len(data):08x} cannot be read: {answer!r}")
            data += part
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write `data` to the memory of a halted core."""
        for start in range(0, len(data), MOST_BYTES):
            part = data[start : start + MOST_BYTES]
            answer = self._ask(b"M%x,%x:%s" % (address + start, len(part), part.hex().encode()))
            if answer != b"OK":
                raise SerialException(f"the target's memory at 0x{address + start:08x} cannot be written: {answer!r}")

    def close(self) -> None:
        """End the connection. What becomes of the core is the server's affair."""
        with suppress(OSError):
            self._line.close()

    def _ask(self, command: bytes) -> bytes:
        self._send(_framed(command))
        deadline = time.monotonic() + self._answer_s
        while (answer := self._packet(deadline)).startswith(_STOPPED) and command != b"?":
            pass  # told twice: a server may stop its core for reasons of its own, too
        return answer

    def _send(self, data: bytes) -> None:
        try:
            self._line.sendall(data)
        except OSError as error:
            raise SerialException(f"the connection to the target's memory broke: {error}") from error

    def _packet(self, deadline: float) -> bytes:
        """The next packet's content, acknowledged. Acknowledgements of ours that come in between are dropped."""
        while True:
            start = self._pending.find(b"$")
            end = self._pending.find(b"#", start + 1)
            if start >= 0 and end >= 0 and end + 3 <= len(self._pending):
                content, check = self._pending[start + 1 : end], self._pending[end + 1 : end + 3]
                self._pending = self._pending[end + 3 :]
                if check.lower() != b"%02x" % (sum(content) % 256):
                    self._send(b"-")
                    continue
                self._send(b"+")
                if content.startswith(_GONE):
                    raise SerialException("the target's program ended")
                if not content.startswith(b"O") or content == b"OK":  # O...: what the target's console says
                    return _expanded(content)
                continue
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        for wait_s in (deadline - time.monotonic(), ONCE_MORE_S):
            if select.select([self._line], [], [], max(0.0, wait_s))[0]:
                break
        else:
            raise SerialException(f"the server of the target's memory does not answer within {self._answer_s:g} s")
        try:
            chunk = self._line.recv(65536)
        except OSError as error:
            raise SerialException(f"the connection to the target's memory broke: {error}") from error
        if not chunk:
            raise SerialException("the server of the target's memory is gone")
        self._pending += chunk


def _framed(content: bytes) -> bytes:
    return b"$%s#%02x" % (content, sum(content) % 256)


def _expanded(content: bytes) -> bytes:
    """Without run-length encoding: ``0*~`` is 0 and as many more as ~ says, counted from a space less three."""
    data = bytearray()
    index = 0
    while index < len(content):
        if content[index] == ord("*") and data and index + 1 < len(content):
            data += bytes([data[-1]]) * (content[index + 1] - 29)
            index += 2
        else:
            data.append(content[index])
            index += 1
    return bytes(data)
