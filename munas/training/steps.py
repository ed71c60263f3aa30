"""The training step: several of them a call, over batches that are in memory already.

Measured with one thread on trials of 6 to 26 operators at 28x28x1, batches of 128: sixteen steps in one
`tf.while_loop` train 2 to 3 times as many images a second as `model.fit` (the fewer operators, the more). XLA is no
help: its convolutions and poolings on a CPU are 5 to 17 times slower, and the first call takes 5 to 50 seconds. oneDNN
is what makes small layers fast.

All weights are one vector and all statistics of batch norm another, so that an optimiser is a few operations whatever
the number of layers.

Pruning takes the gradient at the masked weights and applies it to the dense ones. All of a masked channel is zero, its
bias and norm too, so a ReLU lets nothing back to it: behind one, its weights stay as they are, and it returns only when
others have become less salient by the norms of kernels; what goes by the loss is gone for good. With that gradient let
through masks by norms never settle: on Fashion-MNIST at an effort of 0.03 and a sparsity of 0.5 the error rose from
20 % to 25 % (with batch norm from 22 % to 34 %; four seeds each).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Groups, Masks
from munas.arch.graph import Graph, Kind, Operator, Shape
from munas.training.backend import tf
from munas.training.network import Layers, Tensor, infer, train_forward
from munas.training.parameters import Floats, ParameterMap, kernel_shape
from munas.training.recipes import Optimiser

DISTILLATION_WEIGHT = 0.3  # of the teacher's cross entropy, at temperature 1
_STATISTICS_MEMORY = 0.95  # share of batch norm's running mean and variance that a batch leaves
_SECOND_MOMENT, _ADAM_EPSILON = 0.999, 1e-7
_ADAM_FIRST_MOMENT = 0.9
_CLIP_NORM = 5.0  # of the gradient of all weights: networks without batch norm start with large ones


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What training changes: tensors (n,) of weights, of the optimiser's two moments, (m,) of statistics, and steps."""

    weights: Tensor
    first: Tensor
    second: Tensor
    statistics: Tensor
    step: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """K batches: raw `inputs` (K, B, H, W, C), `labels` (K, B), learning `rates` (K,), and what a teacher says of
    each input, (K, B, classes), or (K, B, 1) for two classes; no last dimension without a teacher."""

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    rates: Floats
    soft: Floats


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Raw inputs of a data set: shape (H, W, C), dtype, and the scaling that makes them a network's."""

    shape: Shape
    dtype: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def scaled(self, raw: Tensor) -> Tensor:
        """Raw inputs (..., H, W, C) as float32 that a network takes."""
        return tf.cast(raw, tf.float32) * np.asarray(self.scale, np.float32) + np.asarray(self.offset, np.float32)


