"""A graph in TensorFlow, operator by operator: a step's forward pass, inference, and a Keras model of the same.

Inputs are float32 (batch, H, W, C), already scaled; logits are (batch, classes), or (batch, 1) for two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from munas.arch.channels import Weights
from munas.arch.graph import INPUT, Graph, Kind, Operator
from munas.training.backend import no_warnings, tf
from munas.training.parameters import BATCH_NORM_EPSILON

Tensor: TypeAlias = Any
Layers: TypeAlias = Sequence[Mapping[str, Tensor]]
"""One mapping an operator with the arrays of `munas.arch.channels.Weights` as tensors."""

_EMPTY: tuple[float, ...] = ()
_FUSED_CHANNELS = 4  # of multiples of which the fused batch norm is fast


def infer(graph: Graph, layers: Layers, inputs: Tensor) -> Tensor:
    """Logits of a network whose batch norm is folded: only "kernel" and "bias" are read."""
    return infer_all(graph, layers, inputs)[-1]


def infer_all(graph: Graph, layers: Layers, inputs: Tensor) -> list[Tensor]:
    """Outputs of all operators, the logits last, of a network whose batch norm is folded."""

    def finish(index: int, sums: Tensor) -> Tensor:
        return _activated(graph.operators[index], tf.nn.bias_add(sums, layers[index]["bias"]))

    return _run(graph, layers, inputs, finish)


def infer_changed(graph: Graph, layers: Layers, inputs: Tensor, change: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Logits as `infer` gives them, where `change` takes the place and the output of each layer with weights and
    returns what the others see of it."""

    def finish(index: int, sums: Tensor) -> Tensor:
        return change(index, _activated(graph.operators[index], tf.nn.bias_add(sums, layers[index]["bias"])))

    return _run(graph, layers, inputs, finish)[-1]


