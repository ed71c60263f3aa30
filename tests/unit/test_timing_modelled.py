"""Modelled cycles beside a measurement: what is made of the records, its JSON and tables, and who gets them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hil.api.harness import modelled_as
from hil.boards.board import Board, board_names, load_board
from hil.boards.timing import DataLines, Evidence, EvidenceRow, Timing
from hil.cli import main as cli
from hil.cli.app import chosen_watch
from hil.cli.tables import measurement_table, milliseconds_text
from hil.cli.timing_tables import cycle_table, row_tables
from hil.cycle_model.model import Milliseconds
from hil.cycle_model.modelled import ModelledLatency, constants_id, modelled_from_json, modelled_latency
from hil.cycle_model.plugin import find_plugin
from hil.cycle_model.record import Counters, InferenceRecord, LayerRecord
from hil.cycle_model.validate import Modelled, Published, load_published, published_file, validate
from hil.errors import BoardError, CalibrationMismatch, RunnerError, UsageError
from hil.measure.measurement import (
    Build,
    Identity,
    Latency,
    LayerTime,
    Measurement,
    Memory,
    Outputs,
    measurement_from_json,
)
from hil.measure.published import find_networks
from hil.resources import boards_dir
from hil.targets.place import make_runner
from tests.networks import small_network

ZERO = Counters(*(0 for _ in dataclasses.fields(Counters)))
EVIDENCE = Evidence(
    source="logs",
    rows=tuple(
        EvidenceRow(
            source="a log", board="B", code="a network", clock_mhz=100, published_ms=10, modelled_ms=10.2, error_pct=2
        )
        for _ in range(4)
    ),
)
TIMING = Timing(scale=2, data=DataLines(lines=8, miss_cycles=10), evidence=EVIDENCE)
MODELLED_BOARDS = ("nucleo-f746zg", "nucleo-l4r5zi")


def counters(cycles: int, misses: int = 0) -> Counters:
    return dataclasses.replace(ZERO, cycles=cycles, instructions=cycles, alu=cycles, flash_misses=misses)


def record(cycles: int, misses: int = 0) -> InferenceRecord:
    half = counters(cycles // 2, misses)
    return InferenceRecord(1, counters(cycles, misses), (LayerRecord(4, half), LayerRecord(8, counters(10))))


def board_with(timing: Timing | None = TIMING, core: str = "cortex-m4") -> Board:
    return load_board({"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500"}[core]).model_copy(
        update={"timing": timing, "clock_hz": 1_000_000}
    )


def modelled(timing: Timing | None = TIMING, *cycles: int) -> ModelledLatency:
    records = [record(item, misses=3) for item in cycles or (1000, 4000, 2000, 3000)]
    return modelled_latency(board_with(timing), records, 2)


def measurement(found: ModelledLatency | None) -> Measurement:
    identity = Identity(
        board="nucleo-l4r5zi", core="cortex-m4", runtime="cmsis-nn", via="qemu", simulated=True,
        timer="icount-instructions", clock_hz=1_000_000, compiler="gcc", flags="-O2", kernels="k", firmware="f",
    )  # fmt: skip
    return Measurement(
        "net", "sha", identity, Latency("instructions", (7, 7)), (LayerTime(0, "CONV_2D", "c", 5.0),),
        Memory(*range(9)), Outputs(8, 0), Build("b", "e", "gcc", "-O2", "k"), {}, found,
    )  # fmt: skip


def shown(*renderables: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    for item in renderables:
        console.print(item)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


# --- what is made of the records ----------------------------------------------------------------------------------


def test_all_but_the_samples_is_of_the_middle_inference() -> None:
    found = modelled()
    assert found.samples == (2030, 8030, 4030, 6030)
    assert found.median == 4030
    spread = EVIDENCE.interval_pct / 100
    low, high = pytest.approx(4.03 * (1 - spread)), pytest.approx(4.03 * (1 + spread))
    assert found.milliseconds == Milliseconds(pytest.approx(4.03), low, high)
    assert found.counters == counters(2000, 3)
    assert found.layers == (2030, 20)
    assert sum(found.shares.values()) == found.median


def test_without_evidence_there_are_cycles_and_the_reason() -> None:
    for timing in (None, Timing()):
        document = modelled(timing).to_json()
        assert document["cycles"] == {"samples": [1000, 4000, 2000, 3000], "min": 1000, "median": 2000, "max": 4000}
        assert document["milliseconds"] is None
        assert "no evidence" in document["reason"]
        assert document["evidence"] is None


def test_the_json_can_be_read_back() -> None:
    for found in (modelled(), modelled(None), None):
        document = json.loads(json.dumps(measurement(found).to_json()))
        assert measurement_from_json(document) == measurement(found)
    block = measurement(modelled()).to_json()["modelled"]
    assert (block["timer"], block["reason"]) == ("modelled-cycles", None)
    assert set(block["milliseconds"]) == {"value", "low", "high", "wider_for"}
    assert block["layers"] == [{"index": 0, "cycles": 2030}, {"index": 1, "cycles": 20}]
    assert {"load", "store", "multiply", "branch", "flash_misses", "ram_misses", "code_misses"} <= set(
        block["counters"]
    )
    misses = block["counters"].pop("flash_misses") + block["counters"].pop("ram_misses")
    before_ram_had_its_own = {**block, "counters": {**block["counters"], "data_misses": misses}}
    assert modelled_from_json(before_ram_had_its_own).counters.flash_misses == misses
    older = measurement(None).to_json()
    del older["modelled"]
    assert measurement_from_json(older) == measurement(None)


def test_other_layers_than_the_firmwares_are_an_error() -> None:
    with pytest.raises(RunnerError, match="BUG"):
        modelled_latency(board_with(), [record(100)], 3)


def test_constants_are_named_by_all_that_changes_cycles() -> None:
    names = {
        constants_id(board_with(timing, core))
        for timing in (None, TIMING, TIMING.model_copy(update={"scale": 2.5}))
        for core in ("cortex-m4", "cortex-m7")
    }
    assert len(names) == 6
    assert constants_id(board_with(TIMING.model_copy(update={"evidence": None}))) == constants_id(board_with())
    assert constants_id(board_with(None)) == constants_id(board_with(Timing()))


def test_other_constants_are_another_identity() -> None:
    one = measurement(None).identity
    other = dataclasses.replace(one, timer="modelled-cycles", cycle_model="abc")
    with pytest.raises(CalibrationMismatch, match=r"timer is .*cycle_model is 'abc' there and '' here"):
        one.require_same(other, "it")


# --- boards -------------------------------------------------------------------------------------------------------


def test_no_interval_without_rows_held_out() -> None:
    """Whatever has milliseconds has them by rows of its own SoC; the rest has cycles."""
    found = {name: load_board(name).timing for name in board_names()}
    with_evidence = {name: timing.evidence for name, timing in found.items() if timing and timing.evidence}
    assert set(MODELLED_BOARDS) <= set(with_evidence)
    assert load_board("nucleo-h743zi").timing is not None
    assert "nucleo-h743zi" not in with_evidence
    for evidence in with_evidence.values():
        assert len(evidence.errors_pct) >= 4
        assert evidence.interval_pct >= evidence.max_error_pct


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scal = 1.0", r"timing.scal: unknown key; did you mean 'scale'"),
        ("[timing.data]\nmiss_cycle = 3", r"did you mean 'miss_cycles'"),
        ("[timing.data]\nlines = 96\nways = 4", r"timing.data"),
    ],
)
def test_mistakes_in_the_table_are_named(tmp_path: Path, line: str, message: str) -> None:
    text = (boards_dir() / "mps2-an386.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(f"{text}\n[timing]\n{line}\n", encoding="utf-8")
    with pytest.raises(BoardError, match=message):
        load_board(str(tmp_path / "mine.toml"))


# --- who gets them ------------------------------------------------------------------------------------------------


@pytest.fixture
def model_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.cycle_model.plugin.unavailable_reason", lambda program: None)


@pytest.mark.usefixtures("model_at_hand")
@pytest.mark.parametrize(
    ("name", "via", "asked", "wanted"),
    [
        ("nucleo-l4r5zi", "qemu", None, "beside"),
        ("nucleo-l4r5zi", "qemu", False, "off"),
        ("nucleo-l4r5zi", "hardware", None, "off"),
        ("mps2-an386", "qemu", None, "off"),
        ("mps2-an386", "qemu", True, "beside"),
    ],
)
def test_default_where_the_board_has_constants(name: str, via: str, asked: bool | None, wanted: str) -> None:
    assert chosen_watch(load_board(name), via, asked) == wanted  # type: ignore[arg-type]


def test_elsewhere_they_are_refused(board: Board) -> None:
    with pytest.raises(UsageError, match="--timing needs --via qemu"):
        chosen_watch(board, "hardware", True)
    for via in ("hardware", "renode"):
        with pytest.raises(UsageError, match="modelled cycles need --via qemu"):
            make_runner(via, modelled=True)  # type: ignore[arg-type]


@pytest.fixture
def board() -> Board:
    return load_board("nucleo-l4r5zi")


def test_the_timer_is_the_places_own_or_the_model(board: Board) -> None:
    assert modelled_as(board, "qemu", None) == "off"
    assert modelled_as(board, "qemu", "icount-instructions") == "off"
    assert modelled_as(board, "qemu", "modelled-cycles") == "timer"
    for via, timer in (("qemu", "dwt-cycles"), ("hardware", "modelled-cycles"), ("renode", "icount-instructions")):
        with pytest.raises(UsageError, match=f"--timer {timer} does not exist via {via}"):
            modelled_as(board, via, timer)  # type: ignore[arg-type]


@pytest.mark.qemu
def test_without_a_compiler_stderr_says_so(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys.modules["hil.cli.app"], "console", Console(file=said, width=80))
    monkeypatch.setenv("CC", "no-such-cc")
    find_plugin.cache_clear()
    try:
        assert chosen_watch(board, "qemu", None) == "off"
    finally:
        find_plugin.cache_clear()
    assert said.getvalue().count("no modelled cycles, instruction counts only: no-such-cc") == 1
    assert "apt-get install gcc" in said.getvalue()


# --- tables -------------------------------------------------------------------------------------------------------


def test_the_table_shows_milliseconds_where_there_are_some() -> None:
    text = shown(measurement_table([measurement(modelled())]))
    assert "modelled ms" in text
    assert f"4.030 ± {4.03 * EVIDENCE.interval_pct / 100:.3f}" in text
    assert "4 published figures that nothing was fitted to" in text
    assert "timer icount-instructions" in text
    assert "no evidence for milliseconds" in shown(measurement_table([measurement(modelled(None))]))
    assert "modelled" not in shown(measurement_table([measurement(None)]))


def test_a_network_without_milliseconds_is_not_shown_in_a_column_of_them() -> None:
    """Its RAM reaches into a bank that nothing is known of, its neighbour's does not."""
    reason = "the network uses SRAM2, for which there is no evidence"
    without = dataclasses.replace(modelled(), milliseconds=None, reason=reason)
    alone = shown(measurement_table([measurement(without)]))
    assert "modelled cycles" in alone
    assert reason in alone
    assert "published figures" not in alone
    both = shown(measurement_table([measurement(modelled()), measurement(without)]))
    assert "modelled ms" not in both
    assert f"{without.median:,} cycles" in both
    assert re.search(r"4\.030 ± \d\.\d+ ms", both)
    assert reason in both
    assert "published figures" in both


