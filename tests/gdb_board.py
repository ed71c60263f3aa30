"""Boards behind a GDB server: QEMU with nothing in it, waiting; and servers that misbehave."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hil.boards.board import load_board
from hil.targets.runners.qemu import ICOUNT_SHIFT, QEMU
from hil.targets.runners.renode import find_renode, platform_file
from hil.targets.runners.renode_process import RenodeProcess

Fault = Literal["silent", "does not halt"]
Kind = Literal["qemu", "renode"]
RENODE_START_S = 180.0


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class GdbBoard:
    """An emulated board without an image: `port` is its serial port (a pty), `address` its GDB server's."""

    pid: int
    """Of the emulator, which leads a process group of its own."""
    port: str
    address: str


def gdb_board(kind: Kind, board: str) -> AbstractContextManager[GdbBoard]:
    """`board` under an emulator, halted, without an image."""
    return qemu_board(board) if kind == "qemu" else renode_board(board)


@contextmanager
def renode_board(name: str, image: Path | None = None) -> Iterator[GdbBoard]:
    """Renode's `name`, without an image or with one that has not started. Raises ToolMissing.

    Its GDB server listens on all addresses, as Renode's socket servers do: it cannot be told another. Nothing but tests
    starts one.
    """
    number, load = free_port(), list[str]()
    renode = RenodeProcess(find_renode())
    try:
        if image is not None:
            shutil.copyfile(image, renode.folder / "image.elf")
            origin = load_board(name).target("renode").flash.origin
            load = ["sysbus LoadELF @image.elf", f"cpu VectorTableOffset 0x{origin:08x}"]
        for command in (
            'mach create "board"', f"machine LoadPlatformDescription @{platform_file(load_board(name))}",
            f'emulation CreateUartPtyTerminal "uart" "{renode.folder}/uart"', "connector Connect sysbus.vcp uart",
            "emulation SetAdvanceImmediately true", *load, f"machine StartGdbServer {number}",
        ):  # fmt: skip
            renode.execute(command, RENODE_START_S)
        yield GdbBoard(renode.pid, str((renode.folder / "uart").resolve()), f"127.0.0.1:{number}")
    finally:
        renode.stop()


@contextmanager
def qemu_board(machine: str) -> Iterator[GdbBoard]:
    """QEMU's `machine`, halted, without an image. It is given a socket that listens already: QEMU would open one of its
    own long after it has told the name of its serial port, and somebody else may have that port by then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number, descriptor = int(server.getsockname()[1]), server.fileno()
        process = subprocess.Popen(
            [
                QEMU, "-M", machine, "-S", "-icount", f"shift={ICOUNT_SHIFT}", "-nodefaults", "-display", "none",
                "-nic", "none", "-chardev", "pty,id=uart", "-serial", "chardev:uart", "-monitor", "none", "-chardev",
                f"socket,id=debugger,fd={descriptor},server=on,wait=off,nodelay=on", "-gdb", "chardev:debugger",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            pass_fds=(descriptor,),
        )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline().decode()  # "char device redirected to /dev/pts/3 (label uart)"
        yield GdbBoard(process.pid, said.split()[4], f"127.0.0.1:{number}")
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
def dying_server(address: str, after: int | bytes, die: Callable[[], None]) -> Iterator[str]:
    """The address of a way to the server at `address` that calls `die` when so many bytes were sent to it, or the first
    packet that has these bytes.

    `die` ends the server, stops it or keeps it waiting; the connection is closed by whoever is left.
    """
    host, _, number = address.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_relay, args=(server, (host, int(number)), after, die), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _relay(server: socket.socket, target: tuple[str, int], after: int | bytes, die: Callable[[], None]) -> None:
    with suppress(OSError):
        client, _ = server.accept()
        with client, socket.create_connection(target) as far:
            threading.Thread(target=_copy, args=(far, client), daemon=True).start()
            sent, is_due = 0, True
            while chunk := client.recv(1024):
                sent += len(chunk)
                if is_due and (after in chunk if isinstance(after, bytes) else sent > after):
                    is_due = False
                    die()
                far.sendall(chunk)  # a server that hangs still has its connection


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        try:
            while chunk := source.recv(4096):
                sink.sendall(chunk)
        finally:  # a server that dies before it has read all resets its connection
            sink.shutdown(socket.SHUT_RDWR)
