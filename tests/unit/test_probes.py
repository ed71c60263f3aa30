"""Probes: every kernel variant, on shapes of every kind, within the budget, the same in every run."""

from __future__ import annotations

from collections import Counter

import pytest

from hil.calibration.probe import Room
from hil.calibration.probes import ARMS_OF, PROBES, PROBES_OF, probe_tflite
from hil.codegen.plan import Plan, make_plan
from hil.model.load import parse_model
from hil.runtimes.tflm.network import make_network
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import KernelVariant, Work
from munas.cost.variants import SPECS

CONSTANTS_BYTES, ARENA_BYTES = 47 * 1024, 60 * 1024


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    room = Room.within(CONSTANTS_BYTES, ARENA_BYTES)
    return [make_plan(parse_model(probe_tflite(1, index, room), "probe")) for index in range(PROBES)]


@pytest.fixture(scope="module")
def works(plans: list[Plan]) -> list[Work]:
    return [step.work for plan in plans for step in plan.steps]


def test_every_row_of_the_table_has_arms() -> None:
    missing = [variant.value for variant in SPECS if not ARMS_OF.get(variant)]
    assert missing == [], "calibration must exercise them: write an arm in hil/calibration/probes.py"


@pytest.mark.slow
@pytest.mark.parametrize("variant", list(SPECS))
def test_every_kernel_variant_is_run_often(works: list[Work], variant: KernelVariant) -> None:
    found = Counter(work.variant for work in works)
    assert found[variant] >= 6, f"{variant} is run {found[variant]} times by all probes: give it more arms"


@pytest.mark.slow
def test_probes_fit_the_budget(plans: list[Plan]) -> None:
    assert max(plan.arena_bytes for plan in plans) <= ARENA_BYTES
    assert max(plan.weights_bytes + plan.table_bytes for plan in plans) <= CONSTANTS_BYTES


@pytest.mark.slow
def test_a_smaller_budget_has_smaller_probes() -> None:
    room = Room.within(16 * 1024, 16 * 1024)
    for index in range(PROBES):
        plan = make_plan(parse_model(probe_tflite(2, index, room), "probe"))
        assert plan.arena_bytes <= 16 * 1024
        assert plan.weights_bytes + plan.table_bytes <= 16 * 1024


def test_probes_are_a_function_of_seed_and_index() -> None:
    assert probe_tflite(3, 5) == probe_tflite(3, 5)
    assert len({probe_tflite(seed, index) for seed in (1, 2) for index in range(4)}) == 8


def test_probes_for_tflm_have_only_operators_whose_loops_there_are_known() -> None:
    seen = set[KernelVariant]()
    for index in range(PROBES_OF["tflm"]):
        network = make_network(probe_tflite(1, index, runtime="tflm"), "probe")
        assert network.is_arena_known
        seen |= {step.work.variant for step in network.steps}
    # Kinds that the search space draws rarely or never are there, and none of which nothing is known.
    assert {*INTERPRETED} - {KernelVariant.TFLM_OTHER} <= seen
    assert KernelVariant.TFLM_OTHER not in seen
