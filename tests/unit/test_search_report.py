"""The report of a search: what it says and draws, what it survives, and that it needs nothing but itself."""

from __future__ import annotations

import json
import math
import os
import re
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hil.cli import main as cli
from hil.errors import CalibrationMismatch, UsageError
from hil.report.charts import numbers
from hil.report.charts.scale import Scale
from hil.report.run import page_of, write_search_report
from hil.report.search.page import render_search
from hil.report.search.progress import best_so_far
from hil.report.search.pruning import sides_of
from hil.report.search.series import error_ticks, metrics_of, staircase, trials_of
from hil.report.search.tables import agreement_verdict, lineage
from hil.search.result import SearchResult
from tests.calibration_results import calibration_result
from tests.report_layout import find_browser, lay_out
from tests.report_page import HOSTILE, Page, assert_sound, drawings, map_leaves
from tests.search_results import hardware, search_result

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "search_report_small.html"
FIGURES = {"progress", "progress-narrow", "pareto-ram", "pareto-flash", "pareto-latency", "pareto-macs",
           "pruning-flash_weights", "pruning-latency"}  # fmt: skip


@pytest.fixture(scope="module")
def full() -> SearchResult:
    return search_result(200)


@pytest.fixture(scope="module")
def other() -> SearchResult:
    return search_result(160, 2, pruned=False)


@pytest.fixture(scope="module")
def full_html(full: SearchResult, other: SearchResult) -> str:
    return render_search(full, other)


def figure(html: str, ident: str) -> ElementTree.Element:
    return next(item for item in drawings(html) if item.get("id") == ident)


def marks(found: ElementTree.Element, name: str, class_: str) -> list[ElementTree.Element]:
    return [item for item in found.iter(name) if class_ in (item.get("class") or "").split()]


def test_the_report_is_sound_and_small(full: SearchResult, full_html: str) -> None:
    page = assert_sound(full_html)
    assert set(page.ids) >= FIGURES | {"beside-flash_weights", "beside-ram"}
    assert set(page.ids) >= {f"network-{finalist.index}" for finalist in full.finalists}
    assert len(full_html.encode()) < 1_000_000


def test_rendering_is_deterministic(full: SearchResult, other: SearchResult, full_html: str) -> None:
    assert render_search(full, other) == full_html


def test_a_folder_that_holds_no_run_that_has_ended_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run that has ended: neither search\.json nor result\.json"):
        page_of(tmp_path)
    (tmp_path / "search.sqlite").touch()
    with pytest.raises(UsageError, match="has not ended; go on with it by the command that began it"):
        page_of(tmp_path)


def test_few_test_examples_are_no_certainty(full: SearchResult) -> None:
    best = full.best()
    assert best is not None
    right = replace(best, test_accuracy=1.0, seed_errors=best.seed_errors[:1], sd_error=0.0)
    finalists = tuple(right if item.index == best.index else item for item in full.finalists)
    text = assert_sound(render_search(replace(full, test_examples=2, finalists=finalists))).visible
    assert "95 % interval 34.2 to 100.0 % by the size of the test set" in text
    assert "mean of 1 seed" in text
    assert "mean of 1 seed, sd" not in text


def test_small_report_is_as_recorded() -> None:
    html = render_search(search_result(24, seed=8))
    if os.environ.get("MUNAS_HIL_UPDATE_GOLDEN"):
        GOLDEN.write_text(html, encoding="utf-8")
    assert html == GOLDEN.read_text(encoding="utf-8")


def test_the_head_says_what_won_and_on_what(full: SearchResult, full_html: str) -> None:
    text, best = Page(full_html).visible, full.best()
    assert best is not None
    assert best.measured is not None
    assert best.test_accuracy is not None
    assert f"Test accuracy, int8 {best.test_accuracy * 100:.1f} %" in text
    for part in (full.dataset, full.dataset_sha256, full.board, full.identity.timer, full.identity.firmware,
                 full.command, "SIMULATED", "via QEMU", numbers.size(best.measured.ram).replace(numbers.NBSP, " "),
                 "Out of 200 trials", "66 rejected untrained", "mean of 3 seeds",
                 "Optimised for balanced"):  # fmt: skip
        assert part in text, part


def test_every_figure_of_the_device_says_whether_it_is_simulated(full: SearchResult, full_html: str) -> None:
    for ident in ("pareto-ram", "pareto-flash", "pareto-latency", "pruning-latency"):
        text = "".join(figure(full_html, ident).itertext())
        assert "simulated" in text or "predicted" in text, ident
    assert "finalists simulated" in "".join(figure(full_html, "pareto-latency").itertext())
    board = Page(render_search(hardware(full))).visible
    assert "imulated no" in board
    assert "simulated runs" not in board
    assert "finalists measured" in board
    assert "No board was involved" not in board


