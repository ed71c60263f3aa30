"""A Renode process: its folder, its monitor on the standard streams, and its end, however that comes.

The monitor is Renode's command line. Nothing marks the end of an answer, so every command is followed by an `echo` of a
word of ours; what is said until that word comes back is the answer. Renode's log may come between the letters of that
word, so it is asked for again. A thread reads all that Renode says, so that it never waits for us, and keeps the last
of it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from hil.errors import RunnerError, ToolMissing
from hil.logs import command_line
from hil.targets.process import GUARD, GUARD_INSTALL
from munas.scratch import scratch_folder

_log = logging.getLogger("hil.targets")

ARGUMENTS = ("--disable-xwt", "--console", "--plain")
STOP_TIMEOUT_S = 5.0
ASK_AGAIN_S = 5.0
_MARK = "munas-hil-"
KEPT_LINES = 400
_SAID_CHARACTERS = 400
_LOG = re.compile(r"\d\d:\d\d:\d\d\.\d+ \[(?P<level>[A-Z]+)\] (?P<text>.*)")
_PROMPT = re.compile(r"^\([^()\s]*\) ")
_LEVELS_OF_CAUSES = ("ERROR",)  # warnings are normal: a platform has no more than the firmware uses
# What Renode says when the emulated core stops for good: it would be waited for in vain.
_CORE_STOPPED = re.compile(r"cpu: (CPU abort.*|.*[Ll]ockup.*)")

# Removes the folder when we end, however we end: its standard input is a pipe that we alone hold. `done` on it means
# that Renode is gone already; without that we have died, and what is left of Renode goes first.
_JANITOR = 'trap "" HUP INT TERM; read -r word; [ "$word" = done ] || kill -KILL -- "-$2" 2>/dev/null; rm -rf -- "$1"'


class RenodeProcess:
    """One Renode, waiting at its monitor. `folder` is its working directory, and holds all files that it writes.

    Ends with the thread that made it (as `hil.targets.process.GUARD` does). Raises ToolMissing and RunnerError.
    """

    def __init__(self, command: Sequence[str]) -> None:
        if shutil.which(GUARD[0]) is None:
            raise ToolMissing(GUARD[0], GUARD_INSTALL)
        self.core_stopped: str | None = None  # what Renode said when it did
        self.machine = ""  # what its user has made in it
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._heard = threading.Condition()
        self._ended = False
        self._asked = 0
        self._scratch = ExitStack()
        self.folder = self._scratch.enter_context(scratch_folder("renode"))
        # Renode's settings, history and temporary files: the user's are neither used nor needed.
        own = {name: str(self.folder) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR")}
        words = [*GUARD, str(os.getpid()), *command, *ARGUMENTS]
        _log.info("%s", command_line(words))
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
                cwd=self.folder, env={**os.environ, **own}, start_new_session=True,
            )  # fmt: skip
            self._janitor = subprocess.Popen(
                ["sh", "-c", _JANITOR, "sh", str(self.folder), str(self._process.pid)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._scratch.close()
            raise RunnerError(f"Renode cannot be started: {error}") from error
        self._reader = threading.Thread(target=self._read, name="renode-monitor", daemon=True)
        self._reader.start()

    # --- the monitor --------------------------------------------------------------------------------------------

    def send(self, line: str) -> None:
        """A line to the monitor, whose answer nobody waits for. Raises RunnerError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except OSError as error:
            raise self.died() from error

    def execute(self, command: str, timeout_s: float) -> list[str]:
        """What Renode answers to `command`, without its log. Raises RunnerError, also after `timeout_s`."""
        self._asked += 1
        mark = f"{_MARK}{self._asked}"
        if self._asked > 1:  # what it said before it was asked at all may be why it ends
            with self._heard:
                self._lines.clear()
        self.send(command)
        self.send(f'echo "{mark}"')
        deadline, again = time.monotonic() + timeout_s, time.monotonic() + ASK_AGAIN_S
        with self._heard:
            while mark not in self._lines:
                left_s = deadline - time.monotonic()
                if self._ended:
                    raise self.died()
                if left_s <= 0:
                    raise RunnerError(f"Renode did not do {command!r} within {timeout_s:g} s: {self.said()}")
                if time.monotonic() >= again:
                    self.send(f'echo "{mark}"')
                    again += ASK_AGAIN_S
                self._heard.wait(min(left_s, ASK_AGAIN_S))
            lines = list(self._lines)
        answer = lines[: lines.index(mark)]
        ours = (command, f'"{mark}"')
        return [
            line for line in answer if line and not _LOG.match(line) and not line.endswith(ours) and _MARK not in line
        ]

    def _read(self) -> None:
        """Until Renode closes its output: split into lines, without prompts."""
        assert self._process.stdout is not None
        rest = b""
        with suppress(OSError, ValueError):  # closed by stop
            while chunk := self._process.stdout.read(65536):
                *whole, rest = (rest + chunk).split(b"\n")
                self._hear([_PROMPT.sub("", line.decode("utf-8", "replace").strip()) for line in whole])
                rest = rest[-65536:]
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _hear(self, lines: Sequence[str]) -> None:
        with self._heard:
            self._lines.extend(lines)
            self._heard.notify_all()
        for line in lines:
            log = _LOG.match(line)
            if log is not None and (stopped := _CORE_STOPPED.match(log["text"])) and self.core_stopped is None:
                self.core_stopped = stopped[1]
                self.kill()  # which closes the serial port: whoever waits there need not wait for a time-out

    def said(self) -> str:
        """Its last errors, or, when it named none, its last words."""
        with self._heard:
            lines = [line for line in self._lines if line]
        logs = [(log["level"], log["text"]) for line in lines if (log := _LOG.match(line))]
        plain = [line for line in lines if not _LOG.match(line)]
        causes = [text for level, text in logs if level in _LEVELS_OF_CAUSES]
        causes += [line for line in plain if "error" in line.lower()]
        return "; ".join(causes or plain[-3:])[-_SAID_CHARACTERS:] or "it said nothing"

    # --- life and death -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the process that leads all that it started."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> bool:
        """Whether it ends within `timeout_s`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return not self.alive

    def died(self) -> RunnerError:
        """The error for a Renode that ended by itself."""
        self.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        return RunnerError(f"Renode ended with {_how(self._process.poll())}: {self.said()}")

    def kill(self) -> None:
        """End it, and what it started (`renode` may be a script around the real program)."""
        with suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill and reap; its folder goes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its leader need not be alive for that
        self._process.wait()
        self._reader.join(1.0)
        with suppress(OSError):
            self._janitor.communicate(b"done\n")
        self._scratch.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"status {status}"
