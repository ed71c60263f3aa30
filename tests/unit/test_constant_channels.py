"""Channels whose output is constant: found by intervals, left out, counted in by what reads them."""

from __future__ import annotations

import numpy as np
import pytest

from hil.codegen.constant_channels import intervals, without_constant_channels
from hil.codegen.plan import make_plan
from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import OpKind
from hil.model.reference import Reference
from munas.tflite.file import Fused, TfliteFile
from tests.firmware import random_networks
from tests.firmware.operators import Network


@pytest.mark.parametrize("seed", range(6))
def test_every_value_is_within_its_interval(seed: int) -> None:
    data = random_networks.network(random_networks.conv_pointwise, seed)
    model = parse_model(data, "within")
    found = intervals(model)[model.outputs[0]]
    reference = Reference(data, model)
    rng = np.random.default_rng(seed)
    size = model.tensors[model.inputs[0]].elements
    for row in (rng.integers(-128, 128, size), np.full(size, -128), np.full(size, 127)):
        output = reference.run([row.astype(np.int8)])[0].reshape(-1, len(found.low))
        assert (output >= found.low).all()
        assert (output <= found.high).all()


def test_constant_channels_go_with_all_that_makes_and_reads_them() -> None:
    network = Network(3, (5, 5, 3))
    network.dead = True
    first = network.conv(network.input, 12, (3, 3), same=True, fused=Fused.RELU)
    second = network.depthwise(first, 1, (3, 3), same=True, fused=Fused.RELU)
    network.dead = False
    model = parse_model(network.finish(network.conv(second, 4, (1, 1))), "dead")
    reduced, dropped = without_constant_channels(model)
    assert 0 < dropped < 24
    plan, kept = make_plan(model), 12 - dropped // 2
    assert plan.constant_channels == dropped
    assert [step.out_size[2] for step in plan.steps] == [kept, kept, 4]
    assert plan.steps[2].work.columns == kept
    assert model.tensors[model.ops[0].outputs[0]].shape[-1] == 12, "the model itself stays"
    assert without_constant_channels(reduced) == (reduced, 0)
    whole = make_plan(model, keep_constant_channels=True)
    assert whole.constant_channels == 0
    assert [step.out_size[2] for step in whole.steps] == [12, 12, 4]
    assert whole.weights_bytes > plan.weights_bytes


def test_what_another_operator_reads_stays() -> None:
    network = Network(3, (5, 5, 3))
    network.dead = True
    first = network.conv(network.input, 12, (3, 3), same=True, fused=Fused.RELU)
    model = parse_model(network.finish(network.add(first, network.requantize(first))), "read")
    assert without_constant_channels(model) == (model, 0)


def test_an_output_stays() -> None:
    network = Network(3, (5, 5, 3))
    network.dead = True
    model = parse_model(network.finish(network.conv(network.input, 12, (3, 3), fused=Fused.RELU)), "output")
    assert any(op.kind is OpKind.CONV_2D for op in model.ops)
    assert without_constant_channels(model) == (model, 0)


def test_a_scale_that_no_activation_suits_is_refused_by_the_operators_name() -> None:
    n = Network(4, (5, 6, 3))
    n.file = TfliteFile()
    n.input = n.activation((5, 6, 3), 1e-30, 0)
    model = parse_model(n.finish(n.conv(n.input, 5, (3, 2), same=True, fused=Fused.RELU6)), "tiny")
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\): the output's scale .* too small for its activation"):
        make_plan(model)
