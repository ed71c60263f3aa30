"""What the importer refuses, in words that name it, and what of floats and uint8 it takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import (
    LookupParams,
    OpKind,
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
from tests.tflite_samples import UNIT, Chain, convolution, dense


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


def test_a_pointer_of_git_lfs_says_what_to_fetch() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    with pytest.raises(ModelError, match="Git LFS pointer"):
        parse_model(pointer, "m")
