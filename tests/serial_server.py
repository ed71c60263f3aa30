"""A serial port served over TCP, raw or by RFC 2217, as a lab's host does it. Listens on loopback only."""

from __future__ import annotations

import contextlib
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import serial
from serial.rfc2217 import PortManager

POLL_S = 0.02

COMPLAINTS = (
    pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"),  # pyserial 3.5, rfc2217
    # ... and what it leaves when the server ends first: a socket, a thread that cannot write any more.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
)
"""Marks for tests of pyserial's clients of such a port: warnings that are its own."""


class PtyPort(serial.Serial):
    """A pty as a serial port: it has none of the lines that a client of RFC 2217 sets and asks for."""

    dtr = property(lambda self: True, lambda self, value: None)
    rts = property(lambda self: True, lambda self, value: None)
    cts = dsr = ri = cd = property(lambda self: False)


class Answers:
    """Where RFC 2217's manager writes its answers to."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def write(self, data: bytes) -> None:
        self.connection.sendall(data)


@contextlib.contextmanager
def served(open_port: Callable[[], serial.Serial], *, rfc2217: bool) -> Iterator[str]:
    """The URL of what `open_port` opens anew for each client, one client at a time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(POLL_S)
        thread = threading.Thread(target=_serve, args=(server, open_port, rfc2217, over))
        thread.start()
        try:
            scheme = "rfc2217" if rfc2217 else "socket"
            yield f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def _serve(server: socket.socket, open_port: Callable[[], serial.Serial], rfc2217: bool, over: threading.Event) -> None:
    while not over.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        # There may be no such port now; and either side may end, the port also while it is opened (termios.error).
        with connection, contextlib.suppress(OSError, termios.error), open_port() as port:
            _pump(connection, port, rfc2217, over)


def _pump(connection: socket.socket, port: serial.Serial, rfc2217: bool, over: threading.Event) -> None:
    port.timeout = 0
    connection.settimeout(POLL_S)
    manager: Any = PortManager(port, Answers(connection)) if rfc2217 else None
    while not over.is_set():
        if said := port.read(4096):
            connection.sendall(b"".join(manager.escape(said)) if manager else said)
        try:
            if not (asked := connection.recv(4096)):
                return
        except TimeoutError:
            continue
        port.write(b"".join(manager.filter(asked)) if manager else asked)
