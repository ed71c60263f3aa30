"""--optimise on emulated boards: bit-equal outputs, code within the limits, a table that the linker agrees with."""

from __future__ import annotations

import pytest

from hil.boards.board import load_board
from hil.errors import CalibrationMismatch
from hil.measure.harness import Harness, Options
from munas.cost.kernels import KernelVariant
from munas.cost.optimise import KERNEL_CODE, RUNTIME_CODE, Optimise, kernel_code
from munas.tflite.flatbuffer import write_tflite
from tests.networks import every_operator

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

WHOLE = {Optimise.SPEED: 20_000, Optimise.BALANCED: 16_384, Optimise.SIZE: 12_288}
BOARDS = ("nucleo-l4r5zi", "nucleo-f746zg")
SLACK = 64  # bytes that cores differ by


def harness(board: str, optimise: Optimise) -> Harness:
    return Harness(load_board(board).optimised(optimise), Options(keep_constant_channels=True))


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("optimise", Optimise)
def test_every_operator_is_bit_equal_and_within_the_limit(board: str, optimise: Optimise) -> None:
    measured = harness(board, optimise).measure(write_tflite(every_operator(), 1), "every").measurement
    assert measured.outputs.mismatched == 0
    assert measured.memory.flash_code <= WHOLE[optimise]
    assert measured.identity.optimise == optimise


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("optimise", [Optimise.BALANCED, Optimise.SIZE])
def test_the_table_of_code_is_what_the_linker_places(board: str, optimise: Optimise) -> None:
    variants = frozenset[KernelVariant]().union(*(needed_by for needed_by, _, _ in KERNEL_CODE))
    code = harness(board, optimise).kernel_code()
    for variant in variants:
        linked = sum(-(-size // 4) * 4 for size in code[variant].values())
        assert abs(kernel_code([variant], optimise) - linked) <= SLACK, variant


@pytest.mark.parametrize("board", BOARDS)
def test_code_without_kernels_is_no_more_than_is_said(board: str) -> None:
    for optimise in Optimise:
        measured = harness(board, optimise).measure(write_tflite(every_operator(), 1), "every")
        kernels = frozenset(step.work.variant for step in measured.plan.steps)
        assert measured.measurement.memory.flash_code - kernel_code(kernels, optimise) <= RUNTIME_CODE


def test_figures_by_different_kernels_do_not_meet() -> None:
    balanced, size = (harness("nucleo-l4r5zi", optimise).identity for optimise in (Optimise.BALANCED, Optimise.SIZE))
    with pytest.raises(CalibrationMismatch, match="optimise is 'size' there and 'balanced' here"):
        balanced.require_same(size, "the calibration")
