"""What the search minimises: bounds on error and resources, their scalarisation, the Pareto front.

The fitness is µNAS': each objective over its bound (ten times the bound at most) and over a weight that is drawn anew
for every choice of a parent; the worst one counts. What has no bound is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from munas.cost.floor import floor
from munas.cost.resources import Assessor
from munas.search.metrics import METRICS, Form, Metric, features

if TYPE_CHECKING:
    from numpy.random import Generator

WORST_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper bounds: error as a fraction, memory and sizes in bytes, latency in the calibration's unit (instructions or
    cycles). Raises ValueError for a bound that is not a finite number.
    """

    values: Mapping[Metric, float]

    def __post_init__(self) -> None:
        for metric, value in self.values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"bound on {metric}: {value!r} is not a finite number")
        given = {Metric(metric): value for metric, value in self.values.items()}  # ValueError for an unknown one
        object.__setattr__(self, "values", {metric: given[metric] for metric in Metric if metric in given})

    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    @property
    def resources(self) -> Bounds:
        """The bounds that can be looked at before training: all but the one on the error."""
        return Bounds({metric: value for metric, value in self.values.items() if metric is not Metric.ERROR})

    @property
    def error_alone(self) -> Bounds:
        """The bound on the error without the others."""
        return Bounds({metric: value for metric, value in self.values.items() if metric is Metric.ERROR})

    def to_json(self) -> dict[str, float]:
        """{name: bound}: what `from_json` reads."""
        return {metric.value: value for metric, value in self.values.items()}

    @classmethod
    def from_json(cls, document: object) -> Bounds:
        """Raises ValueError that names the key for anything but {name: finite number}."""
        if not isinstance(document, Mapping):
            raise ValueError(f"bounds: expected an object, got {type(document).__name__}")
        if unknown := sorted(str(key) for key in document if key not in tuple(Metric)):
            raise ValueError(f"bounds: unknown {', '.join(unknown)}; known are {', '.join(Metric)}")
        return cls({Metric(key): value for key, value in document.items()})


def draw_lambdas(bounds: Bounds, rng: Generator) -> dict[Metric, float]:
    """A weight from U(0, 1] for each bound: one double of the generator for each, in the metrics' order."""
    return {metric: 1.0 - float(rng.random()) for metric in bounds.values}


def fitness(figures: Mapping[Metric, float], bounds: Bounds, lambdas: Mapping[Metric, float]) -> float:
    """-max(min(figure / bound, 10) / lambda) over all bounds; higher is fitter, 0 without bounds.

    Raises KeyError for a bound whose metric has no figure or no weight.
    """
    return -max(
        (_ratio(figures[metric], bound) / lambdas[metric] for metric, bound in bounds.values.items()), default=0.0
    )


def _ratio(figure: float, bound: float) -> float:
    return min(figure / bound, WORST_RATIO) if bound > 0 else WORST_RATIO


def exceeded(figures: Mapping[Metric, float], bounds: Bounds) -> tuple[Metric, ...]:
    """Metrics whose bound is not met. Raises KeyError for a bound whose metric has no figure."""
    return tuple(metric for metric, bound in bounds.values.items() if not figures[metric] <= bound)


def meets(figures: Mapping[Metric, float], bounds: Bounds) -> bool:
    """Whether all bounds are met. Raises KeyError for a bound whose metric has no figure."""
    return not exceeded(figures, bounds)


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices, ascending, of the points that no other is at least as good as in everything (all is minimised).

    Of equal points the first is kept.
    """
    front: list[int] = []
    # In lexicographic order a point can only be dominated by one before it.
    for index in sorted(range(len(points)), key=lambda index: (tuple(points[index]), index)):
        point = points[index]
        if not any(all(a <= b for a, b in zip(points[other], point, strict=True)) for other in front):
            front.append(index)
    return sorted(front)


def unreachable(bounds: Bounds, assessor: Assessor, *, mlp: bool = False) -> str | None:
    """Why no network of the space (the MLP space with `mlp`), pruned or not, can meet the bounds; None if one might.

    None is no promise: the bounds are compared one by one with what every network needs. Raises ValueError for a bound
    that the assessor cannot look at: latency without a calibration.
    """
    if Metric.LATENCY in bounds.values and assessor.calibration is None:
        raise ValueError("a bound on latency needs a calibration")
    least = {Metric.ERROR: 0.0, **features(None, floor(assessor, mlp=mlp))}
    for metric, bound in bounds.values.items():
        if bound <= 0:
            return f"no network has {METRICS[metric].phrase} of {bound:g} or less"
        if bound < least[metric]:
            needs = f"{math.ceil(least[metric]):,} {_unit(metric, assessor)}".rstrip()
            return f"no network has {METRICS[metric].phrase} of {bound:,.0f}: the smallest needs {needs} or more"
    return None


def _unit(metric: Metric, assessor: Assessor) -> str:
    form = METRICS[metric].form
    if form is Form.TIME and assessor.calibration is not None:
        return assessor.calibration.latency.unit
    return "bytes" if form is Form.BYTES else ""


@dataclass(frozen=True, slots=True)
class Preset:
    """Bounds of one of the paper's runs, the data set it is for, and whether the run prunes."""

    bounds: Bounds
    dataset: str
    pruned: bool = False


def _preset(dataset: str, error: float, peak: int, size: int, macs: int, pruned: bool = False) -> Preset:
    values = {Metric.ERROR: error, Metric.PEAK_MEMORY: peak, Metric.MODEL_SIZE: size, Metric.MACS: macs}
    return Preset(Bounds(values), dataset, pruned)


PRESETS: Mapping[str, Preset] = {
    "munas-mnist": _preset("mnist", 0.035, 2_500, 4_500, 30_000_000),
    "munas-mnist-binary": _preset("mnist-binary", 0.01, 2_000, 2_000, 1_000_000),
    "munas-fashion": _preset("fashion-mnist", 0.10, 64_000, 64_000, 30_000_000),
    "munas-chars74k": _preset("chars74k", 0.30, 10_000, 20_000, 1_000_000),
    "munas-chars74k-binary": _preset("chars74k-binary", 0.26, 1_500, 1_000, 1_000_000),
    "munas-cifar10": _preset("cifar10", 0.18, 75_000, 75_000, 30_000_000),
    "munas-cifar10-pruned": _preset("cifar10", 0.10, 50_000, 50_000, 60_000_000, pruned=True),
    "munas-cifar10-binary": _preset("cifar10-binary", 0.30, 3_000, 2_000, 1_000_000),
    "munas-speech": _preset("speech-commands", 0.085, 60_000, 40_000, 20_000_000),
}
"""The paper's bounds (its k is 1,000), and those of the authors' configuration of MNIST binary."""
