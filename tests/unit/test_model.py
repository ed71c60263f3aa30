"""The importer: what it takes, how it describes it, and that it names what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
    LookupParams,
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
    Fused,
    Options,
    TfliteFile,
    add_options,
    concat_options,
    conv_options,
    dense_options,
    depthwise_options,
    pool_options,
    reducer_options,
    reshape_options,
    softmax_options,
)
from tests.tflite_samples import UNIT, Chain, every_operator, single

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


# --- refusals -----------------------------------------------------------------------------------------------------


def convolution(
    source: tuple[int, ...],
    weights: tuple[int, ...],
    result: tuple[int, ...],
    options: Options | None,
    *,
    bias: bool = True,
    code: Code = Code.CONV_2D,
    axis: int = 0,
    scales: object = 0.01,
    zero_point: int = 0,
    bias_scale: float | None = None,
    bias_elements: int | None = None,
    fill: int = 1,
) -> bytes:
    file = TfliteFile()
    x, y = file.activation("x", source, UNIT), file.activation("y", result, UNIT)
    w = file.constant("w", np.full(weights, fill, np.int8), scales, axis, zero_point)  # type: ignore[arg-type]
    inputs = [x, w]
    if bias:
        scale = bias_scale if bias_scale is not None else UNIT * float(np.ravel(scales)[0])
        inputs.append(file.constant("b", np.zeros(bias_elements or weights[axis], np.int32), [scale]))
    file.operator(code, inputs, y, options)
    return file.finish([x], [y])


def dense(
    *,
    inputs: list[int] | None = None,
    source: tuple[int, ...] = (1, 8),
    result: tuple[int, ...] = (1, 5),
    options: Options | None = None,
    **changes: object,
) -> bytes:
    file = TfliteFile()
    values = np.ones((5, 8), np.int8)
    x = file.activation("x", source, changes.get("scale_in", UNIT), 0)  # type: ignore[arg-type]
    w = file.constant("w", changes.get("weights", values), changes.get("scales", [0.01]))  # type: ignore[arg-type]
    b = file.constant("b", changes.get("bias", np.zeros(5, np.int32)), [changes.get("bias_scale", UNIT * 0.01)])  # type: ignore[arg-type]
    y = file.activation("y", result, changes.get("scale_out", UNIT), 0)  # type: ignore[arg-type]
    file.operator(Code.FULLY_CONNECTED, [x, w, b] if inputs is None else inputs, y, options)
    return file.finish([x], [y])


def pair(
    code: Code, first: tuple[int, ...], second: tuple[int, ...], result: tuple[int, ...], options: Options
) -> bytes:
    file = TfliteFile()
    a, b, y = (file.activation(name, shape, UNIT) for name, shape in (("a", first), ("b", second), ("y", result)))
    file.operator(code, [a, b], y, options)
    return file.finish([a, b], [y])


def unary(
    code: Code,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    options: Options | None,
    scales: tuple[float, float] = (UNIT, UNIT),
    constant: object = None,
    zero_point: int = 0,
) -> bytes:
    file = TfliteFile()
    x, y = file.activation("x", shapes[0], scales[0]), file.activation("y", shapes[1], scales[1], zero_point)
    extra = [] if constant is None else [file.constant("c", np.array(constant, np.int32))]
    file.operator(code, [x, *extra], y, options)
    return file.finish([x], [y])


def graph(*, order: tuple[tuple[int, int], ...], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
    """RELUs between tensors of one shape: (source, result) each."""
    file = TfliteFile()
    for index in range(5):
        file.activation(f"t{index}", (1, 4), UNIT)
    for source, result in order:
        file.operator(Code.RELU, [source], result)
    return file.finish(inputs, outputs)


OPERATOR_NAMES = {11: "L2_NORMALIZATION", 32: "custom operator ", 111: "ELU", 250: "operator code 250"}


@pytest.mark.parametrize("code", OPERATOR_NAMES)
def test_unsupported_operators_are_named(code: int) -> None:
    data = unary(code, ((1, 4), (1, 4)), None)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=rf"operator 0 \({OPERATOR_NAMES[code]}\): not supported.*'y'"):
        parse_model(data, "x")


NAN, INF = float("nan"), float("inf")
IMAGE = (1, 4, 4, 2)
REFUSALS: dict[str, tuple[Callable[[], bytes], str]] = {
    "broadcasting": (lambda: pair(Code.ADD, IMAGE, (1, 1, 1, 3), IMAGE, add_options()), r"\(ADD\).*not broadcast"),
    "dynamic shape": (lambda: pair(Code.RESHAPE, (1, 4), (1, 4), (1, 4), reshape_options((1, 4))), r"\(RESHAPE\)"),
    "groups": (lambda: convolution((1, 4, 4, 4), (3, 1, 1, 2), (1, 4, 4, 3), conv_options()), "do not suit"),
    "no options": (lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), None), "no options"),
    "stride 0": (lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options((0, 1))), "stride 0x1"),
    "huge stride": (lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 1, 1, 3), conv_options((2**31 - 1, 1))), "stride"),
    "huge dilation": (
        lambda: convolution(IMAGE, (3, 3, 3, 2), (*IMAGE[:3], 3), conv_options(same=True, dilation=(65535, 1))),
        "dilated window",
    ),
    "window too large": (lambda: convolution(IMAGE, (3, 5, 5, 2), (1, 1, 1, 3), conv_options()), "does not fit"),
    "wrong result": (lambda: convolution(IMAGE, (3, 3, 3, 2), (1, 3, 2, 3), conv_options()), r"shape \[1, 3, 2, 3\]"),
    "zero point": (
        lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), zero_point=1),
        "zero point other than 0",
    ),
    "axis": (
        lambda: convolution(IMAGE, (3, 1, 1, 3), (1, 4, 4, 3), conv_options(), axis=3, scales=[0.1, 0.1, 0.1]),
        "scales along axis 3",
    ),
    "scale count": (
        lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), scales=[0.1, 0.1]),
        "2 scales",
    ),
    "NaN scale": (lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), scales=NAN), "scale"),
    "infinite scale": (lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), scales=INF), "scale"),
    "negative scale": (lambda: dense(scales=[-0.01]), "scale"),
    "no weight scale": (
        lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), scales=None, bias_scale=1e-4),
        "no scale",
    ),
    "bias units": (lambda: dense(bias_scale=0.1), r"bias is not input scale \* weight scale"),
    "bias size": (
        lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), bias_elements=4),
        "needed: a constant of 3",
    ),
    "overflow": (
        lambda: convolution(IMAGE, (3, 1, 1, 2), (1, 4, 4, 3), conv_options(), scales=2.0**28, bias_scale=2.0**22),
        "overflow 32 bits",
    ),
    "depth multiplier": (
        lambda: convolution(
            IMAGE, (1, 1, 1, 4), (1, 4, 4, 4), depthwise_options(multiplier=3), code=Code.DEPTHWISE_CONV_2D, axis=3
        ),
        "times 3",
    ),
    "float": (lambda: _float(), "not int8: it is float32; quantise it"),
    "dense length": (lambda: dense(source=(1, 9)), "8 weights a unit"),
    "dense rows": (lambda: dense(source=(1, 2, 8), result=(1, 5)), r"shape \[1, 5\].* give \[2, 5\]"),
    "dense result": (lambda: dense(result=(1, 1, 5)), r"shape \[1, 1, 5\]"),
    "dense keep_num_dims": (
        lambda: dense(source=(1, 2, 4), options=dense_options(keep_num_dims=True)),
        "keep_num_dims",
    ),
    "dense weights": (lambda: dense(weights=np.ones((5, 8), np.uint8)), "uint8"),
    "bias type": (lambda: dense(bias=np.zeros(5, np.int64)), "int64"),
    "input scale 0": (lambda: dense(scale_in=0.0), "scale 0"),
    "output scale inf": (lambda: dense(scale_out=INF), "scale inf"),
    "output unquantised": (lambda: dense(scale_out=None), "0 scales"),
    "pool scales": (
        lambda: unary(Code.MAX_POOL_2D, (IMAGE, (1, 2, 2, 2)), pool_options((2, 2), (2, 2)), (UNIT, 0.5)),
        "different scales",
    ),
    "pool zero points": (
        lambda: unary(Code.AVERAGE_POOL_2D, (IMAGE, (1, 2, 2, 2)), pool_options((2, 2), (2, 2)), zero_point=1),
        "different scales or zero points",
    ),
    "mean axes": (
        lambda: unary(Code.MEAN, (IMAGE, (1, 4, 2)), reducer_options(False), constant=[7]),
        r"\(MEAN\).*axis 7",
    ),
    "pad negative": (
        lambda: unary(Code.PAD, (IMAGE, (1, 3, 4, 2)), None, constant=[[0, 0], [-1, 0], [0, 0], [0, 0]]),
        "paddings",
    ),
    "softmax output": (lambda: unary(Code.SOFTMAX, ((1, 4), (1, 4)), softmax_options()), "1/256"),
    "softmax beta": (
        lambda: unary(Code.SOFTMAX, ((1, 4), (1, 4)), softmax_options(NAN), (UNIT, 1 / 256), zero_point=-128),
        "beta nan",
    ),
    "concat shapes": (
        lambda: pair(Code.CONCATENATION, (1, 4, 2), (1, 3, 2), (1, 4, 4), concat_options(2)),
        "different",
    ),
    "reshape size": (lambda: unary(Code.RESHAPE, ((1, 4), (1, 5)), None, constant=[1, 5]), r"no shape \[1, 5\]"),
    "reshape two unknown": (lambda: unary(Code.RESHAPE, ((1, 4), (1, 4)), None, constant=[-1, -1]), "no shape"),
    "batch 2": (
        lambda: convolution((2, 4, 4, 2), (3, 1, 1, 2), (2, 4, 4, 3), conv_options()),
        "batch is 2; convert the model with batch size 1",
    ),
    "rank 7": (lambda: unary(Code.RELU, ((1, 1, 1, 1, 1, 1, 4),) * 2, None), "dimensions"),
    "too large": (lambda: unary(Code.RELU, ((1, 60000, 60000),) * 2, None), "elements"),
    "relu scales": (lambda: unary(Code.RELU, ((1, 4), (1, 4)), None, (2.0**20, 2.0**-10)), "too small"),
    "not computed": (lambda: graph(order=((0, 1), (3, 2)), inputs=(0,), outputs=(2,)), "has not been computed"),
    "out of order": (lambda: graph(order=((1, 2), (0, 1)), inputs=(0,), outputs=(2,)), "has not been computed"),
    "cycle": (lambda: graph(order=((0, 1), (1, 1)), inputs=(0,), outputs=(1,)), "computed twice"),
    "written twice": (lambda: graph(order=((0, 1), (0, 1)), inputs=(0,), outputs=(1,)), "computed twice"),
    "writes the input": (lambda: graph(order=((0, 1), (1, 0)), inputs=(0,), outputs=(0,)), "an input"),
    "output not computed": (lambda: graph(order=((0, 1),), inputs=(0,), outputs=(1, 4)), "output 1"),
    "constant output": (lambda: _constant_output(), "output 1 of the model is a constant"),
    "no inputs": (lambda: graph(order=((0, 1),), inputs=(), outputs=(1,)), "no inputs"),
    "no operators": (lambda: graph(order=(), inputs=(0,), outputs=(0,)), "no operators"),
    "missing tensor": (lambda: graph(order=((0, 1),), inputs=(0,), outputs=(77,)), "tensor 77 does not exist"),
    "negative tensor": (lambda: graph(order=((-1, 1),), inputs=(0,), outputs=(1,)), "input 0 is missing"),
    "too much work": (lambda: _endless(), "too many for any Cortex-M"),
}


def _float() -> bytes:
    file = TfliteFile()
    x = file.activation("x", (1, 8), None, element=Element.FLOAT32)
    w = file.constant("w", np.ones((5, 8), np.float32))
    y = file.activation("y", (1, 5), None, element=Element.FLOAT32)
    file.operator(Code.FULLY_CONNECTED, [x, w], y, dense_options())
    return file.finish([x], [y])


def _constant_output() -> bytes:
    file = TfliteFile()
    x, y = (file.activation(name, (1, 4), UNIT) for name in "xy")
    constant = file.constant("c", np.ones((1, 4), np.int8), [UNIT])
    file.operator(Code.MAXIMUM, [x, constant], y, Options(39))
    return file.finish([x], [y, constant])


def _endless() -> bytes:
    """A large feature map through convolution after convolution."""
    chain = Chain()
    source = entry = chain.tensor((1, 512, 512, 16))
    for _ in range(8):
        source = chain.convolution(source, 16, 7, same=True, activation=Fused.RELU)
    return chain.file.finish([entry], [source])


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    build, message = REFUSALS[case]
    with pytest.raises(ModelError, match=message) as caught:
        parse_model(build(), "x")
    assert "\n" not in str(caught.value)


def test_float_between_dequantize_and_quantize_is_the_int8_that_it_was() -> None:
    file = TfliteFile()
    x = file.activation("x", (1, 4), UNIT)
    real = file.activation("f", (1, 4), None, element=Element.FLOAT32)
    y = file.activation("y", (1, 4), UNIT * 3, 5)
    file.operator(Code.DEQUANTIZE, [x], real)
    file.operator(Code.QUANTIZE, [real], y)
    data = file.finish([x], [y])
    model = parse_model(data, "x")
    assert [type(op.params) for op in model.ops] == [LookupParams]
    (op,) = model.ops
    codes = np.arange(-128, 128, dtype=np.int8).reshape(64, 4)
    table = np.frombuffer(op.params.table, np.int8)
    reference = Reference(data, model)
    for row in codes:
        assert np.array_equal(reference.run([row])[0].ravel(), table[row.astype(int) + 128])


@pytest.mark.parametrize(("zero_point", "scale"), [(100, UNIT), (128, 2 * UNIT)])
def test_a_uint8_input_of_another_scale_is_requantised_on_the_device(zero_point: int, scale: float) -> None:
    file = TfliteFile()
    outer = file.activation("outer", (1, 4), scale, zero_point, Element.UINT8)
    x, y = file.activation("x", (1, 4), UNIT), file.activation("y", (1, 4), UNIT)
    file.operator(Code.QUANTIZE, [outer], x)
    file.operator(Code.RELU, [x], y)
    data = file.finish([outer], [y])
    model = parse_model(data, "x")
    assert [op.kind for op in model.ops] == [OpKind.QUANTIZE, OpKind.RELU]
    assert model.tensors[model.inputs[0]].quant.zero_point == zero_point - 128
    values = np.array([[-128, -1, 30, 127]], np.int8)
    found = Reference(data, model).run([values])[0].ravel()
    wanted = np.maximum(np.rint((values.ravel() + 128.0 - zero_point) * scale / UNIT), 0)
    assert np.array_equal(found, np.clip(wanted, 0, 127))


def test_uint8_outputs_must_be_exact() -> None:
    file = TfliteFile()
    x, y = file.activation("x", (1, 4), UNIT), file.activation("y", (1, 4), UNIT)
    outer = file.activation("outer", (1, 4), 2 * UNIT, 128, Element.UINT8)
    file.operator(Code.RELU, [x], y)
    file.operator(Code.QUANTIZE, [y], outer)
    with pytest.raises(ModelError, match="more than the zero point's 128"):
        parse_model(file.finish([x], [outer]), "x")


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
