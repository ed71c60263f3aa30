"""How many images a CPU second trials of three sizes train at, beside Keras' `model.fit` of the same networks, and how
many their int8 networks are validated on.

    python -m munas.training.throughput

prints it for MNIST's and CIFAR-10's shapes, on one thread, compilation left out. It counts processor time, which what
else is running changes little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from munas.arch.graph import build_graph
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType, Pooling, PoolType
from munas.data import Dataset, Examples
from munas.search.trial import Task, Trial
from munas.training.recipes import recipe_of, scaled

Shape: TypeAlias = tuple[int, int, int]

SHAPES: tuple[Shape, ...] = ((28, 28, 1), (32, 32, 3))
CPU_SECONDS = 6.0
"""For which a network is trained, about; compiling is left out."""

_BATCH, _IMAGES = 128, 4096
_INT8_IMAGES = 300


def network(first: int, second: int, stride: int) -> Architecture:
    """A small separable one: `first` filters in its convolution, of that stride, and `second` after the depthwise."""
    depthwise = Layer(LayerType.DEPTHWISE, 3, batch_norm=True, relu=True)
    pointwise = Layer(LayerType.POINTWISE, filters=second, batch_norm=True, relu=True)
    conv = Layer(LayerType.CONV, 3, first, stride, batch_norm=True, relu=True)
    return Architecture((Block((conv,)), Block((depthwise, pointwise))), Pooling(PoolType.AVG, 4), (DenseLayer(32),))


NETWORKS = (network(6, 10, 2), network(16, 96, 2), network(24, 128, 1))
"""Of some 30 K, 300 K and 3 M MACs; half of all random ones that fit 64 KB of flash and of RAM have more than 80 K."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images a CPU second of one network: trained by us, augmented as its data set is; trained by `model.fit`, not
    augmented; and seen by the int8 network."""

    shape: Shape
    macs: int
    munas: float
    model_fit: float
    int8: float


def throughput(architecture: Architecture, shape: Shape, seed: int = 0, cpu_s: float = CPU_SECONDS) -> Throughput:
    """Train a network on random images of a shape for `cpu_s` each way. `model.fit` gets float images in memory and the
    same batches. One thread for both."""
    data = _random_data(shape, seed)
    graph = build_graph(architecture, shape, data.num_classes)
    ours, int8 = _munas(architecture, data, seed, cpu_s)
    return Throughput(shape, graph.macs, ours, _model_fit(architecture, data, cpu_s), int8)


def _random_data(shape: Shape, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)

    def part(count: int) -> Examples:
        inputs: NDArray[np.uint8] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        return Examples(inputs, rng.integers(0, 10, count))

    name, channels = ("fashion-mnist" if shape[-1] == 1 else "cifar10"), shape[-1]
    parts = (part(_IMAGES), part(_INT8_IMAGES), part(10))
    return Dataset(name, shape, 10, *parts, (1 / 255,) * channels, (0.0,) * channels, "")


def _per_cpu_second(images: int, work: Callable[[], object], cpu_s: float) -> float:
    """Images a CPU second where each call of `work` takes so many of them; the first call is not counted."""
    work()
    begin, calls = time.process_time(), 0
    while (spent := time.process_time() - begin) < cpu_s or not calls:
        work()
        calls += 1
    return images * calls / spent


def _munas(architecture: Architecture, data: Dataset, seed: int, cpu_s: float) -> tuple[float, float]:
    """(images trained, images seen in int8) a CPU second."""
    from munas.training.feed import Feed
    from munas.training.fit import Training
    from munas.training.quantise import int8_error

    recipe = replace(recipe_of(data.name, "paper"), epochs=1)
    schedule = scaled(recipe, 1.0, len(data.train))
    training = Training(data, schedule, Task(Trial(0, architecture, 0.0, seed, None, "random"), (), 1.0))
    feed = Feed(data, schedule, seed)
    trained = _per_cpu_second(16 * _BATCH, lambda: training.steps(feed.batches(0, 16)), cpu_s)
    tflite = training.finish().tflite
    validated = _per_cpu_second(
        _INT8_IMAGES, lambda: int8_error(tflite, data.validation, data.scale, data.offset), cpu_s / 3
    )
    return trained, validated


def _model_fit(architecture: Architecture, data: Dataset, cpu_s: float) -> float:
    import keras

    from munas.training.network import build_keras

    inputs = data.train.inputs.astype(np.float32) / 255
    model = build_keras(build_graph(architecture, data.input_shape, data.num_classes))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])
    return _per_cpu_second(
        len(inputs), lambda: model.fit(inputs, data.train.labels, batch_size=_BATCH, epochs=1, verbose=0), cpu_s
    )


def main() -> None:
    """Print the figures."""
    print(f"{'shape':>8} {'MACs':>10} {'munas':>8} {'model.fit':>10} {'times':>6} {'int8':>8}   (images a CPU second)")
    for shape in SHAPES:
        for architecture in NETWORKS:
            found = throughput(architecture, shape)
            name, times = "x".join(map(str, shape)), found.munas / found.model_fit
            print(
                f"{name:>8} {found.macs:>10,} {found.munas:>8,.0f} {found.model_fit:>10,.0f} {times:>6.1f}"
                f" {found.int8:>8,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
