"""What went over a serial line, both directions, with time stamps: kept for every measurement that failed."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES = 1 << 19  # the last half megabyte: what went wrong is at the end
MAX_LINE_BYTES = 4096
MAX_FILES = 100
SUFFIX = ".serial.log"

_log = logging.getLogger("hil.link")


class Transcript:
    """The last `MAX_BYTES` of a serial line, each line stamped with when it began."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._zero = time.monotonic()
        self._lines: deque[tuple[float, str, bytes]] = deque()
        self._begun: tuple[float, bytearray] | None = None  # of the device; its end is still to come
        self._size = self._dropped = 0

    def __len__(self) -> int:
        return self._size + (len(self._begun[1]) if self._begun is not None else 0)

    def sent(self, data: bytes) -> None:
        """The host sent `data`."""
        self._end_line()
        self._add(self._now(), ">", data)

    def received(self, data: bytes) -> None:
        """The device sent `data`, which may be part of a line."""
        for piece in data.splitlines(keepends=True):
            when, line = self._begun or (self._now(), bytearray())
            line += piece
            self._begun = (when, line)
            if piece.endswith(b"\n") or len(line) > MAX_LINE_BYTES:
                self._end_line()

    def _now(self) -> float:
        return time.monotonic() - self._zero

    def _end_line(self) -> None:
        if self._begun is not None:
            self._add(self._begun[0], "<", bytes(self._begun[1]))
            self._begun = None

    def _add(self, when: float, direction: str, data: bytes) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s %s", direction, _text(data))
        self._lines.append((when, direction, data))
        self._size += len(data)
        while self._size > MAX_BYTES and len(self._lines) > 1:
            _, _, old = self._lines.popleft()
            self._size -= len(old)
            self._dropped += len(old)

    def text(self) -> str:
        """Seconds since the start, ``>`` to or ``<`` from the device, and what was said, escaped; a line each."""
        self._end_line()
        head = f"serial line since {self._started.isoformat(timespec='milliseconds')}; > to the device, < from it\n"
        if self._dropped:
            head += f"{self._dropped} bytes before these are not kept\n"
        return head + "".join(f"{when:11.6f} {way} {_text(data)}\n" for when, way, data in self._lines)

    def save(self, folder: Path, name: str) -> Path | None:
        """Write it into `folder`, named after `name`; of more than `MAX_FILES` the oldest go. None where that fails."""
        stem = re.sub(r"[^\w.-]+", "-", name)[:60] or "model"
        path = folder / f"{stem}-{self._started:%Y%m%dT%H%M%S}-{os.getpid()}{SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text(), encoding="ascii")
            others = sorted(set(folder.glob(f"*{SUFFIX}")) - {path}, key=_written)
            for old in others[: max(0, len(others) + 1 - MAX_FILES)]:  # never this one, whatever the clock says
                old.unlink(missing_ok=True)
        except OSError as error:  # what failed before matters more
            _log.warning("the transcript cannot be kept in %s: %s", folder, error)
            return None
        return path


def _written(path: Path) -> float:
    """When it was written; long ago where another process has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _text(data: bytes) -> str:
    return data.decode("latin-1").encode("unicode_escape").decode("ascii")
