"""The importer: what it takes, and how it describes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hil.errors import ModelError
from hil.model.load import load_model, parse_model
from hil.model.network import (
    Activation,
    ConcatParams,
    ConvParams,
    DepthwiseParams,
    DType,
    Model,
    OpKind,
    Padding,
    PadParams,
    ReduceParams,
    ReshapeParams,
)
from hil.model.reference import Reference
from munas.tflite.file import (
    Code,
    Element,
    TfliteFile,
    conv_options,
    dense_options,
    reshape_options,
)
from tests.tflite_samples import UNIT, convolution, dense, every_operator, single

SHARED = {
    "ad01_int8": (10, (1, 640), (1, 640)),
    "hello_world_int8": (3, (1, 1), (1, 1)),
    "kws_ref_model": (13, (1, 49, 10, 1), (1, 12)),
    "micro_speech_quantized": (4, (1, 1960), (1, 4)),
    "person_detect": (31, (1, 96, 96, 1), (1, 2)),
    "pretrainedResnet_quant": (16, (1, 32, 32, 3), (1, 10)),
    "vww_96_int8": (31, (1, 96, 96, 3), (1, 2)),
}


BASIC = {
    OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.FULLY_CONNECTED, OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D,
    OpKind.ADD, OpKind.PAD, OpKind.RESHAPE, OpKind.MEAN, OpKind.SOFTMAX, OpKind.RELU, OpKind.RELU6,
    OpKind.CONCATENATION, OpKind.QUANTIZE,
}  # fmt: skip


def by_kind(model: Model, kind: OpKind) -> list:
    return [op for op in model.ops if op.kind is kind]


@pytest.mark.parametrize("name", SHARED)
def test_shared_models_import(shared: Path, name: str) -> None:
    model = load_model(shared / "models" / f"{name}.tflite")
    operators, source, result = SHARED[name]
    assert model.name == name
    assert len(model.ops) == operators
    assert model.tensors[model.inputs[0]].shape == source
    assert model.tensors[model.outputs[0]].shape == result
    check_promises(model)


@pytest.mark.parametrize("edge", [Element.INT8, Element.FLOAT32, Element.UINT8])
def test_every_operator_imports(edge: Element) -> None:
    model = parse_model(every_operator(edge), "all")
    assert {op.kind for op in model.ops} == BASIC
    dtype = {Element.INT8: DType.INT8, Element.FLOAT32: DType.FLOAT32, Element.UINT8: DType.UINT8}[edge]
    assert [found.dtype for found in model.edges.inputs + model.edges.outputs] == [dtype, dtype]
    assert len(by_kind(model, OpKind.QUANTIZE)) == 1  # those at the edges are left out
    check_promises(model)


def check_promises(model: Model) -> None:
    """What hil/model/network.py promises to planner and code generator."""
    written = set(model.inputs)
    for position, tensor in enumerate(model.tensors):
        assert tensor.index == position
        assert len(tensor.name) <= 64
        assert tensor.name.isascii()
        assert tensor.name.isprintable() or not tensor.name
        if tensor.data is None:
            assert tensor.dtype is DType.INT8
            assert len(tensor.quant.scales) == len(tensor.quant.zero_points) == 1
            assert -128 <= tensor.quant.zero_point <= 127
        else:
            assert len(tensor.data) == tensor.size_bytes
            assert set(tensor.quant.zero_points) == {0}
    for op in model.ops:
        for index in op.inputs:
            assert index == -1 or index in written or model.tensors[index].data is not None
        assert len(op.outputs) == 1
        assert op.outputs[0] not in written
        written.add(op.outputs[0])
    assert set(model.outputs) <= written - set(model.inputs)


def test_parameters_are_read_in_the_right_place() -> None:
    model = parse_model(every_operator(), "all")
    (conv,) = by_kind(model, OpKind.CONV_2D)
    assert conv.params == ConvParams((2, 1), (1, 1), Padding(0, 1, 1, 1), Activation.RELU6)
    (depthwise,) = by_kind(model, OpKind.DEPTHWISE_CONV_2D)
    assert depthwise.params == DepthwiseParams((1, 1), (1, 1), Padding(1, 1, 1, 1), Activation.NONE, 2)
    assert by_kind(model, OpKind.PAD)[0].params == PadParams(
        (0, 0, 0, 0), (0, 1, 2, 0), by_kind(model, OpKind.PAD)[0].params.value
    )
    assert by_kind(model, OpKind.CONCATENATION)[0].params == ConcatParams(3)
    assert by_kind(model, OpKind.MEAN)[0].params == ReduceParams((1, 2))
    assert by_kind(model, OpKind.RESHAPE)[0].params == ReshapeParams((1, 16))
    assert [len(op.inputs) for op in by_kind(model, OpKind.PAD) + by_kind(model, OpKind.RESHAPE)] == [1, 1]
    dense = by_kind(model, OpKind.FULLY_CONNECTED)
    assert [len(model.tensors[op.inputs[1]].quant.scales) for op in dense] == [9, 1]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "expected"),
    [
        ((7, 8), (3, 3), (1, 1), (1, 1), Padding(1, 1, 1, 1)),
        ((7, 8), (3, 3), (2, 2), (1, 1), Padding(1, 1, 0, 1)),
        ((7, 8), (4, 2), (3, 1), (1, 1), Padding(1, 2, 0, 1)),
        ((9, 9), (3, 3), (1, 1), (2, 3), Padding(2, 2, 3, 3)),
        ((5, 5), (1, 1), (2, 2), (1, 1), Padding(0, 0, 0, 0)),
    ],
)
def test_same_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    expected: Padding,
) -> None:
    output = tuple(-(-length // step) for length, step in zip(size, stride, strict=True))
    data = convolution(
        (1, *size, 2), (3, *kernel, 2), (1, *output, 3), conv_options(stride, same=True, dilation=dilation)
    )
    params = parse_model(data, "same").ops[0].params
    assert isinstance(params, ConvParams)
    assert params.padding == expected
    assert (params.stride, params.dilation) == (stride, dilation)


def test_reshape_by_options_and_by_tensor() -> None:
    by_options = TfliteFile()
    source = by_options.activation("x", (1, 12), UNIT)
    result = by_options.activation("y", (1, 2, 3, 2), UNIT)
    by_options.operator(Code.RESHAPE, [source], result, reshape_options((1, -1, 3, 2)))
    model = parse_model(by_options.finish([source], [result]), "x")
    assert model.ops[0].params == ReshapeParams((1, 2, 3, 2))


def test_names_are_made_harmless() -> None:
    file = TfliteFile()
    hostile = '"; system("rm -rf /"); //\n\x00é' + "x" * 200
    source, result = file.activation(hostile, (1, 4), UNIT), file.activation("y", (1, 4), UNIT)
    file.operator(Code.RELU, [source], result)
    name = parse_model(file.finish([source], [result]), "x").tensors[0].name
    assert len(name) == 64
    assert name.isascii()
    assert name.isprintable()


def test_bias_may_be_absent_but_not_of_a_convolution() -> None:
    for inputs in ([0, 1], [0, 1, -1]):
        model = parse_model(dense(inputs=inputs), "x")
        assert model.ops[0].inputs[2] == -1
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\)"):
        parse_model(convolution((1, 4, 4, 2), (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), bias=False), "x")


def test_a_dead_channel_has_next_to_no_scale() -> None:
    file = TfliteFile()
    x, y = file.activation("x", (1, 2), UNIT), file.activation("y", (1, 2), UNIT)
    w = file.constant("w", np.array([[0, 0], [5, 7]], np.int8), [2.0**-126, 0.01])
    b = file.constant("b", np.array([0, 3], np.int32), [2.0**-132, UNIT * 0.01])
    file.operator(Code.FULLY_CONNECTED, [x, w, b], y, dense_options(), version=12)
    data = file.finish([x], [y])
    model = parse_model(data, "dead")
    assert model.tensors[model.ops[0].inputs[1]].quant.scales[0] == 2.0**-126
    assert Reference(data, model).run([np.array([[3, 4]], np.int8)])[0][0, 0] == 0


# --- files --------------------------------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_model(tmp_path / "absent.tflite")
    with pytest.raises(ModelError, match="Is a directory"):
        load_model(tmp_path)
    empty = tmp_path / "empty.tflite"
    empty.write_bytes(b"")
    with pytest.raises(ModelError, match=r"not a \.tflite"):
        load_model(empty)
    vast = tmp_path / "vast.tflite"
    with vast.open("wb") as stream:
        stream.truncate(10 * 2**30)
    with pytest.raises(ModelError, match="larger than"):
        load_model(vast)


def test_a_model_is_immutable_and_knows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(every_operator())
    model = load_model(path)
    assert model == load_model(path)
    assert (model.name, len(model.sha256)) == ("net", 64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "other"  # type: ignore[misc]


def test_single_operator_samples_import() -> None:
    model = parse_model(single(Code.RELU, (1, 3, 3, 2), None), "x")
    assert [op.kind for op in model.ops] == [OpKind.RELU]