def test_instruction_counts_are_never_given_as_time(full: SearchResult) -> None:
    html = render_search(full)
    body = re.sub(r"<[^>]*>", " ", html[html.index("<body>") :])
    assert "instructions" in body
    assert not re.search(rf"\d[\s{numbers.NBSP}]?(ms|µs|us)\b", body)


def test_a_boards_cycles_are_milliseconds(full: SearchResult) -> None:
    best = hardware(full).best()
    assert best is not None
    assert best.measured is not None
    text = Page(render_search(hardware(full))).visible
    assert f"Latency {best.measured.latency / 216e3:.2f} ms" in text
    assert "bound 18.5 ms" in text


def test_verdicts_follow_the_figures(full: SearchResult) -> None:
    assert "✓ meets bound 64 KB" in Page(render_search(full)).visible
    tight = replace(full, bounds={**full.bounds, "ram": 1024.0})
    assert "✗ misses bound 1 KB" in Page(render_search(tight)).visible


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outside": ("latency", "ram")}, "✗ outside: latency, ram"),
        ({"measured": None, "message": "FLASH is 12 bytes short"}, "✗ not measured: FLASH is 12 bytes short"),
        ({}, "✓ as predicted"),
    ],
)
def test_drift_and_missing_measurements_are_said(full: SearchResult, changes: dict[str, Any], words: str) -> None:
    finalist = replace(full.finalists[0], **changes)
    assert agreement_verdict(finalist) == (words, words.startswith("✓"))
    assert words in assert_sound(render_search(replace(full, finalists=(finalist, *full.finalists[1:])))).visible


def test_differing_outputs_are_said(full: SearchResult) -> None:
    finalist = full.finalists[0]
    assert finalist.measured is not None
    wrong = replace(finalist, measured=replace(finalist.measured, mismatched=2))
    text = Page(render_search(replace(full, finalists=(wrong, *full.finalists[1:])))).visible
    assert "30 of 32 ✗ outputs differ" in text


@pytest.mark.parametrize("points", [0, 1, 2, 5, 40])
def test_small_and_empty_searches(points: int) -> None:
    text = assert_sound(render_search(search_result(points, seed=3))).visible
    assert ("No trial was finished" in text) == (points == 0)


def test_a_search_without_a_network_within_the_bounds(full: SearchResult) -> None:
    points = tuple(replace(item, feasible=False) for item in full.points)
    text = assert_sound(render_search(replace(full, points=points, front=(), finalists=(), winner=None))).visible
    assert "None of 200 trials meets every bound" in text
    assert "none is within all bounds yet" in text


def test_a_search_in_which_all_failed(full: SearchResult) -> None:
    points = tuple(replace(item, status="failed", error=None, feasible=False) for item in full.points)
    result = replace(full, points=points, front=(), finalists=(), winner=None, failed=200, ok=0)
    text = assert_sound(render_search(result)).visible
    assert "no trial was trained" in text
    assert "200 of 200 trials failed" in text


def test_without_a_calibration_there_is_no_latency_but_macs(full: SearchResult) -> None:
    def blind(found: Any) -> Any:
        return None if found is None else replace(found, latency=None, latency_low=None, latency_high=None, unit="")

    points = tuple(replace(item, resources=blind(item.resources), drawn=blind(item.drawn)) for item in full.points)
    finalists = tuple(replace(item, predicted=blind(item.predicted)) for item in full.finalists)
    bounds = {"error": 0.12, "ram": 65536.0, "macs": 1e6}
    result = replace(full, points=points, finalists=finalists, unit="", calibrated=False, bounds=bounds)
    page = assert_sound(render_search(result))
    assert "pareto-latency" not in page.ids
    assert "pruning-macs" in page.ids
    assert "bound 1.00 M" in page.visible
    assert "No calibration was given" in page.visible
    assert "1.76 M instructions" in page.visible  # measured all the same


def test_what_int8_costs_and_what_collapsed_is_said(full: SearchResult) -> None:
    best = full.best()
    assert best is not None
    broken = replace(
        best, error=0.131, float_error=0.101, int8_cause="conv2d_3 alone costs 2.1 points",
        collapsed=((12, 0.8876),), message="",
    )  # fmt: skip
    others = tuple(broken if item.index == best.index else item for item in full.finalists)
    text = Page(render_search(replace(full, finalists=others))).visible
    assert "Lost by int8" in text
    assert "+3.0 %" in text
    assert f"#{best.index}: int8: conv2d_3 alone costs 2.1 points." in text
    assert f"#{best.index}: re-training collapsed to 88.8 % (seed 12)." in text


