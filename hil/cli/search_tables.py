"""What a search handed over, as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from hil.report.search.reported import REPORTED
from hil.search.result import Member, SearchResult


def handover_tables(result: SearchResult) -> list[Table]:
    """The members, measured against predicted; and what the paper reports on the data set, where it does."""
    tables = [_members(result)]
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


def _members(result: SearchResult) -> Table:
    seeds = max((len(member.seed_errors) for member in result.members), default=0)
    table = Table(
        "network", f"int8 error, {seeds} seed{'s' if seeds != 1 else ''}", "test", "RAM", "flash", "weights", "time",
        "interval", "MACs", "verified",
    )  # fmt: skip
    table.columns[0].no_wrap = True  # a narrow terminal folds the figures first
    for column in table.columns[1:]:
        column.justify = "right"
    for member in sorted(result.members, key=lambda item: (item.index != result.winner, item.mean_error, item.index)):
        style = "bold" if member.index == result.winner else ""
        table.add_row(*_cells(result, member), _verdict(member), style=style)
    unit = f", time in {_unit(result)}" if result.unit or any(item.measured for item in result.members) else ""
    table.caption = f"bytes as measured (predicted){unit}; errors on the validation set"
    return table


def _unit(result: SearchResult) -> str:
    if result.milliseconds_per_unit is not None:
        return "ms"
    return next((item.measured.unit for item in result.members if item.measured), result.unit)


def _cells(result: SearchResult, member: Member) -> tuple[str, ...]:
    predicted, measured = member.predicted, member.measured
    name = f"{member.index}{' winner' if member.index == result.winner else ''}"
    error = f"{member.mean_error:.2%} ± {member.sd_error:.2%}"
    test = "" if member.test_accuracy is None else f"{member.test_accuracy:.2%}"
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


def _verdict(member: Member) -> Text:
    if member.measured is None:
        return Text("no", "red")
    if member.measured.mismatched:
        return Text(f"{member.measured.mismatched} outputs differ", "red")
    if member.outside:
        return Text(f"outside: {', '.join(member.outside)}", "red")
    return Text(f"{member.measured.checked} of {member.measured.checked}", "green")
