"""What a search exported, as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from hil.report.search.reported import REPORTED
from hil.search.result import Finalist, SearchResult


def export_tables(result: SearchResult) -> list[Table]:
    """The finalists, measured against predicted; and what the paper reports on the data set, where it does."""
    tables = [_finalists(result)]
    best, published = result.best(), REPORTED.get(result.dataset)
    if best is not None and published is not None:
        table = Table("method", "test accuracy", "size", "RAM", "MACs", title=f"published on {result.dataset}")
        accuracy = "" if best.test_accuracy is None else f"{best.test_accuracy:.2%}"
        predicted = best.predicted
        peak = f"{predicted.peak_memory:,} B" if predicted.peak_memory >= 0 else ""
        size = f"{predicted.model_size:,} B"
        table.add_row("this search, as µNAS counts", accuracy, size, peak, f"{predicted.macs:,}")
        for item in published:
            table.add_row(item.method, item.accuracy, item.size, item.ram, item.macs)
        tables.append(table)
    return tables


def _finalists(result: SearchResult) -> Table:
    seeds = max((len(finalist.seed_errors) for finalist in result.finalists), default=0)
    table = Table(
        "network", f"int8 error, {seeds} seed{'s' if seeds != 1 else ''}", "test", "RAM", "flash", "weights", "time",
        "interval", "MACs", "verified",
    )  # fmt: skip
    table.columns[0].no_wrap = True  # a narrow terminal folds the figures first
    for column in table.columns[1:]:
        column.justify = "right"
    for finalist in sorted(
        result.finalists, key=lambda item: (item.index != result.winner, item.mean_error, item.index)
    ):
        style = "bold" if finalist.index == result.winner else ""
        table.add_row(*_cells(result, finalist), _verdict(finalist), style=style)
    unit = f", time in {_unit(result)}" if result.unit or any(item.measured for item in result.finalists) else ""
    table.caption = f"bytes as measured (predicted){unit}; errors on the validation set"
    return table


def _unit(result: SearchResult) -> str:
    if result.milliseconds_per_unit is not None:
        return "ms"
    return next((item.measured.unit for item in result.finalists if item.measured), result.unit)


def _cells(result: SearchResult, finalist: Finalist) -> tuple[str, ...]:
    predicted, measured = finalist.predicted, finalist.measured
    name = f"{finalist.index}{' winner' if finalist.index == result.winner else ''}"
    error = f"{finalist.mean_error:.2%}" + ("" if finalist.spread is None else f" ± {finalist.spread:.2%}")
    test = "" if finalist.test_accuracy is None else f"{finalist.test_accuracy:.2%}"
    if measured is None:
        return name, error, test, f"({predicted.ram:,})", f"({predicted.flash:,})", "", "", "", f"{predicted.macs:,}"
    interval = ""
    if predicted.latency_low is not None and predicted.latency_high is not None:
        interval = f"{_time(result, predicted.latency_low)} .. {_time(result, predicted.latency_high)}"
    return (
        name, error, test, f"{measured.ram:,} ({predicted.ram:,})", f"{measured.flash:,} ({predicted.flash:,})",
        f"{measured.flash_weights:,}", _time(result, measured.latency), interval, f"{predicted.macs:,}",
    )  # fmt: skip


def _time(result: SearchResult, value: float) -> str:
    factor = result.milliseconds_per_unit
    return f"{value:,.0f}" if factor is None else f"{value * factor:.3g}"


def _verdict(finalist: Finalist) -> Text:
    if finalist.measured is None:
        return Text("no", "red")
    if finalist.measured.mismatched:
        return Text(f"{finalist.measured.mismatched} outputs differ", "red")
    if finalist.outside:
        return Text(f"outside: {', '.join(finalist.outside)}", "red")
    return Text(f"{finalist.measured.checked} of {finalist.measured.checked}", "green")
