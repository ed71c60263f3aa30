"""Where a network's parts lie: what can be asked for, and what a board becomes of it."""

from __future__ import annotations

import pytest

from hil.boards.board import load_board
from hil.boards.placement import AS_EVER, Placement, parse_placement, placed, placements_of
from hil.cli.place import _table
from hil.errors import UsageError
from hil.measure.place import NO_WAITS, Placed

F7, H7, L4 = (load_board(name) for name in ("nucleo-f746zg", "nucleo-h743zi", "nucleo-l4r5zi"))


def test_what_is_typed() -> None:
    assert parse_placement("weights=ram", F7) == Placement("ram")
    assert parse_placement("arena=sram, weights=flash", F7) == Placement("flash", "sram1")
    assert parse_placement("arena=dtcm,code=flash", H7) == Placement("flash", "dtcm")
    assert parse_placement("arena=sram", H7).arena == "axi-sram"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights", "write it as"), ("weights=ram,weights=ram", "write it as"), ("weights=rom", "in flash or in ram"),
        ("code=itcm", "no figure published"), ("stack=dtcm", "stack cannot be placed"),
        ("arena=ccm", "no such bank of RAM; it has dtcm, sram1, sram2"),
    ],
)  # fmt: skip
def test_what_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_placement(text, F7)


def test_a_bank_moves_ram_on_the_board_and_in_the_emulator() -> None:
    moved = placed(F7, Placement(arena="sram1"))
    assert moved.target("hardware").sram.origin == 0x20010000
    assert moved.target("qemu").sram.origin == 0x20010000
    assert placed(F7, AS_EVER) == F7
    dtcm = placed(H7, Placement(arena="dtcm"))
    assert (dtcm.target("hardware").sram.origin, dtcm.target("qemu").sram.origin) == (0x20000000, 0x20000000)
    with pytest.raises(UsageError, match="has not the 131072 bytes"):
        placed(F7.with_budget(None, 128 << 10), Placement(arena="dtcm"))


def test_every_placement_of_a_board_is_tried_once_its_own_first() -> None:
    assert placements_of(F7)[0] == AS_EVER
    assert {item.arena for item in placements_of(F7)} == {None, "sram1"}
    assert {item.arena for item in placements_of(H7)} == {None, "dtcm"}
    assert len(set(placements_of(L4))) == len(placements_of(L4)) == 6


def test_a_gain_that_nothing_is_known_of_is_not_a_figure() -> None:
    rows = [Placed(AS_EVER, 100, None, 8, 9, unknown=None), Placed(Placement("ram"), 90, None, 9, 9),
            Placed(Placement("flash", "sram2"), 100, None, 8, 9, unknown="SRAM2")]  # fmt: skip
    assert list(_table(rows).columns[2].cells) == ["+0.0 %", "+10.0 %", "unknown"]
    rows = [
        Placed(AS_EVER, 100, None, 8, 9, unknown=NO_WAITS),
        Placed(Placement("ram"), 100, None, 9, 9, unknown=NO_WAITS),
    ]
    assert list(_table(rows).columns[2].cells) == ["+0.0 %", "unknown"]
