"""The loop as a user runs it: calibrate, estimate with it, report; a calibration of another board is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hil.boards.board import load_board
from hil.calibration import gate
from hil.cli import main as cli
from hil.measure.compare import Limit
from hil.measure.harness import Harness
from tests.networks import small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 60
CALIBRATE_KEYS = {
    "population", "macs_r2",
    "board", "runtime", "via", "timer", "samples", "failed", "fits", "memory", "models_per_minute", "calibration",
    "report",
}  # fmt: skip


def munas_hil(folder: Path, *arguments: str, status: int = 0) -> Any:
    """Run the command in `folder`; its JSON, or its error line when another `status` is expected."""
    done = subprocess.run(
        [sys.executable, "-c", "from hil.cli.main import main; main()", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 and "--json" in arguments else done.stderr


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("loop")
    options = ("--board", "mps2-an386", "--samples", str(SAMPLES), "--seed", "3", "--json")
    return folder, munas_hil(folder, "calibrate", *options)


def test_calibrate_prints_what_the_design_says(calibrated: tuple[Path, Any]) -> None:
    folder, found = calibrated
    assert set(found) == CALIBRATE_KEYS
    assert (found["board"], found["via"], found["timer"]) == ("mps2-an386", "qemu", "icount-instructions")
    assert (found["samples"], found["failed"]) == (SAMPLES, 0)
    for fit in ("mac_only", "per_operator"):
        assert set(found["fits"][fit]) == {"mape", "max_ape", "within_10pct", "r2", "spearman"}
    assert (folder / found["calibration"]).is_file()
    assert "<html" in (folder / found["report"]).read_text(encoding="utf-8")


def test_the_fits_are_as_good_as_promised(calibrated: tuple[Path, Any]) -> None:
    found = calibrated[1]
    per_operator, mac_only = found["fits"]["per_operator"], found["fits"]["mac_only"]
    assert per_operator["mape"] <= 0.03
    assert per_operator["within_10pct"] >= 0.95
    assert mac_only["mape"] > per_operator["mape"]
    assert found["memory"]["arena_max_error"] == 0
    assert 0 <= found["memory"]["ram_max_error"] <= 512
    assert 0 <= found["memory"]["flash_max_error"] <= 512


def test_a_second_run_measures_nothing_again(calibrated: tuple[Path, Any]) -> None:
    folder, first = calibrated
    options = ("--board", "mps2-an386", "--samples", str(SAMPLES), "--seed", "3", "--json")
    second = munas_hil(folder, "calibrate", *options)
    assert second["fits"] == first["fits"]
    assert second["memory"] == first["memory"]


def test_an_estimate_holds_on_networks_that_were_not_sampled(calibrated: tuple[Path, Any]) -> None:
    folder, _ = calibrated
    seeds = range(40, 46)
    names = [f"fresh{seed}.tflite" for seed in seeds]
    for seed, name in zip(seeds, names, strict=True):
        (folder / name).write_bytes(small_network(seed))
    estimates = munas_hil(folder, "estimate", *names, "--board", "mps2-an386", "--json")
    harness = Harness(load_board("mps2-an386"))
    for name, estimate in zip(names, estimates, strict=True):
        measured = harness.measure((folder / name).read_bytes(), name).measurement
        memory = estimate["memory"]
        assert memory["arena"] == measured.memory.arena_planned
        assert 0 <= memory["ram_total"] - measured.memory.ram_total <= 512
        assert 0 <= memory["flash_total"] - measured.memory.flash_total <= 512
        assert estimate["latency"]["value"] == pytest.approx(measured.latency.median, rel=0.05)
        assert estimate["fits"]


def test_another_board_is_refused_by_name(calibrated: tuple[Path, Any]) -> None:
    folder, found = calibrated
    (folder / "one.tflite").write_bytes(small_network(1))
    options = ("--board", "mps2-an500", "--calibration", found["calibration"])
    error = munas_hil(folder, "estimate", "one.tflite", *options, status=2)
    assert "belongs to another identity" in error
    assert "board is 'mps2-an386' there and 'mps2-an500' here" in error


def test_the_report_can_be_rendered_again(calibrated: tuple[Path, Any]) -> None:
    folder, found = calibrated
    before = (folder / found["report"]).read_bytes()
    munas_hil(folder, "report", str(Path(found["report"]).parent), "-o", "again.html")
    assert (folder / "again.html").read_bytes() == before


def calibrate_again(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The finished calibration once more, in this process; its exit status."""
    options = ("--board", "mps2-an386", "--samples", str(SAMPLES), "--seed", "3", "--json")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["munas-hil", "calibrate", *options, *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_calibration_holds_against_itself(
    calibrated: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, found = calibrated
    (folder / "before.json").write_text(json.dumps(found))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert calibrate_again(folder, monkeypatch, "--check", "before.json", "--junit", "checks.xml") == 0
    suite = ElementTree.parse(folder / "checks.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), len(suite)) == ("6", "0", 6)
    assert "::error" not in capsys.readouterr().err


def test_a_worse_calibration_is_status_1_and_annotated(
    calibrated: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, found = calibrated
    (folder / "better.json").write_text(json.dumps({**found, "fits": {"per_operator": {"mape": 0}}}))
    monkeypatch.setattr(gate, "MAPE_LIMIT", Limit())
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert calibrate_again(folder, monkeypatch, "--check", "better.json", "--junit", "checks.xml") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["fits"] == found["fits"]
    (line,) = [line for line in err.splitlines() if line.startswith("::error")]
    assert "per_operator mape went from 0.00 %25 to" in line
    assert "munas-hil: per_operator mape went from 0.00 % to" in err
    assert ElementTree.parse(folder / "checks.xml").getroot().get("failures") == "1"
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert calibrate_again(folder, monkeypatch, "--check", "better.json") == 1
    assert "::error" not in "".join(capsys.readouterr())


def test_a_baseline_of_another_kind_is_refused(
    calibrated: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, found = calibrated
    (folder / "other.json").write_text(json.dumps({**found, "timer": "dwt-cycles"}))
    assert calibrate_again(folder, monkeypatch, "--check", "other.json") == 2
    assert "timer is 'dwt-cycles' there and 'icount-instructions' here" in capsys.readouterr().err
