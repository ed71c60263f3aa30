"""Tables of the report as plain data: the template only loops over them."""

from __future__ import annotations

import math

from markupsafe import Markup

from hil.calibration.devices import DeviceReport
from hil.calibration.result import CalibrationResult, SampleResult
from hil.report.calibration.series import Group
from hil.report.charts import numbers, svg
from hil.report.charts.tables import STRIP_ENDS, Column, Table, bar, interval_strip
from hil.timers import TIMER_STEPS

MOST_WORST = 20
NOTATION = (
    "c3x16/2: convolution 3×3, 16 filters, stride 2. px16: convolution 1×1. d5: depthwise 5×5. "  # noqa: RUF001
    "^: 2×2 max pool before it. +: the block is a branch. avg4, max4: final pool. Then the hidden dense layers."  # noqa: RUF001
)


def fits_table(result: CalibrationResult) -> Table:
    """Both fits beside each other."""
    mac, op = result.mac_only.metrics, result.per_operator.metrics
    rows = (
        ("Mean absolute error (MAPE)", numbers.percent(mac.mape), numbers.percent(op.mape)),
        ("Largest absolute error", numbers.percent(mac.max_ape), numbers.percent(op.max_ape)),
        ("Networks within 10 %", numbers.share(mac.within_10pct), numbers.share(op.within_10pct)),
        ("R² of time", numbers.correlation(mac.r2), numbers.correlation(op.r2)),
        ("Spearman's rank correlation", numbers.correlation(mac.spearman), numbers.correlation(op.spearman)),
        ("Inside the 95 % interval", numbers.MISSING, numbers.share(result.interval_coverage)),
        ("Coefficients", str(len(result.mac_only.coefficients)), str(len(result.per_operator.coefficients))),
    )
    columns = (Column("Cross-validated by architecture"), Column("MACs only", "number"),
               Column("Per operator", "number"))  # fmt: skip
    return Table("Both fits on networks they had not seen", columns, rows)


def paths_table(result: CalibrationResult) -> Table:
    """Time share and error of every kernel path, most time first."""
    paths = sorted(result.paths, key=lambda item: (-_orderable(item.time_share), item.path))
    most_share = max((item.time_share for item in paths if math.isfinite(item.time_share)), default=0.0)
    most_mape = max((item.mape for item in paths if math.isfinite(item.mape)), default=0.0)
    rows = tuple(
        (
            item.path, bar(item.time_share, most_share, "time"), numbers.percent(item.time_share),
            bar(item.mape, most_mape, "op"), numbers.percent(item.mape), numbers.percent(item.max_ape),
            numbers.percent(item.bias, signed=True), numbers.count(item.layers),
        )
        for item in paths
    )  # fmt: skip
    columns = (
        Column("Kernel path", "code"), Column("Share of all time", "graphic"), Column("", "number"),
        Column("MAPE of a layer", "graphic"), Column("", "number"), Column("Largest", "number"),
        Column("Bias", "number"), Column("Layers", "number"),
    )  # fmt: skip
    return Table("Per-operator fit, error of single layers by kernel path", columns, rows)


def _orderable(value: float) -> float:
    return value if math.isfinite(value) else -1.0


def devices_table(result: CalibrationResult) -> Table:
    """The connected boards: whether their clocks are what they are told to be, and how well they repeat themselves."""
    rows = tuple(
        (
            item.device, numbers.count(item.measurements), _clock(item), _celsius(item),
            numbers.MISSING if item.warm_up is None else numbers.percent(item.warm_up, signed=True),
            numbers.count(item.unsteady), numbers.percent(item.worst_spread),
            numbers.MISSING if item.drift is None else numbers.percent(item.drift, signed=True),
        )
        for item in result.devices
    )  # fmt: skip
    columns = (
        Column("Board", "code"), Column("Networks", "number"), Column("Clock by the host's", "number"),
        Column("Temperature", "number"), Column("First inference", "number"), Column("Unsteady", "number"),
        Column("Largest spread", "number"), Column("Drift", "number"),
    )  # fmt: skip
    note = (
        f"Unsteady: the same inference, repeated, spread by more than the {TIMER_STEPS} steps that the timer explains. "
        "First inference: what it took more than the later ones, median. Drift: of the campaign's first network, which "
        "was measured again and again, from its first figure, the largest. Temperature: of the chip, where the port "
        "has a sensor for it."
    )
    return Table("Boards of the campaign", columns, rows, note)


def _clock(item: DeviceReport) -> str:
    if not item.clocks:
        return "not measured"
    worst = max(item.clocks, key=lambda reading: abs(reading.off))
    return f"{numbers.frequency(worst.measured_hz)} ({numbers.percent(worst.off, signed=True)})"


def _celsius(item: DeviceReport) -> str:
    low, high = min(item.celsius, default=None), max(item.celsius, default=None)
    if low is None or high is None:
        return numbers.MISSING
    return f"{low:.0f} to {high:.0f}{numbers.NBSP}°C"


def groups_table(groups: tuple[Group, ...], unit: str) -> Table:
    """Error of both fits by input shape."""
    rows = tuple(
        (
            numbers.shape(group.input_shape), numbers.count(group.networks),
            numbers.significant(group.fastest), numbers.significant(group.slowest),
            numbers.percent(group.mape_mac), numbers.percent(group.mape_op), numbers.share(group.within_10pct),
        )
        for group in groups
    )  # fmt: skip
    columns = (
        Column("Input"), Column("Networks", "number"), Column(f"Fastest, {unit}", "number"),
        Column("Slowest", "number"),
        Column("MAPE MACs only", "number"), Column("MAPE per operator", "number"), Column("Within 10 %", "number"),
    )  # fmt: skip
    return Table("Error by input shape", columns, rows)


