"""A calibration once more, with the networks that a search exported: what `search --recalibrate` does.

The measurements of the first calibration lie in ``store.sqlite`` beside its file; the new ones are added to them, and
all fits are made again. The interval is the usual one, widened where a new network, predicted by fits that did not see
it, lies outside: the search drew it from where the first calibration was wrong, and more like it will follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hil.calibration.calibrate import stored_networks
from hil.calibration.fit import Observation, fit_latency
from hil.calibration.fit_memory import Image, fit_memory
from hil.calibration.forecast import CODE_ALIGNMENT, forecast
from hil.calibration.record import MeasuredNetwork, Record
from hil.errors import UsageError
from hil.jobs.store import Store
from hil.measure.measurement import Identity, Measurement
from hil.runtimes.registry import DEFAULT_RUNTIME
from munas.arch.graph import Shape, build_graph
from munas.arch.space import AnyArchitecture
from munas.cost.calibration import Calibration, KernelCode
from munas.cost.converted import as_converted
from munas.cost.estimate import table_bytes, weights_bytes, works_of
from munas.cost.kernels import Work
from munas.cost.optimise import Optimise

STORE_FILE = "store.sqlite"


@dataclass(frozen=True, slots=True)
class Verified:
    """One measured network of a search: the `works` of its plan, and the code that was linked, bytes by function."""

    architecture: AnyArchitecture
    tflite: bytes
    measurement: Measurement
    works: tuple[Work, ...]
    functions: Mapping[str, int]

    def observation(self, index: int) -> Observation:
        """For the latency fit."""
        times = tuple(layer.median for layer in self.measurement.layers)
        return Observation(index, self.works, times, self.measurement.latency.median)

    def image(self, input_shape: Shape, num_classes: int) -> Image:
        """For the memory fit; constants as predicted from the architecture, of an interpreter the file as it is."""
        memory, functions = self.measurement.memory, self.functions
        if self.measurement.identity.runtime != DEFAULT_RUNTIME:
            return Image(frozenset(work.variant for work in self.works), memory.flash_weights, memory, functions)
        graph = as_converted(build_graph(self.architecture, input_shape, num_classes))
        works = works_of(graph, optimise=Optimise(self.measurement.identity.optimise))
        constants = weights_bytes(works) + table_bytes(works)
        return Image(frozenset(work.variant for work in works), constants, memory, functions)


@dataclass(frozen=True, slots=True)
class Base:
    """What a calibration was fitted on: samples of the search space, and probes of the kernels."""

    records: Sequence[Record]
    probes: Sequence[MeasuredNetwork]


NOTHING = Base((), ())


def records_beside(calibration: Path, identity: Identity) -> Base:
    """The measurements that the calibration at `calibration` was fitted on. Raises UsageError, StoreError."""
    path = calibration.parent / STORE_FILE
    if not path.is_file():
        raise UsageError(
            f"--recalibrate needs the measurements of {calibration}, and there is no {STORE_FILE} beside it;"
            " name the calibration in its run folder"
        )
    with Store(path) as store:
        runs = [
            number for number, run in store.runs().items()
            if run.kind == "calibrate" and dict(run.identity) == asdict(identity)
        ]  # fmt: skip
        records, probes = stored_networks(item for number in runs for item in store.results(number))
    if not records:
        raise UsageError(f"{path} has no measurements of the identity that {calibration} has; calibrate again")
    return Base(records, probes)


def recalibrated(
    base: Base,
    verified: Sequence[Verified],
    shape: tuple[Shape, int],
    identity: Identity,
    seed: int,
    code: KernelCode | None = None,
) -> Calibration:
    """The calibration of `base` and `verified` networks, whose input shape and number of classes are `shape`.

    Raises UsageError for too few records.
    """
    records = base.records
    unit = records[0].measurement.latency.unit
    old = [record.observation for record in records]
    probes = [network.observation(index) for index, network in enumerate(base.probes)]
    first = max((item.index for item in old), default=-1) + 1
    new = [item.observation(first + offset) for offset, item in enumerate(verified)]
    fit = fit_latency([*old, *new], unit, seed, probes=probes)
    latency = fit.latency
    scores = []
    for item, seen in zip(new, fit.held[len(old) :], strict=True):
        now = latency.predict(item.works)
        # Also around what is predicted from now on, by the fit on everything.
        scores += [(item.total - guess) / now.error for guess in (seen.per_operator, now.latency)]
    latency = replace(latency, low=min([latency.low, *scores]), high=max([latency.high, *scores]))
    images = [record.image(forecast(record.sample, identity.runtime, identity.optimise)) for record in records]
    images += [network.image(network.weights + network.tables) for network in base.probes]
    images += [item.image(*shape) for item in verified]
    memory = fit_memory(images, code, CODE_ALIGNMENT[identity.runtime])
    return Calibration(asdict(identity), len(old) + len(new), seed, latency, memory)