def test_two_strategies_have_a_line_each(full: SearchResult, other: SearchResult) -> None:
    text = "".join(figure(render_search(full, replace(other, strategy="nsga2")), "hypervolume").itertext())
    assert "ageing-evolution: 0." in text
    assert "nsga2: 0." in text


def test_hostile_text_is_text(full_html: str) -> None:
    result = search_result(60)
    counter = iter(range(10**6))

    def poison(leaf: Any) -> Any:
        is_text = isinstance(leaf, str) and leaf not in ("ok", "failed", *(key for key in result.bounds))
        return f"{HOSTILE}{next(counter)}" if is_text else leaf

    poisoned = replace(map_leaves(result, poison), bounds=result.bounds, hard_budget=result.hard_budget)
    page = assert_sound(render_search(replace(poisoned, notes=(HOSTILE,), preset=HOSTILE)))
    assert set(page.tags) <= set(Page(full_html).tags)
    assert "<script>alert(1)</script>" in page.visible
    assert "{{7*7}}" in page.visible


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0, 1e300])
def test_figures_that_are_no_figures_do_not_break_the_page(full: SearchResult, value: float) -> None:
    def spoil(leaf: Any) -> Any:
        return value if isinstance(leaf, float) else leaf

    finalists = tuple(map_leaves(item, spoil) for item in full.finalists)
    points = tuple(map_leaves(item, spoil) if item.index % 3 else item for item in full.points)
    assert_sound(render_search(replace(full, points=points, finalists=finalists)))


# ------------------------------------------------------------------------------------------ figures


def test_every_result_is_a_dot_and_stopped_ones_are_hollow(full: SearchResult, full_html: str) -> None:
    trained = [item for item in full.points if item.error is not None]
    for ident in ("progress", "pareto-ram"):
        dots = marks(figure(full_html, ident), "circle", "trial")
        assert len(dots) == len(trained)
        assert sum("stopped" in (dot.get("class") or "") for dot in dots) == sum(item.stopped for item in trained)
    failures = marks(figure(full_html, "progress"), "path", "failed")[0]
    assert (failures.get("d") or "").count("v-9") == full.failed


def test_best_so_far_only_falls(full: SearchResult) -> None:
    steps = best_so_far(full.points, feasible=True)
    errors = [error for _, error in steps]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == min(item.error for item in full.points if item.feasible and item.error is not None)
    assert [at for at, _ in steps] == sorted(at for at, _ in steps)
    assert len(best_so_far(full.points, feasible=False)) >= 1


def test_a_front_is_what_nothing_beats(full: SearchResult) -> None:
    for metric in metrics_of(full):
        trials = trials_of(full.points, metric)
        front = staircase(trials)
        for item in trials:
            assert any(best.x <= item.x and best.error <= item.error for best in front)
        for item in front:
            assert not any(
                other.x <= item.x and other.error <= item.error and (other.x, other.error) != (item.x, item.error)
                for other in trials
            )


def test_members_are_drawn_where_they_were_measured(full: SearchResult, full_html: str) -> None:
    found = figure(full_html, "pareto-ram")
    finals = marks(found, "path", "final")
    assert len(finals) == len(full.finalists)
    assert len(marks(found, "path", "winner")) == 1
    titles = " ".join("".join(item.itertext()) for item in finals)
    assert titles.count("measured") == len(full.finalists)
    unmeasured = replace(full, finalists=tuple(replace(item, measured=None) for item in full.finalists))
    text = "".join(figure(render_search(unmeasured), "pareto-ram").itertext())
    assert text.count(" predicted, error") == len(full.finalists)


def test_ticks_of_errors_are_apart() -> None:
    scale = Scale(0.08, 0.9, 300, 30, log=True)
    ticks = error_ticks(scale)
    places = [scale(value) for value in ticks]
    assert min(abs(a - b) for a, b in pairwise(places)) >= 21
    assert {0.1, 0.2, 0.5} <= set(ticks)


def test_the_line_of_ancestors_ends_with_the_winner(full: SearchResult) -> None:
    steps = lineage(full)
    assert steps[-1].index == full.winner
    assert steps[0].parent is None
    assert all(child.parent == parent.index for parent, child in pairwise(steps))


def test_ancestors_in_a_circle_end(full: SearchResult) -> None:
    points = tuple(replace(item, parent=full.winner) for item in full.points)
    assert [item.index for item in lineage(replace(full, points=points))] == [full.winner]


def test_many_ancestors_are_followed_in_time(full: SearchResult) -> None:
    first = full.points[0]
    points = tuple(replace(first, index=index, parent=index - 1 if index else None) for index in range(20_000))
    started = time.monotonic()
    assert len(lineage(replace(full, points=points, winner=19_999))) == 20_000
    assert time.monotonic() - started < 10


