"""What one measurement is, and the identity that says what it may be compared with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from hil.cycle_model.modelled import ModelledLatency, modelled_from_json
from hil.errors import CalibrationMismatch
from hil.files import from_document
from hil.measure.rounding import BIT_FOR_BIT
from hil.targets.clock import ClockReading
from hil.timers import TIMER_STEPS, TimerKind


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a figure comes from. Two figures may meet in a table, fit or comparison only when these are equal."""

    board: str
    core: str
    runtime: str
    via: str
    simulated: bool
    timer: TimerKind
    clock_hz: int
    compiler: str
    flags: str
    kernels: str
    firmware: str  # hash of runtime, port, kernels wrapper and linker script sources
    tick_ns: int = 0  # of an emulator's timer; 0: it counts the core's clocks
    cycle_model: str = ""  # timer modelled-cycles: hash of the timing model and the board's constants
    optimise: str = "balanced"  # what the planner chose kernels by

    def require_same(self, other: Identity, what: str) -> None:
        """Raise CalibrationMismatch naming every difference between self and `other`; `what` names `other`."""
        differences = [
            f"{item.name} is {getattr(other, item.name)!r} there and {getattr(self, item.name)!r} here"
            for item in fields(self)
            if getattr(self, item.name) != getattr(other, item.name)
        ]
        if differences:
            raise CalibrationMismatch(f"{what} belongs to another identity: {'; '.join(differences)}")


@dataclass(frozen=True, slots=True)
class Latency:
    """Single-inference times; `samples` in `unit` (``instructions`` or ``cycles``)."""

    unit: str
    samples: tuple[int, ...]

    @property
    def min(self) -> int:
        """The fastest inference, in `unit`."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """The median, in `unit`; between two samples of an even number."""
        return float(statistics.median(self.samples))

    @property
    def max(self) -> int:
        """The slowest inference, in `unit`."""
        return max(self.samples)

    def to_json(self) -> dict[str, Any]:
        """As --json and stores have it."""
        return {
            "unit": self.unit, "samples": list(self.samples),
            "min": self.min, "median": self.median, "max": self.max,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repeatability:
    """How well a board repeats itself: the same input again and again, single inferences, in the latency's unit.

    `cold` is the first inference after the reset, when caches and prefetch buffers were empty: it is not among `times`.
    """

    cold: int
    times: tuple[int, ...]

    @property
    def median(self) -> float:
        """Median of `times`, in the latency's unit."""
        return float(statistics.median(self.times))

    @property
    def spread(self) -> int:
        """Between the slowest and the fastest."""
        return max(self.times) - min(self.times)

    @property
    def warm_up(self) -> float:
        """What the first inference took more than the later ones, a fraction."""
        return self.cold / self.median - 1.0

    @property
    def is_steady(self) -> bool:
        """Whether the timer explains the spread; else something interrupts the core or shares its memory."""
        return self.spread <= TIMER_STEPS

    def to_json(self) -> dict[str, Any]:
        """As --json and stores have it."""
        return {
            "cold": self.cold, "times": list(self.times), "median": self.median, "spread": self.spread,
            "warm_up": self.warm_up, "steady": self.is_steady,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One executed step of the plan: its operator and median time in the latency's unit."""

    index: int
    op: str
    name: str
    median: float


@dataclass(frozen=True, slots=True)
class Memory:
    """All in bytes. `ram_total` = static_ram + arena_planned + stack_reserved, what the linker places.

    `stack_used` is what an inference was seen to use, `stack_bound` the most that any command can use by the image's
    call graph; 0 where that is not known (an interpreter, a measurement of an older version).

    `flash_weights` is the network: weights, biases, multipliers and layer tables (or a whole .tflite, where that is
    interpreted); `flash_code` is all other flash.
    """

    arena_planned: int
    arena_used: int
    stack_used: int
    stack_reserved: int
    static_ram: int
    ram_total: int
    flash_weights: int
    flash_code: int
    flash_total: int
    stack_bound: int = 0


@dataclass(frozen=True, slots=True)
class Outputs:
    """Inputs verified, and how many of their outputs differed from what the runtime's kernels must compute.

    That is LiteRT's reference kernels, bit for bit. Only TFLM rounds dense layers otherwise
    (hil/runtimes/tflm/reference.py); `litert_mismatched` says on how many inputs that shows. `undefined` names the
    extreme inputs that LiteRT's kernels cannot run (a softmax aborts when all of 512 classes are equal): others, random
    ones, were verified in their place. Outputs of float32 have another `rule`, and the `largest_error` that was seen,
    as that rule states it (hil/measure/rounding.py).
    """

    checked: int
    mismatched: int
    litert_mismatched: int = 0
    undefined: tuple[str, ...] = ()
    rule: str = BIT_FOR_BIT
    largest_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Build:
    """`id` names everything the image was built from; `elf_sha256` is the image itself.

    `constant_channels` of convolutions were left out: a figure with 0 is not that of the same network with others.
    """

    id: str
    elf_sha256: str
    compiler: str
    flags: str
    kernels: str
    constant_channels: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One network on one board. `modelled` is there where a timing model watched, whatever the timer is.

    `device` is the serial number of a connected board. It is no part of the identity: boards of a kind may be pooled.
    `repeatability` is there where a board measured (an emulator's count is the same every time), `clock` where the
    campaign has measured that board's.
    """

    model: str
    sha256: str
    identity: Identity
    latency: Latency
    layers: tuple[LayerTime, ...]
    memory: Memory
    outputs: Outputs
    build: Build
    seconds: dict[str, float] = field(default_factory=dict)  # host time per stage, for `make bench`
    modelled: ModelledLatency | None = None
    device: str | None = None
    repeatability: Repeatability | None = None
    clock: ClockReading | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `measure --json` for one model (shared design: keys and order)."""
        identity = self.identity
        return {
            "model": self.model, "sha256": self.sha256, "board": identity.board, "runtime": identity.runtime,
            "via": identity.via, "device": self.device, "simulated": identity.simulated, "timer": identity.timer,
            "clock_hz": identity.clock_hz, "latency": self.latency.to_json(),
            "layers": [asdict(layer) for layer in self.layers], "memory": asdict(self.memory),
            "outputs": asdict(self.outputs), "build": asdict(self.build), "identity": asdict(identity),
            "seconds": dict(self.seconds), "modelled": None if self.modelled is None else self.modelled.to_json(),
            "repeatability": None if self.repeatability is None else self.repeatability.to_json(),
            "clock": None if self.clock is None else asdict(self.clock),
        }  # fmt: skip


def measurement_from_json(document: Mapping[str, Any]) -> Measurement:
    """Inverse of `Measurement.to_json`. Raises KeyError, TypeError or ValueError on a foreign document.

    What older versions did not write has the default of its field.
    """
    known = {item.name: document[item.name] for item in fields(Measurement) if item.name in document}
    latency, modelled = document["latency"], known.pop("modelled", None)
    known["latency"] = {"unit": latency["unit"], "samples": latency["samples"]}  # the others follow from them
    if (repeated := known.get("repeatability")) is not None:
        known["repeatability"] = {"cold": repeated["cold"], "times": repeated["times"]}
    measurement = from_document(Measurement, known)
    if modelled is None:
        return measurement
    return replace(measurement, modelled=modelled_from_json(modelled))
