"""What a search found: plain data, written to ``search.json`` and read back by ``munas-hil report``.

Errors and accuracies are fractions (0.12 is 12 %), sizes bytes. Latencies are in the unit of the calibration
(``instructions`` or ``cycles``); `SearchResult.milliseconds_per_unit` is there where that unit means a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.calibration.result import Failure
from hil.errors import UsageError
from hil.files import from_document, read_json, to_document
from hil.measure.measurement import Identity
from munas.arch.graph import mode_of
from munas.cost.resources import Resources
from munas.search.trial import Status

if TYPE_CHECKING:
    from munas.arch.graph import Graph

SEARCH_RESULT_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # 1 had other words: members for finalists, evaluations for trials
RESULT_FILE = "search.json"  # in the run folder of a search


@dataclass(frozen=True, slots=True)
class Box:
    """One operator of a network, as its picture shows it. `inputs` are positions in the tuple, -1 is the network's
    input; `out_shape` is (H, W, C) or (N,); `kind` is ``Conv2D``, ``DWConv2D``, ``Dense``, ``Pool`` or ``Add``."""

    kind: str
    inputs: tuple[int, ...]
    out_shape: tuple[int, ...]
    kernel: int
    stride: int
    pool: tuple[int, int] | None
    pool_type: str | None
    relu: bool
    batch_norm: bool
    macs: int
    weights: int  # kernel and bias elements


def boxes_of(graph: Graph) -> tuple[Box, ...]:
    """The operators of a (deployed) graph, in its order."""
    return tuple(
        Box(
            op.kind.value, op.inputs, op.out_shape, op.kernel, op.stride, op.pool, op.pool_type,
            op.activation == "relu", op.batch_norm, op.macs, op.weight_bytes,
        )
        for op in graph.operators
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One finished trial.

    `error` is the int8 network's and `float_error` the float network's, on the validation set; both None where the
    trial failed. `resources` are those of the emitted network, `drawn` those of the same trial before pruning
    took channels away (None where nothing was pruned). `stopped`: halving ended its training early. `feasible`: it
    meets every bound of the search.
    """

    index: int
    finished_s: float  # time that the search had run, seconds
    error: float | None
    float_error: float | None
    sparsity: float
    status: Status
    epochs: int
    stopped: bool
    feasible: bool
    resources: Resources | None
    drawn: Resources | None = None
    parent: int | None = None
    change: str = "random"


