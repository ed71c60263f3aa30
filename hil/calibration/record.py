"""One measured sample or probe: what the store keeps of it, and its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from hil.calibration.fit import Observation
from hil.calibration.fit_memory import Image
from hil.calibration.forecast import Forecast
from hil.calibration.sample import Sample, sample_from_json
from hil.errors import StoreError
from hil.files import FOREIGN, from_document
from hil.jobs.store import Result
from hil.measure.measurement import Measurement, Outputs, measurement_from_json
from hil.runtimes.base import Deployment
from munas.cost.kernels import Work

_FIELDS = tuple(item.name for item in fields(Work))
_NOTHING = {name: () if name == "trips" else 0 for name in _FIELDS}


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """What was measured of a network. `works` is parallel to the measurement's layers. Planned figures in bytes.

    `functions` is the code that was linked: bytes of flash by name.
    """

    measurement: Measurement
    works: tuple[Work, ...]
    lower_bound: int
    weights: int
    tables: int
    functions: Mapping[str, int]

    def observation(self, index: int) -> Observation:
        """For the latency fit."""
        times = tuple(layer.median for layer in self.measurement.layers)
        latency = self.measurement.latency
        return Observation(index, self.works, times, latency.median, float(latency.samples[0]))

    def image(self, constants: int) -> Image:
        """For the memory fit; `constants` are bytes of flash as predicted."""
        return Image(frozenset(work.variant for work in self.works), constants, self.measurement.memory, self.functions)


@dataclass(frozen=True, slots=True)
class Record:
    """A sample with its measurement."""

    sample: Sample
    network: MeasuredNetwork

    @property
    def measurement(self) -> Measurement:
        """The network's."""
        return self.network.measurement

    @property
    def works(self) -> tuple[Work, ...]:
        """The network's."""
        return self.network.works

    @property
    def observation(self) -> Observation:
        """For the latency fit."""
        return self.network.observation(self.sample.index)

    def image(self, predicted: Forecast) -> Image:
        """For the memory fit; its constants are predicted from the architecture, not read from the plan."""
        return self.network.image(predicted.constants)


def to_result(
    index: int,
    network: Mapping[str, Any],
    measurement: Measurement,
    plan: Deployment,
    functions: Mapping[str, int],
) -> Result:
    """What the store keeps of a network that ran: `network` is its sample, or which probe it is.

    A network whose outputs differ from the reference has failed.
    """
    outputs = measurement.outputs
    record = {
        "measurement": measurement.to_json(),
        "works": [_work_to_json(step.work) for step in plan.steps],
        "lower_bound": plan.lower_bound_bytes,
        "weights": plan.weights_bytes,
        "tables": plan.table_bytes,
        "functions": dict(functions),
    }
    error = f"{outputs.mismatched} of {outputs.checked} outputs differ from the reference kernels"
    return Result(
        index,
        "failed" if outputs.mismatched else "ok",
        network,
        measurement.sha256,
        error if outputs.mismatched else "",
        record,
    )


def from_result(result: Result) -> Record:
    """The sample of a result of `to_result`. Raises StoreError when the stored record is not one."""
    network = network_of(result)
    try:
        return Record(sample_from_json(result.architecture), network)
    except FOREIGN as error:
        raise _not_one(result, error) from error


def network_of(result: Result) -> MeasuredNetwork:
    """What was measured, of a result of `to_result`. Raises StoreError when the stored record is not one."""
    try:
        document: Mapping[str, Any] = result.record
        measurement = measurement_from_json(document["measurement"])
        works = _works_from_json(document["works"])
        if min(measurement.latency.samples, default=0) <= 0:
            raise ValueError("a time is not positive")
        if len(works) != len(measurement.layers):
            raise ValueError(f"{len(works)} works for {len(measurement.layers)} layers")
        functions = {str(name): int(size) for name, size in document["functions"].items()}
        bound, weights, tables = (int(document[name]) for name in ("lower_bound", "weights", "tables"))
        return MeasuredNetwork(measurement, works, bound, weights, tables, functions)
    except FOREIGN as error:
        raise _not_one(result, error) from error


def _not_one(result: Result, error: Exception) -> StoreError:
    return StoreError(
        f"sample {result.sample} in the store is not a measurement: {type(error).__name__}: {error};"
        " use another run folder"
    )


def outputs_of(results: Iterable[Result]) -> Outputs:
    """Outputs checked and mismatched over all samples that ran, those that failed by a mismatch included."""
    checked = mismatched = 0
    for result in results:
        try:
            outputs = result.record.get("measurement", {}).get("outputs", {})
            checked += outputs.get("checked", 0)
            mismatched += outputs.get("mismatched", 0)
        except (TypeError, AttributeError) as error:
            raise _not_one(result, error) from error
    return Outputs(checked, mismatched)


def _work_to_json(work: Work) -> dict[str, Any]:
    """Without zeros: most counts of most kernels are zero."""
    return {name: value for name in _FIELDS if (value := getattr(work, name))}


def _works_from_json(documents: Iterable[Mapping[str, Any]]) -> tuple[Work, ...]:
    """Stores of version 0.1 have a kernel's variant as ``path``."""
    named = ({"variant" if key == "path" else key: value for key, value in item.items()} for item in documents)
    return from_document(tuple[Work, ...], [_NOTHING | item for item in named])
