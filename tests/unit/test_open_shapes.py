"""What converters leave open for an open batch: shapes that are 1 in the file, and constants that nobody computed."""

from __future__ import annotations

import numpy as np
import pytest

from hil.errors import ModelError
from hil.model.litert import LiteRt
from hil.model.load import parse_model
from hil.model.reference import Reference
from munas.tflite.file import Code, Options
from tests.faults.test_mutated_models import packed, unpacked
from tests.firmware.operators import Network


def _image() -> bytes:
    net = Network(3, (4, 5, 2))
    wide = net.tile(net.input, (2, 3, 1))
    made = net.conv(wide, 3, (3, 2), same=True)
    return net.finish(net.requantize(net.pool(made, (2, 2), (2, 2), average=False)))


def test_shapes_that_the_file_leaves_open_are_computed() -> None:
    data = _image()
    model = unpacked(data)
    (graph,) = model.subgraphs
    written = {int(index) for operator in graph.operators for index in operator.outputs}
    for index in written:
        tensor = graph.tensors[index]
        tensor.shapeSignature, tensor.shape = [-1] * len(tensor.shape), [1] * len(tensor.shape)
    left_open = packed(model)
    found, stated = parse_model(left_open, "m"), parse_model(data, "m")
    assert (found.tensors, found.ops) == (stated.tensors, stated.ops)
    values = np.random.default_rng(1).integers(-128, 128, (1, 4, 5, 2)).astype(np.int8)
    answers = [Reference(file, form).run([values])[0] for file, form in ((data, stated), (left_open, found))]
    assert np.array_equal(*answers)


def test_shapes_that_are_stated_have_to_be_right() -> None:
    model = unpacked(_image())
    model.subgraphs[0].tensors[int(model.subgraphs[0].operators[0].outputs[0])].shape = [1, 1, 1, 1]
    with pytest.raises(ModelError, match="its output has shape"):
        parse_model(packed(model), "m")


def _of_constants(seed: int) -> bytes:
    """A cell whose state is a FILL: a dense layer of it, and its parts."""
    net = Network(seed, (7,))
    file, rng = net.file, net.rng
    value = file.constant("v", np.array(int(rng.integers(-128, 128)), np.int8), [0.02], zero_point=5)
    state = net.activation((6,), 0.02, 5)
    shape = file.constant("s", np.array([1, 6], "<i4"))
    file.operator(Code.FILL, [shape, value], state)
    recurrent = net.dense(state, 8, per_channel=bool(rng.random() < 0.5), bias=bool(rng.random() < 0.5))
    parts = [net.like(recurrent, (4,)) for _ in range(2)]
    axis = file.constant("a", np.array(1, "<i4"))
    file.operator(Code.SPLIT, [axis, recurrent], parts, Options(35, ((0, "Int32", 2),)))
    return net.finish(net.add(net.add(net.dense(net.input, 4), parts[0]), parts[1]))


@pytest.mark.parametrize("seed", range(8))
def test_layers_of_constants_are_computed_as_litert_does(seed: int) -> None:
    data = _of_constants(seed)
    model = parse_model(data, "m")
    assert [op.kind for op in model.ops] == ["FULLY_CONNECTED", "ADD", "ADD"]
    file = unpacked(data)
    split = next(op for op in file.subgraphs[0].operators if len(op.outputs) == 2)
    litert = LiteRt(data)
    litert.run([(int(file.subgraphs[0].inputs[0]), np.zeros((1, 7), np.int8))])
    for position, op in enumerate(model.ops[1:]):
        constant = model.tensors[op.inputs[1]]
        assert constant.data == litert.read(int(split.outputs[position])).tobytes()
