"""LSTM and SVDF: what is imported, what is refused with its reason, and where their state lies."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest

from hil.codegen.plan import make_plan
from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import DType, LstmParams, OpKind
from hil.model.reference import Reference
from hil.runtimes.tflm.extract import extract
from hil.runtimes.tflm.network import make_network
from hil.runtimes.tflm.reference import TflmReference
from tests.firmware.operators import Network


def lstm_network(seed: int = 3, cells: int = 5) -> bytes:
    """An LSTM over four steps of six inputs."""
    network = Network(seed, (4, 6))
    return network.finish(network.lstm(network.input, cells))


def svdf_network(seed: int = 3) -> bytes:
    """An SVDF of rank two over twelve inputs."""
    network = Network(seed, (12,))
    return network.finish(network.svdf(network.input, 4, 2, 3))


def changed(data: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """The file after `change(schema's model, its only recurrent operator)`."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(data, 0)
    operator = model.subgraphs[0].operators[-1]
    operator.inputs = list(operator.inputs)
    change(model, operator)
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_state_lies_behind_all_tensors_and_begins_as_real_zero() -> None:
    model = parse_model(lstm_network(), "lstm")
    plan = make_plan(model)
    (hidden, first), (cell, zeros) = model.states
    assert (model.tensors[hidden].dtype, model.tensors[cell].dtype) == (DType.INT8, DType.INT16)
    assert first == bytes([model.tensors[hidden].quant.zero_point & 0xFF]) * 5
    assert zeros == bytes(10)
    assert plan.kept_bytes == 8 + 12
    assert [state.offset for state in plan.states] == [plan.arena_bytes - 20, plan.arena_bytes - 12]


def test_scales_are_those_of_the_file() -> None:
    model = parse_model(lstm_network(), "lstm")
    params = next(op.params for op in model.ops if op.kind is OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM)
    assert isinstance(params, LstmParams)
    assert (params.steps, len(params.input_scales), len(params.hidden_scales)) == (4, 4, 4)
    assert 0 <= params.integer_bits <= 6


@pytest.mark.parametrize("data", [lstm_network(), svdf_network()], ids=["lstm", "svdf"])
def test_the_reference_begins_anew_with_each_input(data: bytes) -> None:
    import numpy as np

    model = parse_model(data, "m")
    reference = Reference(data, model)
    rows = [np.full(model.tensors[model.inputs[0]].shape, value, np.int8) for value in (90, -90, 90)]
    first, other, again = (reference.run([row])[0] for row in rows)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def _without(position: int) -> Callable[[Any, Any], None]:
    def change(model: Any, operator: Any) -> None:
        operator.inputs[position] = -1

    return change


def _with(position: int) -> Callable[[Any, Any], None]:
    def change(model: Any, operator: Any) -> None:
        operator.inputs[position] = operator.inputs[12]

    return change


def _plain_state(model: Any, operator: Any) -> None:
    model.subgraphs[0].tensors[operator.inputs[18]].isVariable = False


def _odd_cell(model: Any, operator: Any) -> None:
    model.subgraphs[0].tensors[operator.inputs[19]].quantization.scale = [0.0003]


def _relu(model: Any, operator: Any) -> None:
    operator.builtinOptions.fusedActivationFunction = 1


def _twice(model: Any, operator: Any) -> None:
    operator.inputs[19] = operator.inputs[18]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without(1), "without a gate for its input"),
        (_with(9), "peepholes"),
        (_with(16), "a projection"),
        (_with(20), "a normalisation"),
        (_without(19), "has to be a variable tensor"),
        (_plain_state, "has to be a variable tensor"),
        (_twice, "its state is int8 of 5 elements; needed: int16 of 5"),
        (_odd_cell, "the scale 0.0003 of its cells is not supported"),
        (_relu, "another activation than tanh"),
    ],
)
def test_what_the_kernel_does_not_do_is_refused(change: Callable[[Any, Any], None], reason: str) -> None:
    with pytest.raises(ModelError, match=re.escape(reason)) as refused:
        parse_model(changed(lstm_network(), change), "m")
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in str(refused.value)


def _linear(model: Any, operator: Any) -> None:
    operator.builtinOptions.fusedActivationFunction = 0


def _rank(model: Any, operator: Any) -> None:
    operator.builtinOptions.rank = 3


@pytest.mark.parametrize(("change", "reason"), [(_linear, "the activation RELU"), (_rank, "do not suit each other")])
def test_an_svdf_that_the_kernel_does_not_do_is_refused(change: Callable[[Any, Any], None], reason: str) -> None:
    with pytest.raises(ModelError, match=re.escape(reason)):
        parse_model(changed(svdf_network(), change), "m")


def test_a_variable_that_nothing_owns_is_refused() -> None:
    def change(model: Any, operator: Any) -> None:
        model.subgraphs[0].tensors[operator.outputs[0]].isVariable = True

    with pytest.raises(ModelError, match="is a variable"):
        parse_model(changed(lstm_network(), change), "m")


def test_a_part_of_a_file_keeps_what_an_lstm_needs() -> None:
    """Its fifth intermediate tensor says how the hidden state is quantised."""
    data = lstm_network()
    model = parse_model(data, "m")
    edges = [edge.core_tensor for edge in (*model.edges.inputs, *model.edges.outputs)]
    part = parse_model(extract(data, {op.index for op in model.ops}, edges[:1], edges[1:]), "m")
    assert [op.params for op in part.ops] == [op.params for op in model.ops]


@pytest.mark.parametrize("data", [lstm_network(), svdf_network()], ids=["lstm", "svdf"])
def test_tflm_computes_the_same(data: bytes) -> None:
    network = make_network(data, "m")
    values = np.random.default_rng(1).integers(-128, 128, network.input.size, np.int8)
    (litert,) = Reference(data, network.imported).run([values])
    (found,) = TflmReference(network).run([values])
    assert found.tobytes() == litert.tobytes()
