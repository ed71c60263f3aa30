"""Placements on an emulated board: the same outputs, other bytes, other cycles."""

from __future__ import annotations

import shutil

import pytest

from hil.boards.board import load_board
from hil.measure.place import NO_WAITS, place
from hil.targets.runners.qemu import QEMU
from tests.firmware import images
from tests.networks import small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]


def test_weights_in_ram_cost_ram_and_spare_flash_misses() -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    board = load_board("nucleo-l4r5zi").with_budget(None, 192 << 10)
    rows = {str(row.placement): row for row in place(small_network(42), "net", board)}
    flash, ram = rows["weights=flash"], rows["weights=ram"]
    assert flash.cycles is not None
    assert ram.cycles is not None
    assert ram.cycles < flash.cycles
    assert ram.ram_bytes is not None
    assert flash.ram_bytes is not None
    assert ram.ram_bytes > flash.ram_bytes
    assert ram.flash_bytes is not None
    assert flash.flash_bytes is not None
    assert abs(ram.flash_bytes - flash.flash_bytes) < 64
    untimed = rows["weights=flash,arena=sram3"]
    assert untimed.milliseconds is None
    assert flash.milliseconds is not None
    assert flash.unknown is None
    assert "uses SRAM3, for which there is no evidence" in str(untimed.unknown)


def test_a_gain_is_not_told_where_no_wait_is_modelled() -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    first, second = place(small_network(42), "net", load_board("raspberry-pi-pico-2"))
    assert first.cycles == second.cycles
    assert first.unknown == second.unknown == NO_WAITS
