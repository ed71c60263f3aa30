"""The process that LiteRT runs in, seen from outside: started when it is needed, and again when a network ends it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import InfrastructureError
from hil.model.litert import ADDRESS_SPACE_BYTES, CPU_LIMIT_S, WALL_LIMIT_S, Feed, describe, pack

COMMAND = (sys.executable, "-m", "hil.model.litert")
MAX_HEADER_BYTES = 1 << 16
_MAX_REASON = 300
_TYPES = ("|i1", "|u1", "<i2", "<i4", "<i8", "<f4")
_TOO_LONG = {
    signal.SIGPROF: f"it took more than {CPU_LIMIT_S:.0f} s of processor time",
    signal.SIGALRM: f"it took more than {WALL_LIMIT_S} s",
}


class Refused(Exception):
    """LiteRT does not take the network, says why, and goes on."""


class Died(Exception):
    """LiteRT's process ended while it ran a network. The message says how."""


class Worker:
    """One process at a time, which holds one network at a time; what is asked of it is asked in turn.

    A network is known by `token`, which its owner chooses: it is sent when the process does not hold it.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._holds: object = None
        self._lock = threading.Lock()

    def load(self, token: object, data: bytes) -> None:
        """Hold the network `data` (a .tflite). Raises Refused, Died, InfrastructureError."""
        with self._lock:
            self._load(token, data)

    def run(self, token: object, data: bytes, feeds: Sequence[Feed], read: Sequence[int]) -> list[NDArray[Any]]:
        """The tensors `read` after an inference with the inputs `feeds`. Raises as `load` does."""
        with self._lock:
            if self._process is None or self._holds is not token:
                self._load(token, data)
            inputs = [[tensor, *item] for (tensor, _), item in zip(feeds, describe([v for _, v in feeds]), strict=True)]
            body = b"".join(values.tobytes() for _, values in feeds)
            reply = self._asked(pack({"run": inputs, "read": list(read)}, body))
            return [self._array(*item) for item in reply["read"]]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _load(self, token: object, data: bytes) -> None:
        self._holds = None
        self._asked(pack({"load": len(data)}, data))
        self._holds = token

    def _asked(self, message: bytes) -> dict[str, Any]:
        process, said = self._started()
        said.seek(0)
        said.truncate()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(message)
            process.stdin.flush()
            line = process.stdout.readline(MAX_HEADER_BYTES)
            reply = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            reply = None
        except BaseException:  # what was asked is still under way: the next answer would be taken for another's
            self._end()
            raise
        if not isinstance(reply, dict):
            raise Died(self._death())
        if "error" in reply:
            raise Refused(str(reply["error"])[:_MAX_REASON])
        return reply

    def _array(self, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        size = prod(shape) * np.dtype(dtype).itemsize if dtype in _TYPES else -1
        body = self._process.stdout.read(size) if 0 <= size <= ADDRESS_SPACE_BYTES else b""
        if len(body) != size:
            raise Died(self._death())
        return np.frombuffer(body, dtype).reshape(shape)

    def _started(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        if self._process is not None and self._said is not None and self._process.poll() is None:
            return self._process, self._said
        self._end()
        pipe = subprocess.PIPE
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads would take most of the address space
        try:
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=self._said, env=environment, close_fds=True
            )
        except OSError as error:
            self._end()
            raise InfrastructureError(f"the process for LiteRT cannot be started: {error.strerror}") from error
        return self._process, self._said

    def _death(self) -> str:
        """How the process ended, which is gone afterwards."""
        assert self._process is not None
        assert self._said is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        self._end()
        last = " ".join(next((line for line in reversed(lines) if line.strip()), "").split())[:_MAX_REASON]
        if code is not None and -code in _TOO_LONG:
            return _TOO_LONG[signal.Signals(-code)]
        if "bad_alloc" in last or "MemoryError" in last:
            return f"it needs more than {ADDRESS_SPACE_BYTES >> 30} GiB of memory"
        how = "its process gave a senseless answer" if code is None else f"its process ended with exit status {code}"
        if code is not None and code < 0:
            how = f"its process was ended by {_signal_name(-code)}"
        return f"{how} ({last})" if last else how

    def _end(self) -> None:
        process, self._process, self._holds = self._process, None, None
        said, self._said = self._said, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
        if said is not None:
            said.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


SHARED = Worker()
"""The one of this process: starting LiteRT takes a quarter of a second, and to measure a network not much longer."""
atexit.register(SHARED.close)
