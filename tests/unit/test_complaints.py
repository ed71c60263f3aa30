"""What a device says against a network becomes an error that names the layer, or the RAM that it lacks."""

from __future__ import annotations

import pytest

from hil.boards.board import load_board
from hil.codegen.plan import make_plan
from hil.errors import BudgetError, ModelError
from hil.measure.complaints import refuse_complaints, refused_by_kernel
from hil.model.load import parse_model
from hil.runtimes.tflm.network import make_network
from tests.networks import small_network

BOARD = load_board("mps2-an386")
NETWORK = make_network(small_network(1), "net")
FAILED = "e-[TFLM cannot set the network up; bytes for its arena: 500000]"


def test_a_device_that_says_nothing_of_the_kind_has_nothing_against_it() -> None:
    refuse_complaints(["m-init-done", "noise"], NETWORK, BOARD)


def test_a_layer_whose_kernel_cannot_be_set_up_is_named_with_its_types() -> None:
    last = len(NETWORK.steps) - 1
    said = ["e-[concatenation.cc:115 no]", f"e-[Prepare refused: layer {last}]", FAILED]
    with pytest.raises(ModelError) as caught:
        refuse_complaints(said, NETWORK, BOARD)
    kind = NETWORK.steps[last].kind
    assert str(caught.value) == (
        f"net: layer {last} ({kind} of int8) is refused by its kernel on mps2-an386: concatenation.cc:115 no; "
        "TFLM cannot set the network up; bytes for its arena: 500000"
    )


def test_ram_that_is_too_small_is_the_budgets_fault_whatever_refused_for_want_of_it() -> None:
    said = ["e-[Prepare refused: layer 0]", "e-[TFLM cannot set the network up; bytes for its arena: 96]"]
    with pytest.raises(BudgetError) as caught:
        refuse_complaints(said, NETWORK, BOARD)
    assert caught.value.shortfall_bytes == {"RAM": NETWORK.arena_bytes - 96}


def test_what_is_about_no_layer_is_quoted() -> None:
    with pytest.raises(ModelError, match=r"net: the firmware cannot set it up on mps2-an386: TFLM gave up\Z"):
        refuse_complaints(["e-[TFLM gave up]"], NETWORK, BOARD)


def test_a_layer_of_another_subgraph_and_one_of_generated_code() -> None:
    assert "an operator of another subgraph is refused" in str(refused_by_kernel(99, (), NETWORK, BOARD))
    plan = make_plan(parse_model(small_network(1), "net"))
    step = plan.steps[0]
    assert str(refused_by_kernel(0, (), plan, BOARD)) == (
        f"net: layer 0 ({step.kind} by {step.variant}) is refused by its kernel on mps2-an386"
    )
