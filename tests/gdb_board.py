"""Boards behind a GDB server: QEMU with nothing in it, waiting; and servers that misbehave."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from hil.targets.runners.qemu import ICOUNT_SHIFT, QEMU

Fault = Literal["silent", "does not halt"]


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class GdbBoard:
    """An emulated board without an image: `port` is its serial port (a pty), `address` its GDB server's."""

    process: subprocess.Popen[bytes]
    port: str
    address: str


@contextmanager
def qemu_board(machine: str) -> Iterator[GdbBoard]:
    """QEMU's `machine`, halted, without an image."""
    number = free_port()
    process = subprocess.Popen(
        [
            QEMU, "-M", machine, "-S", "-gdb", f"tcp:127.0.0.1:{number}", "-icount", f"shift={ICOUNT_SHIFT}",
            "-nodefaults", "-display", "none", "-nic", "none", "-chardev", "pty,id=uart", "-serial", "chardev:uart",
            "-monitor", "none",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline().decode()  # "char device redirected to /dev/pts/3 (label uart)"
        yield GdbBoard(process, said.split()[4], f"127.0.0.1:{number}")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def faulty_server(fault: Fault) -> Iterator[str]:
    """The address of a server that answers nothing, or everything but where its target has halted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, fault), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _serve(server: socket.socket, fault: Fault) -> None:
    with suppress(OSError):
        client, _ = server.accept()
        with client:
            _answer(client, fault)


def _answer(client: socket.socket, fault: Fault) -> None:
    received = b""
    while chunk := client.recv(4096):
        received += chunk
        while fault != "silent" and (end := received.find(b"#")) >= 0 and len(received) >= end + 3:
            packet, received = received[:end].rpartition(b"$")[2], received[end + 3 :]
            client.sendall(b"+")
            if packet != b"?":
                client.sendall(_packet(b"PacketSize=1000" if packet.startswith(b"qSupported") else b""))


def _packet(content: bytes) -> bytes:
    return b"$%s#%02x" % (content, sum(content) % 256)


@contextmanager
def dying_server(address: str, after_bytes: int, die: Callable[[], None]) -> Iterator[str]:
    """The address of a way to the server at `address` that calls `die` once so many bytes were sent to it."""
    host, _, number = address.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_relay, args=(server, (host, int(number)), after_bytes, die), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _relay(server: socket.socket, target: tuple[str, int], after_bytes: int, die: Callable[[], None]) -> None:
    with suppress(OSError):
        client, _ = server.accept()
        with client, socket.create_connection(target) as far:
            threading.Thread(target=_copy, args=(far, client), daemon=True).start()
            sent = 0
            while chunk := client.recv(1024):
                sent += len(chunk)
                if sent > after_bytes:
                    die()
                    return
                far.sendall(chunk)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(4096):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_RDWR)
