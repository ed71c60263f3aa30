"""The user's cache folder and content-addressed entries in it, safe when several processes build at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import platformdirs


class CacheError(OSError):
    """The cache folder cannot be written; the message says where, why and what to do."""


def cache_dir() -> Path:
    """``$MUNAS_HIL_CACHE``, or the platform's cache folder for munas-hil."""
    override = os.environ.get("MUNAS_HIL_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("munas-hil"))


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 over `parts`, each prefixed by its length so that no two lists collide; 64 hex digits."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(f"{len(raw)}:".encode())
        state.update(raw)
    return state.hexdigest()


def filled_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """`target`, whose content `fill` builds in a temporary folder when it does not exist yet.

    The finished folder is moved into place atomically. Of two processes that build the same entry, the first one
    wins and the other uses its result. Raises CacheError when the cache cannot be written.
    """
    try:
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name[:12]}-", dir=target.parent))
    except OSError as error:
        raise CacheError(
            f"cannot write the cache folder {target.parent}: {error.strerror}; free some room or set MUNAS_HIL_CACHE"
        ) from error
    try:
        fill(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # not lost to another process: a real failure
                raise
    except OSError as error:
        raise CacheError(
            f"cannot fill the cache folder {target}: {error.strerror}; free some room or set MUNAS_HIL_CACHE"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
