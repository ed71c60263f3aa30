"""LiteRT as the reference: which arithmetic it has, and that it computes the network that the importer describes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from hil.errors import ModelError
from hil.model.litert import LiteRt
from hil.model.load import parse_model
from hil.model.network import Model, OpKind, ReduceParams, SoftmaxParams
from hil.model.reference import Reference, feeds, verification_inputs
from hil.model.tflite.container import read_container
from hil.model.tflite.repair import REFERENCE_VERSIONS, repaired
from hil.patterns import PatternKind
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.tflite import file
from munas.tflite.file import (
    DEQUANTIZE_OPTIONS,
    QUANTIZE_OPTIONS,
    Code,
    Element,
    Options,
    TfliteFile,
    conv_options,
    dense_options,
    depthwise_options,
)
from munas.tflite.flatbuffer import write_tflite
from tests.firmware.operators import Network
from tests.firmware.random_plain import binary_of, function_of, strided_slice, tile, transpose
from tests.numpy_network import evaluate
from tests.tflite_samples import UNIT, every_operator

ROOT = Path(__file__).resolve().parents[2]
SHARED = (
    *("ad01_int8", "hello_world_int8", "kws_ref_model", "micro_speech_quantized"),
    *("person_detect", "pretrainedResnet_quant", "vww_96_int8"),
)


def assert_layers_agree(data: bytes, model: Model, count: int) -> None:
    """Every layer, fed with what LiteRT fed it, gives LiteRT's values; one step of freedom where numpy approximates."""
    reference, litert, container = Reference(data, model), LiteRt(repaired(data)), read_container(data)
    in_file = dict(zip(model.inputs, (edge.core_tensor for edge in model.edges.inputs), strict=True))
    in_file |= {op.outputs[0]: container.operators[op.index].outputs[0] for op in model.ops}
    read = litert.read
    for item in verification_inputs(model, count, seed=3):
        outputs = reference.run(item.values)
        litert.run(feeds(model, item.values))
        for given, index in zip(item.values, model.inputs, strict=True):
            assert np.array_equal(read(in_file[index]), given)
        for output, index in zip(outputs, model.outputs, strict=True):
            assert np.array_equal(read(in_file[index]), output)
        for op in model.ops:
            ours = evaluate(model, op, [read(in_file[index]) for index in op.inputs if index in in_file])
            steps = np.abs(ours.astype(int) - read(in_file[op.outputs[0]])).max()
            assert steps <= isinstance(op.params, ReduceParams | SoftmaxParams), f"operator {op.index} ({op.kind})"


@pytest.mark.parametrize("name", SHARED)
def test_shared_models_agree_layer_by_layer(shared: Path, name: str) -> None:
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    assert_layers_agree(data, parse_model(data, name), 2)


@pytest.mark.parametrize("edge", [Element.INT8, Element.FLOAT32, Element.UINT8])
def test_every_operator_agrees(edge: Element) -> None:
    data = every_operator(edge)
    assert_layers_agree(data, parse_model(data, "all"), 8)


def test_written_networks_agree() -> None:
    rng, checked = np.random.default_rng(8), 0
    while checked < 8:
        graph = build_graph(random_cnn(rng), (20, 18, 3), 10)
        if graph.macs < 400_000:
            data = write_tflite(graph, checked, dense_per_channel=checked % 2 == 0)
            assert_layers_agree(data, parse_model(data, "random"), 3)
            checked += 1


def _spread(n: Network) -> int:
    output = n.like(n.input, (8, 12, 2))
    n.file.operator(Code.DEPTH_TO_SPACE, [n.input], output, Options(94, ((0, "Int32", 2),)))
    return output


def _squeezed(n: Network) -> int:
    pooled = n.mean(n.input, keep_dims=True)
    output = n.like(pooled, (8,))
    n.file.operator(Code.SQUEEZE, [pooled], output, Options(30, ints=(1, 2)))
    return output


def test_old_biases_are_repaired_and_nothing_else(shared: Path) -> None:
    data = (shared / "models" / "person_detect.tflite").read_bytes()
    fixed = repaired(data)
    assert sum(old != new for old, new in zip(data, fixed, strict=True)) == 14  # one byte for each depthwise layer
    old, new = parse_model(data, "x"), parse_model(fixed, "x")
    assert (old.tensors, old.ops) == (new.tensors, new.ops)
    clean = (shared / "models" / "vww_96_int8.tflite").read_bytes()
    assert repaired(clean) == clean


