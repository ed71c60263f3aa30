"""The timing model on whole networks: counts that the device confirms, layers, place of weights, determinism, speed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.boards.timing import Timing
from hil.cycle_model.model import board_cycles
from hil.cycle_model.regions import find_regions
from hil.errors import BuildError
from hil.link.device import Device
from hil.patterns import verification_patterns
from hil.targets.runners.qemu import QemuRunner
from tests.firmware import timing_objdump as objdump
from tests.firmware.test_timing_decoder import compare
from tests.firmware.timing_networks import deploy, infer, roomy

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

BOARDS = {name: load_board(name).timing for name in ("nucleo-l4r5zi", "nucleo-f746zg", "nucleo-u575zi-q")}
L4R5 = BOARDS["nucleo-l4r5zi"] or Timing()


@pytest.fixture(scope="module")
def keyword_spotting(shared: Path) -> bytes:
    return (shared / "models" / "kws_ref_model.tflite").read_bytes()


@pytest.mark.parametrize("name", BOARDS)
def test_counts_are_those_of_the_device(name: str, keyword_spotting: bytes, tmp_path: Path) -> None:
    board = roomy(name)
    plan, image = deploy(keyword_spotting, board, tmp_path)
    for observed in infer(image, board, BOARDS[name]):
        total, layers = observed.record.total, observed.record.layers
        assert total.instructions == observed.device_instructions
        groups = ("alu", "multiply", "divide", "load", "store", "branch", "float", "other")
        assert sum(getattr(total, group) for group in groups) == total.instructions
        assert total.unknown == 0
        assert len(layers) == len(plan.steps)
        rest = total.instructions - sum(layer.counters.instructions for layer in layers)
        assert 0 <= rest < 20  # from the last layer to the return
        regions = find_regions(image.elf)
        assert {regions.layers[layer.function] for layer in layers} == set(regions.layers.values())
        assert all(name.startswith("hil_") for name in regions.layers.values())


@pytest.mark.parametrize("name", BOARDS)
def test_every_run_counts_the_same(name: str, keyword_spotting: bytes, tmp_path: Path) -> None:
    """Three boots, and other work of the runtime before the second inference: not one count differs.

    QEMU cuts blocks where its instruction budget runs out, several times an inference, each time elsewhere.
    """
    board = roomy(name)
    _, image = deploy(keyword_spotting, board, tmp_path)
    runs = [[item.record for item in infer(image, board, BOARDS[name])] for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


def test_weights_in_ram_miss_no_lines(keyword_spotting: bytes, tmp_path: Path) -> None:
    """The same objects, linked twice. What is left of the misses is multipliers, tables and literals."""
    board = roomy("nucleo-l4r5zi")
    found = {}
    for where in ("flash", "ram"):
        (tmp_path / where).mkdir()
        _, image = deploy(keyword_spotting, board, tmp_path / where, weights_in_ram=where == "ram")
        found[where] = infer(image, board, L4R5, inputs=1)[0].record.total
    flash, ram = found["flash"], found["ram"]
    assert abs(flash.instructions - ram.instructions) < 0.001 * flash.instructions
    assert ram.flash_misses < 0.02 * flash.flash_misses
    assert board_cycles(L4R5, ram) < 0.9 * board_cycles(L4R5, flash)


@pytest.mark.parametrize("name", BOARDS)
def test_every_instruction_of_the_firmware_is_known(name: str, keyword_spotting: bytes, tmp_path: Path) -> None:
    _, image = deploy(keyword_spotting, roomy(name), tmp_path)
    count, wrong = compare(objdump.disassemble(image.elf))
    assert wrong == []
    assert count > 3000


def test_another_elf_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.elf"
    other.write_bytes(b"not an ELF at all")
    with pytest.raises(BuildError, match="not a readable ELF"):
        find_regions(other)


def processor_s(work: Callable[[], object]) -> float:
    """Processor time of the processes that `work` starts and waits for."""
    before = os.times()
    work()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.parametrize("name", BOARDS)
def test_at_most_twice_as_slow(name: str, keyword_spotting: bytes, tmp_path: Path) -> None:
    """Processor time of QEMU for a session with 40 inferences, with the plugin and without.

    The least of several, in turns, until it is as it should be: on a busy machine some take longer, none takes less.
    """
    patterns = verification_patterns(8, 0) * 5
    board = roomy(name)
    _, image = deploy(keyword_spotting, board, tmp_path)

    def plain() -> None:
        with QemuRunner().open(image.elf, board) as session:
            device = Device(session.port, session.timeouts)
            device.wait_ready()
            for pattern in patterns:
                device.fill(pattern)
                device.run()

    infer(image, board, BOARDS[name], inputs=1)  # compiles the plugin
    without, observed = math.inf, math.inf
    for _ in range(6):
        without = min(without, processor_s(plain))
        observed = min(observed, processor_s(lambda: infer(image, board, BOARDS[name], inputs=len(patterns))))
        if observed <= 2 * without:
            return
    pytest.fail(f"{observed:.2f} s with the plugin, {without:.2f} s without")