@dataclass(frozen=True, slots=True)
class MeasuredFigures:
    """What the (emulated) device said about one network. `latency` is a median, in `unit`.

    `flash_weights` and `flash` are network and whole image, `ram` is arena, stack and static data together. `checked`
    inputs were compared bit for bit with the reference kernels and `mismatched` of them differed. `sha256` is the
    .tflite's.
    """

    latency: float
    unit: str
    ram: int
    flash: int
    arena: int
    flash_weights: int
    checked: int
    mismatched: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Finalist:
    """One network of the front after the search: re-trained with several seeds, built, run and verified.

    `index` is its Point's. `seed_errors` holds (seed, int8 validation error) of every re-training; the network handed
    over is that of `chosen_seed`. `sd_error` is the sample standard deviation, 0 for one seed. `predicted` is of the
    emitted network of the chosen seed. `outside` names the figures (``latency``, ``ram``, ``flash``) whose measurement
    contradicts the prediction: outside the calibration's interval, or larger than promised.
    """

    index: int
    architecture: Any  # JSON notation of munas.arch.space
    layers: tuple[Box, ...]
    seed_errors: tuple[tuple[int, float], ...]
    chosen_seed: int
    mean_error: float
    sd_error: float
    test_accuracy: float | None  # int8, on the test set; None where it was not tested
    predicted: Resources
    measured: MeasuredFigures | None
    outside: tuple[str, ...]
    folder: str  # of the export, relative to the run folder
    sparsity: float = 0.0
    message: str = ""  # why it was not measured or not tested
    error: float | None = None  # int8, validation, of the network handed over; None in results of older versions
    float_error: float | None = None  # the same of the float network, before it was converted
    int8_cause: str = ""  # which layer is behind a large loss by int8
    collapsed: tuple[tuple[int, float], ...] = ()  # (seed, error) of re-trainings far above the trial's error

    @property
    def spread(self) -> float | None:
        """`sd_error`; None for one seed, which tells nothing of others."""
        return self.sd_error if len(self.seed_errors) > 1 else None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """All that a search found. `front` lists Point indices, smallest error first; `winner` is a Finalist's index."""

    dataset: str
    dataset_sha256: str
    input_shape: tuple[int, ...]
    num_classes: int
    board: str
    identity: Identity  # of the measurements and of the calibration
    unit: str  # of latencies
    milliseconds_per_unit: float | None  # None: the unit is no time (instructions)
    bounds: dict[str, float]  # by munas.search.objective.Metric; error as a fraction, latency in `unit`
    hard_budget: dict[str, float] | None  # networks over it were not trained
    preset: str | None
    strategy: str
    seed: int
    settings: dict[str, Any]  # effort, halving, sparsity, population, sample, ...: numbers, text, lists of numbers
    points: tuple[Point, ...]  # by finishing order
    front: tuple[int, ...]
    finalists: tuple[Finalist, ...]
    winner: int | None
    ok: int
    failed: int
    rejected: int
    failures: tuple[Failure, ...]
    stop_reason: str  # "trials", "time" or "interrupted"
    seconds: float  # of the search itself
    finals_seconds: float  # of re-training, building and measuring the finalists
    images_per_second: float | None  # training, median over all trials
    workers: int
    started: str  # ISO 8601, UTC
    finished: str
    command: str  # reproduces the run
    train_examples: int = 0
    validation_examples: int = 0
    test_examples: int = 0
    calibrated: bool = True  # without a calibration there is no latency, and memory is a cautious bound
    recalibrated: bool = False  # the measurements went into a new calibration
    notes: tuple[str, ...] = field(default=())  # for the reader of the report

    def point(self, index: int) -> Point | None:
        """The point of trial `index`."""
        return next((item for item in self.points if item.index == index), None)

    def best(self) -> Finalist | None:
        """The winner."""
        return next((item for item in self.finalists if item.index == self.winner), None)

    def summary_json(self) -> dict[str, Any]:
        """The ``result`` line of ``search --json``: everything but the trials and the layers of the networks."""
        left_out = {"points", "failures", "finalists", "identity"}
        fields = {key: value for key, value in asdict(self).items() if key not in left_out}
        identity = self.identity
        return fields | {
            "trials": len(self.points), "via": identity.via, "simulated": identity.simulated,
            "timer": identity.timer, "runtime": identity.runtime, "identity": asdict(identity),
            "finalists": [
                {key: value for key, value in asdict(finalist).items() if key != "layers"} for finalist in
                self.finalists
            ],
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``search.json``; `search_result_from_json` is the inverse."""
        return {"search_version": SEARCH_RESULT_VERSION, **to_document(self)}


def _of_version_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of version 1 in the words of version 2."""
    settings = {"trials" if key == "evaluations" else key: value for key, value in document["settings"].items()}
    if "mode" in settings:
        settings["mode"] = mode_of(settings["mode"])
    stop_reason = "trials" if document["stop_reason"] == "evaluations" else document["stop_reason"]
    renamed = {"finalists" if key == "members" else key: value for key, value in document.items()}
    return {**renamed, "settings": settings, "stop_reason": stop_reason}


def is_search_document(document: object) -> bool:
    """Whether `document` is a search's result (and not a calibration's)."""
    return isinstance(document, Mapping) and "search_version" in document


def search_result_from_json(document: dict[str, Any]) -> SearchResult:
    """Inverse of `SearchResult.to_json`. Raises UsageError when it is not such a document."""
    try:
        values = dict(document)
        version = values.pop("search_version")
        if version not in _READABLE_VERSIONS:
            known = " and ".join(map(str, _READABLE_VERSIONS))
            raise UsageError(f"result has version {version!r}, this program reads {known}; search again")
        if version == 1:
            values = _of_version_1(values)
        result = from_document(SearchResult, values)
        _require_consistent(result)
        return result
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"not the result of a search: {type(error).__name__}: {error}") from error


def _require_consistent(result: SearchResult) -> None:
    """Raise ValueError where an index of the document points nowhere."""
    known, finalists = {item.index for item in result.points}, {item.index for item in result.finalists}
    if len(known) != len(result.points) or len(finalists) != len(result.finalists):
        raise ValueError("a point or a finalist is there twice")
    if unknown := sorted({*result.front, *finalists} - known):
        raise ValueError(f"front or finalists name trials that are no points: {unknown[:5]}")
    if result.winner is not None and result.winner not in finalists:
        raise ValueError(f"winner {result.winner} is no finalist")
    for finalist in result.finalists:
        for position, box in enumerate(finalist.layers):
            if not box.inputs or any(not -1 <= source < position for source in box.inputs):
                raise ValueError(f"finalist {finalist.index}: layer {position} reads a layer that is not before it")


def read_search_result(path: Path) -> SearchResult:
    """The result in the ``search.json`` at `path` (or in the run folder `path`). Raises UsageError."""
    file = path / RESULT_FILE if path.is_dir() else path
    document = read_json(file, "result of a search")
    try:
        return search_result_from_json(document)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
