"""The table of metrics: what a search can bound, report and draw, and where each figure is read.

One more metric (energy, say) is a member of `Metric` and a row here, a field of `Resources` that the `Assessor` fills,
and a field of `MeasuredFigures` where a device measures it; the option that bounds it is a field of the search's
options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from munas.cost.resources import Resources


class Metric(StrEnum):
    """What a bound can be set on; the order is that in which weights are drawn, so a new one comes last."""

    ERROR = "error"
    PEAK_MEMORY = "peak_memory"
    MODEL_SIZE = "model_size"
    MACS = "macs"
    RAM = "ram"
    FLASH = "flash"
    WEIGHTS = "flash_weights"
    LATENCY = "latency"


class Form(StrEnum):
    """What a figure is, which decides how a bound on it is written and how it is shown."""

    FRACTION = "fraction"  # 0..1, shown in per cent
    BYTES = "bytes"
    COUNT = "count"
    TIME = "time"  # in the calibration's unit; in seconds where that is a time


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. `name` stands over columns, `title` in tables of bounds, `phrase` behind "no network has".

    `read` takes the prediction from a network's resources (None: it is not known; the error has no prediction).
    `option` is the search's option that bounds it, empty where only presets do. `region` of the board's budget is the
    largest bound there can be, and the bound itself without an option where `fills_region`. `is_measured` says that the
    device says it too, `is_shown` that it is worth a column and a figure without a bound on it. `never_above`: more
    than predicted is a failure (a time is held against its interval).
    """

    metric: Metric
    name: str
    title: str
    phrase: str
    form: Form
    read: Callable[[Resources], float | None]
    option: str = ""
    region: Literal["flash", "sram"] | None = None
    fills_region: bool = False
    is_measured: bool = False
    is_shown: bool = False
    never_above: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether it follows from the architecture alone."""
        return not self.is_measured and self.form is not Form.FRACTION

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return f"--{self.option.replace('_', '-')}"


_ROWS = (
    MetricSpec(
        Metric.ERROR, "error", "Validation error, int8", "an error", Form.FRACTION, lambda _: None,
        option="max_error", is_shown=True,
    ),
    MetricSpec(
        Metric.RAM, "RAM", "RAM: arena, stack, static data", "a RAM", Form.BYTES, lambda costs: costs.ram,
        option="max_ram", region="sram", fills_region=True, is_measured=True, is_shown=True, never_above=True,
    ),
    MetricSpec(
        Metric.FLASH, "flash", "Flash: weights and code", "a flash", Form.BYTES, lambda costs: costs.flash,
        option="max_flash", region="flash", fills_region=True, is_measured=True, is_shown=True, never_above=True,
    ),
    MetricSpec(
        Metric.WEIGHTS, "weights", "Weights and tables in flash", "weights in flash", Form.BYTES,
        lambda costs: costs.flash_weights, option="max_weights", region="flash", is_measured=True,
    ),
    MetricSpec(
        Metric.LATENCY, "latency", "Latency", "a latency", Form.TIME, lambda costs: costs.latency,
        option="max_latency", is_measured=True, is_shown=True,
    ),
    MetricSpec(
        Metric.MACS, "MACs", "MACs", "MACs", Form.COUNT, lambda costs: costs.macs, option="max_macs", is_shown=True
    ),
    MetricSpec(
        Metric.PEAK_MEMORY, "peak memory", "Peak memory (µNAS' proxy)", "a peak memory", Form.BYTES,
        lambda costs: None if costs.peak_memory < 0 else costs.peak_memory, option="max_peak_memory",
    ),
    MetricSpec(
        Metric.MODEL_SIZE, "model size", "Model size (µNAS' proxy)", "a model size", Form.BYTES,
        lambda costs: costs.model_size, option="max_model_size",
    ),
)  # fmt: skip

METRICS: Mapping[Metric, MetricSpec] = {row.metric: row for row in _ROWS}
"""In the order in which they are shown."""


def features(error: float | None, resources: Resources) -> dict[Metric, float]:
    """Figures by metric; what is not known (no error yet, no calibration, no proxies asked for) is left out."""
    known = {metric: error if metric is Metric.ERROR else METRICS[metric].read(resources) for metric in Metric}
    return {metric: value for metric, value in known.items() if value is not None}
