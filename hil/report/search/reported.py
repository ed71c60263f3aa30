"""What the µNAS paper (arXiv 2010.14246) reports on a data set, beside what was found here."""

from __future__ import annotations

from dataclasses import dataclass

from hil.report.charts import numbers
from hil.report.charts.tables import Column, Table
from hil.search.result import Finalist, SearchResult


@dataclass(frozen=True, slots=True)
class Reported:
    """One published result. Sizes and RAM as printed (KB and B are the paper's); empty where none is given."""

    method: str
    accuracy: str
    size: str
    ram: str
    macs: str


REPORTED: dict[str, tuple[Reported, ...]] = {
    "mnist": (Reported("SpArSe (as others quote it)", "98.64 %", "2.8 KB", "< 2 KB", ""),),
    "cifar10": (Reported("µNAS (paper)", "86.49 %", "11.4 KB", "15.4 KB", "384 K"),),
    "cifar10-binary": (
        Reported("µNAS (paper)", "77.49 %", "685 B", "909 B", "41.2 K"),
        Reported("SpArSe (as the paper quotes it)", "73.84 %", "0.78 KB", "1.28 KB", ""),
        Reported("Bonsai (as the paper quotes it)", "73.02 %", "1.98 KB", "", ""),
    ),
    "speech-commands": (Reported("µNAS (paper)", "95.58 %", "37 KB", "21.1 KB", "1.1 M"),),
}
NOTE = (
    "The paper's size and RAM are proxies: one byte for each weight and bias, and one byte for each live activation, "
    "without code, stack, multipliers and scratch buffers. The row of this search by the same proxies counts as the "
    "paper does. The measured row is what the linker placed and the device used: weights, biases, multipliers and "
    "layer tables; arena, stack and static data."
)


def reported_table(result: SearchResult) -> Table | None:
    """Published results beside the winner's; None where the paper has none for the data set."""
    published = REPORTED.get(result.dataset)
    if published is None:
        return None
    best = result.best()
    rows = [] if best is None else _own_rows(best)
    for item in published:
        cells = (item.accuracy, item.size, item.ram, item.macs)
        rows.append((item.method, *(text or numbers.MISSING for text in cells)))
    columns = (
        Column("Method"), Column("Test accuracy", "number"), Column("Size", "number"), Column("RAM", "number"),
        Column("MACs", "number"),
    )  # fmt: skip
    return Table(f"Published results on {result.dataset}", columns, tuple(rows), NOTE)


def _own_rows(best: Finalist) -> list[tuple[str, ...]]:
    accuracy = numbers.MISSING if best.test_accuracy is None else numbers.percent(best.test_accuracy)
    costs, macs = best.predicted, numbers.significant(best.predicted.macs)
    peak = numbers.size(costs.peak_memory) if costs.peak_memory >= 0 else numbers.MISSING
    rows: list[tuple[str, ...]] = [
        ("This search, by the same proxies", accuracy, numbers.size(costs.model_size), peak, macs)
    ]
    if best.measured is not None:
        found = best.measured
        sizes = numbers.size(found.flash_weights), numbers.size(found.ram)
        rows.append(("This search, measured", accuracy, *sizes, macs))
    return rows
