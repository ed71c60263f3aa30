"""Predicted against measured: where a network's measurement contradicts what the search believed of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import binom

from hil.measure.measurement import Measurement
from hil.search.result import Finalist, MeasuredFigures
from munas.cost.resources import Resources
from munas.search.metrics import METRICS

CHANCE = 0.01  # less likely than this is no bad luck


def figures_of(measurement: Measurement) -> MeasuredFigures:
    """What the result keeps of a measurement."""
    memory, outputs, latency = measurement.memory, measurement.outputs, measurement.latency
    return MeasuredFigures(
        latency=latency.median,
        unit=latency.unit,
        ram=memory.ram_total,
        flash=memory.flash_total,
        arena=memory.arena_planned,
        flash_weights=memory.flash_weights,
        checked=outputs.checked,
        mismatched=outputs.mismatched,
        sha256=measurement.sha256,
    )


def outside_of(predicted: Resources, measured: MeasuredFigures) -> tuple[str, ...]:
    """Figures that contradict: more RAM or flash than predicted, or a latency outside its interval."""
    outside = []
    for metric, row in METRICS.items():
        promised = row.read(predicted)
        if row.never_above and promised is not None and getattr(measured, metric.value) > promised:
            outside.append(metric.value)
    if _excess(predicted, measured) > 0:
        outside.append("latency")
    return tuple(outside)


def drift_text(finalists: Sequence[Finalist], level: float) -> str:
    """One line naming every contradiction, empty when predictions and measurements have not drifted apart.

    Memory may never be under. A sound interval leaves out a latency in 1 - `level` of cases, so latencies have drifted
    when one is outside by more than its interval is wide, or when more are outside than chance explains (binomial).
    """
    known = [(item.predicted, item.measured) for item in finalists if item.measured is not None]
    outside = [_excess(predicted, measured) for predicted, measured in known]
    outside = [excess for excess in outside if excess > 0]
    by_chance = float(binom.sf(len(outside) - 1, len(known), 1.0 - level)) if outside else 1.0
    has_drifted = by_chance < CHANCE or max(outside, default=0.0) > 1.0
    told = [item for item in finalists if has_drifted or set(item.outside) - {"latency"}]
    return "; ".join(_finalist_text(item) for item in told if item.outside)


def _excess(predicted: Resources, measured: MeasuredFigures) -> float:
    """How far a latency is outside its interval, in widths of it; 0 inside, or where nothing was predicted."""
    low, high = predicted.latency_low, predicted.latency_high
    if low is None or high is None:
        return 0.0
    beyond = max(low - measured.latency, measured.latency - high, 0.0)
    if beyond == 0:
        return 0.0
    return beyond / (high - low) if high > low else math.inf


def _finalist_text(finalist: Finalist) -> str:
    predicted, measured = finalist.predicted, finalist.measured
    assert measured is not None
    parts = []
    for name in finalist.outside:
        if name == "latency":
            interval = f"{predicted.latency_low:,.0f} to {predicted.latency_high:,.0f} {predicted.unit}"
            parts.append(f"latency {measured.latency:,.0f} is outside {interval}")
        else:
            low, high = (getattr(predicted, name), getattr(measured, name))
            parts.append(f"{name} {high:,} bytes, {low:,} were predicted")
    return f"network {finalist.index}: {', '.join(parts)}"
