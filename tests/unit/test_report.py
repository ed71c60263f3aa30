"""The calibration report: what it says, what it survives, and that it needs nothing but itself."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hil.calibration.result import CalibrationResult, Metrics
from hil.cli.calibration_summary import render_text_summary
from hil.measure.arena import ArenaBuffer
from hil.report.arena import spans
from hil.report.calibration.memory import flash_stack, ram_stack
from hil.report.calibration.page import render
from hil.report.calibration.series import by_input_shape, linear_r2, series_of
from hil.report.charts import numbers, svg
from hil.report.charts.scale import Scale, byte_ceiling, byte_ticks, linear_ticks, log_ticks, padded_range
from hil.terminal import SafeConsole
from tests.calibration_results import calibration_result, cycle_shares
from tests.report_page import HOSTILE, Page, assert_sound, drawings, map_leaves

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "report_small.html"
STYLE = Path(numbers.__file__).resolve().parent.parent / "templates" / "style.css"
FIGURES = {"macs", "macs-narrow", "agreement-mac", "agreement-op", "error-mac", "error-op", "spread", "memory-flash",
           "memory-ram", "arena"}  # fmt: skip


@pytest.fixture(scope="module")
def full() -> CalibrationResult:
    return calibration_result(1000, seed=1)


@pytest.fixture(scope="module")
def full_html(full: CalibrationResult) -> str:
    return render(full)


def test_full_report_is_sound_and_small(full_html: str) -> None:
    page = assert_sound(full_html)
    assert set(page.ids) >= FIGURES
    assert len(full_html.encode()) < 1_500_000


def test_rendering_is_deterministic(full: CalibrationResult, full_html: str) -> None:
    assert render(full) == full_html


def test_small_report_is_as_recorded() -> None:
    html = render(calibration_result(5, seed=7, failed=2))
    if os.environ.get("MUNAS_HIL_UPDATE_GOLDEN"):
        GOLDEN.write_text(html, encoding="utf-8")
    assert html == GOLDEN.read_text(encoding="utf-8")


def test_head_names_the_run_and_its_figures(full: CalibrationResult, full_html: str) -> None:
    text = Page(full_html).visible
    identity = full.identity
    for part in (identity.board, identity.core, identity.timer, identity.compiler, identity.flags, identity.kernels,
                 identity.firmware, "SIMULATED", "via QEMU", full.created, "64 KB flash"):  # fmt: skip
        assert part in text, part
    metrics = full.per_operator.metrics
    assert f"MAPE, per operator {metrics.mape * 100:.1f} %" in text
    assert "Outputs that differ 0 of 8,000 compared bit for bit" in text
    assert "Networks measured 1,000 0 failed" in text


def test_a_board_is_not_called_simulated(full: CalibrationResult) -> None:
    identity = replace(full.identity, simulated=False, via="hardware", timer="dwt-cycles")
    text = Page(render(replace(full, identity=identity, unit="cycles"))).visible.lower()
    assert "simulated: " not in text
    assert "emulat" not in text
    assert "no board was involved" not in text
    assert "instructions" not in text


def _body_text(html: str) -> str:
    return re.sub(r"<[^>]*>", " ", html[html.index("<body>") :])


def test_instruction_counts_are_never_given_as_time(full_html: str) -> None:
    before_host_time = _body_text(full_html[: full_html.index("Where the host")])
    assert "instructions" in before_host_time
    assert not re.search(rf"\d[\s{numbers.NBSP}]?(ms|µs|us)\b", before_host_time)


@pytest.mark.parametrize(("wrong", "word"), [(0, "meets target: none"), (3, "misses target: none")])
def test_verdicts_follow_the_figures(full: CalibrationResult, wrong: int, word: str) -> None:
    assert word in Page(render(replace(full, outputs_mismatched=wrong))).visible


def test_missed_targets_are_said(full: CalibrationResult) -> None:
    fit = replace(full.per_operator, metrics=Metrics(0.0301, 0.5, 0.949, 0.9, 0.9))
    memory = replace(full.memory, ram_under=1)
    text = Page(render(replace(full, per_operator=fit, memory=memory, models_per_minute=119.0))).visible
    assert "3.0 % mean absolute error, cross-validated ✗ misses target ≤ 3 %" in text
    assert "✗ misses target ≥ 95 %" in text
    assert "✗ misses target ≥ 120" in text
    assert "too small 1 times ✗ misses target ≤ 512 B, never under" in text


def test_code_is_judged_by_what_it_was_optimised_for(full: CalibrationResult) -> None:
    largest = max(item.flash_code for item in full.samples)
    assert 12 * 1024 < largest <= 16 * 1024
    for optimise, verdict in (
        ("size", "✗ misses target ≤ 12 KB"),
        ("balanced", "✓ meets target ≤ 16 KB"),
        ("speed", ""),
    ):
        text = Page(render(replace(full, identity=replace(full.identity, optimise=optimise)))).visible
        assert f"Optimised for {optimise}" in text
        assert ("target ≤ 12 KB" in text, "target ≤ 16 KB" in text) == ("12" in verdict, "16" in verdict)
        assert verdict in text


@pytest.mark.parametrize(("count", "failed"), [(0, 0), (0, 40), (1, 0), (2, 1), (3, 0), (49, 0)])
def test_small_and_empty_runs(count: int, failed: int) -> None:
    page = assert_sound(render(calibration_result(count, failed=failed)))
    assert f"Networks measured {count} {failed} failed" in page.visible


def test_without_arenamap_leaves() -> None:
    assert "no arena map" in assert_sound(render(calibration_result(5, arena_map=None))).visible


def _bar(html: str) -> dict[str, tuple[float, float]]:
    """Left end and width of every part of the bar of cycles, by its class."""
    figure = next(item for item in drawings(html) if item.get("id") == "cycles-figure")
    parts = [(item, "".join(item.itertext()).partition(":")[0]) for item in figure.iter("rect")]
    return {name: (float(part.get("x", "")), float(part.get("width", ""))) for part, name in parts}


def test_modelled_cycles_are_shown_by_class_and_layer() -> None:
    html = render(calibration_result(5, cycles=cycle_shares()))
    text = assert_sound(html).visible
    assert "Cycles by class, 30 networks" in text
    assert "alu 30.0 % 29.0 % 31.0 %" in text
    assert "0 conv-im2col 70.0 %" in text
    bar = _bar(html)
    assert bar["alu"][1] / bar["store"][1] == pytest.approx(7.5, rel=0.01)
    assert sum(width for _, width in bar.values()) == pytest.approx(956, abs=0.5)
    assert list(bar.values()) == sorted(bar.values())
    assert "saved again" not in text


def test_cycles_saved_by_dual_issue_are_no_part_of_the_bar() -> None:
    html = render(calibration_result(5, cycles=cycle_shares(pipeline=-0.25)))
    text = assert_sound(html).visible
    assert "pipeline" not in _bar(html)
    assert f"pipeline {numbers.MINUS}25.0 %" in text
    assert "saved again" in text


def test_without_modelled_cycles_there_is_no_such_section(full_html: str) -> None:
    assert "cycles-figure" not in full_html
    assert 'href="#cycles"' not in full_html


def test_hostile_text_is_text(full_html: str) -> None:
    result = calibration_result(8, failed=2, cycles=cycle_shares())
    counter = iter(range(10**6))

    def poison(leaf: Any) -> Any:
        return f"{HOSTILE}{next(counter)}" if isinstance(leaf, str) else leaf

    page = assert_sound(render(map_leaves(result, poison)))
    assert set(page.tags) <= set(Page(full_html).tags)
    assert "<script>alert(1)</script>" in page.visible
    assert "{{7*7}}" in page.visible
    assert not set("\x00\u202e\ud800") & set(page.visible)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 5e-324])
def test_figures_that_are_no_figures(value: float) -> None:
    def spoil(leaf: Any) -> Any:
        return value if isinstance(leaf, float) else leaf

    assert_sound(render(map_leaves(calibration_result(6, failed=1, cycles=cycle_shares()), spoil)))


@pytest.mark.parametrize("value", [0, 1, 2**31])
def test_odd_counts(value: int) -> None:
    def spoil(leaf: Any) -> Any:
        return value if isinstance(leaf, int) and not isinstance(leaf, bool) else leaf

    assert_sound(render(map_leaves(calibration_result(6, cycles=cycle_shares()), spoil)))


def test_one_broken_sample_is_left_out_and_said() -> None:
    result = calibration_result(20)
    broken = replace(result.samples[0], measured=math.nan)
    html = render(replace(result, samples=(broken, *result.samples[1:])))
    assert "1 network without a positive, finite time" in assert_sound(html).visible
    assert _circles(html, "macs") == 19


def _circles(html: str, ident: str) -> int:
    figure = next(item for item in drawings(html) if item.get("id") == ident)
    return sum(1 for item in figure.iter("circle"))


def test_every_network_is_a_point(full_html: str) -> None:
    for ident in ("macs", "macs-narrow", "agreement-mac", "agreement-op", "error-op", "error-mac"):
        assert _circles(full_html, ident) == 1000, ident


def test_errors_beyond_the_axis_are_counted() -> None:
    result = calibration_result(20)
    factors = [30.0 if item.index < 3 else 1.0 for item in result.samples]
    samples = tuple(
        replace(item, predicted_mac=item.measured * factor)
        for item, factor in zip(result.samples, factors, strict=True)
    )
    html = render(replace(result, samples=samples))
    assert _circles(html, "error-mac") == 17
    assert "3 above +1000 %" in Page(html).visible


def test_figures_are_named_and_described(full_html: str) -> None:
    plots = [item for item in drawings(full_html) if item.get("class") == "plot"]
    assert len(plots) == len(FIGURES)
    for plot in plots:
        names = (plot.get("aria-labelledby") or "").split()
        found = {child.get("id"): child.text for child in plot if child.tag in {"title", "desc"}}
        assert set(found) == set(names)
        assert all(found.values())
    assert full_html.count("<table") == full_html.count("<caption>") > 5


def test_failures_are_grouped() -> None:
    text = Page(render(calibration_result(5, failed=7))).visible
    assert "7 of 12 networks could not be measured" in text
    assert "4 #5 64x64x3, 7 blocks, 1 dense RunnerError: QEMU stopped (variant 0)" in text


def test_worst_misses_keep_their_order(full: CalibrationResult, full_html: str) -> None:
    table = full_html[full_html.index('id="misses"') : full_html.index('id="failures"')]
    shown = [int(index) for index in re.findall(r"#(\d+)</th>", table)]
    assert shown == list(full.worst[:20])


def test_input_shapes_add_up(full: CalibrationResult) -> None:
    series = series_of(full)
    groups = by_input_shape(series)
    assert sum(group.networks for group in groups) == 1000
    mean = sum(group.mape_op * group.networks for group in groups) / 1000
    assert mean == pytest.approx(full.per_operator.metrics.mape)


def test_r2_is_that_of_a_straight_line() -> None:
    series = series_of(calibration_result(50))
    assert linear_r2(series.macs, 3.0 * series.macs + 17.0) == pytest.approx(1.0)
    assert 0.1 < linear_r2(series.macs, series.measured) < 1.0
    assert math.isnan(linear_r2(series.macs[:2], series.measured[:2]))


def test_stacks_hold_every_byte(full: CalibrationResult) -> None:
    assert sorted(item.flash_total for item in full.samples) == list(flash_stack(full).totals)
    assert sorted(item.ram_total for item in full.samples) == list(ram_stack(full).totals)
    more = replace(full, samples=tuple(replace(item, flash_total=item.flash_total + 96) for item in full.samples))
    assert [part.name for part in flash_stack(more).parts] == ["code", "weights", "other"]


def test_add_in_place_is_drawn_beside_what_it_takes_over() -> None:
    old = ArenaBuffer("a", "activation", 0, 100, 0, 2)
    new = ArenaBuffer("sum", "activation", 0, 100, 2, 3)
    other = ArenaBuffer("b", "activation", 100, 50, 1, 2)
    assert spans((old, other, new), 4) == [(0, 2.5), (1, 3), (2.5, 4)]


# --- style -----------------------------------------------------------------------------------------------------------


def _themes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 3
    return {
        name: dict(re.findall(r"--([\w-]+): (#\w+);", block))
        for name, block in zip(("light", "dark", "print"), blocks, strict=True)
    }


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_themes_define_the_same_colours_and_all_that_are_used() -> None:
    themes = _themes()
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE.read_text(encoding="utf-8")))
    for name, theme in themes.items():
        assert used == set(theme), name


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_colours_can_be_told_from_the_background(theme: str) -> None:
    """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for marks."""
    colours = _themes()[theme]
    for name in ("ink", "muted", "op", "mac", "met", "unmet", "code-text", "static-text", "arena-text", "weights-text",
                 "stack-text"):  # fmt: skip
        assert _contrast(colours[name], colours["bg"]) >= 4.5, name
    for name in ("measured", "code", "weights", "arena", "stack", "static", "other", "missed"):
        assert _contrast(colours[name], colours["bg"]) >= 3.0, name
    for name in ("arena-tint", "static-tint", "weights-tint"):
        assert _contrast(colours["ink"], colours[name]) >= 4.5, name
    assert _contrast(colours["badge-ink"], colours["badge-bg"]) >= 4.5


def test_every_class_of_a_drawing_has_a_style(full_html: str) -> None:
    style = STYLE.read_text(encoding="utf-8")
    styled = set(re.findall(r"\.([a-z][\w-]*)", style))
    for figure in drawings(full_html):
        for element in figure.iter():
            for name in (element.get("class") or "").split():
                assert name in styled | {"clip"}, name


# --- numbers and scales ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.significant(1_234_567), "1.23 M"),
        (numbers.significant(999_600), "1.00 M"),
        (numbers.significant(5.517e-7), f"5.52e{numbers.MINUS}07"),
        (numbers.significant(math.nan), numbers.MISSING),
        (numbers.tick(300_000), "300 k"),
        (numbers.size(512), "512 B"),
        (numbers.size(65536), "64 KB"),
        (numbers.size(1 << 20), "1 MB"),
        (numbers.percent(0.0213), "2.1 %"),
        (numbers.percent(-0.0213, signed=True), f"{numbers.MINUS}2.1 %"),
        (numbers.percent(0.0213, signed=True), "+2.1 %"),
        (numbers.percent(0.0004), "0.04 %"),
        (numbers.percent(0.00187), "0.19 %"),
        (numbers.correlation(0.99999), "0.9999"),
        (numbers.share(0.9996), "99.9 %"),
        (numbers.share(1.0), "100 %"),
        (numbers.seconds(0.34), "340 ms"),
        (numbers.seconds(500), "8 min 20 s"),
        (numbers.seconds(119.7), "2 min"),
        (numbers.frequency(216_000_000), "216 MHz"),
        (numbers.plural(1, "network"), "1 network"),
    ],
)
def test_numbers_as_text(shown: str, expected: str) -> None:
    assert shown.replace(numbers.NBSP, " ") == expected


positive = st.floats(1e-6, 1e15)


@given(positive, st.floats(1.02, 1e12), st.integers(3, 10))
def test_log_ticks_are_inside_and_few(low: float, ratio: float, most: int) -> None:
    ticks = log_ticks(low, low * ratio, most)
    assert 1 <= len(ticks) <= most
    assert list(ticks) == sorted(set(ticks))
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in ticks)


@given(st.floats(0, 1e12), positive, st.integers(2, 10))
def test_linear_ticks_are_inside_and_few(low: float, width: float, most: int) -> None:
    width = max(width, low * 1e-3)
    ticks = linear_ticks(low, low + width, most)
    assert 1 <= len(ticks) <= most
    assert all(low - width * 1e-6 <= tick <= low + width * (1 + 1e-6) for tick in ticks)


@given(st.integers(0, 2**33), st.integers(3, 9))
def test_byte_ticks_are_multiples_of_a_power_of_two(high: int, most: int) -> None:
    end = byte_ceiling(high)
    ticks = byte_ticks(end, most)
    assert end >= high
    assert 2 <= len(ticks) <= most
    assert math.log2(ticks[1]).is_integer()


@given(st.lists(positive, min_size=1, max_size=20), st.booleans())
def test_scales_map_the_data_into_the_plot(values: list[float], log: bool) -> None:
    scale = Scale(*padded_range(values, log), 50.0, 400.0, log)
    assert all(50.0 <= scale(value) <= 400.0 for value in values)


def test_stretched_scale_is_odd_and_widens_the_middle() -> None:
    scale = Scale(-1.0, 1.0, 0.0, 100.0, stretch=0.03)
    assert scale(0.0) == pytest.approx(50.0)
    assert scale(0.1) - scale(0.0) > 0.3 * (scale(1.0) - scale(0.0))
    assert scale(0.2) + scale(-0.2) == pytest.approx(100.0)


def test_drawing_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        svg.tag("circle", cx=math.nan)


def test_attributes_and_texts_of_drawings_are_escaped() -> None:
    assert svg.tag("g", '<"&', class_='"><x') == '<g class="&#34;&gt;&lt;x">&lt;&#34;&amp;</g>'
    assert svg.text(1, 2.25, "a", "tick") == '<text x="1" y="2.2" class="tick">a</text>'


def test_text_summary_in_a_narrow_terminal(full: CalibrationResult) -> None:
    out = StringIO()
    hostile = replace(full, identity=replace(full.identity, board="[red]board[/red]"))
    Console(file=out, width=100, color_system=None).print(render_text_summary(hostile))
    text = out.getvalue().replace(numbers.NBSP, " ")
    assert "[red]board[/red] via qemu, icount-instructions" in text
    assert "SIMULATED" in text
    assert re.search(r"Mean absolute error \(MAPE\) +\d+\.\d % +\d\.\d %", text)
    assert max(map(len, text.splitlines())) <= 100


def test_text_summary_as_the_command_prints_it(full: CalibrationResult) -> None:
    """The space before a unit is no plain one, and was once shown as the first of six characters and no unit."""
    out = StringIO()
    SafeConsole(file=out, width=100).print(render_text_summary(full))
    assert re.search(r"Mean absolute error \(MAPE\) +\d+\.\d % +\d\.\d %", out.getvalue())
    assert "\\u" not in out.getvalue()


@pytest.mark.parametrize("count", [0, 1])
def test_text_summary_of_nothing(count: int) -> None:
    out = StringIO()
    Console(file=out, width=80).print(render_text_summary(calibration_result(count, failed=1)))
    assert "1 failed" in out.getvalue()
