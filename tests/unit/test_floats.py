"""Networks of float32 for an interpreter: which files are such, what is refused, and what equal means for them."""

from __future__ import annotations

import struct

import flatbuffers
import numpy as np
import pytest

from hil.boards.board import load_board
from hil.errors import ModelError
from hil.measure.answers import reference_answers
from hil.measure.harness import Options, make_runtime
from hil.measure.rounding import BIT_FOR_BIT, RULE, TOLERANCE, largest_error
from hil.model.network import DType
from hil.model.reference import Reference
from hil.model.tflite.container import read_container
from hil.patterns import FloatPattern, float_patterns
from hil.runtimes.base import as_one_buffer
from hil.runtimes.tflm.floats import is_float
from hil.runtimes.tflm.network import make_network
from munas.tflite.file import Code, Element, TfliteFile
from tests import tflite_samples
from tests.networks import small_network
from tests.tflm import float_network


def test_a_float_network_is_taken_as_it_is() -> None:
    data = float_network()
    network = make_network(data, "net")
    assert network.flatbuffer is data
    assert network.is_float
    assert network.is_wide  # kernels for int8 only do not run it
    assert [port.shape for port in network.inputs] == [(1, 8, 7, 3), (1, 6)]
    assert (network.input.size, network.output.size) == (4 * (168 + 6), 4 * 8)
    assert (network.input.zero_point, network.output.zero_point) == (0, 0)
    assert {tensor.dtype for tensor in network.model.tensors} == {DType.FLOAT32}
    assert network.steps[0].what == "CONV_2D of float32"
    assert not network.is_arena_known
    assert make_runtime(load_board("mps2-an386"), Options(runtime="tflm")).reference(network) is None


@pytest.mark.parametrize("data", [small_network(1), tflite_samples.every_operator(Element.FLOAT32)])
def test_a_network_that_is_quantised_inside_is_not_float(data: bytes) -> None:
    assert not is_float(read_container(data))
    assert not make_network(data, "net").is_float


def test_generated_code_refuses_it_with_the_remedy() -> None:
    with pytest.raises(ModelError, match="not int8: it is float32; quantise it"):
        make_runtime(load_board("mps2-an386"), Options()).deploy(float_network(), "net")


def relu(
    element: Element = Element.FLOAT32, *, twice: bool = False, state: bool = False, constant: bool = False
) -> bytes:
    file = TfliteFile()
    entry = file.activation("x", (1, 4), None, element=element)
    if state:
        file.variable("v", (1, 4), 1.0, 0, Element.FLOAT32)
    fixed = file.constant("c", np.ones((1, 4), "<f4"))
    result = file.activation("y", (1, 4), None, element=element)
    file.operator(Code.RELU, [entry], result, None, 1)
    return file.finish([entry, entry] if twice else [entry], [fixed] if constant else [result])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (relu(twice=True), "one of them twice"),
        (relu(state=True), "states or control flow"),
        (relu(constant=True), "output 0 of the model is computed by no operator"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        make_network(data, "net")


def test_patterns_are_numbers_from_minus_one_to_one() -> None:
    patterns = float_patterns(8, 2**32 - 2)
    assert patterns[1] == FloatPattern(None)
    assert patterns[1].data(12) == bytes(12)
    values = np.frombuffer(patterns[0].data(40_000), "<f4")
    assert (values.min() < -0.99, values.max() > 0.99, np.abs(values).max() <= 1.0) == (True, True, True)
    assert len({pattern.data(40) for pattern in patterns}) == 8
    assert np.frombuffer(FloatPattern(3).data(400), "<f4")[:3].tolist() == (
        np.frombuffer(FloatPattern(3).data(12), "<f4").tolist()
    )


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_differences_are_counted_against_the_largest_value_of_each_tensor() -> None:
    wanted = floats(4.0, -8.0, 0.001, 0.002)
    assert largest_error(wanted, wanted, (8, 8)) == 0.0
    assert largest_error(floats(4.0, -8.5, 0.001, 0.002), wanted, (8, 8)) == 0.0625
    assert largest_error(floats(4.0, -8.0, 0.001, 0.003), wanted, (8, 8)) == pytest.approx(0.5, rel=1e-6)
    assert largest_error(floats(4.0, -8.0, 0.001, 0.003), wanted, (16,)) == pytest.approx(0.001 / 8, rel=1e-4)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (floats(float("nan")), floats(1.0)),
        (floats(1.0), floats(float("inf"))),
        (floats(float("-inf")), floats(float("inf"))),
        (floats(1e-30), floats(0.0)),
        (floats(1.0)[:3], floats(1.0)),
        (floats(1.0, 1.0), floats(1.0)),
    ],
)
def test_what_no_rounding_explains_is_infinitely_far(answer: bytes, wanted: bytes) -> None:
    assert largest_error(answer, wanted, (4,)) == float("inf")


def test_values_that_are_no_numbers_have_to_be_the_same() -> None:
    odd = floats(float("nan"), float("inf"), 2.0)
    assert largest_error(odd, odd, (12,)) == 0.0


def test_answers_are_compared_by_the_rule_that_they_state() -> None:
    data = float_network()
    network = make_network(data, "net")
    litert = as_one_buffer(Reference(data, network.imported), network)
    answers = reference_answers(litert, None, network.input, 8, 1)
    exact = answers.compared(answers.litert, network.outputs)
    assert (exact.checked, exact.mismatched, exact.rule, exact.largest_error) == (8, 0, RULE, 0.0)
    first = np.frombuffer(answers.litert[0], "<f4").copy()
    for part, wrong in ((TOLERANCE / 2, 0), (TOLERANCE * 2, 1)):
        changed = first.copy()
        at = int(np.abs(first[:4]).argmax())
        changed[at] += part * first[at]
        found = answers.compared([changed.tobytes(), *answers.litert[1:]], network.outputs)
        assert found.mismatched == found.litert_mismatched == wrong
        assert found.largest_error == pytest.approx(part, rel=0.01)
    quantised = make_network(small_network(1), "net")
    litert = Reference(quantised.flatbuffer, quantised.imported)
    assert (
        reference_answers(litert, None, quantised.input, 8, 1)
        .compared(reference_answers(litert, None, quantised.input, 8, 1).litert, quantised.outputs)
        .rule
        == BIT_FOR_BIT
    )


def test_a_custom_operator_is_refused_with_what_to_do() -> None:
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromPackedBuf(relu(), 0)
    code = file.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Mine"
    builder = flatbuffers.Builder(1024)
    builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
    with pytest.raises(ModelError, match=r"operator 0 \(custom operator Mine\).*convert the network without them"):
        make_network(bytes(builder.Output()), "net")
