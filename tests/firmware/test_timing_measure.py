"""Modelled cycles in measurements and calibrations, as a user gets them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hil.boards.board import Board, load_board
from hil.cycle_model.validate import load_published, published_file, validate
from hil.errors import InfrastructureError
from hil.measure.harness import Harness, Options
from hil.measure.published import find_networks, measure_networks, modelled_of
from hil.targets.runners.base import Session, no_records
from hil.targets.runners.qemu import QemuRunner
from munas.tflite.flatbuffer import write_tflite
from tests.networks import every_operator, small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["nucleo-l4r5zi", "nucleo-f746zg"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_they_stand_beside_the_count_and_change_nothing_of_it(name: str) -> None:
    board, data = load_board(name), write_tflite(every_operator(), 3)
    plain = Harness(board).measure(data, "net").measurement
    found = Harness(board, Options(modelled="beside")).measure(data, "net").measurement
    assert dataclasses.replace(found, modelled=None, seconds={}) == dataclasses.replace(plain, seconds={})
    assert plain.modelled is None
    modelled = found.modelled
    assert modelled is not None
    assert modelled.milliseconds is not None
    assert modelled.milliseconds.low < modelled.median * 1000 / board.clock_hz < modelled.milliseconds.high
    assert len(modelled.samples) == len(found.latency.samples)
    assert modelled.counters.instructions in found.latency.samples
    assert len(modelled.layers) == len(found.layers)
    assert 0.99 * modelled.median < sum(modelled.layers) <= modelled.median + len(modelled.layers)


def test_as_the_timer_they_are_the_latency_and_the_same_every_time(name: str) -> None:
    harness = Harness(load_board(name), Options(modelled="timer"))
    first, second = (harness.measure(small_network(4), "net").measurement for _ in range(2))
    assert (first.latency, first.layers, first.modelled) == (second.latency, second.layers, second.modelled)
    assert first.modelled is not None
    assert first.latency.samples == first.modelled.samples
    assert (first.identity.timer, first.latency.unit) == ("modelled-cycles", "cycles")
    assert tuple(layer.median for layer in first.layers) == first.modelled.layers
    assert first.identity.cycle_model == first.modelled.constants
    assert Harness(load_board(name), Options(modelled="beside")).identity.cycle_model == ""


def test_a_lost_record_is_never_overlooked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = QemuRunner.open

    @contextmanager
    def forgetful(self: QemuRunner, image: Path, board: Board) -> Iterator[Session]:
        with real(self, image, board) as session:
            yield dataclasses.replace(session, new_records=no_records)

    monkeypatch.setattr(QemuRunner, "open", forgetful)
    with pytest.raises(InfrastructureError, match="BUG: the timing plugin recorded 0 of 8"):
        Harness(load_board(name), Options(modelled="beside")).measure(small_network(4), "net")


def munas_hil(folder: Path, *arguments: str, status: int = 0, **environment: str) -> tuple[Any, str]:
    """JSON and standard error."""
    done = subprocess.run(
        [sys.executable, "-c", "from hil.cli.main import main; main()", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.parametrize(
    ("options", "compiler", "wanted"),
    [
        (["--board", "nucleo-l4r5zi"], "cc", "milliseconds"),
        (["--board", "nucleo-l4r5zi", "--no-timing"], "cc", "nothing"),
        (["--board", "nucleo-l4r5zi"], "no-such-cc", "nothing, and why"),
        (["--board", "mps2-an386"], "cc", "nothing"),
        (["--board", "mps2-an386", "--timing"], "cc", "cycles"),
    ],
)
def test_measure(tmp_path: Path, options: list[str], compiler: str, wanted: str) -> None:
    (tmp_path / "a.tflite").write_bytes(small_network(5))
    arguments = ["measure", "a.tflite", "--via", "qemu", "--json", *options]
    (document,), said = munas_hil(tmp_path, *arguments, CC=compiler)
    assert (document["timer"], document["latency"]["unit"]) == ("icount-instructions", "instructions")
    block = document["modelled"]
    assert said.count("no modelled cycles, instruction counts only: no-such-cc") == (wanted == "nothing, and why")
    assert (block is None) is wanted.startswith("nothing")
    if block is not None:
        assert (block["milliseconds"] is None) is (wanted == "cycles")
        assert (block["reason"] is None) is (wanted == "milliseconds")


@pytest.mark.slow
def test_calibrate_and_estimate_by_modelled_cycles(tmp_path: Path) -> None:
    """The constants belong to the identity: with others, or by another timer, the calibration is refused."""
    board = (ROOT / "boards" / "nucleo-l4r5zi.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(f"{board}\n[timing]\nscale = 2\n", encoding="utf-8")
    place = ("--board", "nucleo-l4r5zi", "--via", "qemu")
    found, _ = munas_hil(
        tmp_path, "calibrate", *place, "--timer", "modelled-cycles", "-n", "40", "--seed", "3", "--json"
    )
    assert (found["timer"], found["samples"], found["failed"]) == ("modelled-cycles", 40, 0)
    assert found["fits"]["per_operator"]["mape"] <= 0.03
    assert found["fits"]["per_operator"]["within_10pct"] >= 0.95
    (tmp_path / "a.tflite").write_bytes(small_network(42))
    (estimate,), _ = munas_hil(tmp_path, "estimate", "a.tflite", *place, "--timer", "modelled-cycles", "--json")
    assert estimate["latency"]["unit"] == "cycles"
    measured = (
        Harness(load_board("nucleo-l4r5zi"), Options(modelled="timer")).measure(small_network(42), "a").measurement
    )
    assert estimate["latency"]["value"] == pytest.approx(measured.latency.median, rel=0.1)
    options = ("estimate", "a.tflite", "--via", "qemu", "--calibration", found["calibration"])
    _, said = munas_hil(tmp_path, *options, "--board", "nucleo-l4r5zi", status=2)
    assert "timer is 'modelled-cycles' there and 'icount-instructions' here" in said
    _, said = munas_hil(tmp_path, *options, "--board", "./mine.toml", "--timer", "modelled-cycles", status=2)
    assert "cycle_model is" in said
    assert "timer" not in said


@pytest.mark.slow
def test_a_whole_measurement_is_at_most_three_times_slower(shared: Path) -> None:
    """The best of three each, in turns: other processes are about."""
    board = load_board("nucleo-l4r5zi").with_budget(1 << 20, 320 * 1024)
    data = (shared / "models" / "kws_ref_model.tflite").read_bytes()

    def seconds(harness: Harness) -> float:
        started = time.perf_counter()
        harness.measure(data, "kws")
        return time.perf_counter() - started

    plain, beside = Harness(board, Options()), Harness(board, Options(modelled="beside"))
    times = [(seconds(beside), seconds(plain)) for _ in range(3)]
    assert min(first for first, _ in times) < 3 * min(second for _, second in times)


@pytest.mark.slow
def test_published_rows_with_the_ancestors_of_our_kernels(shared: Path) -> None:
    """microTVM with CMSIS-NN of 2022: our kernels took the place of CMSIS-NN's: no row says how good the model is."""
    published = load_published(published_file())
    networks = find_networks(shared / "models", published)
    assert len(networks) == 4
    measured = measure_networks(networks, "cmsis-nn")
    assert len(measured) == 8
    rows = [row for row in validate(published, modelled_of(measured)) if row.cmsis_share is not None]
    assert len(rows) == 10
    assert {row.published.model for row in rows} == set(networks)
    assert not any(row.comparable for row in rows)
    assert all("took the place of CMSIS-NN's" in row.why for row in rows)
    assert all(row.ratio is not None and 0.3 < row.ratio < 0.8 for row in rows)
