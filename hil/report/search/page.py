"""The report of a search as one HTML page that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Template
from markupsafe import Markup

from hil.report.charts import numbers
from hil.report.charts.tables import Table
from hil.report.failures import failures_table
from hil.report.headline import via_name
from hil.report.pages import environment
from hil.report.search import head, pruning, tables
from hil.report.search.hypervolume import Run, hypervolume_figure
from hil.report.search.network import network_picture
from hil.report.search.pareto import pareto_figure
from hil.report.search.progress import NARROW, WIDE, progress_figure
from hil.report.search.reported import reported_table
from hil.report.search.series import metrics_of
from hil.search.result import Finalist, SearchResult

MOST_PICTURES = 8
MOST_POINTS_WITH_TITLES = 600  # in every Pareto figure; above, only the progress figure has them


@dataclass(frozen=True, slots=True)
class Picture:
    """A network, its name and its figures in a line."""

    name: str
    line: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs beside each other."""

    names: tuple[str, str]
    figures: tuple[Markup, ...]
    table: Table


def render_search(result: SearchResult, beside: SearchResult | None = None) -> str:
    """One self-contained HTML document: inline style and SVG, no script, no reference to anything outside.

    `beside` is another run on the same data and board, to be compared with (with and without pruning). Raises
    UsageError when the two cannot be compared. Deterministic: the same results give the same text.
    """
    metrics, compact = metrics_of(result), len(result.points) > MOST_POINTS_WITH_TITLES
    pruned = pruning.pruned_points(result)
    return _template().render(
        result=result,
        simulated=result.identity.simulated,
        place=head.place_name(result.identity),
        sentence=head.sentence(result),
        provenance=head.provenance(result),
        via=via_name(result.identity.via),
        tiles=head.tiles(result),
        facts=head.facts(result),
        methods=head.methods(result),
        progress_wide=progress_figure(result, WIDE),
        progress_narrow=progress_figure(result, NARROW),
        progress_text=_progress_text(result),
        volume=hypervolume_figure(_runs(result, beside)),
        pareto=tuple(pareto_figure(result, metric, compact=compact) for metric in metrics),
        bounds=tables.bounds_table(result),
        finalists=tables.finalists_table(result),
        agreement=tables.agreement_table(result),
        seeds=tables.seeds_table(result),
        pruned=len(pruned),
        pruning=tuple(pruning.pruning_figure(result, item) for item in pruning.pruning_metrics(result)),
        sparsity=pruning.sparsity_table(result),
        comparison=None if beside is None else _comparison(result, beside),
        reported=reported_table(result),
        pictures=tuple(_picture(result, item) for item in tables.ordered_finalists(result)[:MOST_PICTURES]),
        lineage=tables.lineage_table(result),
        failures=failures_table(result.failures),
    )


def _progress_text(result: SearchResult) -> str:
    within, early = sum(item.feasible for item in result.points), head.stopped(result)
    rejected = (
        f" {numbers.count(result.rejected)} more were over the hard budget and rejected before training."
        if result.hard_budget is not None
        else " No trial was rejected before training: there was no hard budget."
    )
    return (
        f"{numbers.plural(len(result.points), 'trial')} in {numbers.seconds(result.seconds)}: {within} within "
        f"every bound, {early} stopped early by halving, {result.failed} failed.{rejected}"
    )


def _runs(result: SearchResult, beside: SearchResult | None) -> tuple[Run, ...]:
    """Both runs by what tells them apart: their strategies, or else pruning or seeds."""
    if beside is None:
        return ((result.strategy, result),)
    if result.strategy != beside.strategy:
        return (result.strategy, result), (beside.strategy, beside)
    sides = pruning.sides_of(result, beside)
    return tuple((side.name, side.result) for side in sides)


def _comparison(result: SearchResult, beside: SearchResult) -> Comparison:
    sides = pruning.sides_of(result, beside)
    metrics = pruning.beside_metrics(result)
    return Comparison(
        (sides[0].name, sides[1].name),
        tuple(pruning.beside_figure(sides, item) for item in metrics),
        pruning.beside_table(sides),
    )


def _picture(result: SearchResult, item: Finalist) -> Picture:
    won = item.index == result.winner
    name = f"#{item.index}{', the winner' if won else ''}"
    costs = item.predicted
    line = (
        f"error {numbers.percent(item.mean_error)}, {numbers.significant(costs.macs)} MACs, "
        f"{numbers.plural(costs.model_size, 'weight')}"
    )
    drawing = network_picture(f"network-{item.index}", item.layers, result.input_shape, f"Layers of network {name}")
    return Picture(name, line, drawing)


@cache
def _template() -> Template:
    return environment().get_template("search.html.j2")
