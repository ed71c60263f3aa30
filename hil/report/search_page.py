"""The report of a search as one HTML page that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Template
from markupsafe import Markup

from hil.report import numbers, search_head, search_pruning, search_tables
from hil.report.headline import via_name
from hil.report.page import environment
from hil.report.search_network import network_picture
from hil.report.search_pareto import pareto_figure
from hil.report.search_progress import NARROW, WIDE, progress_figure
from hil.report.search_reported import reported_table
from hil.report.search_series import measures_of
from hil.report.tables import Table, failures_table
from hil.search.result import Member, SearchResult

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
    measures, compact = measures_of(result), len(result.points) > MOST_POINTS_WITH_TITLES
    pruned = search_pruning.pruned_points(result)
    return _template().render(
        result=result,
        simulated=result.identity.simulated,
        place=search_head.place_name(result.identity),
        sentence=search_head.sentence(result),
        provenance=search_head.provenance(result),
        via=via_name(result.identity.via),
        tiles=search_head.tiles(result),
        facts=search_head.facts(result),
        methods=search_head.methods(result),
        progress_wide=progress_figure(result, WIDE),
        progress_narrow=progress_figure(result, NARROW),
        progress_text=_progress_text(result),
        pareto=tuple(pareto_figure(result, measure, compact=compact) for measure in measures),
        bounds=search_tables.bounds_table(result),
        members=search_tables.members_table(result),
        agreement=search_tables.agreement_table(result),
        seeds=search_tables.seeds_table(result),
        pruned=len(pruned),
        pruning=tuple(search_pruning.pruning_figure(result, item) for item in search_pruning.pruning_measures(result)),
        sparsity=search_pruning.sparsity_table(result),
        comparison=None if beside is None else _comparison(result, beside),
        reported=reported_table(result),
        pictures=tuple(_picture(result, item) for item in search_tables.ordered_members(result)[:MOST_PICTURES]),
        lineage=search_tables.lineage_table(result),
        failures=failures_table(result.failures),
    )


def _progress_text(result: SearchResult) -> str:
    within, early = sum(item.feasible for item in result.points), search_head.stopped(result)
    rejected = (
        f" {numbers.count(result.rejected)} more were over the hard budget and rejected before training."
        if result.hard_budget is not None
        else " No candidate was rejected before training: there was no hard budget."
    )
    return (
        f"{numbers.plural(len(result.points), 'candidate')} in {numbers.seconds(result.seconds)}: {within} within "
        f"every bound, {early} stopped early by halving, {result.failed} failed.{rejected}"
    )


def _comparison(result: SearchResult, beside: SearchResult) -> Comparison:
    sides = search_pruning.sides_of(result, beside)
    measures = search_pruning.beside_measures(result)
    return Comparison(
        (sides[0].name, sides[1].name),
        tuple(search_pruning.beside_figure(sides, item) for item in measures),
        search_pruning.beside_table(sides),
    )


def _picture(result: SearchResult, item: Member) -> Picture:
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
