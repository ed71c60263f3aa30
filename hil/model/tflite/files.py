"""Reading a .tflite from disk, with the errors of the file system mapped."""

from __future__ import annotations

from pathlib import Path

from hil.errors import ModelError
from hil.model.tflite import limits


def read_model_file(path: Path) -> bytes:
    """The file's bytes. Raises ModelError when it is missing, unreadable, no regular file, or far too large."""
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
        with path.open("rb") as stream:
            data = stream.read(limits.MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > limits.MAX_FILE_BYTES:
        raise ModelError(f"{path}: larger than {limits.MAX_FILE_BYTES} bytes, the most that is supported")
    return data
