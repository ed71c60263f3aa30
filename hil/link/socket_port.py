"""A serial port that is a socket of this machine: the other end is an emulator's UART, which gets it when it starts."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time

from serial import SerialException, SerialTimeoutException

from hil.link.transport import CHUNK, POLL_S, WRITE_S

GATHER_S = 0.0005
"""How long the rest of a line has when its first byte is there: an emulated UART gives a byte every few microseconds,
and to take each as it comes costs more processor time than to send it."""


class SocketPort:
    """A SerialPort over a connected `line`, which it owns. Raises SerialException when the other end is gone."""

    def __init__(self, line: socket.socket) -> None:
        self.timeout: float | None = POLL_S
        self.is_open = True
        self._line = line
        line.setblocking(False)

    @property
    def in_waiting(self) -> int:
        """Bytes that a read returns at once."""
        return int(struct.unpack("i", fcntl.ioctl(self._line, termios.FIONREAD, bytes(4)))[0])

    def read(self, size: int = 1, /) -> bytes:
        """All that is there, whatever the size; nothing when the time is over."""
        if not select.select([self._line], [], [], self.timeout)[0]:
            return b""
        time.sleep(GATHER_S)  # nothing tells of the rest of a line, which is taken in one piece
        data = self._line.recv(max(size, CHUNK))
        if not data:
            raise SerialException("the emulator has closed its serial port")
        return data

    def write(self, data: bytes, /) -> int:
        """See pyserial."""
        left = data
        while left:
            if not select.select([], [self._line], [], WRITE_S)[1]:
                raise SerialTimeoutException("the emulator does not take what is written to it")
            left = left[self._line.send(left) :]
        return len(data)

    def close(self) -> None:
        """See pyserial."""
        self.is_open = False
        self._line.close()