class Stepper:
    """The compiled training of one graph. Deterministic on one thread."""

    def __init__(
        self,
        graph: Graph,
        parameters: ParameterMap,
        optimiser: Optimiser,
        peak_rate: float,
        batch: int,
        inputs: InputSpec,
        *,
        groups: Groups | None = None,
        distil: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """`groups` where channels are to be pruned; `distil` where batches have a teacher's labels; `dropout` is the
        share of each hidden dense layer's inputs that is left out, chosen by `seed` and the number of the step."""
        self._graph, self._parameters, self._optimiser = graph, parameters, optimiser
        self._decay = optimiser.weight_decay / (1.0 if optimiser.decays_all else peak_rate)
        self._inputs, self._groups, self._distil = inputs, groups, distil
        self._dropout, self._seed = dropout, seed
        self._decayed = np.float32(1.0) if optimiser.decays_all else decayed(parameters)
        if groups is not None:
            self._mask_indices = mask_indices(parameters, groups)
        self._run = tf.function(self._steps, autograph=False, input_signature=self._signature(batch))
        self._run.get_concrete_function()

    def _signature(self, batch: int) -> list[Any]:
        """Any number of batches a call, so that the step is compiled once."""
        vector = tf.TensorSpec((None,), tf.float32)
        state = (vector, vector, vector, vector, tf.TensorSpec((), tf.float32))
        raw = tf.TensorSpec((None, batch, *self._inputs.shape), self._inputs.dtype)
        soft = tf.TensorSpec((None, batch, None), tf.float32)
        sizes = () if self._groups is None else [group.size for group in self._groups.groups]
        masks = tf.TensorSpec((sum(sizes),), tf.float32)
        return [state, raw, tf.TensorSpec((None, batch), tf.int32), vector, soft, masks]

    def start(self, weights: Floats, statistics: Floats) -> State:
        """The state before the first step."""
        zeros = tf.zeros(len(weights))
        second = zeros if self._optimiser.kind == "adam" else tf.zeros(0)
        return State(tf.constant(weights), zeros, second, tf.constant(statistics), tf.constant(0.0))

    def run(self, state: State, batches: Batches, masks: Masks | None) -> tuple[State, float]:
        """The state after the batches, and their mean loss (not finite when training has diverged).

        `masks` has one array a group when the stepper was made with groups.
        """
        flat = np.concatenate([np.asarray(mask, np.float32) for mask in masks]) if masks else np.zeros(0, np.float32)
        arrays = (batches.inputs, batches.labels.astype(np.int32), batches.rates, batches.soft, flat)
        before = (state.weights, state.first, state.second, state.statistics, state.step)
        loss, *after = self._run(before, *(tf.constant(array) for array in arrays))
        return State(*after), float(loss) / len(batches.rates)

    def _steps(
        self, before: tuple[Tensor, ...], inputs: Tensor, labels: Tensor, rates: Tensor, soft: Tensor, masks: Tensor
    ) -> tuple[Tensor, ...]:
        mask = 1.0 if self._groups is None else tf.gather(masks, self._mask_indices)
        count = tf.shape(rates)[0]

        def body(index: Tensor, loss: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
            batch = (inputs[index], labels[index], soft[index])
            after, batch_loss = self._step(State(*values), batch, rates[index], mask)
            changed = (after.weights, after.first, after.second, after.statistics, after.step)
            return index + 1, loss + batch_loss, *changed

        loop = (tf.constant(0), tf.constant(0.0), *before)
        result = tf.while_loop(lambda index, *_: index < count, body, loop, parallel_iterations=1)
        return tuple(result[1:])

    def _step(self, state: State, batch: tuple[Tensor, ...], rate: Tensor, mask: Tensor) -> tuple[State, Tensor]:
        """The state after one batch, and its loss."""
        gradient, observed, loss = self._gradient(state, batch, mask)
        state = self._updated(state, gradient, rate)
        if observed is None:
            return state, loss
        statistics = _STATISTICS_MEMORY * state.statistics + (1 - _STATISTICS_MEMORY) * observed
        return replace(state, statistics=statistics), loss

    def _gradient(self, state: State, batch: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """(gradient at the masked weights, clipped; statistics of the batch; loss)."""
        raw, labels, soft = batch
        inputs = self._inputs.scaled(raw)
        masked = state.weights * mask
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(masked)
            layers = as_layers(self._parameters, masked)
            logits, observed = train_forward(self._graph, layers, inputs, self._dropped(state.step))
            loss = tf.reduce_mean(_losses(logits, labels))
            if self._distil:
                loss += DISTILLATION_WEIGHT * tf.reduce_mean(_soft_losses(logits, soft))
        gradient = tf.clip_by_norm(tape.gradient(loss, masked), _CLIP_NORM)
        return gradient, tf.concat(observed, 0) if observed else None, loss

    def _dropped(self, step: Tensor) -> Callable[[int, Tensor], Tensor] | None:
        """What leaves out inputs of the layer at a place in the graph, the others made larger; None without dropout."""
        if not self._dropout:
            return None

        def drop(index: int, values: Tensor) -> Tensor:
            seed = tf.stack([tf.constant(self._seed % 2**31 ^ index << 20), tf.cast(step, tf.int32)])
            kept = tf.random.stateless_uniform(tf.shape(values), seed) >= self._dropout
            return tf.where(kept, values / (1 - self._dropout), 0.0)

        return drop

    def _updated(self, state: State, gradient: Tensor, rate: Tensor) -> State:
        optimiser = self._optimiser
        step = state.step + 1
        if optimiser.kind == "adam":
            first = _ADAM_FIRST_MOMENT * state.first + (1 - _ADAM_FIRST_MOMENT) * gradient
            second = _SECOND_MOMENT * state.second + (1 - _SECOND_MOMENT) * tf.square(gradient)
            size = rate * tf.sqrt(1 - _SECOND_MOMENT**step) / (1 - _ADAM_FIRST_MOMENT**step)
            change = size * first / (tf.sqrt(second) + _ADAM_EPSILON)
        else:
            first, second = optimiser.momentum * state.first + gradient, state.second
            change = rate * first
        if self._decay:
            share = self._decay if optimiser.decays_all else rate * self._decay
            change += share * self._decayed * state.weights
        return State(state.weights - change, first, second, state.statistics, step)


def decayed(parameters: ParameterMap) -> Floats:
    """(n,): 1 for elements of kernels, on which weight decay acts, 0 for the others."""
    marks = np.zeros(parameters.trained_size, np.float32)
    for slot in parameters.trained:
        marks[slot.start : slot.stop] = slot.name == "kernel"
    return marks


def mask_indices(parameters: ParameterMap, groups: Groups) -> NDArray[np.int32]:
    """(n,): by element of the trained vector, the place of its channel in the masks of all groups, one after the other.

    Channels are the last axis of everything but a depthwise kernel.
    """
    starts = np.cumsum([0, *(group.size for group in groups.groups)])
    indices = np.zeros(parameters.trained_size, np.int32)
    for slot in parameters.trained:
        operator = parameters.operators[slot.operator]
        channels = np.arange(operator.out_shape[-1])
        if slot.name == "kernel" and operator.kind is Kind.DEPTHWISE:
            channels = channels[:, None]
        start = starts[groups.of_output[slot.operator]]
        indices[slot.start : slot.stop] = (start + np.broadcast_to(channels, slot.shape)).reshape(-1)
    return indices


def as_layers(parameters: ParameterMap, vector: Tensor) -> Layers:
    """The trained arrays of a network as tensors that are parts of a vector."""
    sizes = [slot.stop - slot.start for slot in parameters.trained]
    layers: list[dict[str, Tensor]] = [{} for _ in parameters.operators]
    for slot, part in zip(parameters.trained, tf.split(vector, sizes), strict=True):
        layers[slot.operator][slot.name] = tf.reshape(part, slot.shape)
    return layers


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy (B,) of labels (B,)."""
    if logits.shape[-1] == 1:
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels[:, None], tf.float32), logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def _soft_losses(logits: Tensor, soft: Tensor) -> Tensor:
    """Cross entropy with a teacher's probabilities."""
    if logits.shape[-1] == 1:
        return tf.nn.sigmoid_cross_entropy_with_logits(soft, logits)
    return tf.nn.softmax_cross_entropy_with_logits(soft, logits)


class Evaluator:
    """Float error of a graph's network, compiled once for any weights."""

    def __init__(self, graph: Graph, inputs: InputSpec) -> None:
        self._graph, self._inputs = graph, inputs
        signature = [
            [_folded_spec(operator) for operator in graph.operators],
            tf.TensorSpec((None, *inputs.shape), inputs.dtype),
        ]
        self._run = tf.function(self._logits, autograph=False, input_signature=signature)

    def logits(self, folded: Layers, inputs: NDArray[Any], batch: int = 250) -> Floats:
        """(N, classes or 1) for raw inputs (N, H, W, C); `folded` has kernels and biases only."""
        arrays = [{name: tf.constant(values) for name, values in layer.items()} for layer in folded]
        parts = [self._run(arrays, tf.constant(inputs[at : at + batch])) for at in range(0, len(inputs), batch)]
        return np.concatenate([part.numpy() for part in parts])

    def _logits(self, layers: Layers, inputs: Tensor) -> Tensor:
        return infer(self._graph, layers, self._inputs.scaled(inputs))


def _folded_spec(operator: Operator) -> dict[str, Any]:
    shape = kernel_shape(operator)
    if shape is None:
        return {}
    return {"kernel": tf.TensorSpec(shape, tf.float32), "bias": tf.TensorSpec(operator.out_shape[-1:], tf.float32)}


def error_of(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Share of labels (N,) that logits (N, classes or 1) miss; 1 where a logit is not finite."""
    if not np.isfinite(logits).all():
        return 1.0
    guesses = np.argmax(logits, axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)
    return float(np.mean(guesses != labels))
