"""Tables of a search's report as plain data: the template only loops over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from hil.report.charts import numbers, svg
from hil.report.charts.tables import STRIP_ENDS, STRIP_HEIGHT, STRIP_WIDTH, Column, Table, interval_strip
from hil.report.search.series import heading, latency_text, latency_unit
from hil.search.result import Finalist, Point, SearchResult
from munas.search.metrics import METRICS, Form, Metric

MOST_ANCESTORS = 40
_COSTS = tuple(
    row for row in METRICS.values() if row.form is not Form.FRACTION and (row.is_shown or row.metric is Metric.WEIGHTS)
)


def ordered_finalists(result: SearchResult) -> tuple[Finalist, ...]:
    """The winner, then the others by their mean error."""
    return tuple(sorted(result.finalists, key=lambda item: (item.index != result.winner, item.mean_error, item.index)))


def finalist_name(result: SearchResult, item: Finalist) -> str:
    """``#17``, and whether it won."""
    return f"#{item.index}{' winner' if item.index == result.winner else ''}"


def value_text(result: SearchResult, key: str, value: float | None) -> str:
    """A value of a bound's kind."""
    if value is None:
        return numbers.MISSING
    form = METRICS[Metric(key)].form
    if form is Form.FRACTION:
        return numbers.percent(value)
    if form is Form.TIME:
        return latency_text(result, value)
    return numbers.size(value) if form is Form.BYTES else numbers.significant(value)


def predicted_value(item: Finalist, key: str) -> float | None:
    """What the search believed about a finalist, by the name of a bound; the error is the mean over its seeds."""
    return item.mean_error if key == Metric.ERROR else METRICS[Metric(key)].read(item.predicted)


def measured_value(item: Finalist, key: str) -> float | None:
    """What the device said, by the name of a bound; None where that is no measurement."""
    if item.measured is None or not METRICS[Metric(key)].is_measured:
        return None
    return float(getattr(item.measured, key))


def finalists_table(result: SearchResult) -> Table:
    """All finalists: accuracy and costs, measured where they were."""
    rows = tuple(
        (
            finalist_name(result, item), _mean_sd(item),
            numbers.MISSING if item.test_accuracy is None else numbers.percent(item.test_accuracy), _int8_loss(item),
            *(value_text(result, row.metric, _known(item, row.metric)) for row in _COSTS),
            numbers.percent(item.sparsity) if item.sparsity > 0 else numbers.MISSING,
        )
        for item in ordered_finalists(result)
    )  # fmt: skip
    columns = (
        Column("Network", "code"), Column("Validation error, mean ± sd", "number"), Column("Test accuracy", "number"),
        Column("Lost by int8", "number"),
        *(Column("of it weights" if row.metric is Metric.WEIGHTS else heading(row), "number") for row in _COSTS),
        Column("Pruned by", "number"),
    )  # fmt: skip
    notes = [f"#{item.index}: {text}." for item in ordered_finalists(result) for text in _remarks(item)]
    caption = "Finalists of the front after re-training, as int8 networks on the device"
    return Table(caption, columns, rows, " ".join(notes))


def _int8_loss(item: Finalist) -> str:
    """Points of validation accuracy that the conversion cost the network that is handed over."""
    if item.error is None or item.float_error is None:
        return numbers.MISSING
    return numbers.percent(item.error - item.float_error, signed=True)


def _remarks(item: Finalist) -> list[str]:
    """What is to be said of a finalist below its table."""
    found = [item.message] if item.message else []
    if item.int8_cause:
        found.append(f"int8: {item.int8_cause}")
    if item.collapsed:
        errors = ", ".join(f"{numbers.percent(error)} (seed {seed})" for seed, error in item.collapsed)
        found.append(f"re-training collapsed to {errors}")
    return found


def _known(item: Finalist, key: str) -> float | None:
    value = measured_value(item, key)
    return predicted_value(item, key) if value is None else value


def _mean_sd(item: Finalist) -> str:
    mean = numbers.percent(item.mean_error)
    return mean if item.spread is None else f"{mean} ± {item.spread * 100:.2f}"


