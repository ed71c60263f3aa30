"""What `-v` and `--log FILE` show: command lines of compilers, emulators and probes, and the serial line.

One logger a package (``hil.build``, ``hil.targets``, ``hil.link``, ...): INFO is what was run, DEBUG every byte that
was sent or received. Worker processes do as the process that started them.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from hil.errors import UsageError
from hil.terminal import inert, printable

_FILE, _VERBOSE = "MUNAS_HIL_LOG", "MUNAS_HIL_VERBOSE"  # for workers
_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(name)s: %(message)s"
_SHORT = "%(name)s: %(message)s"
_DATE = "%Y-%m-%d %H:%M:%S"


class _OneLine(logging.Formatter):
    """Messages hold names and bytes that are not ours."""

    def format(self, record: logging.LogRecord) -> str:
        return inert(printable(super().format(record)))


def configure(verbosity: int, file: Path | None) -> None:
    """Show what was run (`verbosity` 1) and what went over the serial line (2) on stderr; write both into `file`.

    Raises UsageError for a file that cannot be written.
    """
    _attach(verbosity, file)
    os.environ |= {_VERBOSE: str(verbosity), _FILE: "" if file is None else str(file.absolute())}


def as_the_parent_does() -> None:
    """In a worker process: what `configure` did in the process that started it."""
    file = os.environ.get(_FILE)
    _attach(int(os.environ.get(_VERBOSE) or 0), Path(file) if file else None)


def _attach(verbosity: int, file: Path | None) -> None:
    logger = logging.getLogger("hil")
    handlers: list[logging.Handler] = []
    if verbosity:
        stream = logging.StreamHandler()
        stream.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
        stream.setFormatter(_OneLine(_SHORT))
        handlers.append(stream)
    if file is not None:
        try:
            written = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--log {file} cannot be written: {error.strerror or error}") from error
        written.setFormatter(_OneLine(_FORMAT, _DATE))
        handlers.append(written)
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
        handler.close()
    for handler in handlers:
        logger.addHandler(handler)
    if handlers:
        logger.setLevel(min(handler.level or logging.DEBUG for handler in handlers))


def command_line(words: Sequence[object]) -> str:
    """`words` as a shell would take them."""
    return shlex.join(map(str, words))
