"""The gate behind a calibration: what must hold of it, and what must not have got worse since an earlier one.

The earlier one is the document of ``calibrate --json``. It names board, runtime, place and timer, so that kinds of
figures are never held against each other, but neither compiler nor sources: those are what may have made it worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hil.calibration.result import CalibrationResult
from hil.errors import CalibrationMismatch, UsageError
from hil.files import read_json
from hil.measure.compare import Limit
from hil.measure.measurement import Identity
from hil.terminal import printable

MAX_FILE_BYTES = 1 << 20
SAME = ("board", "runtime", "via", "timer")
MEMORY = ("arena_max_error", "ram_max_error", "flash_max_error")
MAPE_LIMIT = Limit(fraction=0.5, absolute=0.005)  # other networks, or fewer, move it by about as much
MEMORY_LIMIT = Limit()


@dataclass(frozen=True, slots=True)
class Baseline:
    """Of the earlier calibration: the `SAME` fields, the per-operator fit's MAPE (fraction), largest errors (bytes)."""

    place: Mapping[str, Any]
    mape: float
    memory: Mapping[str, float]

    def require_same(self, identity: Identity) -> None:
        """Raise CalibrationMismatch naming every difference."""
        both = [(name, self.place[name], getattr(identity, name)) for name in SAME]
        differences = [f"{name} is {was!r} there and {now!r} here" for name, was, now in both if was != now]
        if differences:
            raise CalibrationMismatch(f"the baseline is of another kind: {'; '.join(differences)}")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold; `message` is a sentence with the figures, whether it does or not."""

    name: str
    passed: bool
    message: str


def read_baseline(path: Path) -> Baseline:
    """Read what ``calibrate --json`` printed. Raises UsageError."""
    document = read_json(path, "baseline", _unlike, MAX_FILE_BYTES)
    try:
        place = {name: document[name] for name in SAME}
        mape = _figure(document["fits"]["per_operator"]["mape"])
        return Baseline(place, mape, {name: _figure(document["memory"][name]) for name in MEMORY})
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise UsageError(f"{path} is not what `munas-hil calibrate --json` prints ({what})") from error


def _unlike(message: str) -> UsageError:
    return UsageError(f"{message}; name a file that `munas-hil calibrate --json` printed")


def _figure(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r} is not a figure")
    return float(value)


def checks_of(result: CalibrationResult, baseline: Baseline | None = None) -> tuple[Check, ...]:
    """What must hold of `result`, and what must not be worse than `baseline`."""
    failed, wrong = len(result.failed), result.outputs_mismatched
    own = (
        Check("outputs", wrong == 0, f"{wrong} outputs differ from the LiteRT reference kernels"),
        Check("measured", failed == 0, f"{failed} networks could not be measured; the report lists them"),
    )
    if baseline is None:
        return own
    mape = result.per_operator.metrics.mape
    text = f"per_operator mape went from {100 * baseline.mape:.2f} % to {100 * mape:.2f} %; allowed is 1.5x + 0.5 %"
    memory = (_memory(name, baseline.memory[name], getattr(result.memory, name)) for name in MEMORY)
    return (*own, Check("per_operator.mape", MAPE_LIMIT.allows(baseline.mape, mape), text), *memory)


def _memory(name: str, before: float, after: float) -> Check:
    text = f"{name} went from {before:.0f} to {after:.0f} bytes; allowed is no more"
    return Check(f"memory.{name}", MEMORY_LIMIT.allows(before, after), text)


def junit_xml(checks: Sequence[Check], identity: Identity, seconds: float) -> str:
    """A JUnit document with one testcase a check; `seconds` is what the calibration took."""
    failures = sum(not check.passed for check in checks)
    place = ".".join(str(getattr(identity, name)) for name in SAME)
    counts = {"tests": str(len(checks)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "munas-hil calibrate", **counts})
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", {"classname": f"calibrate.{place}", "name": check.name})
        if not check.passed:
            ElementTree.SubElement(case, "failure", {"message": printable(check.message)})  # XML has no control codes
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def annotation(check: Check) -> str:
    """The workflow command by which GitHub shows a failed check beside the change."""
    text = check.message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error title=munas-hil calibrate {check.name}::{text}"
