"""What TensorFlow's converter makes of a network is what the device will run, predicted to the byte."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from hil.codegen.plan import make_plan
from hil.model.load import parse_model
from hil.model.reference import Reference
from munas.arch.graph import Graph, build_graph
from munas.arch.space import (
    AnyArchitecture,
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    random_cnn,
    random_mlp,
)
from munas.cost.converted import as_converted
from munas.cost.estimate import arena_bytes, table_bytes, weights_bytes, works_of
from munas.cost.kernels import KernelVariant
from munas.data import Examples
from munas.errors import TrainingError
from munas.tflite.flatbuffer import write_tflite
from munas.tflite.quantise import quantised
from munas.training.emit import revived
from munas.training.network import infer, infer_all
from munas.training.parameters import fold_batch_norm, initial_weights
from munas.training.quantise import classes, int8_error, int8_logits, to_int8
from tests.networks import every_operator
from tests.training.tiny import branched, trained_like

pytestmark = pytest.mark.slow
TASKS = (((28, 28, 1), 10), ((32, 32, 3), 10), ((8, 8, 1), 10), ((49, 40, 1), 12), ((32, 32, 3), 2), ((16, 16, 1), 2))


def random_graphs(count: int, seed: int) -> list[Graph]:
    """Networks of the whole space on several tasks; every seventh an MLP."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        shape, num_classes = TASKS[len(found) % len(TASKS)]
        architecture: AnyArchitecture = random_mlp(rng) if len(found) % 7 == 6 else random_cnn(rng)
        graph = build_graph(architecture, shape, num_classes)
        if graph.model_size < 100_000 and graph.macs < 3_000_000:
            found.append(graph)
    return found


def converted(graph: Graph, seed: int, images: int = 20) -> bytes:
    inputs = np.random.default_rng(seed).random((images, *graph.input_shape), dtype=np.float32)
    return to_int8(graph, revived(graph, trained_like(graph, seed), inputs), inputs)


def check_plan(graph: Graph, tflite: bytes) -> None:
    plan, device = make_plan(parse_model(tflite, "trial"), keep_constant_channels=True), as_converted(graph)
    works = works_of(device)
    predicted = (arena_bytes(device, works), weights_bytes(works), table_bytes(works))
    assert (plan.arena_bytes, plan.weights_bytes, plan.table_bytes) == predicted
    # Weights alone decide whether a channel has a scale of 1/2 or more (one that is dead on all images does, and nearly
    # dead ones that were equalised): such a layer takes a slower kernel in place of the usual one of its kind.
    planned, usual = (Counter(item.variant for item in items) for items in (plan.steps, works))
    slow = {path: planned.pop(path, 0) for path in (KernelVariant.CONV_ANY, KernelVariant.DW_ANY)}
    replaced = Counter(path.split("-")[0] for path in (usual - planned).elements())
    assert not planned - usual
    assert replaced == +Counter(conv=slow[KernelVariant.CONV_ANY], dw=slow[KernelVariant.DW_ANY])
    assert sorted(step.work.macs for step in plan.steps) == sorted(work.macs for work in works)


def test_the_plan_is_what_was_predicted() -> None:
    for seed, graph in enumerate([every_operator(), *random_graphs(5, seed=3)]):
        check_plan(graph, converted(graph, seed))


@pytest.mark.slow
def test_the_plan_is_what_was_predicted_for_many() -> None:
    for seed, graph in enumerate(random_graphs(35, seed=0)):
        check_plan(graph, converted(graph, seed))


def test_equal_pools_are_one() -> None:
    """Two branches that pool the same input: the converter computes the pool once, and so do the predictions."""
    branch = Block((Layer(LayerType.CONV, 3, 4, 1, relu=True, pre_pool=True),), is_branch=True)
    architecture = branched()
    twice = type(architecture)((architecture.blocks[0], branch, branch), None, architecture.dense)
    graph = build_graph(twice, (12, 12, 1), 4)
    assert len(as_converted(graph).operators) == len(graph.operators) - 1
    check_plan(graph, converted(graph, 1))


def test_conversion_is_deterministic() -> None:
    assert converted(every_operator(), 3) == converted(every_operator(), 3)


def test_dense_layers_are_quantised_per_channel() -> None:
    model = parse_model(converted(every_operator(), 3), "m")
    dense = [op for op in model.ops if op.kind == "FULLY_CONNECTED"]
    assert all(model.tensors[op.inputs[1]].quant.per_channel for op in dense)
    assert model.edges.inputs[0].dtype == model.edges.outputs[0].dtype == "int8"


def test_int8_follows_float() -> None:
    graph = every_operator()
    inputs = np.random.default_rng(1).random((200, *graph.input_shape), dtype=np.float32)
    weights = trained_like(graph, 1)
    guesses = classes(to_int8(graph, weights, inputs), inputs)
    expected = np.argmax(infer(graph, fold_batch_norm(graph, weights), inputs), axis=1)
    assert np.mean(guesses == expected) > 0.8


