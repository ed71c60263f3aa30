"""What a calibration found: plain data, written to ``result.json`` and read back by ``munas-hil report``.

Fractions, not per cent: ``mape = 0.021`` is 2.1 %. Times are in the unit of the timer (``instructions`` or
``cycles``), sizes in bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hil.calibration.devices import DeviceReport
from hil.calibration.population import DEFAULT_POPULATION, PAPER_R2
from hil.errors import UsageError
from hil.files import from_document, read_json, to_document
from hil.measure.arena import ArenaMap
from hil.measure.measurement import Identity

RESULT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Metrics:
    """Errors of one fit, cross-validated by architecture; all fractions. r2 is of linear time, not of log time."""

    mape: float
    max_ape: float
    within_10pct: float
    r2: float
    spearman: float


@dataclass(frozen=True, slots=True)
class Fit:
    """One estimator: its cross-validated metrics and the coefficients fitted on all samples.

    `coefficients` maps ``path.feature`` (``conv-1x1.macs``, ...; for the MACs fit ``macs`` and ``intercept``) to
    time units per unit of that feature.
    """

    metrics: Metrics
    folds: int
    coefficients: dict[str, float]


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One measured network. `measured` is the median single-inference time; predictions come from the fold that did
    not see this architecture; [`low`, `high`] is the 95 % prediction interval of the per-operator fit."""

    index: int
    model: str
    summary: str  # one line: input shape, blocks, dense layers
    sha256: str
    input_shape: tuple[int, ...]
    num_classes: int
    macs: int
    layers: int
    fold: int
    measured: float
    predicted_mac: float
    predicted_op: float
    low: float
    high: float
    # where the bytes go, measured from the ELF and the device
    flash_weights: int
    flash_code: int
    flash_total: int
    arena_used: int
    arena_planned: int
    stack_used: int
    stack_reserved: int
    static_ram: int
    ram_total: int
    # what the estimator says (from the architecture alone)
    predicted_arena: int
    predicted_flash: int
    predicted_ram: int
    stack_bound: int = 0  # the most by the call graph; 0 where that is not known
    unsteady: int = 0  # spread of the same inference repeated, where it is more than the timer explains

    @property
    def error_op(self) -> float:
        """Signed relative error of the per-operator prediction."""
        return self.predicted_op / self.measured - 1.0

    @property
    def error_mac(self) -> float:
        """Signed relative error of the MACs-only prediction."""
        return self.predicted_mac / self.measured - 1.0


@dataclass(frozen=True, slots=True)
class PathError:
    """Cross-validated error of the per-layer predictions of one kernel path, over all layers of all samples."""

    path: str
    layers: int
    time_share: float  # part of all measured time
    mape: float
    max_ape: float
    bias: float  # sum(predicted) / sum(measured) - 1


@dataclass(frozen=True, slots=True)
class MemoryErrors:
    """Largest absolute difference between prediction and measurement, bytes; `under` counts predictions that were
    too small, which must be none."""

    arena_max_error: int
    ram_max_error: int
    flash_max_error: int
    arena_under: int
    ram_under: int
    flash_under: int


@dataclass(frozen=True, slots=True)
class CodeSize:
    """Flash taken by one part of the firmware (``base``, or a kernel path), bytes, as the memory model has it."""

    part: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CycleClass:
    """Part of a network's modelled cycles that goes to one class: mean, least and most over all networks.

    Fractions of the whole; a core that issues two instructions at once saves cycles, and ``pipeline`` is negative.
    """

    name: str
    mean: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class LayerCycles:
    """Part of one network's modelled cycles that goes to one executed step."""

    index: int
    path: str
    share: float


@dataclass(frozen=True, slots=True)
class CycleShares:
    """Where modelled cycles go: by class over `networks`, whose means add up to 1, and by layer of an example."""

    networks: int
    classes: tuple[CycleClass, ...]
    model: str
    summary: str
    layers: tuple[LayerCycles, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """One sample that could not be measured."""

    index: int
    summary: str
    error: str


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """All that a calibration run found. `worst` lists indices into `samples` (by SampleResult.index), worst first."""

    identity: Identity
    unit: str  # of every time here: "instructions" or "cycles"
    created: str  # ISO 8601, UTC
    seed: int
    budget_flash: int
    budget_sram: int
    samples: tuple[SampleResult, ...]
    failed: tuple[Failure, ...]
    mac_only: Fit
    per_operator: Fit
    interval_coverage: float  # part of samples whose measured time is inside [low, high], cross-validated
    paths: tuple[PathError, ...]
    memory: MemoryErrors
    code_sizes: tuple[CodeSize, ...]
    worst: tuple[int, ...]
    outputs_checked: int
    outputs_mismatched: int
    models_per_minute: float
    wall_seconds: float
    workers: int
    stage_seconds: dict[str, float] = field(default_factory=dict)  # mean host seconds per model and stage
    arena_tight: float = 1.0  # part of samples whose arena equals the lower bound
    arena_map: ArenaMap | None = None
    cycles: CycleShares | None = None  # timer modelled-cycles only
    population: str = DEFAULT_POPULATION
    devices: tuple[DeviceReport, ...] = ()  # connected boards
    calibration_path: str = ""
    report_path: str = ""

    @property
    def macs_r2(self) -> float | None:
        """R^2 of a straight line of time over MACs, what µNAS reports; None where there is none."""
        macs, times = (np.array([getattr(item, name) for item in self.samples], float) for name in ("macs", "measured"))
        if len(macs) < 3 or np.ptp(macs) == 0 or np.ptp(times) == 0:
            return None
        return float(np.corrcoef(macs, times)[0, 1] ** 2)

    def summary_json(self) -> dict[str, Any]:
        """The document of ``calibrate --json``: keys and order of the shared design."""
        return {
            "board": self.identity.board, "runtime": self.identity.runtime, "via": self.identity.via,
            "timer": self.identity.timer, "samples": len(self.samples), "failed": len(self.failed),
            "fits": {
                "mac_only": asdict(self.mac_only.metrics),
                "per_operator": asdict(self.per_operator.metrics),
            },
            "memory": {
                "arena_max_error": self.memory.arena_max_error,
                "ram_max_error": self.memory.ram_max_error,
                "flash_max_error": self.memory.flash_max_error,
            },
            "population": self.population, "macs_r2": self.macs_r2,
            **({"paper_macs_r2": PAPER_R2} if self.population == "paper" else {}),
            "models_per_minute": self.models_per_minute,
            **({"devices": [item.to_json() for item in self.devices]} if self.devices else {}),
            "calibration": self.calibration_path, "report": self.report_path,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``result.json``; `result_from_json` is the inverse."""
        return {"version": RESULT_VERSION, **to_document(self)}


def result_from_json(document: dict[str, Any]) -> CalibrationResult:
    """Inverse of `CalibrationResult.to_json`. Raises UsageError when it is not such a document."""
    try:
        values = dict(document)
        version = values.pop("version")
        if version != RESULT_VERSION:
            raise UsageError(f"result has version {version!r}, this program reads {RESULT_VERSION}; calibrate again")
        return from_document(CalibrationResult, values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"not a calibration result: {type(error).__name__}: {error}") from error


def read_result(path: Path) -> CalibrationResult:
    """The result in the ``result.json`` at `path` (or in the run folder `path`). Raises UsageError."""
    file = path / "result.json" if path.is_dir() else path
    return result_from_json(read_json(file, "calibration result"))
