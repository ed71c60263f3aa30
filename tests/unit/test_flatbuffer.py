"""The writer: every network loads and runs, activations are alive and not saturated, bytes depend on the seed only."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hil.codegen.constant_channels import without_constant_channels
from hil.model.litert import LiteRt
from hil.model.load import parse_model
from hil.model.network import Activation, Model, Op, OpKind
from hil.model.reference import Reference, feeds, verification_inputs
from hil.model.tflite.container import read_container
from hil.model.tflite.repair import repaired
from hil.patterns import PatternKind
from munas.arch.graph import Graph, build_graph
from munas.arch.space import (
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    Pooling,
    PoolType,
    random_cnn,
    random_mlp,
)
from munas.tflite.flatbuffer import write_tflite

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ((28, 28, 1), (32, 32, 3), (49, 40, 1), (64, 64, 3))
MAX_MACS, MAX_ELEMENTS = 1_500_000, 64_000


def random_graphs(count: int, seed: int, max_macs: int = MAX_MACS) -> list[Graph]:
    """Networks that could fit 64 KB flash and 64 KB SRAM, over the input shapes of the paper's data sets."""
    rng, graphs = np.random.default_rng(seed), []
    while len(graphs) < count:
        shape = SHAPES[rng.integers(len(SHAPES))]
        graph = build_graph(random_cnn(rng), shape, int(rng.integers(2, 13)))
        elements = max(operator.out_elements for operator in graph.operators)
        if graph.macs <= max_macs and graph.model_size <= MAX_ELEMENTS and elements <= MAX_ELEMENTS:
            graphs.append(graph)
    return graphs


def activations(data: bytes, model: Model, count: int) -> tuple[list[bytes], dict[int, np.ndarray]]:
    """Outputs for `count` random inputs, and by core tensor all values that each layer's output took."""
    litert, container = LiteRt(repaired(data)), read_container(data)
    outputs, values = [], {op.outputs[0]: [] for op in model.ops}
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shapes = [model.tensors[index].shape for index in model.inputs]
        litert.run(feeds(model, [rng.integers(-128, 128, shape, dtype=np.int8) for shape in shapes]))
        outputs.append(litert.read(model.edges.outputs[0].core_tensor).tobytes())
        for op in model.ops:
            index = container.operators[op.index].outputs[0]
            values[op.outputs[0]].append(litert.read(index).ravel())
    return outputs, {tensor: np.concatenate(arrays) for tensor, arrays in values.items()}


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_every_random_network_is_alive(count: int) -> None:
    layers, few_values, clamped, repeating = 0, 0, 0, 0
    for number, graph in enumerate(random_graphs(count, seed=7)):
        data = write_tflite(graph, seed=number, dense_per_channel=number % 2 == 0)
        model = parse_model(data, "random")
        outputs, values = activations(data, model, 4)
        assert len(set(outputs)) > 1, f"network {number} gives the same output for different inputs"
        repeating += len(set(outputs)) < 4  # through a bottleneck of one value, two inputs of four can look the same
        for op in model.ops:
            taken = values[op.outputs[0]]
            assert len(taken) < 40 or len(np.unique(taken)) > 1, f"network {number}: {op.kind} {op.index} is constant"
            if len(taken) >= 200:  # less says nothing about a share
                layers += 1
                few_values += len(np.unique(taken)) < 30
                clamped += saturation(model, op, taken) > 0.2
    assert layers > 8 * count
    assert repeating <= count * 0.03
    assert few_values <= layers * 0.01
    assert clamped <= layers * 0.01


def test_no_channel_is_constant_so_that_a_network_is_as_large_as_its_graph() -> None:
    """Of channels of one tap, one in 255 would have the weight 0: a plan leaves out what is constant."""
    depthwise = Layer(LayerType.DEPTHWISE, kernel=3)  # of one tap, as the image has one pixel
    wide = [Layer(LayerType.POINTWISE, filters=100), depthwise, Layer(LayerType.POINTWISE, filters=8)]
    architecture = Architecture((Block(tuple(wide)), Block(tuple(wide))), None, (DenseLayer(10),))
    graph = build_graph(architecture, (1, 1, 1), 10)
    for seed in range(12):
        _, dropped = without_constant_channels(parse_model(write_tflite(graph, seed=seed), "wide"))
        assert dropped == 0, f"seed {seed}"


def saturation(model: Model, op: Op, values: np.ndarray) -> float:
    """Share of values at an end of the range; zeros that a ReLU left are none."""
    rectified = model.tensors[op.outputs[0]].quant.zero_point == -128
    return float((values == 127).mean() + (0 if rectified else (values == -128).mean()))


