"""Looking at the process table."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def _stat(pid: int) -> tuple[str, str, int] | None:
    """Name, state and parent of a process; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return name, state, int(parent)


def children(parent: int, name: str) -> list[int]:
    """Processes of that name that `parent` started and that still run (zombies do not)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat is not None and stat[0] == name[:15] and stat[1] != "Z" and stat[2] == parent:
                found.append(int(entry.name))
    return found


def of_session(leader: int) -> list[int]:
    """Processes of the session that `leader` leads, itself included; those that it launched come first."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return sorted(found, reverse=True)


def gone(pid: int, within_s: float) -> bool:
    """Whether the process has ended (a zombie has) before `within_s` seconds are over."""
    deadline = time.monotonic() + within_s
    while True:
        is_over = time.monotonic() >= deadline  # before the look: whoever was stopped meanwhile looks once more
        stat = _stat(pid)
        if stat is None or stat[1] == "Z":
            return True
        if is_over:
            return False
        time.sleep(0.01)
