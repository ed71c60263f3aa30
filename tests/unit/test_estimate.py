"""Estimates and the calibration file: exact round trip, strict reading, same figure for graph and plan."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.codegen.plan import make_plan
from hil.model.load import parse_model
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.cost.calibration import Calibration, CodePart, Latency, MemoryModel
from munas.cost.calibration_file import CalibrationError, load_calibration, parse_calibration, write_calibration
from munas.cost.estimate import arena_bytes, estimate, estimate_works, table_bytes, weights_bytes, works_of
from munas.cost.gathers import Window
from munas.cost.kernels import KernelVariant, Work, conv
from munas.cost.variants import loop_names
from munas.tflite.flatbuffer import write_tflite
from tests.certainties import certainties

IDENTITY = {"board": "mps2-an386", "clock_hz": 25_000_000, "simulated": True, "compiler": 'gcc "12"\\\n é'}
SHAPE = (28, 28, 1)
SIZE = len(loop_names(KernelVariant.FC))


def calibration(paths: tuple[KernelVariant, ...] = tuple(KernelVariant)) -> Calibration:
    rng = np.random.default_rng(0)
    costs = {path: tuple(map(float, 10 * rng.random(len(loop_names(path))))) for path in paths}
    latency = Latency("instructions", 2.5, 1234.5, 400.0, -3.25, costs, 0.95, -2.4, 2.5, 0.001, certainties(paths))
    parts = tuple(CodePart(frozenset({path}), 100 + index) for index, path in enumerate(paths))
    parts += (CodePart(frozenset({KernelVariant.ADD, KernelVariant.ADD_PADDED}), 64),)
    return Calibration(IDENTITY, 150, 7, latency, MemoryModel(5000, parts, 220, 1536, 612))


@pytest.fixture
def document() -> dict[str, Any]:
    return tomllib.loads(write_calibration(calibration()))


def test_the_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "calibration.toml"
    file.write_text(write_calibration(calibration()), encoding="utf-8")
    assert load_calibration(file) == calibration()
    assert write_calibration(load_calibration(file)) == file.read_text(encoding="utf-8")


@pytest.mark.slow
@given(st.text(), st.floats(-1e9, 1e9), st.integers(0, 2**40))
def test_any_text_and_number_survives_the_file(text: str, number: float, size: int) -> None:
    original = calibration((KernelVariant.FC,))
    spread, costs = abs(number), original.latency.paths
    certainty = certainties(costs, spread)
    latency = Latency(text, 0.0, number, number, number, costs, 0.9, number, number, spread, certainty)
    changed = Calibration({"board": text}, size, size, latency, MemoryModel(size, (), size, size, size))
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert parse_calibration(tomllib.loads(write_calibration(changed))) == changed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format is 1, this program reads 2; calibrate again"),
        (("format",), None, "format is missing"),
        (("samples",), -1, "samples = -1: Input should be greater than or equal to 0"),
        (("samples",), True, "samples = True: Input should be a valid integer"),
        (("surprise",), 1, "unknown key surprise"),
        (("latency",), 3, "latency is not a table"),
        (("latency", "fixd"), 3.0, "unknown key latency.fixd"),
        (("latency", "fixed"), "x", "latency.fixed = 'x': Input should be a valid number"),
        (("latency", "fixed"), float("nan"), "latency.fixed = nan"),
        (("latency", "mac_only", "slope"), float("inf"), "latency.mac_only.slope = inf"),
        (("latency", "fixed"), True, "latency.fixed = True: Input should be a valid number"),
        (("latency", "mac_only", "slope"), -1.0, "latency.mac_only.slope = -1.0"),
        (("latency", "interval", "level"), 2.0, "latency.interval.level = 2.0"),
        (("latency", "certainty", "fc"), None, "latency.certainty.fc is missing"),
        (("latency", "certainty", "fc-per-channel"), {}, "latency.certainty.fc-per-channel.spread is missing"),
        (("latency", "certainty", "fc-per-channel"), {"spread": 1.0, "whitening": []}, "is missing, or not one that"),
        (("latency", "certainty", "fc", "spread"), -0.5, "latency.certainty.fc.spread = -0.5"),
        (
            ("latency", "certainty", "fc", "whitening"),
            [[1.0]],
            f"latency.certainty.fc.whitening is not {SIZE} lists of",
        ),
        (
            ("latency", "certainty", "fc", "whitening"),
            [[1.0] * (SIZE + 1)] * SIZE,
            f"latency.certainty.fc.whitening is not {SIZE} lists of",
        ),
        (("latency", "certainty", "fc", "whitening"), [["x"] * SIZE] * SIZE, "whitening.0.0 = 'x': Input should be"),
        (("latency", "paths", "fc", "calls"), -0.5, "latency.paths.fc.calls = -0.5"),
        (("latency", "paths", "fc", "calls"), None, "latency.paths.fc.calls is missing"),
        (("latency", "paths", "fc", "lines"), 1.0, "unknown key latency.paths.fc.lines"),
        (("latency", "paths", "warp"), {}, "latency.paths.warp: this version has no such kernel; calibrate again"),
        (("memory", "flash_base"), 1.5, "memory.flash_base = 1.5: Input should be a valid integer"),
        (("memory", "flash_parts", "fc"), -8, "memory.flash_parts.fc = -8"),
        (
            ("memory", "flash_parts", "fc+warp"),
            8,
            "memory.flash_parts.fc+warp: this version has no such kernel; calibrate again",
        ),
        (("identity", "board"), [1], "identity.board"),
    ],
)
def test_a_bad_file_is_refused_by_key(
    document: dict[str, Any], path: tuple[str, ...], value: object, message: str
) -> None:
    table = document
    for key in path[:-1]:
        table = table[key]
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    with pytest.raises(CalibrationError) as caught:
        parse_calibration(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 5000, b"a = 1", b"x" * (2 << 20), b"format = 1\nformat = 1"]
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "calibration.toml"
    file.write_bytes(content)
    with pytest.raises(CalibrationError, match=r"calibration\.toml"):
        load_calibration(file)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="run calibrate first"):
        load_calibration(tmp_path / "calibration.toml")


_WRITTEN = tomllib.loads(write_calibration(calibration()))


@settings(max_examples=200)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
                    max_leaves=12),
       st.sampled_from(["identity", "latency", "memory", "samples", "format"]))  # fmt: skip
def test_no_value_gets_past_the_reader_as_another_exception(value: object, key: str) -> None:
    document = {**_WRITTEN, key: value}
    try:
        parse_calibration(document)
    except CalibrationError:
        return
    assert key in ("identity", "samples", "format")


def test_unknown_kernels_are_named_and_do_not_fit() -> None:
    known = calibration((KernelVariant.CONV_IM2COL,))
    works = [
        conv((3, 7, 2), (1, 5, 3), Window((3, 3))),
        Work(KernelVariant.SOFTMAX, macs=0, outputs=10, inputs=30, rows=10),
    ]
    found = estimate_works(works, known, arena=100, weights=100, tables=10)
    assert found.uncalibrated == (KernelVariant.SOFTMAX,)
    assert not found.fits(1 << 20, 1 << 20)
    assert found.latency.layers[1] > 0
    assert estimate_works(works[:1], known, arena=100, weights=100, tables=10).fits(1 << 20, 1 << 20)


@pytest.mark.parametrize(("flash_slack", "ram_slack", "fits"), [(0, 0, True), (-1, 0, False), (0, -1, False)])
def test_fitting_is_exact_to_the_byte(flash_slack: int, ram_slack: int, fits: bool) -> None:
    found = estimate(build_graph(random_cnn(np.random.default_rng(3)), SHAPE, 10), calibration())
    assert found.ram_total == found.arena + 220 + 1536
    assert found.fits(found.flash_total + flash_slack, found.ram_total + ram_slack) is fits


@pytest.mark.slow
@pytest.mark.parametrize("dense_per_channel", [True, False])
def test_graph_and_plan_give_the_same_estimate(dense_per_channel: bool) -> None:
    rng = np.random.default_rng(21)
    for index in range(25):
        shape = [(28, 28, 1), (32, 32, 3), (49, 40, 1)][index % 3]
        graph = build_graph(random_cnn(rng), shape, 2 + 8 * (index % 2))
        plan = make_plan(parse_model(write_tflite(graph, index, dense_per_channel=dense_per_channel), "x"))
        from_graph = estimate(graph, calibration(), dense_per_channel=dense_per_channel)
        works = tuple(step.work for step in plan.steps)
        from_plan = estimate_works(
            works, calibration(), arena=plan.arena_bytes, weights=plan.weights_bytes, tables=plan.table_bytes
        )
        # How often a dense layer's outputs come near a half is only known with its scales.
        same = [replace(work, unsure=0) for work in works]
        ours = [replace(work, unsure=0) for work in works_of(graph, dense_per_channel=dense_per_channel)]
        assert sorted(map(repr, same)) == sorted(map(repr, ours))
        times = [calibration().latency.predict(items).latency for items in (same, ours)]
        assert times[0] == pytest.approx(times[1], rel=1e-12)
        assert from_graph.macs == from_plan.macs == graph.macs
        assert from_graph.flash_total == from_plan.flash_total
        assert from_graph.flash_code == from_plan.flash_code == calibration().memory.code(plan.paths)
        assert from_graph.flash_weights == plan.weights_bytes + plan.table_bytes
        assert weights_bytes(works) == plan.weights_bytes
        assert table_bytes(works) == plan.table_bytes
        assert from_graph.arena == from_plan.arena == arena_bytes(graph)
