"""Reading files that somebody else named: regular ones of a sane size, so that no read waits or grows for ever."""

from __future__ import annotations

import errno
from pathlib import Path


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The bytes of the regular file at `path`. Raises OSError, also for a pipe, a device, or too many bytes."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        raw = file.read(limit_bytes + 1)
    if len(raw) > limit_bytes:
        raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes")
    return raw
