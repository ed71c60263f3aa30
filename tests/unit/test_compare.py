"""Two runs side by side: what is comparable, what is a regression, and files that are neither."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.cli import main as cli
from hil.errors import CalibrationMismatch, StoreError, UsageError
from hil.jobs.store import Result, Run, Store
from hil.measure.compare import Limit, Policy, compare, declared, load_policy, parse_limit, read_run
from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement, Memory, Outputs
from hil.measure.result import MeasuredNetwork, MeasurementResult

IDENTITY = Identity(
    board="nucleo-f746zg", core="cortex-m7", runtime="cmsis-nn", via="qemu", simulated=True,
    timer="icount-instructions", clock_hz=216_000_000, compiler="gcc 12.2", flags="-O2", kernels="CMSIS-NN 4.0.0",
    firmware="abc",
)  # fmt: skip
MEMORY = Memory(1000, 990, 300, 2048, 400, 3448, 5000, 9000, 14_500)


def measured(name: str = "one", time: int = 10_000, identity: Identity = IDENTITY, **changes: Any) -> Measurement:
    memory = replace(MEMORY, **{key: value for key, value in changes.items() if key not in ("sha256", "mismatched")})
    return Measurement(
        name, changes.get("sha256", f"sha-{name}"), identity, Latency("instructions", (time, time, time + 2)),
        (LayerTime(0, "CONV_2D", "c", 5.0),), memory, Outputs(8, changes.get("mismatched", 0)),
        Build("b", "e", "gcc", "-O2", "k"),
    )  # fmt: skip


def written(path: Path, *runs: Measurement) -> Path:
    path.write_text(json.dumps([run.to_json() for run in runs]))
    return path


def test_equal_runs_have_no_regression() -> None:
    result = compare([measured(), measured("two")], [measured(), measured("two")])
    assert result.regressions == ()
    assert [pair.model for pair in result.pairs] == ["one", "two"]
    assert result.total["latency"].before == 20_000


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (measured(time=10_101), "one: latency went from 10,000 to 10,101"),
        (measured(ram_total=3449), "ram_total went from 3,448 to 3,449; allowed is 0 more"),
        (measured(flash_total=14_700), "flash_total"),
        (measured(mismatched=2), "one: 2 wrong outputs"),
        (measured("two"), "no network in common"),
    ],
)
def test_regressions_of_the_default_policy(after: Measurement, words: str) -> None:
    if "common" in words:
        with pytest.raises(UsageError, match=words):
            compare([measured()], [after])
        return
    (text,) = compare([measured()], [after]).regressions
    assert words in text


def test_better_and_within_the_limit_is_no_regression() -> None:
    better = measured(time=10_100, ram_total=3000, flash_total=14_645, arena_used=9_999_999)
    assert compare([measured()], [better]).regressions == ()


def test_totals_have_limits_of_their_own() -> None:
    before = [measured(), measured("two", 1000)]
    after = [measured(time=10_050), measured("two", 1005)]
    policy = Policy(model={}, total={"latency": Limit(absolute=54)})
    (text,) = compare(before, after, policy).regressions
    assert text.startswith("total: latency went from 11,000 to 11,055")


def test_missing_and_added_networks() -> None:
    result = compare([measured(), measured("two")], [measured(), measured("three")])
    assert (result.missing, result.added) == (("two",), ("three",))
    assert result.regressions == ("two: missing in the second run",)
    allowed = compare([measured(), measured("two")], [measured()], Policy(allow_missing=True))
    assert allowed.regressions == ()


def test_only_the_declared_difference_is_allowed() -> None:
    other = measured(identity=replace(IDENTITY, flags="-O3", compiler="gcc 13"))
    for differing in ((), ("flags",), ("compiler",)):
        with pytest.raises(CalibrationMismatch, match="not comparable"):
            compare([measured()], [other], Policy(differing=differing))
    result = compare([measured()], [other], Policy(differing=("flags", "compiler", "board")))
    assert result.differing == {"flags": ("-O2", "-O3"), "compiler": ("gcc 12.2", "gcc 13")}


def test_kinds_of_time_are_never_compared() -> None:
    hardware = replace(IDENTITY, via="hardware", simulated=False, timer="dwt-cycles")
    with pytest.raises(CalibrationMismatch, match="timer"):
        compare([measured()], [measured(identity=hardware)], Policy(differing=("via",)))
    for name in ("timer", "simulated"):
        with pytest.raises(UsageError, match="may never differ"):
            declared([name])


def test_networks_are_paired_by_name_when_they_are_what_differs() -> None:
    other = measured(sha256="another")
    with pytest.raises(UsageError, match="no network in common"):
        compare([measured()], [other])
    assert compare([measured()], [other], Policy(differing=("model",))).pairs[0].sha256 == ("sha-one", "another")
    with pytest.raises(UsageError, match="several networks of one name"):
        compare([measured(), other], [other], Policy(differing=("model",)))


@pytest.mark.parametrize("value", ["2", "x%", "-1%", "nan%", "inf%", -1, float("nan"), float("inf"), True, None, [1]])
def test_other_things_are_no_limits(value: Any) -> None:
    with pytest.raises(UsageError, match="is not a limit"):
        parse_limit(value, "here")


def test_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('differing = ["flags"]\nallow_missing = true\n[model]\nlatency = "2.5%"\n[total]\nram_total = 64\n')
    assert load_policy(path) == Policy(("flags",), {"latency": Limit(0.025)}, {"ram_total": Limit(0, 64.0)}, True)


@pytest.mark.parametrize(
    "text",
    ["x = 1", "model = 3", "[model]\nspeed = 1", '[model]\nlatency = "fast"', "differing = 1", 'differing = ["x"]',
     "allow_missing = 1", "differing = [[]]", "[[[", "\udcff"],
)  # fmt: skip
def test_other_policies_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError):
        load_policy(path)


def test_files_and_folders_hold_the_same(tmp_path: Path) -> None:
    runs = [measured(), measured("two")]
    assert read_run(written(tmp_path / "a.json", *runs)) == runs
    with Store(tmp_path / "store.sqlite") as store:
        run = store.run_id(Run("calibrate", {}, 1, {}))
        for index, item in enumerate(runs):
            store.insert(run, Result(index, "ok", record={"measurement": item.to_json()}))
        store.insert(run, Result(2, "failed", error="it did not fit"))
    assert read_run(tmp_path) == runs


def test_what_measure_leaves_in_a_folder(tmp_path: Path) -> None:
    runs = [measured(), measured("two")]
    result = MeasurementResult(tuple(MeasuredNetwork(item, None) for item in runs))
    text = json.dumps(result.to_json())
    (tmp_path / "result.json").write_text(text)
    assert read_run(tmp_path) == read_run(tmp_path / "result.json") == runs
    (tmp_path / "result.json").write_text(text.replace('"version": 1', '"version": 7'))
    with pytest.raises(UsageError, match="version 7"):
        read_run(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"version": 7, "board": "a calibration's"}))
    with pytest.raises(UsageError, match="neither a list of measurements"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "a damaged record"),
        ([], "a damaged record"),
        ({"score": 0.5}, "sample 1 of that run has no measurement"),
        ({"measurement": 5}, "TypeError"),
        ({"measurement": None}, "TypeError"),
        ({"measurement": measured().to_json() | {"memory": {"arena_used": "1"}}}, "memory"),
        ({"measurement": measured().to_json() | {"sha256": 5}}, "sha256"),
    ],
)
def test_a_record_of_another_type_is_an_error_and_never_left_out(tmp_path: Path, record: Any, message: str) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        run = store.run_id(Run("calibrate", {}, 1, {}))
        store.insert(run, Result(0, "ok", record={"measurement": measured().to_json()}))
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database, database:
        database.execute(
            "INSERT INTO results (run, sample, status, architecture, sha256, error, record)"
            " SELECT run, 1, status, architecture, sha256, error, ? FROM results WHERE sample = 0",
            (json.dumps(record),),
        )
    with pytest.raises((UsageError, StoreError), match=message):
        read_run(tmp_path)


def damaged(**changes: Any) -> list[dict[str, Any]]:
    return [measured().to_json() | changes]


@pytest.mark.parametrize(
    "document",
    [
        None, {}, [], [1], [{}], [[]], damaged(latency={"unit": "instructions", "samples": []}),
        damaged(latency={"unit": "instructions", "samples": ["1"]}),
        damaged(latency={"unit": "instructions", "samples": [1.5]}),
        damaged(latency={"unit": "cycles", "samples": [1]}), damaged(latency=3), damaged(memory={}),
        damaged(identity={}), damaged(identity=None), damaged(sha256=[]), damaged(outputs={"checked": True}),
        damaged(layers=[3]),
    ],
)  # fmt: skip
def test_foreign_json_is_refused(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError):
        read_run(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "text.json").write_text("no")
    for name in ("absent.json", "deep.json", "text.json", ""):
        with pytest.raises(UsageError):
            read_run(tmp_path / name)


def test_a_file_of_several_identities_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", measured(), measured("two", identity=replace(IDENTITY, flags="-O3")))
    with pytest.raises(CalibrationMismatch, match="flags"):
        read_run(path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["munas-hil", "compare", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = str(written(tmp_path / "a.json", measured()))
    after = str(written(tmp_path / "b.json", measured(time=20_000, identity=replace(IDENTITY, firmware="x"))))
    assert run(monkeypatch, before, before) == 0
    assert run(monkeypatch, before, after) == 2
    assert run(monkeypatch, before, "absent.json") == 2
    capsys.readouterr()
    assert run(monkeypatch, before, after, "--differing", "firmware", "--json") == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["models"][0]["metrics"]["latency"] == {
        "before": 10_000, "after": 20_000, "percent": 100.0, "worse": True,
    }  # fmt: skip
    assert document["differing"] == {"firmware": ["abc", "x"]}
    assert "latency went from 10,000 to 20,000" in err
