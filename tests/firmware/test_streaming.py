"""State from one inference to the next on an emulated core, against LiteRT's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.codegen.plan import make_plan
from hil.measure.harness import Harness, Options
from hil.model.litert import LiteRt
from hil.model.load import parse_model
from hil.model.network import OpKind
from tests.firmware.bench import Bench, case
from tests.streaming import streaming_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]


@pytest.fixture(autouse=True)
def tools() -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def test_state_lies_behind_all_tensors_and_is_kept() -> None:
    model = parse_model(streaming_network(), "window")
    plan = make_plan(model)
    assert [op.kind for op in model.ops][-1] is OpKind.ASSIGN_VARIABLE
    (state,) = plan.states
    assert (state.offset, state.fill) == (plan.arena_bytes - plan.kept_bytes, 0)
    assert all(item.offset + item.size <= state.offset for item in plan.buffers if item.label != state.storage)


@pytest.mark.slow
def test_inferences_in_a_row_remember(tmp_path: Path) -> None:
    """The bench puts nothing back between its inputs, and its arena holds zeros at first, as the variable does."""
    data = streaming_network()
    item = case("window", data)
    litert = LiteRt(data)
    (output,) = item.model.edges.outputs
    expected = []
    for row in item.inputs:
        litert.run([(item.model.edges.inputs[0].file_tensor, row.reshape(1, 1, 4))])
        expected.append(litert.read(output.core_tensor).reshape(-1))
    (found,) = Bench(tmp_path, "cortex-m4").run([item], resets=False)
    assert np.array_equal(found, np.stack(expected))
    assert len({row.tobytes() for row in found}) > 3


def test_a_measurement_begins_anew_with_each_input() -> None:
    harness = Harness(load_board("nucleo-f746zg"), Options(via="qemu"))
    outputs = harness.measure(streaming_network(), "window").measurement.outputs
    assert (outputs.checked, outputs.mismatched) == (8, 0)
