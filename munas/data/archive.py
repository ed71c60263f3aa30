"""Members of a .tar or .tar.gz, one after the other and never unpacked to the disk.

As nothing is unpacked, a member's name cannot make anything be written anywhere; an archive with names that would
leave the folder is refused all the same, because someone tampered with it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from munas.data.streams import opened
from munas.errors import DatasetError

MAX_EXPANSION = 20
"""Times the archive's own size that it may decompress to, beyond MIN_BYTES: images hardly compress."""

MIN_BYTES = 64 << 20
MAX_MEMBERS = 100_000


class _Bounded:
    """Reads from `stream` up to a number of bytes, so that an archive of nothing cannot fill memory or take forever."""

    def __init__(self, stream: BinaryIO, left: int, path: Path) -> None:
        self._stream = stream
        self._left = left
        self._path = path

    def read(self, size: int) -> bytes:
        raw = self._stream.read(size)
        self._left -= len(raw)
        if self._left < 0:
            raise DatasetError(f"{self._path} decompresses to far more than such an archive can hold")
        return raw


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar archive that `members` reads."""
    return path.name.endswith((".tar", ".tar.gz", ".tgz"))


def members(path: Path, limit: int) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and content of every regular file in the archive, in its order.

    Raises DatasetError for a damaged archive, one that expands more than MAX_EXPANSION, a name that is absolute or goes
    up, and a member of more than `limit` bytes.
    """
    with opened(path) as stream:
        bound = MIN_BYTES + MAX_EXPANSION * path.stat().st_size
        try:
            bounded = cast(BinaryIO, _Bounded(stream, bound, path))
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                yield from _regular(archive, path, limit)
            while bounded.read(1 << 20):
                pass  # to the end, where the check sum of the compression is
        except (tarfile.TarError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path} is no readable tar archive: {error}; get it again") from error


def _regular(archive: tarfile.TarFile, path: Path, limit: int) -> Iterator[tuple[PurePosixPath, bytes]]:
    for count, member in enumerate(archive, start=1):
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise DatasetError(f"{path} has a member outside of its folder: {member.name!r}")
        if count > MAX_MEMBERS:
            raise DatasetError(f"{path} has more than {MAX_MEMBERS} members")
        if member.size > limit:
            raise DatasetError(f"{path} has a member of {member.size} bytes, more than {limit}: {name}")
        if member.isreg() and not member.issparse():
            content = archive.extractfile(member)
            raw = content.read() if content else b""
            if len(raw) != member.size:
                raise DatasetError(f"{path} is truncated in {name}; get it again")
            yield name, raw
