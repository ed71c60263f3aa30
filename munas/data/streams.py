"""Bounded reading of files that may be corrupt or hostile: every failure is a DatasetError that names the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from munas.errors import DatasetError
from munas.files import opened_regular


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed when it starts like a gzip file. What goes wrong inside is a DatasetError."""
    try:
        with opened_regular(path) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is damaged: {error}; get it again") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error


def read_exactly(stream: BinaryIO, size: int, path: Path) -> bytes:
    """The next `size` bytes. Raises DatasetError when there are fewer."""
    raw = stream.read(size)
    if len(raw) != size:
        raise DatasetError(f"{path} is truncated: {size} bytes expected, {len(raw)} found; get it again")
    return raw


def read_all(path: Path, limit: int) -> bytes:
    """The whole file, decompressed. Raises DatasetError when that is more than `limit` bytes."""
    with opened(path) as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise DatasetError(f"{path} holds more than the {limit} bytes that such a file can have")
    return raw
