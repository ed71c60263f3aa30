"""The paper's table and figure on one page: ours beside the paper's and its peers', and error against size with and
without pruning; what has not been run is named with the command that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil.errors import HilError
from hil.report.charts import numbers
from hil.report.charts.tables import Column, Table
from hil.report.pages import environment
from hil.report.search import pruning
from hil.report.search.reported import NOTE, REPORTED
from hil.report.search.series import latency_text, weights_metric
from hil.search.paper import Asked, Entry
from hil.search.result import Finalist, SearchResult


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on one data set, with and without pruning. `problem` says why they cannot be compared."""

    dataset: str
    figure: Markup
    table: Table | None
    problem: str = ""


def render_paper(entries: Sequence[Entry], asked: Asked) -> str:
    """One self-contained HTML document; `asked` says how the commands that it names are given. Deterministic."""
    datasets = list(dict.fromkeys(item.experiment.dataset for item in entries if item.experiment.part == "table"))
    results = [item.result for item in entries if item.result is not None]
    return environment().get_template("paper.html.j2").render(
        tables=tuple(_table(name, [item for item in entries if item.experiment.dataset == name]) for name in datasets),
        pairs=tuple(_pairs(entries)),
        missing=_missing(entries, asked),
        runs=_runs(entries),
        done=len(results),
        total=len(entries),
        simulated=any(item.identity.simulated for item in results),
        note=NOTE,
    )  # fmt: skip


_NOTHING = "nothing has been run yet, and no figure was published for this data set."
_COLUMNS = (
    Column("Method"), Column("Test accuracy", "number"), Column("Weights", "number"), Column("Memory", "number"),
    Column("MACs", "number"), Column("Time", "number"), Column("Within"),
)  # fmt: skip


def _table(dataset: str, entries: Sequence[Entry]) -> Table:
    rows: list[tuple[str, ...]] = []
    for entry in entries:
        if entry.result is not None and entry.experiment.part == "table":
            rows += _own_rows(entry, entry.result)
    for item in REPORTED.get(dataset, ()):
        cells = (item.accuracy, item.size, item.ram, item.macs)
        rows.append((item.method, *(text or numbers.MISSING for text in cells), numbers.MISSING, "published"))
    return Table(dataset, _COLUMNS, tuple(rows), "" if rows else f"{dataset}: {_NOTHING}")


def _own_rows(entry: Entry, result: SearchResult) -> list[tuple[str, ...]]:
    """The winner as the paper counts, and as it was measured."""
    best = result.best()
    if best is None:
        return [("ours: no network within the bounds", *[numbers.MISSING] * 5, entry.experiment.bounds)]
    costs, accuracy = best.predicted, _accuracy(best)
    peak = _bytes(costs.peak_memory) if costs.peak_memory >= 0 else numbers.MISSING
    macs = numbers.significant(costs.macs)
    rows: list[tuple[str, ...]] = [
        ("ours, counted as the paper does", accuracy, _bytes(costs.model_size), peak, macs, numbers.MISSING,
         entry.experiment.bounds)
    ]  # fmt: skip
    if best.measured is not None:
        found = best.measured
        where = "simulated" if result.identity.simulated else "measured"
        sizes = (
            f"{_bytes(found.flash_weights)} of {_bytes(found.flash)}",
            (f"{_bytes(found.arena)} of {_bytes(found.ram)}"),
        )
        time = latency_text(result, found.latency)
        rows.append((f"the same on {result.board}, {where}", accuracy, *sizes, macs, time, "of all flash and RAM"))
    return rows


def _bytes(value: float) -> str:
    """In full: the paper's KB is 1,000 bytes, and that of our other pages 1,024."""
    return f"{value:,.0f}{numbers.NBSP}B"


def _accuracy(best: Finalist) -> str:
    return numbers.MISSING if best.test_accuracy is None else f"{best.test_accuracy * 100:.2f}{numbers.NBSP}%"


def _pairs(entries: Sequence[Entry]) -> list[Pair]:
    """The comparisons with and without pruning, for every data set that is meant to have one."""
    parts = [item for item in entries if item.experiment.part == "pruning"]
    found = []
    for dataset in dict.fromkeys(item.experiment.dataset for item in parts):
        results = [item.result for item in parts if item.experiment.dataset == dataset]
        first, second = results
        if first is None or second is None:
            lacking = [item.experiment.key for item in parts if item.experiment.dataset == dataset and not item.result]
            found.append(Pair(dataset, Markup(""), None, f"{' and '.join(lacking)} have not been run"))
            continue
        try:
            sides = pruning.sides_of(first, second)
        except HilError as error:  # made with different boards or compilers, say
            found.append(Pair(dataset, Markup(""), None, str(error)))
            continue
        drawing = pruning.beside_figure(sides, weights_metric(first), prefix=f"{dataset}-")
        found.append(Pair(dataset, drawing, pruning.beside_table(sides)))
    return found


def _missing(entries: Sequence[Entry], asked: Asked) -> Table:
    rows = tuple((item.experiment.key, item.why, asked.command(item.experiment)) for item in entries if item.why)
    return Table("Not run, or not as asked", (Column("Search", "code"), Column("Why"), Column("Command", "code")), rows)


def _runs(entries: Sequence[Entry]) -> Table:
    """How long each search was, and by what it is repeated."""
    rows = []
    for entry in entries:
        result = entry.result
        if result is None:
            continue
        effort = result.settings.get("final_effort", numbers.MISSING)
        retrained = f"{numbers.plural(len(result.finalists), 'network')}, effort {effort}"
        rows.append((
            entry.experiment.key, numbers.count(len(result.points)),
            numbers.seconds(result.seconds),
            numbers.plural(result.workers, "worker"), str(result.settings.get("effort", numbers.MISSING)), retrained,
            str(result.seed), str(result.settings.get("recipe_kind", numbers.MISSING)), result.finished[:10],
        ))  # fmt: skip
    columns = (
        Column("Search", "code"), Column("Trials", "number"), Column("Time to search", "number"), Column("Workers"),
        Column("Effort", "number"), Column("Trained again"), Column("Seed", "number"), Column("Recipe"), Column("Day"),
    )  # fmt: skip
    return Table("Runs behind this page", columns, tuple(rows))
