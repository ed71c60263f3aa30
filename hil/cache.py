"""munas' cache for the host side: the same folder and entries, with the host's errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hil.errors import InfrastructureError
from munas.cache import CacheError, cache_dir, digest, filled_folder, make_private

__all__ = ["cache_dir", "cached_folder", "digest", "make_private"]


def cached_folder(kind: str, key: str, fill: Callable[[Path], None]) -> Path:
    """The folder of entry `key`; `fill` builds its content in a temporary folder when it does not exist yet.

    Atomic, see `munas.cache.filled_folder`. Raises InfrastructureError when the cache cannot be written.
    """
    try:
        return filled_folder(cache_dir() / kind / key, fill)
    except CacheError as error:
        raise InfrastructureError(str(error)) from error
