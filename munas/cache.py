"""The user's cache folder and content-addressed entries in it, safe when several processes build at once.

What is in the cache is run and linked, so that an entry counts only when it is what was put there: each has a manifest
(sizes and SHA-256 of its files), synced before the entry appears under its name, and held against the files when a
process first opens it. A damaged entry is made again. The folder must be the user's, and nobody else may write to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from munas.files import FileError, opened_regular, read_json
from munas.scratch import scratch_name, sweep_scratch

MANIFEST = ".manifest.json"
_MAX_MANIFEST_BYTES = 1 << 20
_ENTRY_KINDS = (
    "library", "part", "image", "layout", "written", "stack", "tflm", "timing", "waiting", "teachers", "datasets"
)  # fmt: skip

# Entries that this process has verified, with the time of their manifest: once is enough.
_verified: dict[Path, int] = {}


class CacheError(OSError):
    """The cache folder cannot be used; the message says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `bytes` of all its files; `damage` says what is wrong with it, empty when nothing is."""

    path: Path
    bytes: int
    damage: str


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
    """The entry `target`, whose content `fill` builds in a temporary folder when it is not there or damaged.

    The finished folder is synced and moved into place atomically. Of two processes that build the same entry, the first
    one wins and the other uses its result. Raises CacheError when the cache cannot be written, or others may do so.
    """
    try:
        make_private(target.parent)
        if target.is_dir() and not damage_of(target):
            return target
        sweep_scratch(target.parent)
        scratch = Path(tempfile.mkdtemp(prefix=scratch_name(target.name[:12]), dir=target.parent))
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(
            f"cannot write the cache folder {target.parent}: {error.strerror}; free some room or set MUNAS_HIL_CACHE"
        ) from error
    try:
        fill(scratch)
        _seal(scratch)
        _move(scratch, target)
        _sync(target.parent)
    except OSError as error:
        raise CacheError(
            f"cannot fill the cache folder {target}: {error.strerror}; free some room or set MUNAS_HIL_CACHE"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _move(scratch: Path, target: Path) -> None:
    """Put `scratch` in the place of `target`, unless another process has put a sound one there meanwhile."""
    for _ in range(3):
        try:
            scratch.rename(target)
            return
        except OSError:
            if not target.is_dir():
                raise
            if not damage_of(target):
                return
            discard(target)
    raise OSError(0, "others keep putting damaged entries there")


def discard(folder: Path) -> None:
    """Remove an entry: out of the way in one step, as others may be looking at it. Raises CacheError."""
    aside = folder.with_name(f"{scratch_name('gone')}{uuid.uuid4().hex}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        raise CacheError(f"cannot replace the cache entry {folder}: {error.strerror}; remove it") from error
    shutil.rmtree(aside, ignore_errors=True)


# --- manifests ----------------------------------------------------------------------------------------------------


def damage_of(folder: Path) -> str:
    """What is wrong with the entry `folder`, empty when it is what was put there. Looked at once a process."""
    try:
        stamp = (folder / MANIFEST).lstat().st_mtime_ns
        if _verified.get(folder) == stamp:
            return ""
        problem = _difference(folder)
    except (OSError, FileError) as error:
        return f"no manifest: {error}"
    if not problem:
        _verified[folder] = stamp
    return problem


def _difference(folder: Path) -> str:
    listed = read_json(folder / MANIFEST, _MAX_MANIFEST_BYTES)
    if not isinstance(listed, dict):
        return "no manifest"
    found = {str(path.relative_to(folder)): path for path in _files(folder)}
    if extra := sorted(found.keys() ^ listed.keys()):
        return f"{extra[0]} is {'not listed' if extra[0] in found else 'missing'}"
    for name, path in found.items():
        if listed[name] != _facts(path):
            return f"{name} is not what was put there"
    return ""


def _files(folder: Path) -> Iterator[Path]:
    """All files below an entry but its manifest. Raises OSError for what is neither file nor folder."""
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise OSError(f"{path.name} is no regular file")
        if path != folder / MANIFEST:
            yield path


def _facts(path: Path) -> list[int | str]:
    with opened_regular(path) as file:
        return [os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _seal(folder: Path) -> None:
    """Write the manifest; then everything is on the disk."""
    listed = {}
    for path in _files(folder):
        listed[str(path.relative_to(folder))] = _facts(path)
        _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(listed), encoding="ascii")
    _sync(manifest)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- the folder ---------------------------------------------------------------------------------------------------


def make_private(folder: Path) -> None:
    """Make `folder`, and what is the cache's of the way to it, for the user alone.

    Raises CacheError where others own it or may write to it, and OSError.
    """
    root = cache_dir()
    ours = [folder]
    while root in folder.parents and ours[-1] != root:
        ours.append(ours[-1].parent)
    ours[-1].parent.mkdir(parents=True, exist_ok=True)
    for path in reversed(ours):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise CacheError(f"the cache folder {path} belongs to another user; remove it or set MUNAS_HIL_CACHE")
        if found.st_mode & 0o022:
            raise CacheError(
                f"others may write to the cache folder {path}, and its content is run; chmod go-w it, or set "
                "MUNAS_HIL_CACHE"
            )


def entries() -> list[Entry]:
    """All entries of the cache, verified anew. Raises CacheError for a folder that is not the user's alone."""
    root, found = cache_dir(), []
    for kind in _ENTRY_KINDS:
        if not (root / kind).is_dir():
            continue
        make_private(root / kind)
        for path in sorted((root / kind).glob("[!.]*")):
            if path.is_dir():
                _verified.pop(path, None)
                size = sum(item.lstat().st_size for item in path.rglob("*"))
                found.append(Entry(path, size, damage_of(path)))
    return found