def test_the_file_depends_on_graph_and_seed_only() -> None:
    (graph,) = random_graphs(1, seed=3)
    assert write_tflite(graph, seed=5) == write_tflite(graph, seed=5)
    assert write_tflite(graph, seed=5) != write_tflite(graph, seed=6)


def test_the_file_does_not_depend_on_the_threads_of_blas() -> None:
    code = (
        "import hashlib, numpy as np;"
        "from munas.arch.space import random_cnn; from munas.arch.graph import build_graph;"
        "from munas.tflite.flatbuffer import write_tflite; rng = np.random.default_rng(11);"
        "graphs = [build_graph(random_cnn(rng), (32, 32, 3), 10) for _ in range(12)];"
        "files = [write_tflite(g, 1) for g in graphs if g.macs < 5_000_000];"
        "print(len(files), hashlib.sha256(b''.join(files)).hexdigest())"
    )
    found = set()
    for threads in ("1", "2"):
        environment = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "PATH": "/usr/bin:/bin"}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_structure_is_what_the_converter_emits() -> None:
    convolution = Layer(LayerType.CONV, kernel=3, filters=6, relu=True, batch_norm=True, pre_pool=True)
    blocks = (
        Block((convolution,)),
        Block((Layer(LayerType.CONV, kernel=5, filters=4),), is_branch=True),
        Block((Layer(LayerType.DEPTHWISE, kernel=3),), is_branch=True),
    )
    architecture = Architecture(blocks, Pooling(PoolType.AVG, 2), (DenseLayer(12),))
    model = parse_model(write_tflite(build_graph(architecture, (20, 20, 1), 10), seed=1), "x")
    kinds = [op.kind for op in model.ops]
    assert kinds.count(OpKind.ADD) == 2  # three terms, two at a time
    assert kinds[kinds.index(OpKind.PAD) + 1] in (OpKind.PAD, OpKind.ADD)
    assert kinds[-4:] == [OpKind.AVERAGE_POOL_2D, OpKind.RESHAPE, OpKind.FULLY_CONNECTED, OpKind.FULLY_CONNECTED]
    first = next(op for op in model.ops if op.kind is OpKind.CONV_2D)
    assert first.params.activation is Activation.RELU
    assert model.tensors[first.outputs[0]].quant.zero_point == -128
    weights, bias = (model.tensors[index] for index in first.inputs[1:])
    assert len(weights.quant.scales) == 6
    products = np.float32(model.tensors[first.inputs[0]].quant.scale) * np.array(weights.quant.scales, np.float32)
    assert np.allclose(bias.quant.scales, products, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_dense_layers_are_quantised_as_asked(per_channel: bool) -> None:
    graph = build_graph(MlpArchitecture((20, 30)), (6, 5, 2), 2)
    model = parse_model(write_tflite(graph, 1, dense_per_channel=per_channel), "mlp")
    dense = [op for op in model.ops if op.kind is OpKind.FULLY_CONNECTED]
    counts = [len(model.tensors[op.inputs[1]].quant.scales) for op in dense]
    assert counts == ([20, 30, 1] if per_channel else [1, 1, 1])
    assert model.ops[0].kind is OpKind.RESHAPE


def test_a_vector_input_needs_no_reshape() -> None:
    model = parse_model(write_tflite(build_graph(MlpArchitecture((16,)), (40,), 3), 1), "mlp")
    assert [op.kind for op in model.ops] == [OpKind.FULLY_CONNECTED] * 2


def test_random_mlps_are_alive() -> None:
    rng = np.random.default_rng(2)
    for seed in range(10):
        data = write_tflite(build_graph(random_mlp(rng), (12, 12, 1), 5), seed)
        outputs, _ = activations(data, parse_model(data, "mlp"), 3)
        assert len(set(outputs)) == 3


def test_outputs_vary_over_the_verification_inputs() -> None:
    for seed, graph in enumerate(random_graphs(5, seed=23)):
        data = write_tflite(graph, seed)
        model = parse_model(data, "x")
        reference = Reference(data, model)
        items = verification_inputs(model, 8, seed=1)
        random = [item for item in items if item.pattern.kind is PatternKind.RANDOM]
        assert len({reference.run(item.values)[0].tobytes() for item in random}) == len(random) == 4
        assert len({reference.run(item.values)[0].tobytes() for item in items}) > len(random)


def test_reference_mode_is_refused() -> None:
    (graph,) = random_graphs(1, seed=3)
    with pytest.raises(ValueError, match="deployed"):
        write_tflite(dataclasses.replace(graph, mode="paper"), 1)
