"""How many images a second a typical trial trains at, beside Keras' `model.fit` of the same network.

    python -m munas.training.throughput

prints both for Fashion-MNIST's shape, on one thread, compilation left out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from munas.arch.graph import build_graph
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType, Pooling, PoolType
from munas.data import Dataset, Examples
from munas.search.trial import Task, Trial
from munas.training.recipes import recipe_of, scaled

TYPICAL = Architecture(
    blocks=(
        Block((Layer(LayerType.CONV, 3, 8, 2, batch_norm=True, relu=True),)),
        Block(
            (
                Layer(LayerType.DEPTHWISE, 3, batch_norm=True, relu=True),
                Layer(LayerType.POINTWISE, filters=16, batch_norm=True, relu=True),
            )
        ),
    ),
    pooling=Pooling(PoolType.AVG, 4),
    dense=(DenseLayer(32),),
)
"""A small trial; half of all random ones that fit 64 KB of flash and of RAM have more than twice its 40 K MACs."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Training images a second, and the seconds before the first step is done."""

    munas: float
    munas_start_s: float
    model_fit: float
    model_fit_start_s: float


def throughput(architecture: Architecture = TYPICAL, images: int = 40_000, seed: int = 0) -> Throughput:
    """Train a trial on `images` random images of 28x28x1, augmented as Fashion-MNIST is, and with `model.fit`.

    `model.fit` gets float images in memory, no augmentation, and the same batches of 128. One thread for both.
    """
    data = _random_data(images, seed)
    ours, start_s = _munas(architecture, data, seed)
    fit, fit_start_s = _model_fit(architecture, data)
    return Throughput(ours, start_s, fit, fit_start_s)


def _random_data(images: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)

    def part(count: int) -> Examples:
        inputs: NDArray[np.uint8] = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        return Examples(inputs, rng.integers(0, 10, count))

    parts = (part(images), part(500), part(500))
    return Dataset("fashion-mnist", (28, 28, 1), 10, *parts, (1 / 255,), (0.0,), "")


def _munas(architecture: Architecture, data: Dataset, seed: int) -> tuple[float, float]:
    from munas.training.fit import Training

    recipe = replace(recipe_of(data.name, "paper"), epochs=1)
    trial = Trial(0, architecture, 0.0, seed, None, "random")
    start = time.perf_counter()
    training = Training(data, scaled(recipe, 1.0, len(data.train)), Task(trial, (), 1.0))
    ready_s = time.perf_counter() - start
    training.run()
    return training.images_per_second, ready_s


def _model_fit(architecture: Architecture, data: Dataset) -> tuple[float, float]:
    import keras

    from munas.training.network import build_keras

    inputs = data.train.inputs.astype(np.float32) / 255
    start = time.perf_counter()
    model = build_keras(build_graph(architecture, data.input_shape, data.num_classes))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, metrics=["accuracy"])
    model.fit(inputs[:128], data.train.labels[:128], batch_size=128, epochs=1, verbose=0)
    ready_s = time.perf_counter() - start
    start = time.perf_counter()
    model.fit(inputs, data.train.labels, batch_size=128, epochs=1, verbose=0)
    return len(inputs) / (time.perf_counter() - start), ready_s


def main() -> None:
    """Print the figures."""
    found = throughput()
    print(f"munas      {found.munas:8.0f} images/s, augmented; {found.munas_start_s:.1f} s before the first step")
    print(f"model.fit  {found.model_fit:8.0f} images/s; {found.model_fit_start_s:.1f} s until the first step is done")


if __name__ == "__main__":
    main()
