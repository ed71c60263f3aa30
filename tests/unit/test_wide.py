"""16-bit activations: the tables that are interpolated, over all inputs; what is refused; how ports are counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.codegen.plan import make_plan
from hil.errors import ModelError
from hil.model import wide_tables
from hil.model.litert import LiteRt
from hil.model.load import parse_model
from hil.model.network import DType, OpKind
from munas.tflite.file import (
    QUANTIZE_OPTIONS,
    Code,
    Element,
    Fused,
    Options,
    TfliteFile,
    dense_options,
    depthwise_options,
    pool_options,
)
from tests.faults.test_mutated_models import packed, unpacked

ALL = np.arange(-32768, 32768, dtype=np.int64)
POWER = 2.0**-12


def answers(code: Code, scale: float) -> NDArray[np.int64]:
    """LiteRT's results of `code` for all inputs."""
    file = TfliteFile()
    x = file.activation("x", (1, 65536), scale, 0, Element.INT16)
    y = file.activation("y", (1, 65536), 2.0**-15, 0, Element.INT16)
    file.operator(code, [x], y, None, 3)
    litert = LiteRt(file.finish([x], [y]))
    litert.run([(x, ALL.astype("<i2").reshape(1, -1))])
    return litert.read(y).reshape(-1).astype(np.int64)


def interpolated(bits: int, most: int) -> NDArray[np.int64]:
    """The table of the logistic function at three times each input, as the kernels read it."""
    magnitude, table = np.abs(3 * ALL), wide_tables.logistic().astype(np.int64)
    at = np.minimum(magnitude >> bits, 254)
    found = (table[at] << bits) + (magnitude & ((1 << bits) - 1)) * (table[at + 1] - table[at])
    return np.where(magnitude >> bits >= 255, most, found)


def test_the_logistic_function_over_all_inputs() -> None:
    found = interpolated(9, 0x7FFF << 10)
    result = np.where(ALL >= 0, found + (1 << 9), (1 << 25) - found + (1 << 9) - 1) >> 10
    assert np.array_equal(result.astype(np.int16), answers(Code.LOGISTIC, POWER))


def test_tanh_over_all_inputs() -> None:
    found = interpolated(8, 0xFFFF << 8) - (1 << 23)
    result = np.where(ALL >= 0, found + (1 << 7), -found + (1 << 7) - 1) >> 8
    assert np.array_equal(result.astype(np.int16), answers(Code.TANH, POWER))


def test_tables_are_exact_at_their_ends() -> None:
    exponential, reciprocal = wide_tables.exponential(), wide_tables.reciprocal()
    assert (len(exponential), len(reciprocal)) == (513, 513)
    assert (exponential[-1], reciprocal[0], reciprocal[-1]) == (32767, 32767, 16384)
    assert (np.diff(exponential) >= 0).all()
    assert (np.diff(reciprocal) <= 0).all()


def wide(file: TfliteFile, shape: tuple[int, ...], scale: float = 0.001, zero_point: int = 0) -> int:
    return file.activation("w", shape, scale, zero_point, Element.INT16)


def dense(*, bias: np.dtype[np.generic] | None = None, result: Element = Element.INT16, zero_point: int = 0) -> bytes:
    file = TfliteFile()
    x = wide(file, (1, 4), zero_point=zero_point)
    y = file.activation("y", (1, 3), 0.01, 0, result)
    weights = file.constant("w", np.ones((3, 4), np.int8), [0.01])
    biases = file.constant("b", np.zeros(3, bias or np.dtype("<i8")), [0.001 * np.float32(0.01)])
    file.operator(Code.FULLY_CONNECTED, [x, weights, biases], y, dense_options())
    return file.finish([x], [y])


def add(*, pot: bool, scale: float) -> bytes:
    file = TfliteFile()
    x, y = wide(file, (1, 4), scale), wide(file, (1, 4), 2 * scale)
    file.operator(Code.ADD, [x, x], y, Options(11), 3)
    model = unpacked(file.finish([x], [y]))
    model.subgraphs[0].operators[0].builtinOptions.potScaleInt16 = pot
    return packed(model)


def pool() -> bytes:
    file = TfliteFile()
    x, y = wide(file, (1, 2, 2, 1)), wide(file, (1, 1, 1, 1), 0.002)
    file.operator(Code.MAX_POOL_2D, [x], y, pool_options((2, 2), (2, 2), activation=Fused.NONE), 3)
    return file.finish([x], [y])


def dilated(middle: Element) -> bytes:
    """Blocks, a depthwise convolution and back, with tensors of another type between."""
    file = TfliteFile()
    x, y = wide(file, (1, 2, 2, 1)), wide(file, (1, 2, 2, 1))
    split, made = (file.activation(name, (2, 1, 2, 1), 0.001, 0, middle) for name in ("split", "made"))
    block, pads = file.constant("s", np.array([2, 1], "<i4")), file.constant("p", np.zeros((2, 2), "<i4"))
    weights, bias = (
        file.constant("w", np.ones((1, 1, 1, 1), np.int8), [0.01], 3),
        file.constant("b", np.zeros(1, "<i8"), [1e-5]),
    )
    file.operator(Code.SPACE_TO_BATCH_ND, [x, block, pads], split, Options(25), 3)
    file.operator(Code.DEPTHWISE_CONV_2D, [split, weights, bias], made, depthwise_options(), 5)
    file.operator(Code.BATCH_TO_SPACE_ND, [made, block, pads], y, Options(24), 3)
    return file.finish([x], [y])


def unsupported() -> bytes:
    file = TfliteFile()
    x, y = wide(file, (1, 4)), wide(file, (1, 4))
    file.operator(Code.LEAKY_RELU, [x], y, Options(75, ((0, "Float32", 0.1),)))
    return file.finish([x], [y])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: dense(bias=np.dtype("<i4")), "bias is int32; supported: int64"),
        (lambda: dense(result=Element.INT8), "one of its tensors is int16, another is not"),
        (lambda: dense(zero_point=5), "zero point 5"),
        (lambda: dilated(Element.INT8), r"\(SPACE_TO_BATCH_ND\): one of its tensors is int16, another is not"),
        (lambda: add(pot=True, scale=2.0**-12), "powers of two"),
        (pool, "different scales"),
        (unsupported, "activations of 16 bits .* are not supported here"),
    ],
)
def test_what_the_kernels_do_not_do_is_refused(build: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        parse_model(build(), "m")


@pytest.mark.parametrize(("pot", "scale"), [(False, 2.0**-12), (True, 0.001)])
def test_an_add_of_other_scales_is_taken(pot: bool, scale: float) -> None:
    assert [op.kind for op in parse_model(add(pot=pot, scale=scale), "m").ops] == [OpKind.ADD]


def test_ports_and_buffers_count_bytes() -> None:
    plan = make_plan(parse_model(dense(), "m"))
    assert (plan.input.size, plan.input.shape, plan.input.is_wide) == (8, (1, 4), True)
    assert (plan.output.size, plan.output.shape) == (6, (1, 3))
    assert plan.arena_bytes == 8 + 8
    assert {tensor.dtype for tensor in plan.imported.tensors} == {DType.INT16, DType.INT8, DType.INT64}


def test_a_narrow_port_of_a_wide_network_is_no_wide_one() -> None:
    file = TfliteFile()
    x, y = file.activation("x", (1, 4), 0.1), wide(file, (1, 4))
    file.operator(Code.QUANTIZE, [x], y, QUANTIZE_OPTIONS)
    plan = make_plan(parse_model(file.finish([x], [y]), "m"))
    assert (plan.input.is_wide, plan.output.is_wide) == (False, True)
