"""Files from outside: the one way in which bytes, JSON and TOML that somebody else wrote come in.

A read neither waits nor grows for ever: regular files only, looked at after they were opened, up to a size that the
caller names. A document has bounded depth, numbers that fit 64 bits (or are finite), and text that can be written
again. Whatever is wrong becomes one `FileError`; no exception of a parser gets out.
"""

from __future__ import annotations

import errno
import json
import lzma
import math
import os
import stat
import tokenize
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

MAX_TOML_BYTES = 1 << 18
MAX_JSON_BYTES = 64 << 20
MAX_VALUES = 1_000_000  # of a document; each takes about 100 bytes
MAX_DEPTH = 64
MAX_DOTS = MAX_DEPTH  # in a line of TOML: a key of n parts takes n * n steps
# What a document that is not ours can raise while it is read.
FOREIGN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)
# The same of an archive of arrays: of its directory, its compression (any of zip's), and its arrays' headers.
FOREIGN_ARRAYS = (
    *FOREIGN, EOFError, RuntimeError, SyntaxError, SystemError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
_MAX_INTEGER = 1 << 63
_WIDE = 1 << 128


class FileError(ValueError):
    """A file or document that cannot be used. The message says why and not which: its reader knows that."""


@contextmanager
def opened_regular(path: Path) -> Iterator[BufferedReader]:
    """The regular file at `path`, open. Raises OSError, also for a pipe, a device or a name that no file can have."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error)) from error
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            is_folder = stat.S_ISDIR(mode)
            raise OSError(errno.EISDIR if is_folder else errno.EINVAL, f"not a {'' if is_folder else 'regular '}file")
        yield file


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The bytes of the regular file at `path`. Raises OSError as `opened_regular` does, and for too many bytes."""
    try:
        with opened_regular(path) as file:
            raw = file.read(limit_bytes + 1)
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "needs more memory than there is") from error
    if len(raw) > limit_bytes:
        raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes")
    return raw


def read_json(path: Path, limit_bytes: int = MAX_JSON_BYTES) -> Any:
    """The JSON document at `path`. Raises FileError."""
    return parse_json(_read(path, limit_bytes))


def read_toml(path: Path, limit_bytes: int = MAX_TOML_BYTES) -> dict[str, Any]:
    """The TOML document at `path`. Raises FileError."""
    return parse_toml(_read(path, limit_bytes))


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        return read_regular(path, limit_bytes)
    except FileNotFoundError as error:
        raise FileError("it does not exist") from error
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error


def parse_json(raw: bytes | str, *, own: bool = False) -> Any:
    """The JSON document `raw`. Raises FileError.

    What is our `own` (a record of a store) may hold what we write there: the 128 bits of a random generator's state,
    and not-a-number.
    """
    comma, opening = (b",", (b"[", b"{")) if isinstance(raw, bytes) else (",", ("[", "{"))
    if raw.count(comma) + sum(map(raw.count, opening)) > MAX_VALUES:  # type: ignore[arg-type]
        raise FileError(f"it holds more than {MAX_VALUES} values")
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        if own:
            document = json.loads(text, parse_int=_wide_integer)
        else:
            document = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_refuse)
        _check(document, _WIDE if own else _MAX_INTEGER)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"it is not JSON: {_short(error)}") from error
    except MemoryError as error:
        raise FileError("it needs more memory than there is") from error
    return document


def parse_toml(raw: bytes) -> dict[str, Any]:
    """The TOML document `raw`. Raises FileError."""
    if max((line.count(b".") for line in raw.split(b"\n")), default=0) > MAX_DOTS:
        raise FileError(f"it has a line with more than {MAX_DOTS} dots")
    try:
        document = tomllib.loads(raw.decode("utf-8"), parse_float=_finite)
        _check(document)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, a number without end, no such date
        raise FileError(f"it is not TOML: {_short(error)}") from error
    except MemoryError as error:
        raise FileError("it needs more memory than there is") from error
    return document


def _short(error: Exception) -> str:
    return str(error)[:200] if not isinstance(error, RecursionError) else "nested too deeply"


def _integer(text: str) -> int:
    if len(text) > 20 or not -_MAX_INTEGER <= (value := int(text)) < _MAX_INTEGER:
        raise FileError(f"it has the number {text[:24]}..., which does not fit 64 bits")
    return value


def _wide_integer(text: str) -> int:
    if len(text) > 40:
        raise FileError(f"it has the number {text[:24]}..., which does not fit 128 bits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise FileError(f"it has the number {text[:24]}, which is not finite")
    return value


def _refuse(text: str) -> NoReturn:
    raise FileError(f"it has the number {text}, which is not finite")


def _check(document: Any, largest: int = _MAX_INTEGER) -> None:
    """Raise FileError for what is nested too deeply, numbers beyond 64 bits, and text that cannot be written again."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    _check_text(key)
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str):
                _check_text(item)
            elif isinstance(item, int) and not -largest <= item < largest:
                raise FileError("it has a number that is too large")
        if not below:
            return
        level = below
    raise FileError(f"it is nested more than {MAX_DEPTH} deep")


def _check_text(text: str) -> None:
    # Of characters beyond ASCII only halves of pairs cannot be encoded.
    if "\0" in text or (not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)):
        raise FileError("it has text with a NUL or half a character in it")