def test_pruning_is_drawn_before_and_after(full: SearchResult, full_html: str) -> None:
    found = figure(full_html, "pruning-flash_weights")
    pruned = [item for item in full.points if item.drawn is not None and item.error is not None and not item.stopped]
    assert len(marks(found, "circle", "drawn")) == len(marks(found, "circle", "within")) == len(pruned) > 50
    assert "No trial was pruned" in Page(render_search(search_result(60, pruned=False))).visible


# ------------------------------------------------------------------------------------------ two runs


def test_two_runs_are_compared(full: SearchResult, other: SearchResult, full_html: str) -> None:
    text = Page(full_html).visible
    assert "With pruning and without pruning" in text
    assert "Smallest error within a size" in text
    assert [side.name for side in sides_of(full, other)] == ["with pruning", "without pruning"]
    assert [side.name for side in sides_of(other, full)] == ["without pruning", "with pruning"]
    assert [side.name for side in sides_of(full, full)] == ["this run, seed 1", "other run, seed 1"]


def test_runs_of_another_kind_are_not_compared(full: SearchResult, other: SearchResult) -> None:
    with pytest.raises(UsageError, match="data set is 'digits', here it is 'fashion-mnist'"):
        render_search(full, replace(other, dataset="digits"))
    with pytest.raises(UsageError, match="SHA-256"):
        render_search(full, replace(other, dataset_sha256="0"))
    with pytest.raises(CalibrationMismatch, match="compiler"):
        render_search(full, replace(other, identity=replace(other.identity, compiler="clang")))


def test_published_results_stand_beside_ours_where_there_are_any(full: SearchResult) -> None:
    result = replace(full, dataset="cifar10-binary")
    text = assert_sound(render_search(result)).visible
    assert "µNAS (paper) 77.49 % 685 B 909 B 41.2 K" in text
    assert "SpArSe (as the paper quotes it) 73.84 %" in text
    assert "This search, measured" in text
    assert "Theirs are proxies, ours are measured" in text
    assert 'id="reported"' not in render_search(full)


# ------------------------------------------------------------------------------------------ command line


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["munas-hil", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def written(folder: Path, result: SearchResult) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.json").write_text(json.dumps(result.to_json()), encoding="utf-8")
    return folder


def test_the_command_renders_a_search(
    tmp_path: Path, full: SearchResult, other: SearchResult, full_html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, beside = written(tmp_path / "a", full), written(tmp_path / "b", other)
    assert run_command(monkeypatch, "report", str(run), "--beside", str(beside)) == 0
    assert (run / "report.html").read_text(encoding="utf-8") == full_html
    assert run_command(monkeypatch, "report", str(run / "search.json"), "-o", str(tmp_path / "other.html")) == 0
    assert (tmp_path / "other.html").read_text(encoding="utf-8") == render_search(full)


def test_the_page_of_a_search_that_has_just_ended(tmp_path: Path, full: SearchResult) -> None:
    (tmp_path / ".report.html-abc").touch()  # what a kill -9 leaves
    assert write_search_report(tmp_path, full).read_text(encoding="utf-8") == render_search(full)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_command_still_renders_a_calibration(
    tmp_path: Path, full: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = calibration_result(5)
    (tmp_path / "result.json").write_text(json.dumps(result.to_json()), encoding="utf-8")
    assert run_command(monkeypatch, "report", str(tmp_path)) == 0
    assert "Calibration of" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="compares two searches"):
        page_of(tmp_path, written(tmp_path / "b", full))


def test_a_beside_that_is_no_search_is_refused(
    tmp_path: Path, full: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = written(tmp_path / "a", full)
    assert run_command(monkeypatch, "report", str(run), "--beside", str(tmp_path / "missing")) == 2
    assert not (run / "report.html").exists()


@pytest.fixture(scope="module")
def browser() -> str:
    return find_browser()


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_labels_do_not_collide(browser: str, tmp_path: Path, full_html: str, width: int) -> None:
    assert lay_out(browser, tmp_path, full_html, width, full_html.count('class="plot"')) == []


@pytest.mark.slow
def test_labels_of_proxies_and_far_bounds_do_not_collide(browser: str, tmp_path: Path, full: SearchResult) -> None:
    bounds = {"error": 0.02, "ram": 3000.0, "flash": 5e6, "macs": 1e6, "model_size": 5000.0, "peak_memory": 2000.0}
    page = render_search(replace(hardware(full), bounds=bounds, dataset="cifar10-binary"))
    assert lay_out(browser, tmp_path, page, 400, page.count('class="plot"')) == []
