"""Static libraries (`ar` files): their members, and the symbols that their index names."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_INDEX, _LARGE_INDEX, _LONG_NAMES = b"/", b"/SYM64/", b"//"


class NotALibrary(ValueError):
    """The file is no static library of ELF objects for Arm; the text says what is wrong, without the file's name."""


def members(data: bytes) -> Iterator[bytes]:
    """Contents of the objects in the archive `data`, without its index and its table of long names.

    Raises NotALibrary, also for an archive that ends before its last member does.
    """
    for name, content in _entries(data):
        if name not in (_INDEX, _LARGE_INDEX, _LONG_NAMES):
            yield content


def indexed_symbols(data: bytes) -> frozenset[str]:
    """Names of the functions and objects that the archive's index says are in it; none without an index.

    Raises NotALibrary also for an archive that was cut off between two members.
    """
    for name, content in _entries(data):
        if name == _INDEX and len(content) >= 4:
            (count,) = struct.unpack_from(">I", content)
            if 4 + 4 * count > len(content):
                raise NotALibrary("its index cannot be read")
            if max(struct.unpack_from(f">{count}I", content, 4), default=0) >= len(data):
                raise NotALibrary("it is truncated: its index names objects behind its end")
            names = content[4 + 4 * count :].split(b"\0")[:count]
            return frozenset(item.decode("ascii", "replace") for item in names)
    return frozenset()


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(_MAGIC):
        raise NotALibrary("it does not start as an archive does")
    position = len(_MAGIC)
    while position < len(data):
        header = data[position : position + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            raise NotALibrary(f"it is truncated: its last member ends at byte {len(data)} of its header")
        if header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise NotALibrary(f"no archive member at byte {position}")
        size = int(header[48:58])
        start = position + _HEADER_BYTES
        if start + size > len(data):
            raise NotALibrary(f"it is truncated: a member at byte {position} lacks {start + size - len(data)} bytes")
        yield header[:16].strip(), data[start : start + size]
        position = start + size + size % 2
