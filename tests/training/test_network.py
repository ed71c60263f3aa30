"""A graph in TensorFlow is the Keras model of it, with batch norm folded or not, with channels masked or removed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from munas.arch.channels import channel_groups
from munas.arch.graph import Graph, build_graph
from munas.arch.prune import apply_masks, masks_at
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType, random_cnn, random_mlp
from munas.training.emit import emit
from munas.training.network import build_keras, infer, train_forward
from munas.training.parameters import fold_batch_norm, initial_weights, pack_weights, parameter_map, unpack_weights
from munas.training.steps import mask_indices
from munas.training.train import KerasTraining
from tests.networks import every_operator
from tests.training.tiny import RECIPE, branched, dataset, task, trained_like

pytestmark = pytest.mark.slow


def small_architectures(count: int) -> list[Architecture]:
    rng = np.random.default_rng(11)
    found: list[Architecture] = []
    while len(found) < count:
        architecture = random_cnn(rng)
        graph = build_graph(architecture, (12, 12, 2), 5)
        if graph.model_size < 30_000 and len(graph.operators) < 20:
            found.append(architecture)
    return found


def graphs() -> list[Graph]:
    cnns = [build_graph(architecture, (12, 12, 2), 5) for architecture in small_architectures(4)]
    mlp = build_graph(random_mlp(np.random.default_rng(1)), (6, 6, 1), 2)
    return [every_operator(), *cnns, mlp]


def close(first: object, second: object) -> None:
    np.testing.assert_allclose(np.asarray(first), np.asarray(second), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("number", range(6))
def test_inference_is_the_keras_model(number: int) -> None:
    graph = graphs()[number]
    weights = trained_like(graph, number)
    inputs = np.random.default_rng(0).random((5, *graph.input_shape), dtype=np.float32)
    close(infer(graph, fold_batch_norm(graph, weights), inputs), build_keras(graph, weights)(inputs, training=False))


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 13])
def test_batch_norm_and_its_gradient_are_the_fused_operators(channels: int) -> None:
    """For numbers of channels that the fused operator is slow on there is one of our own."""
    from munas.training.backend import tf
    from munas.training.network import _batch_norm
    from munas.training.parameters import BATCH_NORM_EPSILON

    rng = np.random.default_rng(channels)
    sums = tf.constant(rng.normal(40, 2, (16, 5, 3, channels)), tf.float32)  # far from zero, as sums of images are
    gamma, beta = (tf.constant(rng.normal(1, 0.5, channels), tf.float32) for _ in range(2))
    upstream = tf.constant(rng.normal(0, 1, sums.shape), tf.float32)
    found = []
    for is_fused in (False, True):
        with tf.GradientTape() as tape:
            tape.watch([sums, gamma, beta])
            if is_fused:
                outputs, *statistics = tf.raw_ops.FusedBatchNormV3(
                    x=sums, scale=gamma, offset=beta, mean=tf.constant((), tf.float32),
                    variance=tf.constant((), tf.float32), epsilon=BATCH_NORM_EPSILON, is_training=True,
                )[:3]  # fmt: skip
            else:
                outputs, *statistics = _batch_norm(sums, {"gamma": gamma, "beta": beta})
            loss = tf.reduce_sum(outputs * upstream)
        found.append((outputs, *statistics, *tape.gradient(loss, [sums, gamma, beta])))
    for ours, fused in zip(*found, strict=True):
        np.testing.assert_allclose(ours, fused, rtol=2e-4, atol=5e-4)


def test_training_takes_the_batches_statistics_as_keras_does() -> None:
    graph = every_operator()
    weights = trained_like(graph, 1)
    inputs = np.random.default_rng(0).random((8, *graph.input_shape), dtype=np.float32)
    logits, statistics = train_forward(graph, weights, inputs)
    close(logits, build_keras(graph, weights)(inputs, training=True))
    assert sum(int(part.shape[0]) for part in statistics) == parameter_map(graph).statistics_size


def test_a_depthwise_layer_of_one_channel_can_be_trained() -> None:
    """oneDNN refuses it where it is compiled into a step, and random networks have such layers."""
    layers = (Layer(LayerType.CONV, 7, 1, 2, relu=True), Layer(LayerType.DEPTHWISE, 3), Layer(LayerType.DEPTHWISE, 3))
    architecture = Architecture(tuple(Block((layer,)) for layer in layers), None, (DenseLayer(12),))
    found = KerasTraining(dataset(), RECIPE)()(task(architecture, effort=0.2))
    assert found.epochs > 0
    assert np.isfinite(found.history[-1].loss)


def test_a_step_masks_what_the_reference_masks() -> None:
    graph = build_graph(branched(), (12, 12, 1), 4)
    weights, parameters = trained_like(graph, 2), parameter_map(graph)
    masks = masks_at(graph, weights, 0.5)
    vector = np.concatenate(masks)[mask_indices(parameters, channel_groups(graph))]
    expected = parameters.flatten(apply_masks(graph, weights, masks))[0]
    np.testing.assert_array_equal(parameters.flatten(weights)[0] * vector, expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_the_emitted_network_is_the_masked_one(seed: int, sparsity: float) -> None:
    architecture = [branched(), *small_architectures(3)][seed]
    graph = build_graph(architecture, (12, 12, 2), 5)
    weights = trained_like(graph, seed)
    masks = masks_at(graph, weights, sparsity)
    emitted = emit(architecture, 5, graph, weights, masks)
    assert emitted.graph.model_size < graph.model_size
    inputs = np.random.default_rng(0).random((6, *graph.input_shape), dtype=np.float32)
    masked = infer(graph, fold_batch_norm(graph, apply_masks(graph, weights, masks)), inputs)
    close(infer(emitted.graph, fold_batch_norm(emitted.graph, emitted.weights), inputs), masked)


def test_weights_survive_the_flat_vector_and_the_file() -> None:
    graph = every_operator()
    weights = trained_like(graph, 5)
    parameters = parameter_map(graph)
    vectors = parameters.flatten(weights)
    assert [len(vector) for vector in vectors] == [parameters.trained_size, parameters.statistics_size]
    for copy in (parameters.unflatten(*vectors), unpack_weights(pack_weights(weights), graph)):
        for before, after in zip(weights, copy, strict=True):
            assert before.keys() == after.keys()
            for name, values in before.items():
                np.testing.assert_array_equal(values, after[name])
    assert pack_weights(weights) == pack_weights(trained_like(graph, 5))


def test_weights_of_another_network_are_refused() -> None:
    file = pack_weights(initial_weights(every_operator(), 1))
    with pytest.raises(ValueError, match="weights of"):
        unpack_weights(file, build_graph(branched(), (12, 12, 1), 4))
