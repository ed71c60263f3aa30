"""What `measure -o DIR` leaves: the measurements of one command and their arenas, read back by `munas-hil report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.codegen.plan import Plan
from hil.errors import UsageError
from hil.files import FOREIGN, from_document, read_json, to_document
from hil.measure.arena import ArenaMap, arena_map
from hil.measure.harness import Measured
from hil.measure.measurement import Measurement, measurement_from_json

RESULT_FILE = "result.json"
KIND = "measurement"
RESULT_VERSION = 1


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """One network; `arena` is None where the runtime lays it out on the device."""

    measurement: Measurement
    arena: ArenaMap | None


@dataclass(frozen=True, slots=True)
class MeasurementResult:
    """All networks of one command, at least one, measured on one place with one timer; runtimes may differ."""

    networks: tuple[MeasuredNetwork, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``result.json``."""
        networks = [
            {
                "measurement": item.measurement.to_json(),
                "arena": None if item.arena is None else to_document(item.arena),
            }
            for item in self.networks
        ]
        return {"kind": KIND, "version": RESULT_VERSION, "networks": networks}


def result_of(measured: Sequence[Measured]) -> MeasurementResult:
    """What is kept of `measured`."""
    return MeasurementResult(tuple(MeasuredNetwork(item.measurement, _arena(item)) for item in measured))


def _arena(item: Measured) -> ArenaMap | None:
    return arena_map(item.plan, item.measurement.model) if isinstance(item.plan, Plan) else None


def is_measurement_document(document: object) -> bool:
    """Whether `document` is what `MeasurementResult.to_json` makes, of whatever version."""
    return isinstance(document, dict) and document.get("kind") == KIND


def read_measurement_result(path: Path) -> MeasurementResult:
    """The result in the file or folder `path`. Raises UsageError, also for another version of it."""
    file = path / RESULT_FILE if path.is_dir() else path
    return measurement_result(read_json(file, "measurement"), file)


def measurement_result(document: Any, file: Path) -> MeasurementResult:
    """Inverse of `MeasurementResult.to_json`; messages name `file`. Raises UsageError, also for another version."""
    try:
        if document["version"] != RESULT_VERSION:
            raise UsageError(
                f"{file} has version {document['version']!r}, this program reads {RESULT_VERSION}; measure again"
            )
        networks = tuple(_network(item) for item in document["networks"])
    except FOREIGN as error:
        raise UsageError(f"{file} is not a measurement: {type(error).__name__}: {error}") from error
    if not networks:
        raise UsageError(f"{file} has no network")
    return MeasurementResult(networks)


def _network(document: Any) -> MeasuredNetwork:
    arena = document["arena"]
    measurement = measurement_from_json(document["measurement"])
    return MeasuredNetwork(measurement, None if arena is None else from_document(ArenaMap, arena))
