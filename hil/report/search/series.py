"""What the figures of a search draw: its points as numbers, the resources they are drawn against, fronts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from hil.report.charts import numbers
from hil.report.charts.scale import Scale, byte_ticks, padded_range
from hil.search.result import Finalist, Point, SearchResult
from hil.timers import unit_of
from munas.cost.resources import Resources
from munas.search.metrics import METRICS, Form, Metric, MetricSpec

LOG_FROM_RATIO = 8.0  # of the largest to the smallest size drawn
ERROR_REACH = 1.6  # an axis of errors is stretched so far to show a bound
BOUND_REACH = 4.0  # an axis is stretched to show a bound up to so many times its largest value
LARGEST = 1e15  # what is beyond is no size and no time, and would overflow an axis


@dataclass(frozen=True, slots=True)
class PlottedMetric:
    """One resource: `of` reads it from a prediction, `measured` from a finalist's measurement (None: not measurable).

    `key` is the bound's name in the result; `form` and `tick` turn a value into text.
    """

    key: str
    name: str
    axis_name: str
    of: Callable[[Resources], float | None]
    measured: Callable[[Finalist], float | None]
    form: Callable[[float], str]
    tick: Callable[[float], str]
    in_bytes: bool

    def finalist_value(self, finalist: Finalist) -> float | None:
        """What was measured of `finalist`, else what is predicted."""
        value = self.measured(finalist)
        return self.of(finalist.predicted) if value is None else value


def latency_unit(result: SearchResult) -> str:
    """What latencies are counted in; without a calibration, what the timer of the measurements counts."""
    return result.unit or unit_of(result.identity.timer)


def latency_text(result: SearchResult, value: float) -> str:
    """``12.3 ms``, or the timer's unit where that is no time: ``1.23 M instructions``."""
    if result.milliseconds_per_unit is None:
        return f"{numbers.significant(value)}\u00a0{latency_unit(result)}"
    return milliseconds(value * result.milliseconds_per_unit)


def milliseconds(value: float) -> str:
    """Three significant digits in µs, ms or s."""
    if not numbers.finite(value):
        return numbers.MISSING
    if value >= 1000:
        return f"{numbers.significant(value / 1000)}{numbers.NBSP}s"
    if value < 1:
        return f"{numbers.significant(value * 1000)}{numbers.NBSP}µs"
    return f"{numbers.significant(value)}{numbers.NBSP}ms"


def metrics_of(result: SearchResult) -> tuple[PlottedMetric, ...]:
    """The resources worth drawing: what the runtime uses, latency where it is known, MACs, and bounded proxies."""
    return tuple(metric_of(result, row) for row in METRICS.values() if _is_drawn(result, row))


def _is_drawn(result: SearchResult, row: MetricSpec) -> bool:
    if row.form is Form.FRACTION or not row.is_shown:
        return row.is_counted and row.metric.value in result.bounds
    if row.form is not Form.TIME:
        return True
    return any(item.resources is not None and row.read(item.resources) is not None for item in result.points)


def metric_of(result: SearchResult, row: MetricSpec) -> PlottedMetric:
    """A metric as the figures of `result` show it: times in milliseconds where the result can tell them."""
    factor = result.milliseconds_per_unit if row.form is Form.TIME else None
    scale = 1.0 if factor is None else factor

    def of(costs: Resources) -> float | None:
        value = row.read(costs)
        return None if value is None else value * scale

    def measured(item: Finalist) -> float | None:
        if item.measured is None or not row.is_measured:
            return None
        return float(getattr(item.measured, row.metric.value)) * scale

    name = heading(row) + (" (proxy)" if row.is_counted and row.form is Form.BYTES else "")
    unit = {
        Form.BYTES: ", bytes", Form.TIME: f", {latency_unit(result) if factor is None else 'ms'}",
    }.get(row.form, "")  # fmt: skip
    form = milliseconds if factor is not None else numbers.significant
    if row.form is Form.BYTES:
        return PlottedMetric(row.metric.value, name, name + unit, of, measured, numbers.size, numbers.size, True)
    return PlottedMetric(row.metric.value, name, name + unit, of, measured, form, numbers.tick, False)


def heading(row: MetricSpec) -> str:
    """The metric's name at the beginning of a line."""
    return row.name[0].upper() + row.name[1:]


def weights_metric(result: SearchResult) -> PlottedMetric:
    """The part of flash that is the network itself, which pruning makes smaller."""
    found = metric_of(result, METRICS[Metric.WEIGHTS])
    return replace(found, name="Weights in flash", axis_name="Weights, multipliers and tables, bytes")


def bound_of(result: SearchResult, metric: PlottedMetric) -> float | None:
    """The search's bound on `metric`, in the units of its axis."""
    bound = result.bounds.get(metric.key)
    factor = result.milliseconds_per_unit if METRICS[Metric(metric.key)].form is Form.TIME else None
    return bound if bound is None or factor is None else bound * factor


