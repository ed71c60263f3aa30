"""Samples for TFLM fit the budget with the file and the arena that they really have; code by sets of operators."""

from __future__ import annotations

import pytest

from hil.calibration.fit_memory import Image, fit_memory
from hil.calibration.forecast import CODE, RESERVES, fitting, forecast
from hil.calibration.population import DEFAULT_POPULATION, POPULATIONS
from hil.calibration.sample import Limits
from hil.measure.measurement import Memory
from munas.cost.kernels import KernelVariant

FLASH, SRAM = 256 * 1024, 128 * 1024


@pytest.mark.slow
def test_a_sample_whose_file_is_too_large_is_drawn_smaller() -> None:
    draw = POPULATIONS[DEFAULT_POPULATION].draw
    limits = Limits(FLASH - RESERVES["tflm"].flash, SRAM - RESERVES["tflm"].sram)
    was_too_large = 0
    for index in (3, 4, 5):  # of these, one has more scales and biases than the reserve leaves room for
        needs = forecast(fitting(draw, 2, index, limits, "tflm"), "tflm")
        assert needs.constants <= FLASH - CODE["tflm"].flash
        assert needs.arena <= SRAM - CODE["tflm"].sram
        was_too_large += forecast(draw(2, index, limits), "tflm").constants > FLASH - CODE["tflm"].flash
    assert was_too_large >= 1
    assert fitting(draw, 2, 4, limits, "cmsis-nn") == draw(2, 4, limits)


def image(paths: frozenset[KernelVariant], code: int, static: int = 100) -> Image:
    memory = Memory(
        arena_planned=64, arena_used=64, stack_used=0, stack_reserved=2048, static_ram=static, ram_total=2112 + static,
        flash_weights=1000, flash_code=code, flash_total=1000 + code,
    )  # fmt: skip
    return Image(paths, 1000, memory, {})


def test_code_of_a_set_of_operators_is_what_was_linked_and_of_an_unseen_one_never_less() -> None:
    fc, conv, pool = KernelVariant.TFLM_FC, KernelVariant.TFLM_CONV, KernelVariant.TFLM_MAX_POOL
    code = {fc: {"fc": 400}, conv: {"conv": 6000}, pool: {"pool": 2000}, KernelVariant.TFLM_CONV_1X1: {"conv": 6000}}
    linked = {frozenset({fc}): 40_400, frozenset({fc, conv}): 46_432, frozenset({fc, pool}): 42_464}
    model = fit_memory([image(paths, size) for paths, size in linked.items()], code, 16)
    for paths, size in linked.items():
        assert model.code(paths) == size
    assert model.code({fc, KernelVariant.TFLM_CONV_1X1}) == 46_432  # the same operators
    assert model.linked(frozenset({fc, conv, pool})) is None
    assert model.code({fc, conv, pool}) >= 48_432
    assert model.code({fc, conv, pool}) % 16 == 0


def test_ram_of_a_set_of_operators_is_what_was_linked_and_of_an_unseen_one_the_most() -> None:
    fc, conv, pool = KernelVariant.TFLM_FC, KernelVariant.TFLM_CONV, KernelVariant.TFLM_MAX_POOL
    code = {fc: {"fc": 400}, conv: {"conv": 6000}, pool: {"pool": 2000}}
    images = [image(frozenset({fc}), 40_400, 100), image(frozenset({fc, conv}), 46_400, 1500)]
    model = fit_memory(images, code, 16)
    assert model.ram(1000, {fc}) == 1000 + 2048 + 100
    assert model.ram(1000, {fc, conv}) == model.ram(1000, {fc, pool}) == model.ram(1000) == 1000 + 2048 + 1500
    assert model.least_ram(1000) == 1000 + 2048 + 100
