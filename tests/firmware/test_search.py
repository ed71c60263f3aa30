"""The search as a user runs it, to verified firmware under QEMU: with a stub for the training, and with TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.calibration.calibrate import calibration_for
from hil.measure.harness import Harness
from hil.search.result import SearchResult, read_search_result
from munas.cost.calibration import Calibration
from munas.cost.calibration_file import load_calibration, write_calibration

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BOARD = "mps2-an386"
STUB = "from tests.search_stub import main; main()"
REAL = "from hil.cli.main import main; main()"
SEARCH = (
    "search", "--dataset", "digits", "--board", BOARD, "--trials", "10", "--population", "4", "--sample", "2",
    "--front", "2", "--seeds", "2", "--workers", "1", "--max-error", "0.5",
)  # fmt: skip


def start(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def munas_hil(folder: Path, code: str, *arguments: str, status: int = 0) -> tuple[str, str]:
    """Run the command in `folder`; its output and its messages."""
    with start(folder, code, *arguments) as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == status, err
    return out, err


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibration of the board in its run folder."""
    folder = tmp_path_factory.mktemp("search")
    munas_hil(folder, REAL, "calibrate", "--board", BOARD, "--samples", "60", "--seed", "3", "--workers", "1")
    return folder


@pytest.fixture
def world(calibrated: Path, tmp_path: Path) -> Path:
    """A folder of its own, with that calibration."""
    shutil.copytree(calibrated / "runs", tmp_path / "runs")
    return tmp_path


def calibration_of(world: Path) -> Path:
    return world / "runs" / f"{BOARD}-cmsis-nn-qemu" / "calibration.toml"


def require_sound(found: SearchResult, folder: Path) -> None:
    """Every network is verified, within its prediction, and complete."""
    assert found.finalists
    for finalist in found.finalists:
        measured, predicted = finalist.measured, finalist.predicted
        assert measured is not None
        assert (measured.mismatched, finalist.outside) == (0, ())
        assert measured.checked >= 8
        assert measured.ram <= predicted.ram
        assert measured.flash <= predicted.flash
        if predicted.latency_low is not None and predicted.latency_high is not None:
            assert predicted.latency_low <= measured.latency <= predicted.latency_high
        names = {path.name for path in (folder / finalist.folder).iterdir()}
        assert names == {"model.tflite", "architecture.json", "firmware", "measurement.json"}
        assert (folder / finalist.folder / "firmware" / "CMakeLists.txt").is_file()
    assert found.winner == min(found.finalists, key=lambda item: (item.mean_error, item.index)).index


def test_a_calibrated_search_hands_over_verified_networks(world: Path) -> None:
    out, err = munas_hil(world, STUB, *SEARCH, "-o", "run", "--max-latency", "20M", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines].count("trial") == 10
    assert (lines[0]["event"], lines[-1]["event"]) == ("start", "result")
    found = read_search_result(world / "run")
    require_sound(found, world / "run")
    assert (found.calibrated, found.unit, found.milliseconds_per_unit) == (True, "instructions", None)
    assert found.bounds["latency"] == 20e6
    assert all(finalist.predicted.latency is not None for finalist in found.finalists)
    assert "winner" in err
    network = world / "run" / found.finalists[0].folder
    graph, _ = munas_hil(world, REAL, "graph", str(network / "architecture.json"), "--json")
    assert json.loads(graph)[0]["macs"] == found.finalists[0].predicted.macs
    measured, _ = munas_hil(world, REAL, "measure", str(network / "model.tflite"), "--board", BOARD, "--json")
    (stored,) = json.loads((network / "measurement.json").read_text())
    assert json.loads(measured)[0]["latency"] == stored["latency"]


def test_without_a_calibration_memory_is_never_undershot(tmp_path: Path) -> None:
    _, err = munas_hil(tmp_path, STUB, *SEARCH)
    found = read_search_result(tmp_path / "runs" / f"search-digits-{BOARD}-cmsis-nn-qemu")
    require_sound(found, tmp_path / "runs" / f"search-digits-{BOARD}-cmsis-nn-qemu")
    assert "there is no calibration" in err
    assert not found.calibrated
    assert all(finalist.predicted.latency is None for finalist in found.finalists)


def test_killed_while_it_hands_over_it_goes_on(world: Path) -> None:
    (world / "journal").mkdir()
    with start(world, STUB, *SEARCH, "-o", "run") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "writing and measuring" in line:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    trained = sorted(path.name for path in (world / "journal").iterdir())
    for path in (world / "journal").iterdir():
        path.unlink()
    munas_hil(world, STUB, *SEARCH, "-o", "run")
    assert not list((world / "journal").iterdir())
    found = read_search_result(world / "run")
    require_sound(found, world / "run")
    assert len(trained) == 10 + 2 * len(found.finalists)


def change_calibration(world: Path, change: Callable[[Calibration], Calibration]) -> None:
    path = calibration_of(world)
    path.write_text(write_calibration(change(load_calibration(path))))


def test_drift_is_an_error_and_recalibration_cures_it(world: Path) -> None:
    change_calibration(world, lambda known: replace(known, latency=replace(known.latency, fixed=1e6)))
    _, err = munas_hil(world, STUB, *SEARCH, "-o", "run", status=1)
    assert "calibrate again" in err.splitlines()[-1]
    drifted = read_search_result(world / "run")
    assert {name for finalist in drifted.finalists for name in finalist.outside} == {"latency"}
    assert not (world / "run" / "calibration.toml").exists()
    munas_hil(world, STUB, *SEARCH, "-o", "run", "--recalibrate")
    found = read_search_result(world / "run")
    assert found.recalibrated
    require_sound(found, world / "run")
    known = calibration_for(world / "run" / "calibration.toml", Harness(load_board(BOARD)).identity)
    assert known.samples == 60 + len(found.finalists)
    assert known.latency.unit == "instructions"


def test_flash_above_its_prediction_is_an_error(world: Path) -> None:
    change_calibration(world, lambda known: replace(known, memory=replace(known.memory, flash_base=1000)))
    _, err = munas_hil(world, STUB, *SEARCH, "-o", "run", status=1)
    assert "flash" in err.splitlines()[-1]
    assert "were predicted" in err.splitlines()[-1]


def test_a_calibration_of_another_board_is_refused(world: Path) -> None:
    options = ["mps2-an500" if item == BOARD else item for item in SEARCH]
    _, err = munas_hil(world, STUB, *options, "--calibration", str(calibration_of(world)), status=2)
    assert "board is 'mps2-an386' there and 'mps2-an500' here" in err


def test_another_searchs_folder_is_refused(world: Path) -> None:
    munas_hil(world, STUB, *SEARCH, "-o", "run")
    _, err = munas_hil(world, STUB, *SEARCH, "-o", "run", "--seed", "1", status=2)
    assert "holds another search" in err
    assert "seed 0 there, 1 here" in err


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs the [search] extra")
def test_with_tensorflow_on_digits(tmp_path: Path) -> None:
    """Without a calibration: networks that have hardly been trained run in other times than those it was made with."""
    short = ("--effort", "0.1", "--final-effort", "0.2", "--seeds", "1", "--front", "1", "--trials", "4")
    munas_hil(tmp_path, REAL, *SEARCH, *short, "--max-error", "0.95", "--max-macs", "200k", "-o", "run")
    found = read_search_result(tmp_path / "run")
    require_sound(found, tmp_path / "run")
    (finalist,) = found.finalists
    assert finalist.test_accuracy is not None
    assert 0 < finalist.test_accuracy <= 1
    assert found.images_per_second is not None