def memory_table(result: CalibrationResult) -> Table:
    """How far the memory model is off."""
    found = result.memory
    rows: tuple[tuple[str, ...], ...] = (
        ("Arena", f"{found.arena_max_error:,} B", _under(found.arena_under)),
        ("RAM, all included", f"{found.ram_max_error:,} B", _under(found.ram_under)),
        ("Flash, all included", f"{found.flash_max_error:,} B", _under(found.flash_under)),
    )
    if not result.samples:
        rows = tuple((row[0], numbers.MISSING, numbers.MISSING) for row in rows)
    columns = (Column("Prediction of"), Column("Largest error", "number"), Column("Predicted too small", "number"))
    note = f"Arena equals the lower bound of its order in {numbers.share(result.arena_tight)} of the networks."
    if result.samples and all(item.stack_bound for item in result.samples):
        seen, bound, reserved = (
            max(getattr(item, name) for item in result.samples)
            for name in ("stack_used", "stack_bound", "stack_reserved")
        )
        note += f" Stack: {seen:,} B seen at most, {bound:,} B at most by the call graph, {reserved:,} B reserved."
    return Table("Memory model, from the architecture alone", columns, rows, note if result.samples else "")


def _under(networks: int) -> str:
    return "never" if networks == 0 else numbers.plural(networks, "network")


def code_table(result: CalibrationResult) -> Table:
    """Flash taken by the parts of the firmware, largest first."""
    parts = sorted(result.code_sizes, key=lambda item: (-item.bytes, item.part))
    most = max((item.bytes for item in parts), default=0)
    rows = tuple((item.part, bar(item.bytes, most, "code"), f"{item.bytes:,} B") for item in parts)
    columns = (Column("Part", "code"), Column("Flash", "graphic"), Column("", "number"))
    return Table("Code by part, linked only where a network needs it", columns, rows)


def strip_end(samples: list[SampleResult]) -> float:
    """End of the axis of the interval strips, a fraction."""
    ends = [
        numbers.relative_error(value, item.measured)
        for item in samples
        for value in (item.predicted_op, item.low, item.high)
    ]
    reach = [abs(end) for end in ends if math.isfinite(end)]
    worst = max(reach, default=0.1)
    return next((end for end in STRIP_ENDS if worst <= end), STRIP_ENDS[-1])


def item_error(sample: SampleResult) -> float:
    """Signed relative error of the per-operator fit, NaN where there is none."""
    return numbers.relative_error(sample.predicted_op, sample.measured)


def worst_table(result: CalibrationResult) -> Table:
    """The networks that the per-operator fit misses by most."""
    known = {sample.index: sample for sample in result.samples}
    samples = [known[index] for index in result.worst if index in known][:MOST_WORST]
    end = strip_end(samples)
    rows = tuple(
        (
            f"#{item.index}", numbers.shorten(item.summary, 160),
            numbers.significant(item.macs), numbers.significant(item.measured), numbers.significant(item.predicted_op),
            numbers.percent(item_error(item), signed=True), _strip(item, end),
            numbers.percent(numbers.relative_error(item.predicted_mac, item.measured), signed=True),
        )
        for item in samples
    )  # fmt: skip
    columns = (
        Column("Network", "code"), Column("Architecture"), Column("MACs", "number"),
        Column("Measured", "number"), Column("Predicted", "number"), Column("Error", "number"),
        Column(f"95 % interval, ±{end * 100:g} %", "graphic"), Column("Error, MACs only", "number"),
    )  # fmt: skip
    caption = f"Worst misses of the per-operator fit, times in {result.unit}"
    return Table(caption, columns, rows, NOTATION if rows else "")


def _strip(sample: SampleResult, end: float) -> Markup:
    """Prediction and interval relative to the measured time, which is the line in the middle."""
    low, high = (
        numbers.relative_error(sample.low, sample.measured),
        numbers.relative_error(sample.high, sample.measured),
    )
    return interval_strip(item_error(sample), low, high, end)


def coefficients_table(result: CalibrationResult) -> Table:
    """Coefficients of the per-operator fit that are not zero, one row a kernel path."""
    cells: dict[str, list[str]] = {}
    for key, value in result.per_operator.coefficients.items():
        path, _, feature = key.rpartition(".")
        features = cells.setdefault(path or "network", [])
        if value != 0:
            features.append(f"{feature.replace('_', ' ')} {numbers.significant(value)}")
    rows = tuple((path, _unbroken(features)) for path, features in sorted(cells.items()))
    columns = (Column("Kernel path", "code"), Column(f"{result.unit.capitalize()} for each pass of a loop"))
    return Table("Coefficients of the per-operator fit", columns, rows)


def _unbroken(items: list[str]) -> str:
    """`items` behind each other, none broken in the middle."""
    return svg.join(svg.tag("span", item, class_="word item") for item in items) or "all zero"


def stages_table(result: CalibrationResult) -> Table:
    """Host time by stage of the loop."""
    most = max((item for item in result.stage_seconds.values() if math.isfinite(item)), default=0.0)
    rows = tuple(
        (stage, bar(value, most, "time"), numbers.seconds(value)) for stage, value in result.stage_seconds.items()
    )
    columns = (Column("Stage"), Column("Host time for a network", "graphic"), Column("", "number"))
    return Table("Where the host's time goes", columns, rows)
