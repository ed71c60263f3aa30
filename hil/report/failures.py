"""The table of networks that could not be measured or handed over, grouped by what happened."""

from __future__ import annotations

from collections import Counter

from hil.calibration.result import Failure
from hil.report.charts import numbers
from hil.report.charts.tables import Column, Table

MOST_FAILURES = 25


def failures_table(failed: tuple[Failure, ...]) -> Table:
    """Failures grouped by message: how often, and which network first."""
    groups = Counter(item.error for item in failed)
    first = {item.error: item for item in reversed(failed)}
    ordered = sorted(groups.items(), key=lambda pair: (-pair[1], first[pair[0]].index))
    rows = tuple(
        (
            numbers.count(times), f"#{first[error].index}", numbers.shorten(first[error].summary, 120),
            numbers.shorten(error, 400),
        )
        for error, times in ordered[:MOST_FAILURES]
    )  # fmt: skip
    columns = (Column("Times", "number"), Column("First", "code"), Column("Architecture"), Column("What happened"))
    hidden = len(ordered) - MOST_FAILURES
    note = f"{numbers.plural(hidden, 'further message')} not shown; the store has all of them." if hidden > 0 else ""
    return Table("Failures by message", columns, rows, note)
