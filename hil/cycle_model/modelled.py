"""Modelled cycles of one measurement, as they stand beside what the device's own timer said."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.boards.bank import Bank
from hil.boards.board import Board
from hil.boards.timing import Evidence, Timing
from hil.cache import digest
from hil.cycle_model.model import Milliseconds, board_cycles, milliseconds, shares
from hil.cycle_model.native import engine_dir
from hil.cycle_model.record import Counters, InferenceRecord
from hil.errors import RunnerError
from hil.files import from_document
from hil.timers import MODELLED


@dataclass(frozen=True, slots=True)
class ModelledLatency:
    """Single-inference cycles on the board, one in `samples` for every input.

    The rest is of the middle inference (the lower of two): its `milliseconds` (None without evidence, and `reason` says
    what is missing), `counters`, cycles of each of `layers` (parallel to the measurement's) and where the cycles go, by
    `shares`. `constants` names engine and constants, `evidence` sums up what the interval rests on.
    """

    samples: tuple[int, ...]
    milliseconds: Milliseconds | None
    counters: Counters
    layers: tuple[int, ...]
    shares: Mapping[str, int]
    constants: str
    evidence: str | None
    reason: str | None = None

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
            "milliseconds": None if time is None else _interval(time),
            "reason": self.reason,
            "counters": self.counters.to_json(),
            "layers": [{"index": index, "cycles": cycles} for index, cycles in enumerate(self.layers)],
            "shares": dict(self.shares), "constants": self.constants, "evidence": self.evidence,
        }  # fmt: skip


def modelled_from_json(document: Mapping[str, Any]) -> ModelledLatency:
    """Inverse of `ModelledLatency.to_json`. Raises KeyError, TypeError or ValueError on a foreign document."""
    names = ("milliseconds", "counters", "layers", "shares", "constants", "evidence", "reason")
    kept = {name: document[name] for name in names}
    kept["samples"] = document["cycles"]["samples"]  # minimum and maximum follow from them
    kept["layers"] = [layer["cycles"] for layer in kept["layers"]]
    if (time := kept["milliseconds"]) is not None:
        interval = {name: time[name] for name in ("low", "high")}
        kept["milliseconds"] = {"estimate": time["value"], **interval, "reasons": time.get("wider_for", [])}
    counters = dict(kept["counters"])
    if "data_misses" in counters:  # once counted without regard to what was read
        counters |= {"flash_misses": counters.pop("data_misses"), "ram_misses": 0}
    return from_document(ModelledLatency, {**kept, "counters": counters})


def _interval(time: Milliseconds) -> dict[str, Any]:
    return {"value": time.estimate, "low": time.low, "high": time.high, "wider_for": list(time.reasons)}


def modelled_latency(
    board: Board, records: Sequence[InferenceRecord], layers: int, banks: Sequence[Bank] = ()
) -> ModelledLatency:
    """What the `records` of the timed inferences amount to on `board`, the image's RAM being in `banks`.

    Raises RunnerError when a record has not as many layers as the firmware.
    """
    constants = board.timing or Timing()
    if any(len(record.layers) != layers for record in records):
        raise RunnerError(f"BUG: the timing plugin saw another number of layers than the firmware's {layers}")
    cycles = [round(board_cycles(constants, record.total)) for record in records]
    middle = records[cycles.index(statistics.median_low(cycles))]
    time = milliseconds(board, middle.total, banks)
    return ModelledLatency(
        samples=tuple(cycles),
        milliseconds=None if isinstance(time, str) else time,
        counters=middle.total,
        layers=tuple(round(board_cycles(constants, layer.counters)) for layer in middle.layers),
        shares={share.what: round(share.cycles) for share in shares(constants, middle.total)},
        constants=constants_id(board),
        evidence=None if constants.evidence is None else _summed_up(constants.evidence),
        reason=time if isinstance(time, str) else None,
    )


def _summed_up(evidence: Evidence) -> str:
    return (
        f"{len(evidence.errors_pct)} published figures that nothing was fitted to, off by "
        f"{evidence.mean_error_pct:.1f} % in the mean, {evidence.max_error_pct:.1f} % at most"
    )


def constants_id(board: Board) -> str:
    """Names all that modelled cycles on `board` depend on but the code: engine, tables, constants of core and chip."""
    constants = (board.timing or Timing()).model_dump(mode="json", exclude={"evidence"})
    pipeline = board.processor.pipeline.model_dump(mode="json")
    banks = [bank.model_dump(mode="json", exclude={"timed", "note"}) for bank in board.banks]
    return digest([_engine(), board.core, json.dumps([constants, pipeline, banks], sort_keys=True)])[:16]


@functools.cache
def _engine() -> str:
    return digest(path.read_bytes() for path in sorted(engine_dir().iterdir()) if path.suffix in (".c", ".h", ".txt"))
