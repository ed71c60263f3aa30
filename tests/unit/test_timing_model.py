"""Board constants, records, and what becomes of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hil.boards.bank import banks_touched
from hil.boards.board import load_board
from hil.boards.core import load_core
from hil.boards.timing import CodeLines, DataLines, Evidence, EvidenceRow, Pipeline, Timing
from hil.cycle_model.model import Milliseconds, board_cycles, milliseconds, shares
from hil.cycle_model.options import engine_options
from hil.cycle_model.record import Counters, RecordReader
from hil.cycle_model.regions import Regions
from hil.errors import BoardError, RunnerError

ZERO = Counters(*(0 for _ in dataclasses.fields(Counters)))
COUNTERS = dataclasses.replace(
    ZERO, cycles=1300, instructions=1000, code_misses=5, flash_misses=10, alu=600, load=300, branch=100
)


def row(error_pct: float, held_out: bool = True) -> EvidenceRow:
    return EvidenceRow(
        source="a log", board="B", code="a network", clock_mhz=100, published_ms=10,
        modelled_ms=10 + error_pct / 10, error_pct=error_pct, held_out=held_out,
    )  # fmt: skip


EVIDENCE = Evidence(source="logs", rows=(row(1), row(-2), row(2), row(-1)))
TIMING = Timing(
    scale=1.1, code=CodeLines(lines=32, miss_cycles=3), data=DataLines(lines=8, miss_cycles=14), evidence=EVIDENCE
)


def test_cycles_are_scaled_and_misses_added() -> None:
    assert board_cycles(TIMING, COUNTERS) == pytest.approx(1.1 * 1300 + 5 * 3 + 10 * 14)
    by_instructions = TIMING.model_copy(update={"base": "instructions"})
    assert board_cycles(by_instructions, COUNTERS) == pytest.approx(1.1 * 1000 + 5 * 3 + 10 * 14)


BOARD = load_board("mps2-an500").model_copy(update={"timing": TIMING, "clock_hz": 1_000_000})


def test_the_interval_is_what_goes_with_the_errors_of_rows_held_out() -> None:
    """Four errors with a root mean square of sqrt(2.5): t(4) = 2.776, times sqrt(1 + 1/4)."""
    assert EVIDENCE.interval_pct == pytest.approx(2.776 * 2.5**0.5 * 1.25**0.5, abs=0.05)
    assert (EVIDENCE.mean_error_pct, EVIDENCE.max_error_pct) == (1.5, 2)
    same = [row.model_copy(update={"network": "same"}) for row in EVIDENCE.rows[:2]]
    twice = EVIDENCE.model_copy(update={"rows": (*same, *EVIDENCE.rows[2:])})
    assert twice.interval_pct > EVIDENCE.interval_pct  # two images of a network are not two networks
    apart = EVIDENCE.model_copy(
        update={"rows": (*EVIDENCE.rows, EVIDENCE.rows[0].model_copy(update={"error_pct": 20.0, "wider_pct": 15.0}))}
    )
    assert apart.interval_pct == EVIDENCE.interval_pct  # the row's own doubt is no part of the board's
    fitted = Evidence(source="x", rows=(*EVIDENCE.rows, row(30, held_out=False)))
    assert fitted.interval_pct == EVIDENCE.interval_pct
    outlier = Evidence(source="x", rows=(row(0), row(0), row(0), *(row(0.1) for _ in range(60)), row(20)))
    assert outlier.interval_pct == 20


def test_milliseconds_need_evidence() -> None:
    found = milliseconds(BOARD, COUNTERS)
    assert isinstance(found, Milliseconds)
    spread = EVIDENCE.interval_pct / 100
    assert found.estimate == pytest.approx(1.585)
    assert (found.low, found.high) == (pytest.approx(1.585 * (1 - spread)), pytest.approx(1.585 * (1 + spread)))
    assert found.reasons == ()
    without = BOARD.model_copy(update={"timing": TIMING.model_copy(update={"evidence": None})})
    assert "no evidence" in str(milliseconds(without, COUNTERS))
    assert "no evidence" in str(milliseconds(BOARD.model_copy(update={"timing": None}), COUNTERS))


def test_what_the_evidence_does_not_cover_widens_the_interval() -> None:
    """Unaligned loads of the Cortex-M7: published as 1 to 4 cycles, modelled as 3."""
    plain = milliseconds(BOARD, COUNTERS)
    unaligned = milliseconds(BOARD, dataclasses.replace(COUNTERS, unaligned=100))
    assert isinstance(plain, Milliseconds)
    assert isinstance(unaligned, Milliseconds)
    assert unaligned.estimate == plain.estimate  # the engine has counted their cycles
    assert plain.low - unaligned.low == pytest.approx(100 * 2 * 1.1 / 1000)
    assert unaligned.high - plain.high == pytest.approx(100 * 1 * 1.1 / 1000)
    assert unaligned.reasons == ("100 unaligned loads at 1 to 4 cycles each (modelled: 3)",)


def test_float_code_may_take_longer_than_the_integer_code_of_the_evidence() -> None:
    """BOARD is a Cortex-M7, of which one image of float code says two cycles more for each float instruction."""
    plain = milliseconds(BOARD, COUNTERS)
    found = milliseconds(BOARD, dataclasses.replace(COUNTERS, float=100))
    assert isinstance(plain, Milliseconds)
    assert isinstance(found, Milliseconds)
    assert (found.estimate, found.low) == (plain.estimate, plain.low)
    assert found.high - plain.high == pytest.approx(100 * 2 * 1.1 / 1000)
    assert found.reasons == ("100 float instructions, which may take up to 2 cycles more each",)
    assert milliseconds(BOARD, dataclasses.replace(COUNTERS, float=0)) == plain


def test_reads_of_cached_ram_cost_what_they_cost_and_widen_by_what_is_not_known() -> None:
    data = DataLines(lines=8, miss_cycles=14, ram_miss_cycles=5, ram_miss_range=(3, 8))
    board = BOARD.model_copy(update={"timing": TIMING.model_copy(update={"data": data})})
    counters = dataclasses.replace(COUNTERS, ram_misses=50)
    plain, found = milliseconds(BOARD, COUNTERS), milliseconds(board, counters)
    assert isinstance(plain, Milliseconds)
    assert isinstance(found, Milliseconds)
    assert found.estimate - plain.estimate == pytest.approx(50 * 5 / 1000)
    assert found.reasons == ("50 misses of cached RAM at 3 to 8 cycles each (modelled: 5)",)
    assert sum(part.cycles for part in shares(board.timing or Timing(), counters)) == pytest.approx(
        found.estimate * 1000
    )


def test_a_bank_without_evidence_gets_no_milliseconds() -> None:
    board = load_board("nucleo-l4r5zi")
    banks = board.banks_via("qemu")
    first, second = banks[:2]
    assert isinstance(
        milliseconds(board, COUNTERS, banks_touched(banks, first.region.origin, first.region.end)), Milliseconds
    )
    both = banks_touched(banks, first.region.origin, second.region.origin + 1)
    assert [bank.name for bank in both] == ["SRAM1", "SRAM2"]
    assert "the network uses SRAM2, for which there is no evidence" in str(milliseconds(board, COUNTERS, both))


def test_banks_are_emulated_one_behind_the_other() -> None:
    """The H743's AXI SRAM, where all of ours is, lies behind the DTCM in the emulated machine, and is cached."""
    board = load_board("nucleo-h743zi")
    dtcm, axi = board.banks_via("qemu")
    assert (dtcm.region.origin, dtcm.cached, axi.region.origin, axi.cached) == (0x20000000, False, 0x20020000, True)
    assert board.target("qemu").sram.origin == axi.region.origin
    assert board.target("hardware").sram.origin == 0x24000000
    assert load_board("nucleo-f746zg").target("qemu").sram.origin == 0x20000000


