"""The importer where files are not plain int8: edges, float heads, constants that are computed, int4, uint8 files."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import pytest

from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import ConvParams, DepthwiseParams, DType, OpKind
from hil.model.reference import Reference
from munas.tflite.file import Code, Element, Options, TfliteFile, dense_options, softmax_options
from tests.firmware.operators import Network
from tests.firmware.random_plain import dilated_row
from tests.numpy_network import evaluate
from tests.tflite_samples import UNIT, whole_numbers


def test_a_softmax_of_floats_behind_the_core_is_the_applications() -> None:
    file = TfliteFile()
    x, y = file.activation("x", (1, 4), UNIT), file.activation("y", (1, 4), UNIT)
    real, result = (file.activation(name, (1, 4), None, element=Element.FLOAT32) for name in "fr")
    file.operator(Code.RELU, [x], y)
    file.operator(Code.DEQUANTIZE, [y], real)
    file.operator(Code.SOFTMAX, [real], result, softmax_options(), 1)
    data = file.finish([x], [result])
    model = parse_model(data, "x")
    assert [op.kind for op in model.ops] == [OpKind.RELU]
    assert (model.edges.outputs[0].dtype, model.edges.outputs[0].file_tensor) == (DType.FLOAT32, result)
    (found,) = Reference(data, model).run([np.array([[-128, 3, 4, 127]], np.int8)])
    assert found.ravel().tolist() == [0, 3, 4, 127]


def test_whole_numbers_cast_to_float_are_int8() -> None:
    data = whole_numbers()
    model = parse_model(data, "x")
    assert [op.kind for op in model.ops] == [OpKind.RELU]
    assert model.edges.inputs[0].dtype is DType.UINT8
    values = np.array([[-128, 3, 4, 127]], np.int8)
    assert np.array_equal(Reference(data, model).run([values])[0], values)


def test_a_fill_of_int8_is_a_constant() -> None:
    file = TfliteFile()
    x, held = file.activation("x", (1, 4), UNIT), file.activation("held", (1, 4), UNIT)
    y = file.activation("y", (1, 4), UNIT)
    value = file.constant("v", np.array([9], np.int8).reshape(()), [UNIT])
    file.operator(Code.FILL, [file.constant("d", np.array([1, 4], "<i4")), value], held, None, 3)
    file.operator(Code.ADD, [x, held], y, Options(11))
    data = file.finish([x], [y])
    model = parse_model(data, "x")
    assert [op.kind for op in model.ops] == [OpKind.ADD]
    assert model.tensors[model.ops[0].inputs[1]].data == bytes([9] * 4)
    (found,) = Reference(data, model).run([np.array([[-128, 3, 4, 127]], np.int8)])
    assert found.ravel().tolist() == [-119, 12, 13, 127]


def test_int4_weights_are_expanded() -> None:
    """Two a byte, the first one in the lower half; LiteRT computes with the same numbers."""
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(3)
    file = TfliteFile()
    x, y = file.activation("x", (1, 7), UNIT), file.activation("y", (1, 5), 0.2)
    values = rng.integers(-7, 8, (5, 7)).astype(np.int8)
    weights = file.constant("w", values, [0.1])
    bias = file.constant("b", rng.integers(-50, 50, 5).astype("<i4"), [UNIT * np.float32(0.1)])
    file.operator(Code.FULLY_CONNECTED, [x, weights, bias], y, dense_options())
    built: Any = schema.ModelT.InitFromPackedBuf(file.finish([x], [y]), 0)
    tensor = built.subgraphs[0].tensors[weights]
    tensor.type = schema.TensorType.INT4
    halves = np.append(values.ravel() & 15, 0).astype(np.uint8).reshape(-1, 2)
    built.buffers[tensor.buffer].data = halves[:, 0] | halves[:, 1] << 4
    builder = flatbuffers.Builder(1024)
    builder.Finish(built.Pack(builder), file_identifier=b"TFL3")
    data = bytes(builder.Output())
    model = parse_model(data, "x")
    assert model.tensors[model.ops[0].inputs[1]].data == values.tobytes()
    reference = Reference(data, model)
    inputs = rng.integers(-128, 128, (20, 1, 7)).astype(np.int8)
    found = np.stack([reference.run([row])[0].ravel() for row in inputs])
    sums = (inputs[:, 0].astype(int) - model.tensors[model.inputs[0]].quant.zero_point) @ values.T.astype(int)
    biases = np.frombuffer(model.tensors[model.ops[0].inputs[2]].data or b"", "<i4")
    wanted = np.rint((sums + biases) * (UNIT * np.float32(0.1)) / np.float32(0.2)).astype(int)
    assert np.abs(found - np.clip(wanted, -128, 127)).max() <= 1
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize(("zero_point", "reason"), [(151, "1 of 1 layers"), (128, "round otherwise")])
def test_a_uint8_network_is_refused_with_the_reason(zero_point: int, reason: str) -> None:
    """Shifted by 128, weights below a zero point of 151 are no int8; nor would the rounding be the same."""
    file = TfliteFile()
    x, y = (file.activation(name, (1, size), UNIT, 128, Element.UINT8) for name, size in (("x", 2), ("y", 3)))
    weights = file.constant("w", np.array([[0, 200], [5, 255], [7, 9]], np.uint8), [0.01], zero_point=zero_point)
    bias = file.constant("b", np.zeros(3, "<i4"), [UNIT * np.float32(0.01)])
    file.operator(Code.FULLY_CONNECTED, [x, weights, bias], y, dense_options())
    with pytest.raises(ModelError, match=f"are uint8, .*{reason}.*; convert the original again"):
        parse_model(file.finish([x], [y]), "old")


def test_a_loop_is_refused_with_the_remedy() -> None:
    file = TfliteFile()
    x, y = file.activation("x", (1, 4), UNIT), file.activation("y", (1, 4), UNIT)
    file.operator(Code.WHILE, [x], y, Options(93, ((0, "Int32", 1), (1, "Int32", 2))), 1)
    with pytest.raises(ModelError, match=r"operator 0 \(WHILE\): .*unroll the loop"):
        parse_model(file.finish([x], [y]), "loop")


@pytest.mark.parametrize("seed", range(12))
def test_a_dilated_convolution_of_one_dimension_is_one_operator(seed: int) -> None:
    n = Network(seed, (3, 2 + seed % 3, 1 + seed % 4))
    data = n.finish(dilated_row(n))
    model = parse_model(data, "x")
    kinds = [op.kind for op in model.ops]
    convolution = next(op for op in model.ops if isinstance(op.params, ConvParams | DepthwiseParams))
    assert kinds.count(OpKind.RESHAPE) == 3
    assert OpKind.SPACE_TO_BATCH_ND not in kinds
    if isinstance(convolution.params, ConvParams) and convolution.params.groups > 1:
        return  # what it gives is compared on the device (tests/firmware/test_kernels.py)
    values = np.random.default_rng(seed).integers(-128, 128, model.tensors[model.inputs[0]].shape).astype(np.int8)
    inside = values.reshape(model.tensors[convolution.inputs[0]].shape)
    ours = evaluate(model, convolution, [inside])
    last = model.ops[-1]  # QUANTIZE, whose steps the reference has taken as well
    expected = Reference(data, model).run([values])[0].reshape(model.tensors[last.outputs[0]].shape)
    found = evaluate(model, last, [ours.reshape(model.tensors[last.inputs[0]].shape)])
    assert np.abs(found.astype(int) - expected).max() <= 2


def _row(last_shape: list[int], axis: int = 1) -> bytes:
    """Blocks of a row (1, 6, 2), a convolution, and views with these arguments."""
    n = Network(1, (6, 2))
    ints = lambda values: n.file.constant("i", np.array(values, "<i4"))  # noqa: E731
    split = n.file.activation("blocks", (2, 3, 2), *n.scales[n.input])
    n.file.operator(Code.SPACE_TO_BATCH_ND, [n.input, ints([2]), ints([(0, 0)])], split, Options(25))
    high = n.like(n.input, (1, 3, 2))
    n.file.operator(Code.EXPAND_DIMS, [split, ints(axis)], high, Options(52))
    made = n.conv(high, 2, (1, 1))
    flat = n.file.activation("flat", (2, 3, 2), *n.scales[made])
    n.file.operator(Code.RESHAPE, [made, ints(last_shape)], flat)
    output = n.like(made, (6, 2))
    n.file.operator(Code.BATCH_TO_SPACE_ND, [flat, ints([2]), ints([(0, 0)])], output, Options(24))
    return n.finish(output)


def test_views_of_blocks_that_do_anything_else_are_refused() -> None:
    for shape in ([-1, 3, 2], [2, 3, 2]):
        assert len(parse_model(_row(shape), "x").ops) == 3
    for shape in ([-1, 2, 3], [1, 6, 2], [-1, 1, 6]):
        with pytest.raises(ModelError, match=r"operator 3 \(RESHAPE\): between a convolution"):
            parse_model(_row(shape), "x")
    with pytest.raises(ModelError, match=r"operator 1 \(EXPAND_DIMS\): between SPACE_TO_BATCH_ND"):
        parse_model(_row([-1, 3, 2], axis=2), "x")


def test_blocks_without_a_convolution_say_what_to_do() -> None:
    n = Network(1, (6, 2))
    split = n.file.activation("blocks", (2, 3, 2), *n.scales[n.input])
    ints = [n.file.constant("i", np.array(values, "<i4")) for values in ([2], [(0, 0)])]
    n.file.operator(Code.SPACE_TO_BATCH_ND, [n.input, *ints], split, Options(25))
    with pytest.raises(ModelError, match=r"operator 0 \(SPACE_TO_BATCH_ND\): .* with batch size 1"):
        parse_model(n.file.finish([n.input], [split]), "x")
