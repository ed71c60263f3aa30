"""What is said of a worker that failed, and what is looked at to know."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from munas.errors import MunasError

LAST_LINES = 40  # a crash prints its stack below what was printed before
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def own_memory_bytes(process_id: int) -> int:
    """Resident bytes of a process that are not pages of files; 0 when it is gone."""
    try:
        resident, of_files = Path(f"/proc/{process_id}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(of_files)) * _PAGE_BYTES


def text_of(error: Exception) -> str:
    """An error of munas' in its own words, another one with its type."""
    return str(error) if isinstance(error, MunasError) else f"{type(error).__name__}: {error}"


def cause_of(status: int | None) -> str:
    """In words, why a process with this exit status (below 0: a signal; None: unknown) ended."""
    if status is not None and status < 0:
        name = str(-status)
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
        return f"killed by {name}" + (", perhaps because memory ran out" if name == "SIGKILL" else "")
    return f"exit status {status}"


def last_lines(log: Path | None) -> str:
    """The end of a log, to go behind a message; empty when there is nothing in it."""
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "; its last lines:\n" + "\n".join(lines[-LAST_LINES:]) if lines else ""
