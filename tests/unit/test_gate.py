"""The gate behind a calibration: limits, the baseline's file, JUnit and annotations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from hil.calibration.gate import Check, annotation, checks_of, junit_xml, read_baseline
from hil.calibration.result import CalibrationResult, MemoryErrors
from hil.cli.main import app
from hil.errors import CalibrationMismatch, UsageError
from tests.calibration_results import IDENTITY, calibration_result

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = (ROOT / "ci" / "github-calibrate.yml").read_text(encoding="utf-8")
RESULT = calibration_result(30)
NAMES = [
    "outputs", "measured", "per_operator.mape", "memory.arena_max_error", "memory.ram_max_error",
    "memory.flash_max_error",
]  # fmt: skip


def written(folder: Path, result: CalibrationResult = RESULT) -> Path:
    path = folder / "before.json"
    path.write_text(json.dumps(result.summary_json()))
    return path


def with_mape(mape: float) -> CalibrationResult:
    fit = RESULT.per_operator
    return replace(RESULT, per_operator=replace(fit, metrics=replace(fit.metrics, mape=mape)))


def failed(result: CalibrationResult, baseline: Path | None = None) -> list[str]:
    checks = checks_of(result, None if baseline is None else read_baseline(baseline))
    return [check.name for check in checks if not check.passed]


def test_a_calibration_holds_against_itself(tmp_path: Path) -> None:
    checks = checks_of(RESULT, read_baseline(written(tmp_path)))
    assert [check.name for check in checks] == NAMES
    assert all(check.passed for check in checks)


def test_the_fit_may_get_worse_by_half_and_half_a_per_cent(tmp_path: Path) -> None:
    path = written(tmp_path, with_mape(0.02))
    assert failed(with_mape(0.0349), path) == []
    assert failed(with_mape(0.0351), path) == ["per_operator.mape"]
    assert failed(with_mape(float("nan")), path) == ["per_operator.mape"]


@pytest.mark.parametrize(
    ("memory", "name"),
    [
        (MemoryErrors(1, 0, 96, 0, 0, 0), "arena_max_error"),
        (MemoryErrors(0, 1, 96, 0, 0, 0), "ram_max_error"),
        (MemoryErrors(0, 0, 97, 0, 0, 0), "flash_max_error"),
    ],
)
def test_no_memory_error_may_grow(tmp_path: Path, memory: MemoryErrors, name: str) -> None:
    path = written(tmp_path)
    assert failed(replace(RESULT, memory=memory), path) == [f"memory.{name}"]
    assert failed(replace(RESULT, memory=MemoryErrors(0, 0, 0, 0, 0, 0)), path) == []


def test_wrong_outputs_and_failed_networks_fail_without_a_baseline() -> None:
    assert failed(RESULT) == []
    assert failed(calibration_result(30, failed=2, outputs_mismatched=1)) == ["outputs", "measured"]


@pytest.mark.parametrize("change", [{"board": "mps2-an386"}, {"runtime": "tflm"}, {"via": "renode"}, {"timer": 1}])
def test_kinds_of_figures_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(RESULT.summary_json() | change))
    with pytest.raises(CalibrationMismatch, match=next(iter(change))):
        read_baseline(path).require_same(IDENTITY)
    read_baseline(written(tmp_path)).require_same(IDENTITY)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "7", "\xff", "[" * 100_000,
        json.dumps(RESULT.summary_json() | {"memory": {"arena_max_error": -1}}),
        json.dumps(RESULT.summary_json() | {"fits": {"per_operator": {"mape": float("nan")}}}),
        json.dumps(RESULT.summary_json() | {"fits": {"per_operator": {"mape": True}}}),
        json.dumps([RESULT.summary_json()]),
    ],
    ids=range(10),
)  # fmt: skip
def test_another_file_is_a_usage_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="calibrate --json"):
        read_baseline(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_baseline(path)


def test_junit_has_a_testcase_for_each_check() -> None:
    checks = (Check("one", True, "fine"), Check("two", False, 'went from 1 % to 2 %; <&">'))
    root = ElementTree.fromstring(junit_xml(checks, IDENTITY, 12.5))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("2", "1", "12.500")
    one, two = suite
    assert [case.get("name") for case in suite] == ["one", "two"]
    assert one.get("classname") == "calibrate.nucleo-f746zg.cmsis-nn.qemu.icount-instructions"
    assert len(one) == 0
    assert two[0].tag == "failure"
    assert two[0].get("message") == checks[1].message


def test_an_annotation_is_one_line_with_its_escapes() -> None:
    line = annotation(Check("x", False, "50 % more\nthan before"))
    assert line == "::error title=munas-hil calibrate x::50 %25 more%0Athan before"


def test_the_workflow_names_packages_options_and_baselines_that_exist() -> None:
    system = (ROOT / "ci" / "install-system.sh").read_text(encoding="utf-8")
    for package in re.findall(r"^need ([\w+-]+)", system, re.MULTILINE):
        assert re.search(rf"(?<=\s){re.escape(package)}(?=\s)", WORKFLOW), package
    (command,) = re.findall(r"munas-hil calibrate --board.*?> build/calibrate.json", WORKFLOW, re.DOTALL)
    calibrate = typer.main.get_command(app).commands["calibrate"]
    known = {name for parameter in calibrate.params for name in parameter.opts}
    used = re.findall(r"--[a-z-]+", command)
    assert used
    assert set(used) <= known
    baselines = re.findall(r"--check (ci/\S+)", WORKFLOW)
    assert baselines
    for name in baselines:
        place = read_baseline(ROOT / name).place
        assert name == f"ci/baseline/{place['board']}-{place['via']}.json"


def test_hostile_text_is_sound_junit() -> None:
    message = "\x00\x1b[31m]]> <x/> & \ud800 \ufffe\n::error::x"
    (suite,) = ElementTree.fromstring(junit_xml((Check("one", False, message),), IDENTITY, 1.0).encode())
    (case,) = suite
    assert "\\x1b[31m]]> <x/> & \\ud800" in str(case[0].get("message"))
