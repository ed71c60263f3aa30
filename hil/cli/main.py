"""The command line: options in, one JSON document or a table out, exit status from the exception tree."""

from __future__ import annotations

import contextlib
import errno
import resource
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import typer

from hil.cli import (  # noqa: F401 (they register their commands)
    bring_up,
    cache,
    compare,
    config,
    coverage,
    device,
    inspect,
    loop,
    paper,
    place,
    search,
    timing,
    verify,
    worker,
)
from hil.cli.app import app, failure_text
from hil.errors import HilError, InfrastructureError
from hil.terminal import inert, printable, printable_lines

_INTERRUPTED = 130


class _Terminated(SystemExit):
    """SIGTERM or SIGHUP, as an exception, so that context managers stop emulators and close ports."""


def _on_sigterm(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated(128 + number)


def main() -> None:
    """Entry point: run the command, map exceptions to one line on stderr and the exit status of the design."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # with nohup it is, and a search shall go on
        signal.signal(signal.SIGHUP, _on_sigterm)  # the terminal was closed
    command = typer.main.get_command(app)
    try:
        status = command.main(standalone_mode=False)
    except HilError as error:
        _fail(failure_text(error), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", _INTERRUPTED)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except OSError as error:
        _fail(_exhausted(error) or f"{error}; check the disk and standard output", InfrastructureError.exit_status)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage error
            _fail(error.format_message(), getattr(error, "exit_code", 2))
        if (advice := _exhausted(error)) is not None:
            _fail(advice, InfrastructureError.exit_status)
        # Not 1, which Python would make of it: that status says that a check failed.
        with contextlib.suppress(OSError):
            sys.stderr.write(inert(printable_lines(traceback.format_exc())))
        _fail(f"BUG: {type(error).__name__}: {error}; report this", InfrastructureError.exit_status)
    if status == _INTERRUPTED:  # what typer makes of Ctrl-C
        _fail("interrupted", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


_SHORTAGES = {
    errno.ENOMEM: "there is not enough memory (ulimit -v, a container's limit): raise it, or use fewer --workers",
    errno.EAGAIN: "no more processes or threads may be started (ulimit -u): raise it, or use fewer --workers",
    errno.EMFILE: "no more files may be opened (ulimit -n): raise it, or use fewer --workers",
    errno.ENFILE: "no more files may be opened on this machine: close other programs",
}


def _exhausted(error: BaseException) -> str | None:
    """What to do about a limit of the machine that `error`, or what caused it, is about; None for other errors."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, ImportError) and _has_little_memory()):
            return _SHORTAGES[errno.ENOMEM]
        if isinstance(seen, RuntimeError) and "can't start new thread" in str(seen):
            return _SHORTAGES[errno.EAGAIN]
        if isinstance(seen, OSError) and seen.errno in _SHORTAGES:
            return _SHORTAGES[seen.errno]
        seen = seen.__cause__ or seen.__context__
    return None


def _has_little_memory() -> bool:
    """Whether there is a limit on memory: a library that cannot be mapped is an ImportError without a number."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _fail(message: str, status: int) -> NoReturn:
    line = printable(" ".join(message.split()))
    with contextlib.suppress(OSError):  # the status still says it when standard error is full or gone
        print(f"munas-hil: {line}", file=sys.stderr, flush=True)
    sys.exit(status)
