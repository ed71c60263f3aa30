"""The page of `measure -o`, and the result that it is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hil.errors import UsageError
from hil.measure.arena import ArenaMap
from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement, Memory, Outputs
from hil.measure.result import MeasuredNetwork, MeasurementResult, read_measurement_result
from hil.report.measurement.page import render_measurement
from hil.report.run import page_of, write_measurement
from tests.calibration_results import arena_map, calibration_result
from tests.report_page import HOSTILE, assert_sound, map_leaves


def result(arena: ArenaMap | None = None) -> MeasurementResult:
    identity = Identity(
        "mps2-an386", "cortex-m4", "cmsis-nn", "qemu", True, "icount-instructions", 25_000_000, "gcc", "-O2", "k", "f"
    )
    layers = tuple(LayerTime(index, "CONV_2D", f"conv{index}", 100.0 * index) for index in range(4))
    measurement = Measurement(
        "net", "0" * 64, identity, Latency("instructions", (700, 701, 720)), layers,
        Memory(1000, 990, 640, 2048, 916, 3964, 8272, 10568, 18840), Outputs(8, 0), Build("b", "e", "gcc", "-O2", "k"),
    )  # fmt: skip
    other = replace(measurement, model="other", outputs=Outputs(8, 2))
    return MeasurementResult((MeasuredNetwork(measurement, arena), MeasuredNetwork(other, arena)))


def test_the_page_shows_every_network_its_layers_and_its_memory() -> None:
    page = assert_sound(render_measurement(result(arena_map())))
    for text in (
        "net",
        "other",
        "conv3",
        "10,568 B",
        "6 of 8",
        "2 of 16 outputs differ",
        "Scratch",
        "SIMULATED",
        "Optimised for balanced",
    ):
        assert text.lower() in page.visible.lower(), text


def test_it_reads_back_and_renders_again(tmp_path: Path) -> None:
    written = result(arena_map())
    page = write_measurement(tmp_path / "run", written)
    assert read_measurement_result(tmp_path / "run") == written
    assert page_of(tmp_path / "run") == page_of(tmp_path / "run" / "result.json") == page.read_text(encoding="utf-8")
    write_measurement(tmp_path / "run", result())


def test_the_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(calibration_result(5).to_json()), encoding="utf-8")
    with pytest.raises(UsageError, match="holds another run"):
        write_measurement(tmp_path, result())


def test_a_newer_or_broken_result_is_refused(tmp_path: Path) -> None:
    document = result().to_json()
    for change, said in (({"version": 2}, "version 2.*measure again"), ({"networks": [{}]}, "not a measurement")):
        (tmp_path / "result.json").write_text(json.dumps({**document, **change}), encoding="utf-8")
        with pytest.raises(UsageError, match=said):
            page_of(tmp_path)


def test_hostile_text_is_escaped() -> None:
    hostile = map_leaves(result(arena_map()), lambda leaf: HOSTILE if isinstance(leaf, str) else leaf)
    assert_sound(render_measurement(hostile))