def agreement_table(result: SearchResult) -> Table:
    """Predicted against measured of every finalist, with the verdict."""
    finalists = ordered_finalists(result)
    end = _strip_end(finalists)
    rows = tuple(_agreement_row(result, item, end) for item in finalists)
    columns = (
        Column("Network", "code"), Column("RAM predicted", "number"), Column("measured", "number"),
        Column("Flash predicted", "number"), Column("measured", "number"),
        Column(f"Latency predicted, {latency_unit(result)}", "number"), Column("measured", "number"),
        Column("Error", "number"), Column(f"Interval, ±{end * 100:g} %", "graphic"), Column("Outputs equal", "number"),
        Column("Verdict"),
    )  # fmt: skip
    note = (
        "RAM and flash in bytes; they must never be larger than predicted. In the interval, the line in the middle is "
        "the measured time, the dot the prediction, the bar the calibration's interval."
    )
    return Table("Predicted against measured", columns, rows, note if rows else "")


def _agreement_row(result: SearchResult, item: Finalist, end: float) -> tuple[str, ...]:
    found, promised = item.measured, item.predicted
    predicted = math.nan if promised.latency is None else promised.latency
    measured = math.nan if found is None else found.latency
    low, high = (math.nan if value is None else numbers.relative_error(value, measured)
                 for value in (promised.latency_low, promised.latency_high))  # fmt: skip
    error = numbers.relative_error(predicted, measured)
    return (
        finalist_name(result, item), f"{promised.ram:,}", numbers.MISSING if found is None else f"{found.ram:,}",
        f"{promised.flash:,}", numbers.MISSING if found is None else f"{found.flash:,}",
        numbers.count(predicted), numbers.count(measured), numbers.percent(error, signed=True),
        interval_strip(error, low, high, end),
        numbers.MISSING if found is None else f"{found.checked - found.mismatched} of {found.checked}",
        _verdict(item),
    )  # fmt: skip


def _strip_end(finalists: Sequence[Finalist]) -> float:
    reach = [
        abs(numbers.relative_error(value, item.measured.latency))
        for item in finalists
        if item.measured is not None
        for value in (item.predicted.latency, item.predicted.latency_low, item.predicted.latency_high)
        if value is not None
    ]
    worst = max((value for value in reach if math.isfinite(value)), default=0.01)
    return next((end for end in STRIP_ENDS if worst <= end), STRIP_ENDS[-1])


def agreement_verdict(item: Finalist) -> tuple[str, bool]:
    """Whether the device kept what the prediction promised, in words, and whether that is good."""
    if item.measured is None:
        return f"✗ not measured{': ' + item.message if item.message else ''}", False
    if item.measured.mismatched:
        return "✗ outputs differ", False
    if item.measured.checked == 0:
        return "✗ outputs not compared", False
    return (f"✗ outside: {', '.join(item.outside)}", False) if item.outside else ("✓ as predicted", True)


def _verdict(item: Finalist) -> Markup:
    words, is_met = agreement_verdict(item)
    return svg.tag("span", words, class_="met" if is_met else "unmet")


def seeds_table(result: SearchResult) -> Table:
    """Validation error of every re-training."""
    finalists = ordered_finalists(result)
    errors = [error for item in finalists for _, error in item.seed_errors if math.isfinite(error)]
    low, high = (min(errors), max(errors)) if errors else (0.0, 1.0)
    rows = tuple(
        (
            finalist_name(result, item), numbers.percent(item.mean_error),
            numbers.MISSING if item.spread is None else f"{item.spread * 100:.2f}{numbers.NBSP}%",
            _seed_strip(item, low, high), _seed_list(item),
        )
        for item in finalists
    )  # fmt: skip
    columns = (
        Column("Network", "code"), Column("Mean", "number"), Column("sd", "number"),
        Column(f"{numbers.percent(low)} to {numbers.percent(high)}" if errors else "Errors", "graphic"),
        Column("Seed: error; the network exported is marked ★"),
    )  # fmt: skip
    return Table("Int8 validation error by seed", columns, rows)


