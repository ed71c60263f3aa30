"""A small data set that a small network learns in a second: bright patches on noise, one place a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import Graph
from munas.arch.space import AnyArchitecture, Architecture, Block, DenseLayer, LayerType
from munas.arch.space import Layer as ConvLayer
from munas.data import Dataset, Examples
from munas.search.trial import Rung, Task, Trial
from munas.training.parameters import Layer, initial_weights
from munas.training.recipes import Optimiser, Pruning, Recipe

RECIPE = Recipe(
    epochs=8,
    batch=32,
    optimiser=Optimiser("adam", weight_decay=1e-4),
    rates=((0, 0.01), (6, 0.002)),
    pruning=Pruning(1, 6, 0.05, 0.8, "loss"),
)


def dataset(classes: int = 4, size: int = 12, seed: int = 0) -> Dataset:
    """480 training images and 120 in each of the other parts, uint8 (size, size, 1)."""
    rng = np.random.default_rng(seed)

    def part(count: int) -> Examples:
        labels = rng.integers(0, classes, count)
        images: NDArray[np.uint8] = rng.integers(0, 150, (count, size, size, 1)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = 1 + 5 * (label // 2), 1 + 5 * (label % 2)
            image[row : row + 4, column : column + 4] += 60
        return Examples(images, labels)

    parts = (part(480), part(120), part(120))
    return Dataset("tiny", (size, size, 1), classes, *parts, (1 / 255,), (-0.2,), "0" * 64)


def branched() -> Architecture:
    """A network with an Add of terms that differ in size, a depthwise layer, batch norm here and there, a pool."""
    conv, point, depthwise = LayerType.CONV, LayerType.POINTWISE, LayerType.DEPTHWISE
    return Architecture(
        blocks=(
            Block((ConvLayer(conv, 3, 8, 1, batch_norm=True, relu=True),)),
            Block((ConvLayer(conv, 3, 12, 1, batch_norm=True, relu=True), ConvLayer(point, filters=10))),
            Block((ConvLayer(depthwise, 3, 0, 1, batch_norm=True, relu=True, pre_pool=True),), is_branch=True),
            Block((ConvLayer(point, filters=16, relu=True),)),
        ),
        pooling=None,
        dense=(DenseLayer(24),),
    )


def task(
    architecture: AnyArchitecture,
    *,
    sparsity: float = 0.0,
    seed: int = 1,
    effort: float = 1.0,
    rungs: tuple[Rung, ...] = (),
) -> Task:
    """What a worker would be asked to do."""
    return Task(Trial(0, architecture, sparsity, seed, None, "random"), rungs, effort)


def trained_like(graph: Graph, seed: int) -> list[Layer]:
    """Initial weights whose biases and batch norms have moved, as in training."""
    rng = np.random.default_rng(seed)
    weights: Weights = initial_weights(graph, seed)
    moved = []
    for layer in weights:
        changes = {name: rng.normal(0, 0.1, values.shape) for name, values in layer.items() if name != "kernel"}
        if "beta" in layer:
            changes |= {"bias": np.zeros_like(layer["bias"]), "variance": rng.uniform(0, 1, layer["bias"].shape)}
        moved.append({name: (v + changes.get(name, 0)).astype(np.float32) for name, v in layer.items()})
    return moved