def origin(result: SearchResult, metric: PlottedMetric) -> str:
    """Where the figures of `metric` come from, for the corner of a figure: simulated, measured or counted."""
    row = METRICS[Metric(metric.key)]
    if row.is_counted:
        return "counted from the architecture"
    kind = "simulated" if result.identity.simulated else "measured"
    if row.form is Form.TIME:
        return f"predicted from {kind} runs; finalists {kind}"
    return f"predicted; finalists {kind}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A point that can be drawn against one resource."""

    point: Point
    x: float
    error: float


def trials_of(points: Iterable[Point], metric: PlottedMetric, *, drawn: bool = False) -> tuple[Trial, ...]:
    """The points with an error and a value of `metric`; with `drawn`, its value before pruning."""
    found = []
    for item in points:
        resources = item.drawn if drawn and item.drawn is not None else item.resources
        value = None if resources is None else metric.of(resources)
        if value is not None and is_size(value) and is_error(item.error):
            found.append(Trial(item, value, error_floor(item.error)))
    return tuple(found)


def is_size(value: float | None) -> bool:
    """Whether `value` is a size or a time that has a place on an axis."""
    return value is not None and 0 < value < LARGEST


def is_error(value: float | None) -> bool:
    """Whether `value` is a fraction."""
    return value is not None and 0 <= value <= 1


def error_floor(error: float | None) -> float:
    """An error as a logarithmic axis takes it: from one in ten thousand to one."""
    return min(max(error or 0.0, 1e-4), 1.0)


def staircase(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials that no other one beats in both size and error, by size."""
    kept: list[Trial] = []
    for item in sorted(trials, key=lambda item: (item.x, item.error, item.point.index)):
        if not kept or item.error < kept[-1].error:
            kept.append(item)
    return tuple(kept)


def full_trials(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Those that were trained to the end; all of them where none was."""
    kept = tuple(item for item in trials if not item.point.stopped)
    return kept or tuple(trials)


def error_range(errors: Sequence[float], bound: float | None) -> tuple[float, float, bool]:
    """(low, high, logarithmic) of an axis of errors."""
    values = [error_floor(error) for error in errors]
    if bound is not None and 0 < bound <= max(values) * ERROR_REACH and bound * ERROR_REACH >= min(values):
        values.append(error_floor(bound))
    log = max(values) / min(values) > 4
    low, high = min(values), max(values)
    if log:
        margin = max((high / low) ** 0.05, 1.06)
        return low / margin, min(high * margin, 1.15), True
    margin = max((high - low) * 0.1, high * 0.02)
    return max(low - margin, 0.0), high + margin, False


def size_scale_range(values: Sequence[float], bound: float | None) -> tuple[float, float, bool]:
    """(low, high, logarithmic) of an axis of a resource, with room for its bound where that is near."""
    shown = [value for value in values if value > 0] or [1.0]
    if bound is not None and 0 < bound <= max(shown) * BOUND_REACH:
        shown.append(bound)
    log = max(shown) / min(shown) > LOG_FROM_RATIO
    low, high = padded_range(shown, log)
    return low, high, log


def ticks_of(scale: Scale, metric: PlottedMetric, most: int) -> tuple[float, ...]:
    """Ticks of an axis of `metric`: powers of two for bytes."""
    if not metric.in_bytes:
        return scale.ticks(most)
    if not scale.log:
        return byte_ticks(scale.high, most)
    first, last = math.ceil(math.log2(scale.low)), math.floor(math.log2(scale.high))
    step = max(math.ceil((last - first + 1) / most), 1)
    found = tuple(2.0**power for power in range(first, last + 1) if (power - 10) % step == 0)
    return found or (2.0**first,)


def error_tick(value: float) -> str:
    """A tick of an axis of errors."""
    return f"{value * 100:.3g}{numbers.NBSP}%"


ERROR_TICKS = (
    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1,
    0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
)  # fmt: skip


def error_ticks(scale: Scale, gap: float = 21.0) -> tuple[float, ...]:
    """Round errors at least `gap` drawing units apart; the roundest ones first."""
    if not scale.log:
        return scale.ticks(8)
    placed: list[float] = []
    for value in sorted(ERROR_TICKS, key=_roundness):
        inside = scale.low <= value <= scale.high
        if inside and all(abs(scale(value) - scale(other)) >= gap for other in placed):
            placed.append(value)
    return tuple(sorted(placed))


def _roundness(value: float) -> tuple[int, float]:
    digit = value / 10 ** math.floor(math.log10(value) + 1e-9)
    ranks = {1.0: 0, 2.0: 1, 5.0: 1, 3.0: 2, 7.0: 3, 4.0: 3, 1.5: 4}
    return ranks.get(round(digit, 2), 5), value
