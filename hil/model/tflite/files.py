"""Reading a .tflite from disk, with the errors of the file system mapped."""

from __future__ import annotations

from pathlib import Path

from hil.errors import ModelError
from hil.files import read_regular
from hil.model.tflite import limits


def read_model_file(path: Path) -> bytes:
    """The file's bytes. Raises ModelError when it is missing, unreadable, no regular file, or far too large."""
    try:
        return read_regular(path, limits.MAX_FILE_BYTES)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
