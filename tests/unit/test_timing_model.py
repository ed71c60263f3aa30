"""Board constants, records, and what becomes of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hil.boards.board import load_board
from hil.boards.core import load_core
from hil.boards.timing import CodeLines, DataLines, Evidence, EvidenceRow, Pipeline, Timing
from hil.cycle_model.model import board_cycles, milliseconds, shares
from hil.cycle_model.options import engine_options
from hil.cycle_model.record import Counters, RecordReader
from hil.cycle_model.regions import Regions
from hil.errors import RunnerError

ZERO = Counters(*(0 for _ in dataclasses.fields(Counters)))
COUNTERS = dataclasses.replace(
    ZERO, cycles=1300, instructions=1000, code_misses=5, data_misses=10, alu=600, load=300, branch=100
)
ROW = EvidenceRow(
    source="a log", board="B", code="a network", clock_mhz=100, published_ms=10, modelled_ms=10.2, error_pct=2
)
EVIDENCE = Evidence(
    source="logs", rows=(ROW,), method="leave-one-out", mean_error_pct=2, max_error_pct=4, interval_pct=5
)
TIMING = Timing(
    scale=1.1, code=CodeLines(lines=32, miss_cycles=3), data=DataLines(lines=8, miss_cycles=14), evidence=EVIDENCE
)


def test_cycles_are_scaled_and_misses_added() -> None:
    assert board_cycles(TIMING, COUNTERS) == pytest.approx(1.1 * 1300 + 5 * 3 + 10 * 14)
    by_instructions = TIMING.model_copy(update={"base": "instructions"})
    assert board_cycles(by_instructions, COUNTERS) == pytest.approx(1.1 * 1000 + 5 * 3 + 10 * 14)


def test_milliseconds_need_evidence() -> None:
    found = milliseconds(TIMING, COUNTERS, 1_000_000)
    assert found is not None
    assert found.estimate == pytest.approx(1.585)
    assert (found.low, found.high) == (pytest.approx(1.585 * 0.95), pytest.approx(1.585 * 1.05))
    assert milliseconds(TIMING.model_copy(update={"evidence": None}), COUNTERS, 1_000_000) is None


@pytest.mark.parametrize("base", ["cycles", "instructions"])
def test_shares_add_up(base: str) -> None:
    timing = TIMING.model_copy(update={"base": base})
    parts = shares(timing, COUNTERS)
    assert sum(part.cycles for part in parts) == pytest.approx(board_cycles(timing, COUNTERS))
    assert "store" not in {part.what for part in parts}


def test_options_of_a_board() -> None:
    """The first 64 KiB of RAM are closely coupled on this chip: the cache begins behind them."""
    board = load_board("nucleo-f746zg")
    timing = Timing(data=DataLines(lines=128, ways=4, cached_ram_from=65536), pipeline=Pipeline(divide=5))
    options = engine_options(timing, board.processor, board.target("qemu"), Regions(0x100, {0x200: "a", 0x300: "b"}))
    assert (options.core, options.inference, options.layers) == (7, 0x100, (0x200, 0x300))
    assert options.ram == (0x20010000, 0x400000 - 0x10000)
    assert options.data_covers_ram
    assert options.divide == 5
    without = engine_options(Timing(), load_core("cortex-m4"), board.target("qemu"), Regions(0, {}))
    assert (without.core, without.data_covers_ram, without.data.lines) == (4, False, 0)


@pytest.mark.parametrize(
    "table",
    [
        {"scale": 0}, {"scale": float("inf")}, {"base": "macs"}, {"code": {"line_bytes": 24}}, {"colour": 1},
        {"data": {"lines": 96, "ways": 4}}, {"pipeline": {"divide": 13}}, {"evidence": {"source": "x", "rows": []}},
    ],
)  # fmt: skip
def test_bad_tables_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Timing.model_validate(table)


def test_evidence_has_to_make_sense() -> None:
    with pytest.raises(ValidationError, match="has to hold"):
        Evidence(source="x", rows=(ROW,), method="in-sample", mean_error_pct=3, max_error_pct=2, interval_pct=9)


def record_lines() -> list[str]:
    columns = list(ZERO.to_json())
    row = list(COUNTERS.to_json().values())
    return [
        json.dumps({"columns": columns}),
        json.dumps({"inference": 1, "total": row, "layers": [[256, row], [512, row]]}),
    ]


def test_records_are_read_as_they_appear(tmp_path: Path) -> None:
    path = tmp_path / "records"
    header, record = record_lines()
    path.write_text(header + "\n" + record[:20], encoding="ascii")
    reader = RecordReader(path)
    assert reader.read_new() == []  # the second line is not finished
    with path.open("a", encoding="ascii") as file:
        file.write(record[20:] + "\n")
    (found,) = reader.read_new()
    assert found.total == COUNTERS
    assert [layer.function for layer in found.layers] == [256, 512]
    assert reader.read_new() == []
    assert found.total - COUNTERS == ZERO


@pytest.mark.parametrize("line", ["{}", "not json", '{"inference":1,"total":[1],"layers":[]}', '{"inference":"x"}'])
def test_damaged_records_are_errors(line: str, tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_text(record_lines()[0] + "\n" + line + "\n", encoding="ascii")
    with pytest.raises(RunnerError, match="damaged"):
        RecordReader(path).read_new()


def test_missing_records_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="cannot be read"):
        RecordReader(tmp_path / "none").read_new()
