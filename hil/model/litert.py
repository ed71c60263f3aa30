"""LiteRT's interpreter with its plain C++ kernels, and the process that runs it for others.

LiteRT checks with CHECK: what it does not like ends the process. So nobody else's process runs it; `hil.model.worker`
starts this module as one and talks to it in messages: a line of JSON, then as many bytes as it says.

    {"load": bytes} + .tflite          -> {}
    {"run": [[tensor, dtype, shape], ...], "read": [tensor, ...]} + the tensors' bytes
                                       -> {"read": [[dtype, shape], ...]} + the tensors' bytes
    either                             -> {"error": text}

The process ends with its standard input. It limits itself: memory, processor time and wall time of each request.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

ADDRESS_SPACE_BYTES = 2 << 30
"""What LiteRT may take, with its code and stack: an imported network needs 0.2 GiB at most."""

STDERR_BYTES = 1 << 20
CPU_LIMIT_S = 60.0  # of one request; the largest network that is imported takes a third of it
WALL_LIMIT_S = 600  # of one request, on a machine that has other things to do

Feed = tuple[int, NDArray[Any]]
"""A tensor of the file, and what it shall hold."""


class LiteRt:
    """One .tflite in LiteRT's reference kernels, on one thread, without a delegate; every tensor can be read."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError or RuntimeError when LiteRT refuses the file; others end the process."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.interpreter = Interpreter(
            model_content=data,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        self.interpreter.allocate_tensors()

    def run(self, feeds: Sequence[Feed]) -> None:
        """Compute all tensors from the inputs. Raises as the constructor does."""
        for tensor, values in feeds:
            self.interpreter.set_tensor(tensor, values)
        self.interpreter.invoke()

    def read(self, tensor: int) -> NDArray[Any]:
        """A copy of what a tensor of the file holds now."""
        return np.array(self.interpreter.get_tensor(tensor))


def describe(arrays: Sequence[NDArray[Any]]) -> list[list[Any]]:
    """Types and shapes, as messages have them."""
    return [[array.dtype.str, list(array.shape)] for array in arrays]


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A message."""
    return json.dumps(header).encode() + b"\n" + body


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    model: LiteRt | None = None
    while line := requests.readline():
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)  # the signals' default action ends the process
        signal.alarm(WALL_LIMIT_S)
        header = json.loads(line)
        try:
            if "load" in header:
                model = None  # or there would be two of them for a while
                model = LiteRt(requests.read(header["load"]))
                reply = pack({})
            else:
                reply = _answer(model, header, requests)
        except (ValueError, RuntimeError, MemoryError) as error:
            reply = pack({"error": " ".join(str(error).split()) or type(error).__name__})
        replies.write(reply)
        replies.flush()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _answer(model: LiteRt | None, header: dict[str, Any], requests: BinaryIO) -> bytes:
    feeds = []
    for tensor, dtype, shape in header["run"]:
        body = requests.read(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        feeds.append((tensor, np.frombuffer(body, dtype).reshape(shape)))
    if model is None:
        raise RuntimeError("no model is loaded")
    model.run(feeds)
    found = [model.read(tensor) for tensor in header["read"]]
    return pack({"read": describe(found)}, b"".join(array.tobytes() for array in found))


def _limit(kind: int, most: int) -> None:
    """Lower a limit of this process to `most`; where who started us is bound to less already, that stays."""
    _, hard = resource.getrlimit(kind)
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (bound, bound))


def main() -> None:
    """Serve until standard input ends."""
    _limit(resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, STDERR_BYTES)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # what does not fit is not logged
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: who started us ends us
    _serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
