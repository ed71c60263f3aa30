"""Modelled cycles of one measurement, as they stand beside what the device's own timer said."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.boards.timing import Evidence, Timing
from hil.cache import digest
from hil.cycle_model.model import Milliseconds, board_cycles, milliseconds, shares
from hil.cycle_model.native import engine_dir
from hil.cycle_model.record import Counters, InferenceRecord
from hil.errors import RunnerError
from hil.timers import MODELLED

_NO_EVIDENCE = "the board file has no evidence for its constants ([timing.evidence]): cycles only"


@dataclass(frozen=True, slots=True)
class ModelledLatency:
    """Single-inference cycles on the board, one in `samples` for every input.

    The rest is of the middle inference (the lower of two): its `milliseconds` (None without evidence), `counters`,
    cycles of each of `layers` (parallel to the measurement's) and where the cycles go, by `shares`. `constants` names
    engine and constants, `evidence` sums up what the interval rests on.
    """

    samples: tuple[int, ...]
    milliseconds: Milliseconds | None
    counters: Counters
    layers: tuple[int, ...]
    shares: Mapping[str, int]
    constants: str
    evidence: str | None

    @property
    def median(self) -> int:
        """Cycles of the middle inference."""
        return statistics.median_low(self.samples)

    def to_json(self) -> dict[str, Any]:
        """The block `modelled` of `measure --json`."""
        time = self.milliseconds
        cycles = {"samples": list(self.samples), "min": min(self.samples), "median": self.median}
        return {
            "timer": MODELLED, "cycles": {**cycles, "max": max(self.samples)},
            "milliseconds": None if time is None else {"value": time.estimate, "low": time.low, "high": time.high},
            "reason": _NO_EVIDENCE if time is None else None,
            "counters": self.counters.to_json(),
            "layers": [{"index": index, "cycles": cycles} for index, cycles in enumerate(self.layers)],
            "shares": dict(self.shares), "constants": self.constants, "evidence": self.evidence,
        }  # fmt: skip


def modelled_from_json(document: Mapping[str, Any]) -> ModelledLatency:
    """Inverse of `ModelledLatency.to_json`. Raises KeyError, TypeError or ValueError on a foreign document."""
    time = document["milliseconds"]
    return ModelledLatency(
        samples=tuple(document["cycles"]["samples"]),
        milliseconds=None if time is None else Milliseconds(time["value"], time["low"], time["high"]),
        counters=Counters(**document["counters"]),
        layers=tuple(layer["cycles"] for layer in document["layers"]),
        shares=dict(document["shares"]),
        constants=document["constants"],
        evidence=document["evidence"],
    )


def modelled_latency(
    timing: Timing | None, core: str, clock_hz: int, records: Sequence[InferenceRecord], layers: int
) -> ModelledLatency:
    """What the `records` of the timed inferences amount to on the board whose file has the table `timing`.

    Raises RunnerError when a record has not as many layers as the firmware.
    """
    constants = timing or Timing()
    if any(len(record.layers) != layers for record in records):
        raise RunnerError(f"BUG: the timing plugin saw another number of layers than the firmware's {layers}")
    cycles = [round(board_cycles(constants, record.total)) for record in records]
    middle = records[cycles.index(statistics.median_low(cycles))]
    return ModelledLatency(
        samples=tuple(cycles),
        milliseconds=milliseconds(constants, middle.total, clock_hz),
        counters=middle.total,
        layers=tuple(round(board_cycles(constants, layer.counters)) for layer in middle.layers),
        shares={share.what: round(share.cycles) for share in shares(constants, middle.total)},
        constants=constants_id(timing, core),
        evidence=None if constants.evidence is None else _summed_up(constants.evidence),
    )


def _summed_up(evidence: Evidence) -> str:
    return (
        f"{evidence.method}, {len(evidence.rows)} published figures, off by {evidence.mean_error_pct:g} % in the mean, "
        f"{evidence.max_error_pct:g} % at most"
    )


def constants_id(timing: Timing | None, core: str) -> str:
    """Names all that a core's modelled cycles depend on but the code: engine, instruction tables, board constants."""
    constants = (timing or Timing()).model_dump(mode="json", exclude={"evidence"})
    return digest([_engine(), core, json.dumps(constants, sort_keys=True)])[:16]


@functools.cache
def _engine() -> str:
    return digest(path.read_bytes() for path in sorted(engine_dir().iterdir()) if path.suffix in (".c", ".h", ".txt"))