def train_forward(
    graph: Graph, layers: Layers, inputs: Tensor, drop: Callable[[int, Tensor], Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Logits and, for each batch norm, its batch's mean and variance, in the order of a `ParameterMap`'s statistics.

    `drop` takes a place in the graph and the input of the hidden dense layer there, and returns what that layer sees.
    """
    statistics: list[Tensor] = []

    def finish(index: int, sums: Tensor) -> Tensor:
        operator, layer = graph.operators[index], layers[index]
        if not operator.batch_norm:
            return _activated(operator, tf.nn.bias_add(sums, layer["bias"]))
        outputs, mean, variance = _batch_norm(sums, layer)
        statistics.extend((mean, variance))
        return _activated(operator, outputs)

    return _run(graph, layers, inputs, finish, drop)[-1], statistics


def _run(
    graph: Graph,
    layers: Layers,
    inputs: Tensor,
    finish: Callable[[int, Tensor], Tensor],
    drop: Callable[[int, Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """Outputs of all operators; `finish` turns the sums of a layer with weights into its output."""
    outputs = {INPUT: inputs}
    for index, operator in enumerate(graph.operators):
        sources = [outputs[producer] for producer in operator.inputs]
        if operator.kind is Kind.POOL:
            outputs[index] = _pool(operator, sources[0])
        elif operator.kind is Kind.ADD:
            outputs[index] = tf.add(*(_padded(operator, source) for source in sources))
        else:
            if drop is not None and operator.kind is Kind.DENSE and index + 1 < len(graph.operators):
                sources[0] = drop(index, sources[0])
            outputs[index] = finish(index, _sums(operator, sources[0], layers[index]["kernel"]))
    return [outputs[index] for index in range(len(graph.operators))]


def _sums(operator: Operator, source: Tensor, kernel: Tensor) -> Tensor:
    if operator.kind is Kind.DENSE:
        return tf.matmul(tf.reshape(source, (-1, prod(operator.in_shapes[0]))), kernel)
    strides = [1, operator.stride, operator.stride, 1]
    # oneDNN has no depthwise convolution of one channel ("could not create a primitive descriptor"); a full one is the
    # same, and its kernel has the same shape.
    if operator.kind is Kind.DEPTHWISE and operator.out_shape[-1] > 1:
        return tf.nn.depthwise_conv2d(source, kernel, strides, "VALID")
    return tf.nn.conv2d(source, kernel, strides, "VALID")


def _pool(operator: Operator, source: Tensor) -> Tensor:
    pool = tf.nn.max_pool2d if operator.pool_type == "max" else tf.nn.avg_pool2d
    return pool(source, operator.pool, operator.pool, "VALID")


def _padded(operator: Operator, source: Tensor) -> Tensor:
    """A term of an Add with zeros at the bottom and the right up to the sum's shape."""
    missing = [(0, total - size) for size, total in zip(source.shape[1:], operator.out_shape, strict=True)]
    return tf.pad(source, [(0, 0), *missing]) if any(after for _, after in missing) else source


def _activated(operator: Operator, values: Tensor) -> Tensor:
    return tf.nn.relu(values) if operator.activation == "relu" else values


def _batch_norm(sums: Tensor, layer: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(outputs, mean, variance) of the batch."""
    channels = sums.shape[-1]
    if channels > 1 and channels % _FUSED_CHANNELS:
        result: tuple[Tensor, Tensor, Tensor] = tf.custom_gradient(_odd_batch_norm)(sums, layer["gamma"], layer["beta"])
        return result
    fused = tf.raw_ops.FusedBatchNormV3(  # several times as fast as tf.nn.moments and batch_normalization
        x=sums,
        scale=layer["gamma"],
        offset=layer["beta"],
        mean=tf.constant(_EMPTY, tf.float32),
        variance=tf.constant(_EMPTY, tf.float32),
        epsilon=BATCH_NORM_EPSILON,
        is_training=True,
    )
    return fused.y, fused.batch_mean, fused.batch_variance


def _odd_batch_norm(sums: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """What the fused operator computes, for numbers of channels on which that is slow: it takes 1.7 ms, there and back,
    for (128, 13, 13, 6) and 2.7 ms with 10 channels, where this takes 0.5 and 0.8 ms. Sums over the batch are products
    with a row of ones, and channels are multiplied a line of the image at a time, which is what makes them fast."""
    batch, height, width, channels = sums.shape
    count = batch * height * width
    share = tf.fill((1, batch * height), np.float32(1 / count))

    def mean(lines: Tensor) -> Tensor:
        return tf.reduce_sum(tf.reshape(tf.matmul(share, lines), (width, channels)), 0)

    def line(values: Tensor) -> Tensor:
        return tf.tile(values, (width,))

    lines = tf.reshape(sums, (batch * height, width * channels))
    means = mean(lines)
    centred = lines - line(means)
    variances = mean(centred * centred)
    inverse = tf.math.rsqrt(variances + BATCH_NORM_EPSILON)
    factor = gamma * inverse

    def gradient(upstream: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        """Of the outputs alone: nothing is learnt from the statistics."""
        above = tf.reshape(upstream, lines.shape)
        first, second = mean(above), mean(above * centred)
        below = above * line(factor) - centred * line(factor * inverse * inverse * second) - line(factor * first)
        return tf.reshape(below, sums.shape), count * second * inverse, count * first

    outputs = tf.reshape(centred * line(factor) + line(beta), sums.shape)
    return (outputs, means, variances * np.float32(count / max(1, count - 1))), gradient


# -------------------------------------------------------------------------------------------------- Keras


def build_keras(graph: Graph, weights: Weights | None = None) -> Any:
    """The same network as a Keras model, for saving it (as a teacher, say) and for `model.fit`."""
    import keras

    inputs = keras.Input(graph.input_shape)
    outputs = {INPUT: inputs}
    layers: dict[int, list[Any]] = {}
    for index, operator in enumerate(graph.operators):
        sources = [outputs[producer] for producer in operator.inputs]
        layers[index] = _keras_layers(keras, operator)
        if operator.kind is Kind.ADD:
            sources = [_keras_padded(keras, operator, source) for source in sources]
        values = sources if len(sources) > 1 else sources[0]
        for layer in layers[index]:
            values = layer(values)
        outputs[index] = values
    model = keras.Model(inputs, outputs[len(graph.operators) - 1])
    if weights is not None:
        with no_warnings():
            _set_keras_weights(layers, weights)
    return model


def save_keras(model: Any, path: Path) -> None:
    """Write a Keras model as a .keras file, which `munas.training.distill` takes as a teacher."""
    with no_warnings():
        model.save(path)


def _keras_layers(keras: Any, operator: Operator) -> list[Any]:
    """What an operator is in Keras, applied one after the other."""
    kinds = keras.layers
    match operator.kind:
        case Kind.CONV:
            layers = [kinds.Conv2D(operator.out_shape[-1], operator.kernel, operator.stride, name=operator.name)]
        case Kind.DEPTHWISE:
            layers = [kinds.DepthwiseConv2D(operator.kernel, operator.stride, name=operator.name)]
        case Kind.DENSE:
            flatten = [kinds.Flatten()] if len(operator.in_shapes[0]) > 1 else []
            layers = [*flatten, kinds.Dense(operator.out_shape[-1], name=operator.name)]
        case Kind.POOL:
            pool = kinds.MaxPooling2D if operator.pool_type == "max" else kinds.AveragePooling2D
            return [pool(operator.pool, name=operator.name)]
        case Kind.ADD:
            return [kinds.Add(name=operator.name)]
    if operator.batch_norm:
        layers.append(kinds.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=f"{operator.name}_norm"))
    return [*layers, kinds.ReLU()] if operator.activation == "relu" else layers


def _keras_padded(keras: Any, operator: Operator, source: Any) -> Any:
    (rows, columns), have = operator.out_shape[:2], source.shape[1:3]
    if (rows, columns) == tuple(have):
        return source
    return keras.layers.ZeroPadding2D(((0, rows - have[0]), (0, columns - have[1])))(source)


def _set_keras_weights(layers: Mapping[int, Sequence[Any]], weights: Weights) -> None:
    for index, parts in layers.items():
        arrays = weights[index]
        for layer in parts:
            if "Normalization" in type(layer).__name__:
                layer.set_weights([arrays[name] for name in ("gamma", "beta", "mean", "variance")])
            elif layer.weights:
                layer.set_weights([arrays["kernel"], arrays["bias"]])
