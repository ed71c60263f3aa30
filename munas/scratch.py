"""Temporary folders that outlive no run: named by the process that made them, swept when that is gone.

A process that is killed cannot remove what it made. Its name has the process' number and start time (of two processes
with one number the start differs), so that the next run can tell what nobody uses any more.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

PREFIX = "munas-hil-"
_NAME = re.compile(r"\.?[\w.-]*?~(\d{1,10})-(\d{1,20})-(\d{1,20})~")


def scratch_name(noun: str) -> str:
    """How the name of a hidden scratch file or folder of this process begins."""
    return f".{noun}{_mark()}"


def _mark() -> str:
    """Number and start of this process, and in which set of process numbers (a container has its own)."""
    return f"~{os.getpid()}-{_start(os.getpid())}-{_namespace()}~"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` in one step at the end, with the rights that the user's umask leaves.

    A reader, or a full disk, never meets half a file. Raises OSError.
    """
    scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        scratch.replace(path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise


@contextmanager
def scratch_folder(noun: str) -> Iterator[Path]:
    """A temporary folder of this process, gone at the end. What killed processes left of such folders goes as well."""
    root = Path(tempfile.gettempdir())
    _sweep_once(root)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{noun}{_mark()}", dir=root, ignore_cleanup_errors=True) as name:
        yield Path(name)


def sweep_scratch(folder: Path, prefix: str = ".") -> None:
    """Remove what processes that are gone have left in `folder` under names that begin with `prefix`."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.match(entry.name) if entry.name.startswith(prefix) else None
            if match is None or match[3] != _namespace() or _start(int(match[1])) == match[2]:
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@cache
def _sweep_once(root: Path) -> None:
    sweep_scratch(root, PREFIX)


@cache
def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def _start(process: int) -> str:
    """When a process started, in clock ticks since boot; empty when there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
