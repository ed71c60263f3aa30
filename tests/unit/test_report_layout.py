"""The report as a browser lays it out: no label over another or outside its figure, no page wider than the window."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hil.report.calibration.page import render
from tests.calibration_results import calibration_result
from tests.report_layout import find_browser, lay_out

PLOTS = 10


@pytest.fixture(scope="module")
def browser() -> str:
    return find_browser()


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("count", [1, 300])
def test_labels_do_not_collide(browser: str, tmp_path: Path, width: int, count: int) -> None:
    assert lay_out(browser, tmp_path, render(calibration_result(count, failed=2)), width, PLOTS) == []


@pytest.mark.slow
def test_the_probe_finds_a_collision(browser: str, tmp_path: Path) -> None:
    page = render(calibration_result(5))
    label = re.search(r'<text[^>]*class="axis-name"[^>]*>', page)
    assert label is not None
    twice = page[: label.start()] + label[0] + "something else</text>" + page[label.start() :]
    assert any("is over" in item for item in lay_out(browser, tmp_path, twice, 1280, PLOTS))
