"""The engine without an emulator: regions, edges and lines, driven by hand-made traces."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from hil.cycle_model.library import Run, replay
from hil.cycle_model.options import EngineOptions, Lines
from hil.cycle_model.record import InferenceRecord, parse_record

BL = bytes.fromhex("00f000f8")
BX_LR = bytes.fromhex("7047")
NOP = bytes.fromhex("00bf")
B = bytes.fromhex("00e0")
BNE = bytes.fromhex("fdd1")
LDR = bytes.fromhex("0868")  # ldr r0, [r1]
LDR2 = bytes.fromhex("1368")  # ldr r3, [r2]
INFERENCE, AFTER_CALL = 0x1000, 0x104
CALL = Run(0x100, BL)
BACK = Run(AFTER_CALL, NOP)
OPTIONS = EngineOptions(core=4, inference=INFERENCE, flash=(0, 0x10000), ram=(0x20000000, 0x1000))


def record(trace: list[Run], options: EngineOptions = OPTIONS) -> InferenceRecord | None:
    columns, document = replay(options, trace)
    return parse_record(columns, document) if document else None


def total(trace: list[Run], options: EngineOptions = OPTIONS) -> InferenceRecord:
    found = record([CALL, *trace, BACK], options)
    assert found is not None
    return found


def test_only_what_runs_between_entry_and_return_counts() -> None:
    outside = [Run(0x200, NOP * 4, times=9), Run(0x300, LDR), Run(0x20000010, read_bytes=4)]
    found = record([*outside, CALL, Run(INFERENCE, NOP + BX_LR), BACK, *outside])
    assert found is not None
    assert found.total.instructions == 2
    assert found.total.cycles == 2 + 1 + 1


def test_no_record_before_the_inference_returns() -> None:
    assert record([CALL, Run(INFERENCE, NOP)]) is None


def test_the_function_s_address_alone_is_no_inference() -> None:
    """Reached by running on or by a jump there is no return address, so no end either."""
    assert record([Run(0xFFE, NOP), Run(INFERENCE, BX_LR), BACK]) is None


def test_a_layer_entered_by_a_jump_ends_with_the_inference() -> None:
    options = replace(OPTIONS, layers=(0x2000, 0x3000))
    trace = [Run(INFERENCE, NOP + BL), Run(0x2000, BX_LR), Run(INFERENCE + 6, B), Run(0x3000, NOP + BX_LR)]
    found = total(trace, options)
    assert [layer.function for layer in found.layers] == [0x2000, 0x3000]
    assert sum(layer.counters.instructions for layer in found.layers) == found.total.instructions == 6


def test_a_layer_within_a_layer_belongs_to_it() -> None:
    options = replace(OPTIONS, layers=(0x2000, 0x3000))
    trace = [
        Run(INFERENCE, BL), Run(0x2000, NOP + BL), Run(0x3000, BX_LR), Run(0x2006, BX_LR), Run(INFERENCE + 4, BX_LR),
    ]  # fmt: skip
    found = total(trace, options)
    assert [layer.function for layer in found.layers] == [0x2000]
    assert found.layers[0].counters.instructions == 5
    assert found.total.instructions == 6


def test_more_layers_than_a_record_holds_still_count() -> None:
    options = replace(OPTIONS, layers=(0x2000,))
    rounds = [Run(INFERENCE, BL), Run(0x2000, BX_LR), Run(INFERENCE + 4, B)] * 1100
    found = total([*rounds, Run(INFERENCE + 0x10, BX_LR)], options)
    assert len(found.layers) == 1024
    assert found.total.instructions == 3 * 1100 + 1


def test_split_blocks_cost_the_same() -> None:
    whole = [Run(INFERENCE, LDR + LDR2 + LDR + NOP + BX_LR)]
    split = [Run(INFERENCE, LDR), Run(INFERENCE + 2, LDR2 + LDR), Run(INFERENCE + 6, NOP), Run(INFERENCE + 8, BX_LR)]
    assert total(whole).total.cycles == total(split).total.cycles == 2 + (2 + 1 + 1) + 1 + 1
    seven = replace(OPTIONS, core=7)
    assert total(whole, seven).total.cycles == total(split, seven).total.cycles


# Two-byte instructions that pair, depend on each other and pipeline in many ways, all on r0 to r3.
HALVES = [NOP, LDR, LDR2]
HALVES += [code.to_bytes(2, "big") for code in (0x4018, 0x0844, 0x4A43, 0x1A78, 0x0B60, 0x1946, 0xC91C, 0xDB08, 0x18B2)]


@pytest.mark.parametrize("core", [4, 7])
@pytest.mark.parametrize("seed", range(20))
def test_where_blocks_are_cut_does_not_matter(seed: int, core: int) -> None:
    """A loop of random code, cut at other places in every round, costs what it costs uncut."""
    chance = random.Random(seed)
    body = [chance.choice(HALVES) for _ in range(chance.randrange(2, 40))] + [BNE]
    whole = [Run(INFERENCE, b"".join(body), times=30)]
    cut: list[Run] = []
    for _ in range(30):
        places = sorted({0, len(body), *(chance.randrange(len(body)) for _ in range(chance.choice([0, 0, 1, 3])))})
        cut += [Run(INFERENCE + 2 * start, b"".join(body[start:end])) for start, end in itertools.pairwise(places)]
    leave = Run(INFERENCE + 2 * len(body), BX_LR)
    options = replace(OPTIONS, core=core, code=Lines(32, 4, 0))
    assert total([*cut, leave], options) == total([*whole, leave], options)


@pytest.mark.parametrize(("times", "wrong"), [(1, 0), (2, 0), (8, 0), (50, 1)])
def test_branches_of_the_m7_are_predicted(times: int, wrong: int) -> None:
    """`times` rounds of a loop: the end of a short one is in the history of 8 branches, that of a long one is not."""
    trace = [Run(INFERENCE, NOP + BNE, times=times), Run(INFERENCE + 4, BX_LR)]
    found = total(trace, replace(OPTIONS, core=7))
    assert found.total.mispredicted == wrong
    assert found.total.taken == times - 1 + 1  # and the call


def reads(addresses: list[int], options: EngineOptions, read_bytes: int = 4) -> tuple[int, int]:
    trace = [Run(INFERENCE, NOP), *(Run(address, read_bytes=read_bytes) for address in addresses)]
    found = total([*trace, Run(INFERENCE + 2, BX_LR)], options)
    return found.total.data_reads, found.total.flash_misses + found.total.ram_misses


def test_the_line_used_longest_ago_goes() -> None:
    two = replace(OPTIONS, data=Lines(32, 2, 0))
    assert reads([0x000, 0x020, 0x000, 0x040, 0x000, 0x020], two) == (6, 4)  # 0, 1, 2 (out: 1), 1
    assert reads([0x000, 0x01C, 0x004], two) == (3, 1)


def test_sets_keep_lines_apart() -> None:
    direct = replace(OPTIONS, data=Lines(32, 4, 1))
    assert reads([0x000, 0x080, 0x000, 0x080], direct) == (4, 4)  # same set
    assert reads([0x000, 0x020, 0x000, 0x020], direct) == (4, 2)


def test_ram_is_free_unless_it_is_cached() -> None:
    flash_only = replace(OPTIONS, data=Lines(32, 4, 0))
    assert reads([0x20000000, 0x20000100, 0x40000000], flash_only) == (0, 0)
    assert reads([0x20000000, 0x20000100, 0x40000000], replace(flash_only, data_covers_ram=True)) == (2, 2)


def test_flash_and_ram_miss_apart() -> None:
    lines = replace(OPTIONS, data=Lines(32, 4, 0), data_covers_ram=True)
    trace = [Run(address, read_bytes=4) for address in (0x000, 0x040, 0x20000000, 0x044)]
    found = total([Run(INFERENCE, NOP), *trace, Run(INFERENCE + 2, BX_LR)], lines).total
    assert (found.data_reads, found.flash_misses, found.ram_misses) == (4, 2, 1)


def test_any_line_of_a_set_may_go_but_always_the_same() -> None:
    """Round and round through five lines in a set of four: the oldest always misses, any other sometimes hits."""
    lines = replace(OPTIONS, data=Lines(32, 4, 0))
    addresses = [32 * (index % 5) for index in range(200)]
    assert reads(addresses, lines) == (200, 200)
    found = [reads(addresses, replace(lines, data_random=True)) for _ in range(2)]
    assert found[0] == found[1]
    assert 50 < found[0][1] < 150


@pytest.mark.parametrize(
    ("core", "address", "read_bytes", "parts"),
    [(4, 0x41, 4, 2), (4, 0x42, 4, 1), (4, 0x41, 2, 1), (7, 0x41, 4, 1), (7, 0x42, 4, 1), (7, 0x44, 4, 0)],
)
def test_unaligned_loads_cost_by_the_core(core: int, address: int, read_bytes: int, parts: int) -> None:
    trace = [Run(INFERENCE, NOP), Run(address, read_bytes=read_bytes), Run(INFERENCE + 2, BX_LR)]
    free, paid = (total(trace, replace(OPTIONS, core=core, unaligned=cycles)).total for cycles in (0, 3))
    assert free.unaligned == paid.unaligned == parts
    assert paid.cycles == free.cycles + 3 * parts


def test_every_inference_starts_with_nothing() -> None:
    lines = replace(OPTIONS, data=Lines(32, 4, 0), code=Lines(32, 8, 0))
    once = [CALL, Run(INFERENCE, NOP), Run(0x40, read_bytes=4), Run(INFERENCE + 2, BX_LR), BACK]
    first, second = record(once, lines), record(once + once, lines)
    assert first is not None
    assert second is not None
    assert (first.index, second.index) == (1, 2)
    assert first.total == second.total
    assert first.total.flash_misses == 1
    assert first.total.code_misses == 1


def test_unknown_instructions_are_counted() -> None:
    undefined = bytes.fromhex("ffff ffff")
    assert total([Run(INFERENCE, undefined + NOP + BX_LR)]).total.unknown == 1


@pytest.mark.parametrize("lines", [Lines(24, 8, 0), Lines(32, 96, 4), Lines(32, 10, 3)])
def test_impossible_lines_are_refused(lines: Lines) -> None:
    with pytest.raises(ValueError, match="power of two"):
        replay(replace(OPTIONS, data=lines), [])
