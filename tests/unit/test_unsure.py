"""How many outputs of a dense layer come near a half, which is what its time varies with."""

from __future__ import annotations

import pytest

from hil.codegen.plan import make_plan
from hil.model.load import parse_model
from hil.model.network import DenseParams
from hil.model.quantise import dense_scales
from munas.cost.kernels import dense, unsure_outputs
from munas.cost.variants import loop_counts, loop_names
from tests.firmware.operators import Network


def test_four_outputs_go_the_long_way_together() -> None:
    assert unsure_outputs([0.0] * 9) == 0
    assert unsure_outputs([1.0, 0.0, 0.0, 0.0]) == 256
    assert unsure_outputs([0.5] * 4) == round(256 * (1 - 0.5**4))
    assert unsure_outputs([0.5] * 4, together=False) == 512
    assert unsure_outputs([1.0]) == round(0.4 * 256)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_plan_knows_its_scales_and_a_graph_assumes_them(per_channel: bool) -> None:
    network = Network(4, (30,))
    plan = make_plan(parse_model(network.finish(network.dense(network.input, 10, per_channel=per_channel)), "m"))
    model = plan.imported
    (op,) = (op for op in model.ops if isinstance(op.params, DenseParams))
    source, weights, output = (model.tensors[index].quant for index in (*op.inputs[:2], op.outputs[0]))
    shifts = [(low & 63) - 32 for _, low in dense_scales(source, weights, output)]
    chances = [2.0 ** (1 - shift) for shift in shifts] * (1 if per_channel else 10)
    (step,) = plan.steps
    assert step.work.unsure == unsure_outputs(chances)
    assumed = dense(30, 10, per_channel=per_channel)
    assert 0 < assumed.unsure < 2 * 256
    at = loop_names(step.work.variant).index("unsure")
    assert loop_counts(step.work)[at] == step.work.unsure