def test_what_widens_an_interval_is_said() -> None:
    time = modelled().milliseconds
    assert time is not None
    wide = dataclasses.replace(
        modelled(), milliseconds=dataclasses.replace(time, reasons=("10 divisions at 2 to 12 cycles each",))
    )
    assert "a wider interval for 10 divisions" in shown(measurement_table([measurement(wide)]))


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500 ± 0.050"), (42.0, "42.0 ± 4.2"), (12_340.0, "12,340 ± 1,234")]
)
def test_decimals(value: float, text: str) -> None:
    assert milliseconds_text(Milliseconds(value, value * 0.9, value * 1.1)) == text


def figure(runtime: str, board: str, milliseconds: float) -> Published:
    return Published("net.tflite", "sha", board, 120, milliseconds, "who", runtime, "gcc", "github:x@1:log")


def test_validation_says_what_is_comparable_and_what_is_inside() -> None:
    figures = [
        figure("X-CUBE-AI v8", "NUCLEO_L4R5ZI", 5.0),
        figure("microTVM", "NUCLEO_L4R5ZI_microtvm_cmsis_nn", 4.2),
        figure("microTVM", "NUCLEO_L4R5ZI_microtvm_cmsis_nn", 3.5),
        figure("microTVM", "NUCLEO_G474", 9.0),
    ]
    time = modelled().milliseconds
    assert time is not None
    rows = validate(figures, [Modelled("sha", "nucleo-l4r5zi", "cmsis-nn", time)])
    assert [row.comparable for row in rows] == [False, True, True, False]
    assert [row.inside for row in rows] == [False, True, False, None]
    assert [row.to_json()["inside"] for row in rows] == [False, True, False, None]
    tables = row_tables(rows)
    text = shown(*tables)
    assert len(tables) == 3
    assert text.index("comparable: CMSIS-NN of TVM") < text.index("not comparable: X-CUBE-AI has kernels of its own")
    assert "no board of ours has this chip" in text
    assert "1.15" in text
    assert "github:x@1:log" in text


