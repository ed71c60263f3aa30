"""Which kernels a network takes by --optimise, and that all of it says so: plan, works, identity."""

from __future__ import annotations

import pytest

from hil.boards.board import load_board
from hil.codegen.plan import make_plan
from hil.errors import BoardError
from hil.model.load import parse_model
from munas.cost import kernels
from munas.cost.estimate import works_of
from munas.cost.gathers import CONV_TRIPS, Window, streamed
from munas.cost.kernels import KernelVariant
from munas.cost.optimise import LIMITS, Optimise, choice, kernel_code, specialised
from munas.tflite.flatbuffer import write_tflite
from tests.networks import every_operator


def test_a_network_within_the_limit_keeps_its_fastest_kernels() -> None:
    works = [kernels.dense(10, 4), kernels.conv((5, 5, 2), (3, 3, 4), Window((3, 3)))]
    assert all(choice(works, optimise) == (tuple(works), ()) for optimise in Optimise)


def test_speed_gives_nothing_up_and_the_others_stay_within_their_limits() -> None:
    fastest = works_of(every_operator(), optimise=Optimise.SPEED)
    assert kernel_code({work.variant for work in fastest}) > LIMITS[Optimise.BALANCED]
    for optimise, limit in LIMITS.items():
        works, given_up = choice(fastest, optimise)
        assert kernel_code({work.variant for work in works}, optimise) <= limit
        assert given_up
        assert all(item.saved > 0 and item.cycles >= 0 for item in given_up)
        assert [work.macs for work in works] == [work.macs for work in fastest]


def test_what_costs_least_is_given_up() -> None:
    """A large depthwise layer of 3x3 keeps its kernel; a small one does not, where the general kernel is there too."""
    for pixels, kept in ((2, False), (60, True)):
        shape = (pixels, pixels, 8)
        works = [*works_of(every_operator(), optimise=Optimise.SPEED)]
        works = [work for work in works if work.variant is not KernelVariant.DW_3X3]
        works.append(kernels.depthwise((pixels + 2, pixels + 2, 8), shape, Window((3, 3))))
        works.append(kernels.dense(4000, 40))
        assert (KernelVariant.DW_3X3 in {work.variant for work in specialised(works, Optimise.BALANCED)}) is kept


@pytest.mark.parametrize("optimise", Optimise)
def test_the_plan_of_a_file_and_the_works_of_its_graph_are_the_same(optimise: Optimise) -> None:
    graph = every_operator()
    plan = make_plan(parse_model(write_tflite(graph, 1), "m"), keep_constant_channels=True, optimise=optimise)
    works = works_of(graph, optimise=optimise)
    assert sorted(map(repr, (step.work for step in plan.steps))) == sorted(map(repr, works))
    assert bool(plan.given_up) is (optimise is not Optimise.SPEED)


def test_streams_do_the_work_of_fours() -> None:
    """Columns that are widened in all are those of the window, in fours or one after the other."""
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    trips = kernels.conv((6, 7, 8), (6, 7, 4), window).trips
    found = dict(zip(CONV_TRIPS, streamed(trips), strict=True))
    assert 4 * found["run_fours"] + 2 * found["fill_pairs"] == 6 * 7 * 72
    assert not any(count for name, count in found.items() if "fours" in name and name != "run_fours")
    assert streamed(streamed(trips)) == streamed(trips)


def test_a_board_is_built_for_what_is_asked() -> None:
    board = load_board("nucleo-f746zg")
    assert board.optimised(None).optimise is Optimise.BALANCED
    assert board.optimised("size").optimise is Optimise.SIZE
    with pytest.raises(BoardError, match="--optimise fast does not exist"):
        board.optimised("fast")
