"""A debugger driven through its machine interface (MI, "Debugging with GDB", chapter GDB/MI). No knowledge of servers.

Every command carries a number, and its result comes back under that number: `12^done`, `12^error,msg="..."`. What the
debugger and the server say beside that (`~"..."`, `@"..."`, `&"..."`) is kept: it is the reason that people need.
"""

from __future__ import annotations

import math
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress

from hil.errors import FlashError, ToolMissing
from hil.targets.process import GUARD
from munas.closing import Closing

PROGRAMS = ("gdb-multiarch", "arm-none-eabi-gdb")
INSTALL = "sudo apt-get install gdb-multiarch"
_RESULT = re.compile(r"(\d+)\^(done|running|connected|error|exit)(?:,msg=\"((?:[^\"\\]|\\.)*)\")?")
_STREAM = re.compile(r"[~@&]\"((?:[^\"\\]|\\.)*)\"")
_IGNORED = "Ignoring packet error"  # it goes on as if the server had answered
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES: Mapping[str, str] = {"n": "\n", "t": "\t", "r": "\r"}


class GdbRefused(FlashError):
    """The debugger answered `^error`; the message is its own."""


class GdbSilent(FlashError):
    """The debugger (or the server that it waits for) did not answer in time."""


class Gdb(Closing):
    """A running debugger, as a context. Raises ToolMissing, FlashError."""

    def __init__(self) -> None:
        program = next((found for name in PROGRAMS if (found := shutil.which(name)) is not None), None)
        if program is None:
            raise ToolMissing(" or ".join(PROGRAMS), INSTALL)
        guard = [*GUARD, str(os.getpid())] if shutil.which(GUARD[0]) else []
        self._asked = 0
        self._pending = b""
        try:
            self._process = subprocess.Popen(
                [*guard, program, "-nx", "-q", "--interpreter=mi2"], bufsize=0, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise FlashError(f"{program} cannot be started: {error}") from error

    def close(self) -> None:
        """End it. The server sees its connection close."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()

    def run(self, command: str, timeout_s: float, silent_s: float = math.inf) -> str:
        """What is said while `command` (of the machine interface or of the console) is done.

        It may take `timeout_s` in all, and `silent_s` without a word: writing tells its progress twice a second.
        Raises GdbRefused, GdbSilent, and FlashError for a debugger that died.
        """
        self._asked += 1
        line = command if command.startswith("-") else f'-interpreter-exec console "{_escaped(command)}"'
        assert self._process.stdin is not None
        with suppress(OSError):  # it died: its output ends, too
            self._process.stdin.write(f"{self._asked}{line}\n".encode())
        said: list[str] = []
        heard = time.monotonic()
        deadline = heard + timeout_s
        while True:
            text = self._line(min(deadline, heard + silent_s), command)
            heard = time.monotonic()
            if (stream := _STREAM.match(text)) is not None:
                said.append(_unescaped(stream[1]))
                if said[-1].startswith(_IGNORED):
                    raise GdbSilent(f"{command!r}: a packet was not answered")
            elif (result := _RESULT.match(text)) is not None and int(result[1]) == self._asked:
                if result[2] == "error":
                    raise GdbRefused(" ".join(_unescaped(result[3] or "it did not say why").split()))
                return "".join(said)

    def _line(self, deadline: float, command: str) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            wait_s = deadline - time.monotonic()
            if wait_s <= 0 or not select.select([self._process.stdout], [], [], wait_s)[0]:
                raise GdbSilent(f"{command!r} was not answered in time")
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                raise FlashError(f"the debugger ended during {command!r}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")


def quoted(text: str) -> str:
    """`text` as one word of a command of the machine interface."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), text)
