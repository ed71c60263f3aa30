"""Reading files that somebody else named (regular ones of a sane size, so that no read waits or grows for ever), and
replacing our own in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from hil.errors import StoreError


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The bytes of the regular file at `path`. Raises OSError, also for a pipe, a device, or too many bytes."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        raw = file.read(limit_bytes + 1)
    if len(raw) > limit_bytes:
        raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes")
    return raw


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step: a reader, or a full disk, never leaves half a file."""
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} exists and is not a file, so it is not replaced; name another one")
    scratch: str | None = None
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except OSError as error:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written: {error.strerror}; free space and run the same command again,"
            " all measurements are kept"
        ) from error


def sweep(folder: Path, *names: str) -> None:
    """Remove what a kill -9 has left of files and folders with these names, half written.

    Nobody else may be writing there, which the store's lock takes care of.
    """
    for path in (found for name in names for found in folder.glob(f".{name}-*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
