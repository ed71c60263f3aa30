"""Starts QEMU: anew, or as a fork of one that is loaded and waits before its main function (waiting.c).

To load QEMU's libraries takes most of the time that QEMU needs to boot a network; a campaign does it once for each
worker. A fork has run no line of QEMU: to QEMU, and to us, it was just started. Where that cannot be had (no compiler,
a program that is linked otherwise) QEMU is started anew each time.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from hil.cache import cached_folder, digest
from hil.errors import InfrastructureError, RunnerError
from hil.host_compiler import WARNINGS, compile_for_host, host_compiler
from hil.logs import command_line
from hil.targets.process import GUARD

_log = logging.getLogger("hil.targets")

_SOURCE = Path(__file__).with_name("waiting.c")
_FLAGS = ("-std=c11", "-O2", *WARNINGS, "-fPIC", "-shared")
_ANSWER_S = 20.0
_END_S = 1.0  # for one that waits to see that nobody will ask again
_MOST_BYTES = 65_536  # of a request


class Process(Protocol):
    """A program that runs: the part of `subprocess.Popen` that is used."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it, once `poll` or `wait` saw its end."""
        ...

    def poll(self) -> int | None:
        """The `returncode` now."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The `returncode` when it has ended. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        ...

    def kill(self) -> None:
        """End it, if it has not ended."""
        ...


class Starter:
    """Starts QEMUs, each with a session of its own, killed when the thread that starts it ends.

    `keep_loaded`: as forks of one that waits, for each thread, until that thread or the starter ends.
    """

    def __init__(self, *, keep_loaded: bool) -> None:
        self._keep_loaded = keep_loaded
        self._of_thread = threading.local()

    def start(self, command: Sequence[str], errors: IO[bytes], inherited: Sequence[int] = ()) -> Process:
        """Start `command`, with pipes to its input and output. Raises RunnerError."""
        _log.info("%s", command_line(command))
        loaded = self._loaded(command[0])
        try:
            return (loaded and loaded.run(command, errors, inherited)) or _anew(command, errors, inherited)
        except OSError as error:
            raise RunnerError(f"QEMU cannot be started: {error}") from error

    def _loaded(self, program: str) -> _Loaded | None:
        """The one of this thread and process. One that fails is not replaced."""
        library = _library() if self._keep_loaded and "LD_PRELOAD" not in os.environ else None
        if library is None:
            return None
        found: _Loaded | None = getattr(self._of_thread, "loaded", None)
        if found is None or found.owner != os.getpid() or found.program != program:
            found = self._of_thread.loaded = _Loaded(program, library)
        return found


@functools.cache
def _library() -> Path | None:
    """What makes a program wait. None where it cannot be compiled, or kept."""
    try:
        words, version = host_compiler()
        key = digest([*words, version, *_FLAGS, _SOURCE.read_bytes()])

        def fill(folder: Path) -> None:
            compile_for_host([*_FLAGS, _SOURCE, "-o", folder / "waiting.so"], _SOURCE.name)

        return cached_folder("waiting", key, fill) / "waiting.so"
    except InfrastructureError as error:
        _log.info("QEMU is loaded anew each time: %s", error)
        return None


def _guarded(*words: str) -> list[str]:
    return [*GUARD, str(os.getpid()), *words]


def _anew(command: Sequence[str], errors: IO[bytes], inherited: Sequence[int]) -> Process:
    # A session of its own: Ctrl-C is for us to handle, not for QEMU to die of first.
    return subprocess.Popen(
        _guarded(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0,
        start_new_session=True, pass_fds=tuple(inherited),
    )  # fmt: skip


class _Loaded:
    """A QEMU that waits and forks. Raises OSError when it cannot be started."""

    def __init__(self, program: str, library: Path) -> None:
        self.program, self.owner = program, os.getpid()
        self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_ANSWER_S)
        with far:
            process = subprocess.Popen(
                _guarded("env", f"LD_PRELOAD={library}", program), stdin=far.fileno(), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._end = weakref.finalize(self, _end, process, self._control, os.getpid())

    def run(self, command: Sequence[str], errors: IO[bytes], inherited: Sequence[int]) -> Process | None:
        """A fork that runs `command`; None when there is none, and never will be."""
        if not self._end.alive:
            return None
        given, stdin = os.pipe()
        stdout, taken = os.pipe()
        number = 0
        try:
            number = self._asked(command, (given, taken, errors.fileno(), *inherited), (0, 1, 2, *inherited))
        finally:
            os.close(given)
            os.close(taken)
            if not number:  # also when we are interrupted: a later answer would be taken for that of the next request
                os.close(stdin)
                os.close(stdout)
                self._end()
        if number:
            return _Run(number, stdin, stdout)
        _log.info("QEMU is loaded anew each time: the one that was loaded does not answer")
        return None

    def _asked(self, command: Sequence[str], descriptors: Sequence[int], numbers: Sequence[int]) -> int:
        """Number of the process that runs `command` with `descriptors`, known to it by `numbers`; 0 for none."""
        try:
            words = [*map(str, numbers), "", os.getcwd(), *command[1:]]
            request = b"".join(os.fsencode(word) + b"\0" for word in words)
            if len(request) > _MOST_BYTES:
                return 0
            socket.send_fds(self._control, [request], descriptors)
            return int(self._control.recv(16) or b"0")
        except (OSError, ValueError):  # also where our folder is gone
            return 0


def _end(process: subprocess.Popen[bytes], control: socket.socket, owner: int) -> None:
    with control:
        if os.getpid() != owner:
            process.returncode = 0  # we are a fork: it is our parent's
            return
        with suppress(OSError):
            control.shutdown(socket.SHUT_WR)  # which it sees even while a fork of ours has the socket, too
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(OSError, ValueError):  # a run that was asked for, and whose number nobody took
            _kill(int(control.recv(16)))


def _kill(run: int) -> None:
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)


class _Run:
    """A process that somebody else has started for us, as our child."""

    def __init__(self, number: int, stdin: int, stdout: int) -> None:
        self._number = number
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb", 0)
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb", 0)

    def poll(self) -> int | None:
        """See `Process.poll`."""
        return self._reaped(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """See `Process.wait`."""
        if timeout is not None and self.poll() is None:
            with suppress(ProcessLookupError):  # where nobody has to reap it
                self._wait_until_ended(timeout)
        found = self._reaped(0)
        assert found is not None
        return found

    def _wait_until_ended(self, timeout: float) -> None:
        ended = os.pidfd_open(self._number)
        try:
            if not select.select([ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self._number), timeout)
        finally:
            os.close(ended)

    def _reaped(self, flags: int) -> int | None:
        if self.returncode is None:
            try:
                number, status = os.waitpid(self._number, flags)
            except ChildProcessError:
                # Whoever started us ignores SIGCHLD: as for `subprocess`, how it ended is unknown.
                number, status = self._number, 0
            if number:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        """See `Process.kill`."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._number, signal.SIGKILL)
