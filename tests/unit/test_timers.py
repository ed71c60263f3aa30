"""The table of timers, and that everything which names a timer agrees with it."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from hil.boards.board import Board, board_names, load_board
from hil.resources import firmware_dir
from hil.timers import MODELLED, TIMERS, Place, TimerKind, own_timer, timers_of, unit_of, words_of


def test_every_kind_has_a_row_and_every_row_a_kind() -> None:
    assert tuple(TIMERS) == get_args(TimerKind)
    assert all(row.kind == kind and row.via and row.words and row.note.endswith(".") for kind, row in TIMERS.items())


def test_a_place_has_one_timer_of_its_own() -> None:
    for via in get_args(Place):
        assert own_timer(via).kind == timers_of(via)[0]
        assert sum(not TIMERS[kind].modelled for kind in timers_of(via)) == 1
    assert timers_of("qemu") == ("icount-instructions", MODELLED)


def test_only_hardware_measures() -> None:
    assert {row.kind for row in TIMERS.values() if not row.simulated} == {own_timer("hardware").kind}


def test_the_firmware_names_timers_of_the_table() -> None:
    named = set()
    for path in [*(firmware_dir() / "port").glob("*.[ch]")]:
        named |= set(re.findall(r'TIMER_KIND "([^"]+)"|timer_kind\[\] = "([^"]+)"', path.read_text(encoding="utf-8")))
    kinds = {kind for pair in named for kind in pair if kind}
    assert kinds == {kind for kind, row in TIMERS.items() if not row.modelled}


@pytest.mark.parametrize("name", board_names())
def test_every_board_has_the_timers_of_its_places(name: str) -> None:
    board: Board = load_board(name)
    for via in get_args(Place):
        if (board.qemu if via == "qemu" else board.hardware) is not None:
            assert board.target(via).timer == own_timer(via).kind


def test_a_timer_of_a_newer_version_keeps_its_name() -> None:
    assert (unit_of("swo-cycles"), words_of("swo-cycles")) == ("ticks", "swo-cycles")
