"""Messages over a stream: a length, and that many bytes. Pickling is cloudpickle's, which also takes what is defined in
the script that runs."""

from __future__ import annotations

import socket
import struct
from typing import Any

import cloudpickle

from munas.errors import JobsError

_LENGTH = struct.Struct("<Q")


def dumps(value: Any) -> bytes:
    """`value`, pickled. Raises whatever its parts raise."""
    data: bytes = cloudpickle.dumps(value)
    return data


def sendable(name: str, value: Any) -> bytes:
    """What job `name` needs, pickled. Raises JobsError."""
    try:
        return dumps(value)
    except Exception as error:  # any: parts pickle as they like
        raise JobsError(f"{name} cannot be sent to a worker: {type(error).__name__}: {error}") from error


def framed(data: bytes) -> bytes:
    """`data` as one message."""
    return _LENGTH.pack(len(data)) + data


def take(received: bytearray) -> bytes | None:
    """The first message of `received`, which is removed from it; None when it is not complete."""
    if len(received) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(received)
    if len(received) < _LENGTH.size + length:
        return None
    data = bytes(memoryview(received)[_LENGTH.size : _LENGTH.size + length])
    del received[: _LENGTH.size + length]
    return data


def receive(channel: socket.socket) -> bytes | None:
    """The next message; None when the other side is gone."""
    length = _exactly(channel, _LENGTH.size)
    return None if length is None else _exactly(channel, _LENGTH.unpack(length)[0])


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        try:
            piece = channel.recv(min(1 << 20, count - len(data)))
        except ConnectionError:
            return None
        if not piece:
            return None
        data += piece
    return bytes(data)