def test_kernels_of_our_own_are_no_test_of_the_model() -> None:
    tvm = figure("microTVM", "NUCLEO_L4R5ZI_microtvm_cmsis_nn", 4.2)
    time = Milliseconds(4, 3, 5)
    (row,) = validate([tvm], [Modelled("sha", "nucleo-l4r5zi", "cmsis-nn", time, 0.5)])
    assert not row.comparable
    assert "kernels of our own" in row.why
    assert "50%" in shown(*row_tables([row]))
    (row,) = validate([tvm], [Modelled("sha", "nucleo-l4r5zi", "cmsis-nn", time, 0.95)])
    assert row.comparable
    assert row.to_json()["cmsis_nn_share"] == 0.95


def test_where_the_cycles_go_leaves_out_what_is_nothing() -> None:
    text = shown(cycle_table([measurement(modelled()), measurement(None)]))
    assert "data misses" in text
    assert "divide" not in text
    assert "4,030" in text


def test_networks_are_recognised_by_content(tmp_path: Path) -> None:
    data = small_network(1)
    (tmp_path / "renamed.tflite").write_bytes(data)
    (tmp_path / "other.tflite").write_bytes(small_network(2))
    known = dataclasses.replace(figure("x", "y", 1.0), sha256=hashlib.sha256(data).hexdigest())
    assert find_networks(tmp_path, [known, figure("x", "y", 1.0)]) == {"net.tflite": data}
    with pytest.raises(UsageError, match="none of the networks"):
        find_networks(tmp_path, load_published(published_file()))


@pytest.mark.parametrize("as_json", [True, False])
def test_validate_without_models_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    monkeypatch.setattr(sys, "argv", ["munas-hil", "timing", "validate", *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    out, _ = capsys.readouterr()
    if as_json:
        document = json.loads(out)
        assert len(document["rows"]) == 112
        assert not any(row["comparable"] for row in document["rows"])
        assert document["measured"] == []
    else:
        assert out == ""
