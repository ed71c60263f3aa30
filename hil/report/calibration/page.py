"""The calibration report as one HTML page that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Template
from markupsafe import Markup

from hil.calibration.result import CalibrationResult
from hil.cycle_model.evidence import all_intervals, all_points
from hil.measure.arena import ArenaMap
from hil.report.arena import arena_figure
from hil.report.calibration import cycles, evidence, fits, headline, latency, memory, tables
from hil.report.calibration.series import Series, by_input_shape, linear_r2, series_of
from hil.report.charts import numbers
from hil.report.failures import failures_table
from hil.report.headline import via_name
from hil.report.pages import environment


@dataclass(frozen=True, slots=True)
class Figures:
    """All drawings of the page."""

    macs_wide: Markup
    macs_narrow: Markup
    agreement: tuple[Markup, ...]
    errors: tuple[Markup, ...]
    spread: Markup
    memory: tuple[Markup, ...]
    arena: Markup
    cycles: Markup | None
    evidence: Markup | None
    evidence_errors: Markup | None


def render(result: CalibrationResult) -> str:
    """One self-contained HTML document: inline style and SVG, no script, no reference to anything outside.

    Deterministic: the same `result` gives the same text. Every text of `result` is escaped, and figures that are NaN,
    infinite or absent are shown as missing.
    """
    series = series_of(result)
    r2 = linear_r2(series.macs, series.measured)
    return _template().render(
        result=result,
        simulated=result.identity.simulated,
        drawn=len(series) > 0,
        sentence=headline.sentence(result),
        via=via_name(result.identity.via),
        provenance=headline.provenance(result),
        tiles=headline.tiles(result),
        facts=headline.facts(result),
        methods=headline.methods(result, r2, series.dropped),
        figures=_figures(result, series, r2),
        macs_text=_macs_text(result, series),
        arena_text=_arena_text(result.arena_map),
        fits=tables.fits_table(result),
        paths=tables.paths_table(result),
        cycles=None if result.cycles is None else cycles.tables_of(result.cycles),
        evidence=None if result.cycles is None else evidence.evidence_table(all_points()),
        groups=tables.groups_table(by_input_shape(series), result.unit),
        memory=tables.memory_table(result),
        code=tables.code_table(result),
        worst=tables.worst_table(result),
        devices=tables.devices_table(result) if result.devices else None,
        failures=failures_table(result.failed),
        coefficients=tables.coefficients_table(result),
        stages=tables.stages_table(result),
    )


def _figures(result: CalibrationResult, series: Series, r2: float) -> Figures:
    views = fits.views_of(result, series)
    return Figures(
        macs_wide=latency.macs_figure(result, series, r2, latency.WIDE),
        macs_narrow=latency.macs_figure(result, series, r2, latency.NARROW),
        agreement=tuple(fits.agreement_figure(view, series, result.unit) for view in views),
        errors=tuple(fits.error_figure(view, series, result.unit) for view in views),
        spread=fits.spread_figure(views, series),
        memory=tuple(memory.stack_figure(stack) for stack in (memory.flash_stack(result), memory.ram_stack(result))),
        arena=arena_figure(result.arena_map),
        cycles=None if result.cycles is None else cycles.cycles_figure(result.cycles),
        evidence=None if result.cycles is None else evidence.evidence_figure(all_points()),
        evidence_errors=None if result.cycles is None else evidence.errors_figure(all_points(), all_intervals()),
    )


def _macs_text(result: CalibrationResult, series: Series) -> str:
    """How much networks of equal MACs differ: what the figure shows beyond its R^2."""
    if len(series) < 3:
        return "Each point is one network."
    ratio = series.measured / series.macs
    return (
        f"Each point is one network. The line is the MACs-only fit. {result.unit.capitalize()} per MAC range from "
        f"{numbers.significant(float(ratio.min()))} to {numbers.significant(float(ratio.max()))}, which no multiple "
        "of the MACs can follow."
    )


def _arena_text(found: ArenaMap | None) -> str:
    if found is None:
        return "This run has no arena map."
    return (
        f"{numbers.shorten(found.model, 60)}, {numbers.shorten(found.summary, 160)}. A box is one buffer: as wide as "
        "the steps it lives through, as high as its bytes. It is named after the step that fills it. The "
        "shaded column is the step that needs most."
    )


@cache
def _template() -> Template:
    return environment().get_template("page.html.j2")