REPAIRED = {
    OpKind.ADD: lambda n: binary_of(n, Code.ADD), OpKind.MUL: lambda n: binary_of(n, Code.MUL),
    OpKind.ABS: lambda n: function_of(n, Code.ABS), OpKind.TILE: tile, OpKind.DEPTH_TO_SPACE: _spread,
    OpKind.SOFTMAX: lambda n: n.softmax(n.input), OpKind.STRIDED_SLICE: strided_slice, OpKind.TRANSPOSE: transpose,
    OpKind.SQUEEZE: _squeezed, OpKind.DEPTHWISE_CONV_2D: lambda n: n.depthwise(n.input, 2, (2, 2)),
    OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM: lambda n: n.lstm(n.input, 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", REPAIRED)
def test_versions_that_only_the_optimised_table_has_are_lowered(kind: OpKind, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, newest = REFERENCE_VERSIONS[kind]
    files = []
    for version in (ours, newest, newest + 1):
        with monkeypatch.context() as patch:
            patch.setitem(file._OPERATOR_VERSIONS, Code[kind.name], version)
            n = Network(3, (4, 6) if kind is OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM else (4, 6, 8))
            files.append(n.finish(REPAIRED[kind](n)))
    with pytest.raises(ValueError, match=f"'{kind.name}' version '{newest}'"):
        LiteRt(files[1])
    assert repaired(files[0]) == files[0]
    assert repaired(files[1]) == files[0]
    assert repaired(files[2]) == files[2]  # what nobody knows stays
    model = parse_model(files[1], "newest")
    inputs = verification_inputs(model, 1, seed=0)[0].values
    assert Reference(files[1], model).run(inputs)[0].size


def test_the_repaired_versions_are_all_tried() -> None:
    assert set(REPAIRED) == set(REFERENCE_VERSIONS)


# --- which kernels run ----------------------------------------------------------------------------------------------

CHANNELS = 20_000


def requantising(code: Code, per_channel: bool = True) -> tuple[bytes, np.ndarray, float]:
    """A layer of one input and many channels, its sums for the input 77, and the real multiplier."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, CHANNELS, dtype=np.int8)
    bias = rng.integers(-3000, 3000, CHANNELS, dtype=np.int32)
    scales = [np.float32(0.5), np.float32(0.0123), np.float32(0.5 * 0.0123 * 30.5)]
    shape = {Code.FULLY_CONNECTED: (CHANNELS, 1), Code.CONV_2D: (CHANNELS, 1, 1, 1)}.get(code, (1, 1, 1, CHANNELS))
    dense = code is Code.FULLY_CONNECTED
    file = TfliteFile()
    x = file.activation("x", (1, 1) if dense else (1, 1, 1, 1), float(scales[0]))
    y = file.activation("y", (1, CHANNELS) if dense else (1, 1, 1, CHANNELS), float(scales[2]))
    count = CHANNELS if per_channel else 1
    w = file.constant("w", weights.reshape(shape), [scales[1]] * count, axis=shape.index(CHANNELS))
    b = file.constant("b", bias, [scales[0] * scales[1]] * count)
    options = {Code.FULLY_CONNECTED: dense_options(), Code.CONV_2D: conv_options()}
    version = 12 if dense and per_channel else 0
    file.operator(code, [x, w, b], y, options.get(code, depthwise_options(multiplier=CHANNELS)), version)
    real = float(scales[0]) * float(scales[1]) / float(scales[2])
    return file.finish([x], [y]), weights.astype(np.int64) * 77 + bias, real


def rounded_twice(sums: np.ndarray, real: float) -> np.ndarray:
    mantissa, shift = math.frexp(real)
    product = sums * round(mantissa * 2**31)
    high = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(high) * (np.abs(high) >> 31)
    half = 1 << (-shift - 1)
    return np.clip(np.sign(high) * ((np.abs(high) + half) >> -shift), -128, 127)


def rounded_once(sums: np.ndarray, real: float) -> np.ndarray:
    product = sums * real
    return np.clip(np.sign(product) * np.floor(np.abs(product) + 0.5), -128, 127)


def answer(data: bytes) -> np.ndarray:
    model = parse_model(data, "x")
    return Reference(data, model).run([np.full(model.tensors[model.inputs[0]].shape, 77, np.int8)])[0].ravel()


@pytest.mark.parametrize("code", [Code.CONV_2D, Code.DEPTHWISE_CONV_2D])
def test_convolutions_round_twice(code: Code) -> None:
    data, sums, real = requantising(code)
    assert np.array_equal(answer(data), rounded_twice(sums, real))
    assert not np.array_equal(answer(data), rounded_once(sums, real))


@pytest.mark.parametrize("per_channel", [True, False])
def test_dense_layers_round_once(per_channel: bool) -> None:
    data, sums, real = requantising(Code.FULLY_CONNECTED, per_channel)
    assert np.array_equal(answer(data), rounded_once(sums, real))
    assert not np.array_equal(answer(data), rounded_twice(sums, real))


def test_no_delegate_takes_over() -> None:
    data, sums, _ = requantising(Code.CONV_2D)
    assert [details["op_name"] for details in LiteRt(data).interpreter._get_ops_details()] == ["CONV_2D"]
    delegated = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=OpResolverType.AUTO)
    delegated.allocate_tensors()
    assert "DELEGATE" in [details["op_name"] for details in delegated._get_ops_details()]  # the check can fail
    delegated.set_tensor(0, np.full((1, 1, 1, 1), 77, np.int8))
    delegated.invoke()
    assert not np.array_equal(delegated.get_tensor(1).ravel(), answer(data))
    assert len(sums) == CHANNELS


# --- the boundary ---------------------------------------------------------------------------------------------------


def identity(edge: Element, scale: float, zero_point: int) -> bytes:
    """A network whose int8 core copies 256 values (RELU above everything), with the given edges."""
    file = TfliteFile()
    is_float = edge is Element.FLOAT32
    outer = file.activation("outer", (1, 256), None if is_float else scale, zero_point + 128, edge)
    x, y = (file.activation(name, (1, 256), scale, zero_point) for name in "xy")
    result = file.activation("result", (1, 256), None if is_float else scale, zero_point + 128, edge)
    file.operator(Code.QUANTIZE, [outer], x, QUANTIZE_OPTIONS, 1)
    file.operator(Code.RESHAPE, [x, file.constant("shape", np.array([1, 256], np.int32))], y)
    code = Code.DEQUANTIZE if is_float else Code.QUANTIZE
    file.operator(code, [y], result, DEQUANTIZE_OPTIONS if is_float else QUANTIZE_OPTIONS, 2 if is_float else 1)
    return file.finish([outer], [result])


@pytest.mark.parametrize("edge", [Element.FLOAT32, Element.UINT8])
def test_edges_hand_over_every_value_exactly(edge: Element) -> None:
    rng = np.random.default_rng(4)
    values = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    scales = [2.0**-28, 2.0**28, 1 / 255, 0.1, *np.exp(rng.uniform(-19, 19, 60))]
    for scale in scales:
        for zero_point in (-128, -1, 0, 3, 127):
            data = identity(edge, float(np.float32(scale)), zero_point)
            assert np.array_equal(Reference(data, parse_model(data, "x")).run([values])[0], values), scale


def test_verification_inputs_are_what_the_device_makes() -> None:
    model = parse_model(every_operator(), "x")
    items = verification_inputs(model, 8, seed=5)
    assert len(items) == 8
    assert {item.pattern.kind for item in items} == set(PatternKind)
    zero_point = model.tensors[model.inputs[0]].quant.zero_point
    for item in items:
        (values,) = item.values
        assert values.shape == (1, 12, 10, 2)
        assert values.tobytes() == item.pattern.data(240, zero_point)
    assert len({item.values[0].tobytes() for item in items}) == 8


def test_inputs_are_checked() -> None:
    data = every_operator()
    reference = Reference(data, parse_model(data, "x"))
    with pytest.raises(ValueError, match="int8"):
        reference.run([np.zeros((1, 12, 10, 2), np.float32)])
    with pytest.raises(ValueError, match="reshape"):
        reference.run([np.zeros((1, 12, 10, 3), np.int8)])


def test_litert_only_sees_the_bytes_that_were_imported() -> None:
    data = every_operator()
    with pytest.raises(ValueError, match="not the bytes"):
        Reference(data + b"\0", parse_model(data, "x"))


def test_a_refusal_of_litert_is_a_model_error() -> None:
    file = TfliteFile()
    x, y = file.activation("x", (1, 4), UNIT), file.activation("y", (1, 4), UNIT)
    file.operator(Code.RELU, [x], y, version=99)
    data = file.finish([x], [y])
    model = parse_model(data, "future")
    assert model.ops[0].kind is OpKind.RELU
    with pytest.raises(ModelError, match=r"^future: LiteRT.*RELU.*99"):
        Reference(data, model)


def test_nothing_is_logged() -> None:
    code = (
        "import numpy as np; from hil.model.load import parse_model; from hil.model.reference import Reference;"
        "from tests.tflite_samples import every_operator; data = every_operator(); model = parse_model(data, 'x');"
        "Reference(data, model).run([np.zeros((1, 12, 10, 2), np.int8)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
