"""Which kernels a network takes by --optimise, and that all of it says so: plan, works, identity."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.codegen.plan import Plan, make_plan
from hil.errors import BoardError
from hil.measure.harness import Harness, Options
from hil.model.load import parse_model
from munas.cost import kernels, plain
from munas.cost.calibration_file import write_calibration
from munas.cost.estimate import works_of
from munas.cost.gathers import CONV_TRIPS, Window, streamed
from munas.cost.kernels import KernelVariant, Work
from munas.cost.optimise import LIMITS, Optimise, choice, kernel_code, specialised
from munas.cost.variants import loop_counts, loop_names
from munas.tflite.flatbuffer import write_tflite
from tests.networks import every_operator
from tests.search_stub import stub_calibration
from tests.unit.test_cli import run


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


def _works(plan: Plan) -> list[Work]:
    return [step.work for step in plan.steps]


@pytest.mark.parametrize("optimise", Optimise)
def test_the_plan_of_a_file_and_the_works_of_its_graph_are_the_same(optimise: Optimise) -> None:
    graph = every_operator()
    plan = make_plan(parse_model(write_tflite(graph, 1), "m"), keep_constant_channels=True, optimise=optimise)
    works = works_of(graph, optimise=optimise)
    # A graph assumes how often dense layers go the long way; a file's scales say it (tests/unit/test_unsure.py).
    planned, assumed = ([replace(work, unsure=0) for work in all_works] for all_works in (_works(plan), works))
    assert sorted(map(repr, planned)) == sorted(map(repr, assumed))
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


def _taps_inside(size: int, outputs: int, kernel: int, stride: int, before: int, dilation: int) -> int:
    places = (out * stride + tap * dilation - before for out in range(outputs) for tap in range(kernel))
    return sum(0 <= place < size for place in places)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_a_convolution_in_groups_multiplies_what_lies_on_the_input(
    stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    """`hil_conv_grouped` skips taps beyond the input, and padding makes many of these."""
    given, result, window = (5, 6, 6), (4, 6, 9), Window((3, 2), stride, (2, 2, 1, 1), dilation)
    inside = _taps_inside(5, 4, 3, stride[0], 2, dilation[0]) * _taps_inside(6, 6, 2, stride[1], 1, dilation[1])
    work = plain.grouped(given, result, window, 2)
    names = loop_names(KernelVariant.CONV_GROUPED)
    counts = dict(zip(names, loop_counts(work), strict=True))
    assert counts["taps"] == 4 * 6 * 9 * 6
    assert (counts["taps_inside"], counts["products"]) == (9 * inside, 2 * 9 * inside)


def test_the_kernel_of_groups_does_the_work_of_others_with_their_groups() -> None:
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    full = kernels.conv((5, 6, 4), (5, 6, 7), window)
    assert loop_counts(plain.grouped_like(full)) == loop_counts(plain.grouped((5, 6, 4), (5, 6, 7), window, 4))
    each = kernels.depthwise((5, 6, 4), (5, 6, 4), window)
    assert loop_counts(plain.grouped_like(each)) == loop_counts(plain.grouped((5, 6, 4), (5, 6, 4), window, 1))


def test_a_transposed_convolution_multiplies_where_a_tap_finds_a_pixel() -> None:
    given, result, window = (3, 4, 5), (6, 12, 2), Window((3, 2), (2, 3), (1, 0, 0, 0))
    names = loop_names(KernelVariant.CONV_TRANSPOSED)
    counts = dict(zip(names, loop_counts(plain.transposed(given, result, window)), strict=True))
    rows = [(out + 1 - tap) for out in range(6) for tap in range(3)]
    columns = [(out - tap) for out in range(12) for tap in range(2)]
    found = sum(at % 2 == 0 and 0 <= at // 2 < 3 for at in rows) * sum(
        at % 3 == 0 and 0 <= at // 3 < 4 for at in columns
    )
    assert counts["taps"] == 6 * 12 * 2 * 6
    assert (counts["taps_inside"], counts["products"]) == (2 * found, 2 * found * 5)


@pytest.fixture
def calibrated(tmp_path: Path) -> tuple[str, ...]:
    """Arguments of `estimate` for a network of every operator, by a calibration of --optimise size."""
    (tmp_path / "net.tflite").write_bytes(write_tflite(every_operator(), 1))
    board = load_board("nucleo-f746zg").optimised("size")
    known = replace(stub_calibration(), identity=asdict(Harness(board, Options(via="qemu")).identity))
    (tmp_path / "calibration.toml").write_text(write_calibration(known))
    files = (str(tmp_path / "net.tflite"), "--calibration", str(tmp_path / "calibration.toml"))
    return (*files, "--board", "nucleo-f746zg", "--via", "qemu")


def test_estimate_says_what_was_given_up(
    calibrated: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = (*calibrated, "--optimise", "size")
    assert run(monkeypatch, "estimate", *size, "--json") == 0
    shown = capsys.readouterr()
    plan = make_plan(parse_model(Path(calibrated[0]).read_bytes(), "net"), optimise=Optimise.SIZE)
    assert plan.given_up
    assert [found["given_up"] for found in json.loads(shown.out)] == [[item.to_json() for item in plan.given_up]]
    assert run(monkeypatch, "estimate", *size) == 0
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if "gave way" in line] == [
        f"net: {item} (--optimise size)" for item in plan.given_up
    ]


def test_estimate_refuses_a_calibration_of_another_setting(
    calibrated: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked, here in (((), "balanced"), (("--optimise", "speed"), "speed")):
        assert run(monkeypatch, "estimate", *calibrated, *asked) == 2
        assert f"optimise is 'size' there and '{here}' here" in capsys.readouterr().err
