"""The base protocol's replies as text: pure functions. It has no checksum, so form and order are all there is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hil.errors import ProtocolError

_RESULTS = "m-results-["
_BUFFER = re.compile(r"m-buffer((?:-[0-9a-fA-F]{2})+)")
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?(e[-+]?\d{1,3})?")
_WHOLE = re.compile(r"\d{1,20}")


@dataclass(frozen=True, slots=True)
class BaseTiming:
    """What MLPerf's own `infer` answers: `iterations` inferences took `elapsed_us` microseconds; the last's results."""

    iterations: int
    elapsed_us: int
    results: tuple[float, ...]


def bracketed(lines: Sequence[str], prefix: str) -> str:
    """What stands between `prefix` and ``]`` in the one line that starts with it. Raises ProtocolError."""
    found = {line[len(prefix) : -1] for line in lines if line.startswith(prefix) and line.endswith("]")}
    if len(found) != 1:
        raise ProtocolError(f"{len(found)} different lines {prefix}...] in a reply that starts with {list(lines[:4])}")
    return found.pop()


def parse_results(lines: Sequence[str]) -> tuple[float, ...]:
    """Values of the ``m-results-[...]`` line. Raises ProtocolError."""
    values = bracketed(lines, _RESULTS).split(",")
    if not all(_NUMBER.fullmatch(value) for value in values):
        raise ProtocolError(f"results that are not numbers: {values[:8]}")
    return tuple(map(float, values))


def parse_base_reply(lines: Sequence[str], iterations: int, warmup: int) -> BaseTiming:
    """The reply to ``infer N W``: every line of it once and in order, with our numbers in it. Raises ProtocolError.

    Lines that the protocol does not know are skipped: firmware may talk.
    """
    frame = (
        f"m-warmup-start-{warmup}", "m-warmup-done", f"m-infer-start-{iterations}", "m-lap-us-", "m-lap-us-",
        "m-infer-done", _RESULTS,
    )  # fmt: skip
    known = [line for line in lines if line.startswith(("m-warmup-", "m-infer-", "m-lap-", "m-results-", "e-["))]
    fits = len(known) == len(frame) and all(
        line.startswith(part) if part[-1] in "-[" else line == part for line, part in zip(known, frame, strict=True)
    )
    if not fits:
        what = f"infer {iterations} {warmup}"
        raise ProtocolError(f"the reply to {what!r} is not what MLPerf firmware answers: {known[:8]}")
    start, stop = (line.removeprefix("m-lap-us-") for line in known[3:5])
    if not _WHOLE.fullmatch(start) or not _WHOLE.fullmatch(stop) or int(stop) < int(start):
        raise ProtocolError(f"time stamps that are none: {start!r}, {stop!r}")
    return BaseTiming(iterations, int(stop) - int(start), parse_results(known[6:]))


def parse_buffer(lines: Sequence[str]) -> bytes | None:
    """What ``db print`` shows; None when the firmware shows nothing of the kind. Raises ProtocolError for damage."""
    shown = [line for line in lines if line.startswith("m-buffer")]
    matches = [_BUFFER.fullmatch(line) for line in shown]
    if not all(matches):
        raise ProtocolError("a line of 'db print' is damaged")
    return bytes.fromhex("".join(match[1] for match in matches if match).replace("-", "")) if shown else None
