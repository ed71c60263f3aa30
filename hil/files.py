"""Files from outside for the host side: what `munas.files` reads, with the host's errors and checked types; and
replacing our own in one step."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hil.errors import StoreError, UsageError
from munas.files import (
    FOREIGN,
    MAX_JSON_BYTES,
    MAX_TOML_BYTES,
    FileError,
    opened_regular,
    parse_json,
    parse_toml,
    read_regular,
)
from munas.files import read_json as _read_json
from munas.files import read_toml as _read_toml
from munas.scratch import replacing

__all__ = [
    "FOREIGN",
    "MAX_JSON_BYTES",
    "MAX_TOML_BYTES",
    "FileError",
    "from_document",
    "opened_regular",
    "parse_json",
    "parse_toml",
    "read_json",
    "read_regular",
    "read_toml",
    "sweep",
    "to_document",
    "write_text",
]  # fmt: skip


T = TypeVar("T")


def read_json(
    path: Path, what: str = "", raised: Callable[[str], Exception] = UsageError, limit_bytes: int = MAX_JSON_BYTES
) -> Any:
    """The JSON document at `path`, which messages call `what` and its name. Raises an exception made by `raised`."""
    try:
        return _read_json(path, limit_bytes)
    except FileError as error:
        raise raised(f"{what} {path} cannot be read: {error}".strip()) from error


def read_toml(
    path: Path, what: str = "", raised: Callable[[str], Exception] = UsageError, limit_bytes: int = MAX_TOML_BYTES
) -> dict[str, Any]:
    """The TOML document at `path`, as `read_json`."""
    try:
        return _read_toml(path, limit_bytes)
    except FileError as error:
        raise raised(f"{what} {path} cannot be read: {error}".strip()) from error


def from_document(kind: type[T], document: Any) -> T:
    """An object of the dataclass `kind` from a JSON document: types as declared, no unknown keys.

    Raises ValueError that names the field.
    """
    try:
        (made,) = _alone(cast("Any", kind)).validate_json(json.dumps([document]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'][1:])) or kind.__name__}: {first['msg']}") from error
    return cast("T", made)


def to_document(made: Any) -> dict[str, Any]:
    """The JSON document of a dataclass: what `from_document` reads."""
    document: dict[str, Any] = _adapter(cast("Any", type(made))).dump_python(made, mode="json")
    return document


@lru_cache(maxsize=64)
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@lru_cache(maxsize=64)
def _alone(kind: type[Any]) -> TypeAdapter[Any]:
    # Plain dataclasses take the configuration of what holds them, and have none of their own.
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid"))  # type: ignore[valid-type]


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, has no space left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step: a reader, or a full disk, never leaves half a file."""
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} exists and is not a file, so it is not replaced; name another one")
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8"))
    except OSError as error:
        remedy = "free space" if is_full(error) else "make its folder one that can be written to"
        raise StoreError(
            f"{path} cannot be written: {error.strerror}; {remedy} and run the same command again, all measurements are"
            " kept"
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