@pytest.mark.parametrize("base", ["cycles", "instructions"])
def test_shares_add_up(base: str) -> None:
    timing = TIMING.model_copy(update={"base": base})
    parts = shares(timing, COUNTERS)
    assert sum(part.cycles for part in parts) == pytest.approx(board_cycles(timing, COUNTERS))
    assert "store" not in {part.what for part in parts}


def test_options_of_a_board() -> None:
    """The first 64 KiB of RAM are closely coupled on this chip: the cache begins behind them."""
    board = load_board("nucleo-f746zg")
    qemu, regions = board.target("qemu"), Regions(0x100, {0x200: "a", 0x300: "b"})
    options = engine_options(board.timing or Timing(), board.processor, qemu, regions, board.banks_via("qemu"))
    assert (options.core, options.inference, options.layers) == (7, 0x100, (0x200, 0x300))
    assert options.ram == (0x20010000, 0x40000)
    assert (options.data_covers_ram, options.data_random) == (True, True)
    assert (options.mispredict, options.unaligned) == (7, 3)
    without = engine_options(Timing(), load_core("cortex-m4"), qemu, Regions(0, {}))
    assert (without.core, without.data_covers_ram, without.data.lines) == (4, False, 0)


def test_a_core_without_a_cycle_model_says_so() -> None:
    core, qemu = load_core("cortex-m4"), load_board("mps2-an386").target("qemu")
    for name, text in ((None, "has no cycle model"), ("cortex-m44", "does not exist")):
        with pytest.raises(BoardError, match=rf"{text} \(known: cortex-m4, cortex-m7"):
            engine_options(Timing(), core.model_copy(update={"cycle_model": name}), qemu, Regions(0, {}))


@pytest.mark.parametrize(
    "table",
    [
        {"scale": 0}, {"scale": float("inf")}, {"base": "macs"}, {"code": {"line_bytes": 24}}, {"colour": 1},
        {"data": {"lines": 96, "ways": 4}}, {"data": {"replacement": "oldst"}},
        {"data": {"ram_miss_cycles": 3, "ram_miss_range": (5, 1)}}, {"data": {"ram_miss_range": (1, 5)}},
        {"evidence": {"source": "x", "rows": []}},
    ],
)  # fmt: skip
def test_bad_tables_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Timing.model_validate(table)


def test_evidence_has_to_make_sense() -> None:
    with pytest.raises(ValidationError, match="at least 3 rows that nothing was fitted to"):
        Evidence(source="x", rows=(row(1), row(2), row(1, held_out=False)))
    with pytest.raises(ValidationError, match="is not in divide_range"):
        Pipeline(divide=13, divide_range=(2, 12))
    for low, high in ((-1, 12), (2, 10_000)):
        with pytest.raises(ValidationError, match="Input should be"):
            Pipeline(divide_range=(low, high))


@pytest.mark.parametrize(
    ("core", "divide", "unaligned", "float_doubt"),
    [
        ("cortex-m3", (2, 12), None, 0), ("cortex-m4", (2, 12), None, 1), ("cortex-m7", None, (1, 4), 2),
        ("cortex-m33", (2, 12), None, 2),
    ],
)  # fmt: skip
def test_what_widens_is_what_docs_timing_says(
    core: str, divide: tuple[int, int] | None, unaligned: tuple[int, int] | None, float_doubt: int
) -> None:
    pipeline = load_core(core).pipeline
    assert (pipeline.divide_range, pipeline.unaligned_range) == (divide, unaligned)
    assert pipeline.float_doubt == float_doubt


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
