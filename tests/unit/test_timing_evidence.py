"""Published figures beside the model: all of them are shown, and none is counted on the wrong side of the fit."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from hil.boards.soc import load_soc, soc_names
from hil.cli.main import app
from hil.cycle_model.evidence import all_points, core_file, errors_of
from hil.report.calibration.evidence import evidence_figure, evidence_table

POINTS = all_points()


def test_every_row_of_every_chip_and_core_is_a_point() -> None:
    rows = sum(
        len(timing.evidence.rows)
        for timing in (load_soc(name).timing for name in soc_names())
        if timing is not None and timing.evidence is not None
    )
    assert len(POINTS) == rows + len(json.loads(core_file().read_text()))
    assert len({(point.about, point.board, point.code) for point in POINTS}) == len(POINTS)
    for point in POINTS:
        assert point.error_pct == pytest.approx(100 * (point.modelled / point.published - 1), abs=0.1)
        assert point.source.startswith(("github:", "https:"))


def test_errors_in_and_out_of_the_fit_are_apart() -> None:
    inside = [dataclasses.replace(point, held_out=False, error_pct=-50.0) for point in POINTS[:2]]
    found = {(item.about, item.held_out): item for item in errors_of([*POINTS, *inside])}
    assert found[POINTS[0].about, False].max_pct == 50
    assert found[POINTS[0].about, False].count == 2
    assert found[POINTS[0].about, True].max_pct < 10


@pytest.mark.parametrize(("core", "mean", "worst"), [("cortex-m4", 1.5, 6), ("cortex-m7", 4, 10)])
def test_core_models_are_within_their_targets(core: str, mean: float, worst: float) -> None:
    (errors,) = (item for item in errors_of(POINTS) if item.about == core)
    assert errors.held_out
    assert errors.mean_pct <= mean
    assert errors.max_pct <= worst


def test_the_command_prints_all_evidence() -> None:
    done = CliRunner().invoke(app, ["timing", "validate", "--json"])
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["evidence"]) == len(POINTS)
    shown = CliRunner().invoke(app, ["timing", "validate"], env={"COLUMNS": "200"})
    assert all(f"{point.error_pct:+.1f} %" in shown.output for point in POINTS)


def test_the_picture_has_a_dot_for_every_figure_of_a_chip() -> None:
    figure, chips = evidence_figure(POINTS), {point.about for point in POINTS if point.unit == "ms"}
    assert figure.count("<title>") >= sum(point.unit == "ms" for point in POINTS)
    assert all(chip in figure for chip in chips)
    assert {row[0] for row in evidence_table(POINTS).rows} == {point.about for point in POINTS}
    assert "no published figures" in evidence_figure([])