@pytest.mark.parametrize("number", range(3))
def test_reference_kernels_are_those_that_the_device_is_compared_with(number: int) -> None:
    graph = [every_operator(), *random_graphs(2, seed=5)][number]
    tflite = converted(graph, number)
    model = parse_model(tflite, "m")
    quant = model.tensors[model.inputs[0]].quant
    inputs = np.random.default_rng(9).random((10, *graph.input_shape), dtype=np.float32)
    reference = Reference(tflite, model)
    expected = [reference.run([q[None]])[0][0] for q in quantised(inputs, quant.scale, quant.zero_point)]
    found = int8_logits(tflite, inputs, reference=True)
    np.testing.assert_array_equal(found, np.stack(expected))
    fast = int8_logits(tflite, inputs)
    assert np.abs(fast.astype(int) - found).max() <= 6


def test_error_counts_what_is_wrong() -> None:
    graph = every_operator()
    tflite = converted(graph, 2)
    raw = np.random.default_rng(4).integers(0, 256, (130, *graph.input_shape), dtype=np.uint8)
    scale, offset = (1 / 255, 1 / 200, 1 / 255), (0.0, 0.1, 0.0)
    inputs = raw.astype(np.float32) * np.array(scale, np.float32) + np.array(offset, np.float32)
    labels = classes(tflite, inputs)
    labels[:13] = (labels[:13] + 1) % 10
    assert int8_error(tflite, Examples(raw, labels), scale, offset) == pytest.approx(0.1)


def test_one_logit_is_a_class_above_zero() -> None:
    graph = build_graph(branched(), (12, 12, 1), 2)
    inputs = np.random.default_rng(1).random((100, 12, 12, 1), dtype=np.float32)
    weights = trained_like(graph, 6)
    logits = np.asarray(infer(graph, fold_batch_norm(graph, weights), inputs))[:, 0]
    weights[-1]["bias"] -= np.float32(np.median(logits))
    guesses = classes(to_int8(graph, weights, inputs), inputs)
    assert np.mean(guesses == (logits > np.median(logits))) > 0.85


def test_classifying_prints_nothing(tmp_path: Path) -> None:
    """In a process of its own: LiteRT reports its delegate once a process."""
    tflite = write_tflite(build_graph(MlpArchitecture((10,)), (4, 4, 1), 2), 0)
    (tmp_path / "two.tflite").write_bytes(tflite)
    program = (
        "import sys, pathlib, numpy; from munas.training.quantise import classes;"
        "classes(pathlib.Path(sys.argv[1]).read_bytes(), numpy.zeros((3, 4, 4, 1), numpy.float32))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "two.tflite")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_dead_layer_still_makes_a_network_that_the_device_takes() -> None:
    graph = build_graph(branched(), (12, 12, 1), 4)
    inputs = np.random.default_rng(1).random((20, 12, 12, 1), dtype=np.float32)
    for number, operator in enumerate(graph.operators):
        weights = initial_weights(graph, 1)
        if not weights[number] or operator.activation != "relu":
            continue
        weights[number]["beta" if operator.batch_norm else "bias"][:] = -100
        check_plan(graph, to_int8(graph, revived(graph, weights, inputs), inputs))


@pytest.mark.parametrize("kind", [LayerType.CONV, LayerType.POINTWISE, LayerType.DEPTHWISE])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_dead_layer_gets_a_constant(kind: LayerType, batch_norm: bool) -> None:
    """Of one filter too, whose kernel (k, k, in, 1) looks like that of a depthwise layer."""
    filters = 0 if kind is LayerType.DEPTHWISE else 1
    dead = Layer(kind, 1 if kind is LayerType.POINTWISE else 3, filters, 1, batch_norm=batch_norm, relu=True)
    blocks = (Block((Layer(LayerType.CONV, 3, 8, 1, relu=True),)), Block((dead,)))
    graph = build_graph(Architecture(blocks, None, (DenseLayer(10),)), (12, 12, 1), 4)
    weights = trained_like(graph, 1)
    weights[1]["beta" if batch_norm else "bias"][:] = -100
    inputs = np.random.default_rng(1).random((20, 12, 12, 1), dtype=np.float32)
    outputs = infer_all(graph, fold_batch_norm(graph, revived(graph, weights, inputs)), inputs)[1]
    np.testing.assert_allclose(np.asarray(outputs)[..., 0], 0.01, rtol=1e-6)


def test_a_live_network_is_left_alone() -> None:
    graph = every_operator()
    inputs = np.random.default_rng(1).random((20, *graph.input_shape), dtype=np.float32)
    weights = trained_like(graph, 1)
    for before, after in zip(weights, revived(graph, weights, inputs), strict=True):
        assert all(values is after[name] for name, values in before.items())


def test_weights_that_are_not_finite_are_an_error() -> None:
    graph = build_graph(branched(), (12, 12, 1), 4)
    weights = initial_weights(graph, 1)
    weights[0]["kernel"][:] = np.nan
    inputs = np.random.default_rng(1).random((20, 12, 12, 1), dtype=np.float32)
    with pytest.raises(TrainingError, match="finite"):
        to_int8(graph, weights, inputs)