def _seed_list(item: Finalist) -> Markup:
    return svg.join(
        svg.tag("span", f"{seed}: {numbers.percent(error)}{' ★' if seed == item.chosen_seed else ''}",
                class_="word item")
        for seed, error in item.seed_errors
    )  # fmt: skip


def _seed_strip(item: Finalist, low: float, high: float) -> Markup:
    """A dot for each seed, a line at the mean; all finalists share the axis."""

    def at(error: float) -> float:
        part = (error - low) / (high - low) if high > low else 0.5
        return 5 + min(max(part, 0.0), 1.0) * (STRIP_WIDTH - 10)

    middle = STRIP_HEIGHT / 2
    parts = [svg.line(0, middle, STRIP_WIDTH, middle, "grid")]
    if math.isfinite(item.mean_error):
        parts.append(svg.line(at(item.mean_error), 2, at(item.mean_error), STRIP_HEIGHT - 2, "mean"))
    for seed, error in item.seed_errors:
        if math.isfinite(error):
            chosen = " chosen" if seed == item.chosen_seed else ""
            parts.append(svg.tag("circle", cx=at(error), cy=middle, r=3.4, class_=f"seed{chosen}"))
    return svg.tag("svg", *parts, class_="strip", viewBox=f"0 0 {STRIP_WIDTH:g} {STRIP_HEIGHT:g}", aria_hidden="true")


def bounds_table(result: SearchResult) -> Table:
    """What was asked for, and what the winner does."""
    best, hard = result.best(), result.hard_budget or {}
    rows = tuple(
        (
            row.title, value_text(result, key, result.bounds.get(key)),
            value_text(result, key, hard.get(key)) if key in hard else numbers.MISSING,
            *_bound_cells(result, best, key, result.bounds.get(key)),
        )
        for key, row in METRICS.items()
        if key in result.bounds or key in hard
    )  # fmt: skip
    columns = (
        Column("Bound on"), Column("Bound", "number"), Column("Not trained above", "number"),
        Column("Winner predicted", "number"), Column("measured", "number"), Column("Verdict"),
    )  # fmt: skip
    return Table("Bounds of the search", columns, rows)


def _bound_cells(result: SearchResult, best: Finalist | None, key: str, bound: float | None) -> tuple[str, ...]:
    if best is None:
        return numbers.MISSING, numbers.MISSING, "no winner"
    predicted, measured = predicted_value(best, key), measured_value(best, key)
    known = predicted if measured is None else measured
    verdict = Markup("")
    if bound is not None and known is not None:
        met = known <= bound
        verdict = svg.tag("span", "✓ meets" if met else "✗ misses", class_="met" if met else "unmet")
    return value_text(result, key, predicted), value_text(result, key, measured), verdict


def lineage(result: SearchResult) -> tuple[Point, ...]:
    """The ancestors of the winner, oldest first, and its own trial."""
    known = {item.index: item for item in result.points}
    found: dict[int, Point] = {}
    at = result.winner
    while at is not None and at in known and at not in found:
        found[at] = known[at]
        at = known[at].parent
    return tuple(reversed(found.values()))


def lineage_table(result: SearchResult) -> Table:
    """How the winner came about, change by change."""
    steps = lineage(result)
    rows = tuple(
        (
            f"#{item.index}", "drawn at random" if item.parent is None else item.change,
            numbers.MISSING if item.error is None else numbers.percent(item.error),
            *(["–"] * 3 if item.resources is None else [  # noqa: RUF001
                numbers.size(item.resources.ram), numbers.size(item.resources.flash),
                numbers.significant(item.resources.macs)]),
            numbers.seconds(item.finished_s),
        )
        for item in steps[-MOST_ANCESTORS:]
    )  # fmt: skip
    columns = (
        Column("Trial", "code"), Column("Change"), Column("Error", "number"), Column("RAM", "number"),
        Column("Flash", "number"), Column("MACs", "number"), Column("Finished after", "number"),
    )  # fmt: skip
    hidden = len(steps) - MOST_ANCESTORS
    note = f"{numbers.plural(hidden, 'earlier ancestor')} not shown." if hidden > 0 else ""
    return Table("Ancestors of the winner", columns, rows if len(rows) > 1 else (), note)
