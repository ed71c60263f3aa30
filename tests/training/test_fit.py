"""A trial's training: learns, prunes, stops, diverges and repeats as it should."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from munas.arch.channels import channel_groups
from munas.arch.graph import build_graph
from munas.arch.prune import apply_masks, kept_share, masks_at, masks_by_loss
from munas.arch.space import MlpArchitecture
from munas.data import Dataset
from munas.search.trial import Rung, Task
from munas.training.feed import Feed
from munas.training.fit import DIVERGED_LOSS, Training
from munas.training.network import build_keras, infer
from munas.training.parameters import fold_batch_norm, initial_weights, parameter_map, unpack_weights
from munas.training.quantise import int8_error, scaled
from munas.training.recipes import MASK_STEPS, Criterion, Optimiser, Recipe
from munas.training.recipes import scaled as scheduled
from munas.training.steps import InputSpec, Stepper
from munas.training.train import KerasTraining
from tests.training.tiny import RECIPE, branched, dataset, task

pytestmark = pytest.mark.slow
DATA = dataset()


def training(asked: Task, data: Dataset = DATA) -> Training:
    return Training(data, scheduled(RECIPE, asked.effort, len(data.train)), asked)


def pruned_by(criterion: Criterion) -> Recipe:
    return dataclasses.replace(RECIPE, pruning=dataclasses.replace(RECIPE.pruning, criterion=criterion))


def test_a_trial_learns() -> None:
    trained = KerasTraining(DATA, RECIPE)()(task(branched()))
    assert trained.error < 0.1
    assert trained.float_error < 0.1
    assert trained.architecture == branched()
    assert (trained.epochs, len(trained.history), trained.stopped) == (RECIPE.epochs, RECIPE.epochs, False)
    assert trained.history[-1].loss < trained.history[0].loss
    assert all(epoch.kept == 1.0 for epoch in trained.history)
    assert trained.images_per_second > 0
    assert int8_error(trained.tflite, DATA.validation, DATA.scale, DATA.offset) == trained.error


def test_the_same_task_gives_the_same_network() -> None:
    trainer = KerasTraining(DATA, RECIPE)()
    first, second, other = (trainer(task(branched(), sparsity=0.5, seed=seed)) for seed in (1, 1, 2))
    assert dataclasses.replace(first, images_per_second=0) == dataclasses.replace(second, images_per_second=0)
    assert first.tflite != other.tflite


def test_two_classes_and_an_mlp() -> None:
    data = dataset(classes=2)
    trained = KerasTraining(data, RECIPE)()(task(MlpArchitecture((20, 12)), sparsity=0.4))
    assert trained.error < 0.1
    assert isinstance(trained.architecture, MlpArchitecture)
    assert trained.architecture.units[0] == 20  # fed by the input: left alone
    assert trained.architecture.units[1] < 12


def test_pruned_channels_are_gone_and_the_network_computes_the_same() -> None:
    run = training(task(branched(), sparsity=0.5))
    run.run()
    trained = run.finish()
    graph = build_graph(branched(), DATA.input_shape, DATA.num_classes)
    assert run.masks is not None
    kept = kept_share(channel_groups(graph), run.masks)
    assert kept == pytest.approx(0.5, abs=0.05)
    assert trained.history[-1].kept == kept
    emitted = build_graph(trained.architecture, DATA.input_shape, DATA.num_classes)
    assert emitted.model_size < graph.model_size
    inputs = scaled(DATA.validation.inputs, DATA.scale, DATA.offset)
    weights = unpack_weights(trained.weights, emitted)
    found = infer(emitted, fold_batch_norm(emitted, weights), inputs)
    masked = infer(graph, fold_batch_norm(graph, run.masked_weights()), inputs)
    np.testing.assert_allclose(found, masked, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("criterion", ["norm", "loss"])
def test_masks_are_the_reference_ones_and_rise_with_the_schedule(criterion: Criterion) -> None:
    """At each renewal the masks are what the numpy reference says of the weights and gradients at that step."""
    recipe = pruned_by(criterion)
    run = Training(DATA, scheduled(recipe, 1.0, len(DATA.train)), task(branched(), sparsity=0.6))
    graph, schedule = run.graph, scheduled(recipe, 1.0, len(DATA.train))
    seen = []

    def renewed(step: int) -> None:
        assert run.masks is not None
        before, gradients, masks = run.weights(), run.mean_gradients(), run.masks
        original(step)
        if schedule.prune_begin <= step <= schedule.prune_end:
            sparsity = schedule.sparsity(step, 0.6)
            by_loss = masks_by_loss(graph, before, gradients, masks, sparsity)
            expected = masks_at(graph, before, sparsity) if criterion == "norm" else by_loss
            assert run.masks is not None
            assert all(np.array_equal(a, b) for a, b in zip(run.masks, expected, strict=True))
            seen.append(step)

    original, run._renew_masks = run._renew_masks, renewed  # type: ignore[method-assign]
    run.run()
    first = -(-schedule.prune_begin // MASK_STEPS) * MASK_STEPS
    assert seen == list(range(first, schedule.prune_end + 1, MASK_STEPS))
    kept = [epoch.kept for epoch in run.history]
    assert kept[0] > kept[2] > kept[-1]


def test_gradients_that_masks_go_by_are_the_ones_that_weights_move_along() -> None:
    """With SGD without momentum a step is the rate times the gradient."""
    recipe = dataclasses.replace(pruned_by("loss"), optimiser=Optimiser("sgd"), rates=((0, 0.5),))
    run = Training(DATA, scheduled(recipe, 1.0, len(DATA.train)), task(branched(), sparsity=0.6))
    before = run.weights()
    run.steps(run._feed.batches(0, 1))
    for old, new, gradient in zip(before, run.weights(), run.mean_gradients(), strict=True):
        if old:
            np.testing.assert_allclose(old["kernel"] - new["kernel"], 0.5 * gradient["kernel"], rtol=1e-3, atol=1e-6)
            assert gradient["kernel"].any()


def test_a_rung_stops_a_hopeless_trial() -> None:
    trained = KerasTraining(DATA, RECIPE)()(task(branched(), rungs=(Rung(2, 0.0), Rung(4, 1.0))))
    assert (trained.stopped, trained.epochs) == (True, 2)
    assert trained.tflite
    kept_on = KerasTraining(DATA, RECIPE)()(task(branched(), rungs=(Rung(2, 1.0),)))
    assert (kept_on.stopped, kept_on.epochs) == (False, RECIPE.epochs)


def test_a_loss_that_is_not_finite_is_an_outcome() -> None:
    wild = dataclasses.replace(RECIPE, optimiser=Optimiser("sgd"), rates=((0, 1e25),))
    trained = KerasTraining(DATA, wild)()(task(branched(), sparsity=0.5))
    assert trained.history[-1].error == 1.0
    assert trained.history[-1].loss == DIVERGED_LOSS
    assert trained.epochs == 1
    assert trained.error > 0.4
    assert trained.architecture == branched()


def test_less_effort_is_less_work() -> None:
    trained = KerasTraining(DATA, RECIPE)()(task(branched(), effort=0.2))
    assert trained.epochs < RECIPE.epochs


def test_an_order_is_used_up_before_the_next() -> None:
    schedule = scheduled(RECIPE, 1.0, len(DATA.train))
    feed = Feed(DATA, schedule, seed=3)
    images = np.concatenate([feed.batches(step, 1).inputs.reshape(-1, 144) for step in range(15)])
    assert sorted(map(bytes, images)) == sorted(map(bytes, DATA.train.inputs.reshape(-1, 144)))


@pytest.mark.parametrize("optimiser", [Optimiser("sgd", 0.9), Optimiser("adam")])
def test_steps_are_those_of_keras(optimiser: Optimiser) -> None:
    import keras

    graph = build_graph(MlpArchitecture((12,)), DATA.input_shape, DATA.num_classes)
    weights, parameters = initial_weights(graph, 1), parameter_map(graph)
    inputs = InputSpec(DATA.input_shape, "uint8", DATA.scale, DATA.offset)
    stepper = Stepper(graph, parameters, optimiser, 0.01, RECIPE.batch, inputs)
    schedule = dataclasses.replace(scheduled(RECIPE, 1.0, len(DATA.train)), rates=((0, 0.01),))
    batches = Feed(DATA, schedule, seed=1).batches(0, 5)
    state, _ = stepper.run(stepper.start(*parameters.flatten(weights)), batches, None)

    model = build_keras(graph, weights)
    rule = keras.optimizers.SGD(0.01, 0.9) if optimiser.kind == "sgd" else keras.optimizers.Adam(0.01)
    model.compile(rule, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for raw, labels in zip(batches.inputs, batches.labels, strict=True):
        model.train_on_batch(scaled(raw, DATA.scale, DATA.offset), labels)
    expected = np.concatenate([values.reshape(-1) for values in model.get_weights()])
    np.testing.assert_allclose(state.weights.numpy(), expected, rtol=1e-3, atol=2e-5)


def test_the_gradient_is_taken_at_the_masked_weights_and_applied_to_the_dense_ones() -> None:
    """What a masked channel of a layer without ReLU would contribute is learnt, from the network without it."""
    graph = build_graph(branched(), DATA.input_shape, DATA.num_classes)
    groups, parameters = channel_groups(graph), parameter_map(graph)
    inputs = InputSpec(DATA.input_shape, "uint8", DATA.scale, DATA.offset)
    weights = initial_weights(graph, 1)
    linear = next(i for i, op in enumerate(graph.operators) if op.kind == "Conv2D" and op.activation is None)
    masks = [np.ones(group.size, np.bool_) for group in groups.groups]
    masks[groups.of_output[linear]][0] = False
    schedule = dataclasses.replace(scheduled(RECIPE, 1.0, len(DATA.train)), rates=((0, 0.01),))
    batches = Feed(DATA, schedule, seed=1).batches(0, 1)
    changes = []
    for start in (weights, apply_masks(graph, weights, masks)):
        stepper = Stepper(graph, parameters, Optimiser("sgd"), 0.01, RECIPE.batch, inputs, groups=groups)
        before = parameters.flatten(start)
        changes.append(stepper.run(stepper.start(*before), batches, masks)[0].weights.numpy() - before[0])
    np.testing.assert_allclose(changes[0], changes[1], atol=1e-6)
    slot = next(s for s in parameters.trained if (s.operator, s.name) == (linear, "kernel"))
    assert np.abs(changes[0][slot.start : slot.stop].reshape(slot.shape)[..., 0]).max() > 1e-5


def test_weight_decay_acts_on_kernels_only() -> None:
    graph = build_graph(branched(), DATA.input_shape, DATA.num_classes)
    parameters, inputs = parameter_map(graph), InputSpec(DATA.input_shape, "uint8", DATA.scale, DATA.offset)
    weights = initial_weights(graph, 1)
    schedule = dataclasses.replace(scheduled(RECIPE, 1.0, len(DATA.train)), rates=((0, 0.01),))
    batches = Feed(DATA, schedule, seed=1).batches(0, 1)
    after = []
    for decay in (0.0, 0.25):
        stepper = Stepper(graph, parameters, Optimiser("sgd", 0.0, decay), 0.01, RECIPE.batch, inputs)
        after.append(stepper.run(stepper.start(*parameters.flatten(weights)), batches, None)[0].weights.numpy())
    start = parameters.flatten(weights)[0]
    for slot in parameters.trained:
        part = slice(slot.start, slot.stop)
        expected = 0.25 * start[part] if slot.name == "kernel" else 0 * start[part]
        np.testing.assert_allclose(after[0][part] - after[1][part], expected, rtol=1e-4, atol=1e-6)


def test_weight_decay_of_the_paper_acts_on_all_weights_whatever_the_rate() -> None:
    graph = build_graph(branched(), DATA.input_shape, DATA.num_classes)
    parameters, inputs = parameter_map(graph), InputSpec(DATA.input_shape, "uint8", DATA.scale, DATA.offset)
    weights = parameters.flatten(initial_weights(graph, 1))
    after = []
    for decay, rate in ((0.0, 0.01), (0.25, 0.01), (0.0, 0.001), (0.25, 0.001)):
        schedule = dataclasses.replace(scheduled(RECIPE, 1.0, len(DATA.train)), rates=((0, rate),))
        optimiser = Optimiser("sgd", 0.0, decay, decays_all=True)
        stepper = Stepper(graph, parameters, optimiser, 0.01, RECIPE.batch, inputs)
        batches = Feed(DATA, schedule, seed=1).batches(0, 1)
        after.append(stepper.run(stepper.start(*weights), batches, None)[0].weights.numpy())
    for plain, decayed in (after[:2], after[2:]):
        np.testing.assert_allclose(plain - decayed, 0.25 * weights[0], rtol=1e-4, atol=1e-6)


def test_dropout_changes_hidden_dense_layers_alone_and_each_step_anew() -> None:
    graph = build_graph(branched(), DATA.input_shape, DATA.num_classes)
    parameters, inputs = parameter_map(graph), InputSpec(DATA.input_shape, "uint8", DATA.scale, DATA.offset)
    weights = parameters.flatten(initial_weights(graph, 1))
    batches = Feed(DATA, scheduled(RECIPE, 1.0, len(DATA.train)), seed=1).batches(0, 1)

    def losses(dropout: float, seed: int = 0) -> tuple[float, float]:
        stepper = Stepper(graph, parameters, Optimiser("sgd"), 0.01, RECIPE.batch, inputs, dropout=dropout, seed=seed)
        state = stepper.start(*weights)
        later = dataclasses.replace(state, step=state.step + 1)
        return stepper.run(state, batches, None)[1], stepper.run(later, batches, None)[1]

    plain, dropped, other = losses(0.0), losses(0.5), losses(0.5, seed=3)
    assert plain[0] == plain[1]
    assert len({plain[0], *dropped, *other}) == 5
    assert losses(0.5) == dropped


def test_the_factory_pickles() -> None:
    factory = KerasTraining(DATA, RECIPE)
    assert pickle.loads(pickle.dumps(factory)).used_recipe == RECIPE
