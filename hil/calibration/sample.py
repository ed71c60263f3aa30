"""Networks to calibrate with: drawn from the µNAS space, small enough for the budget, spread over all of it.

Sample `index` of `seed` is a pure function of the two (and of the limits), so that workers and resumed runs need no
shared state. A plain `random_cnn` will not do: four of five exceed 64 KB of flash, and those that fit crowd in one
corner. So every sample has a target (MACs, weight bytes, arena bytes) from a low-discrepancy sequence, which fills the
budget evenly for any number of samples. Random networks are drawn, their widths are scaled to the weights' target, and
the candidate nearest to the rest of the target is taken. All stay in the search space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from hil.errors import UsageError
from hil.files import from_document, to_document
from munas.arch.graph import Graph, Kind, Operator, build_graph
from munas.arch.space import (
    MAX_FILTERS,
    MAX_UNITS,
    MIN_UNITS,
    Architecture,
    Block,
    Layer,
    LayerType,
    random_cnn,
    to_dict,
)
from munas.arch.space import parse_architecture as parse
from munas.cost.estimate import arena_bytes
from munas.cost.kernels import KernelVariant
from munas.cost.operators import scratch_bytes
from munas.cost.variants import SPECS, constant_bytes, layer_bytes

MACS_LOW = 10_000
MACS_USUAL = 5_000_000
MACS_HIGH = 30_000_000
"""The paper's bound on MACs (MNIST, CIFAR-10). The emulator runs some 300 M instructions a second and each model runs
about ten times, so nine of ten samples aim at 5 M at most and the mean stays near 2 M, half a second of emulation."""

MACS_USUAL_SHARE = 0.9
PER_CHANNEL_SHARE = 0.75  # dense layers: per channel as TF 2.21 quantises them; else per tensor, as TF did before
CANDIDATES = 16
NEAR = 0.25  # a candidate this near to the target (in natural logarithm) ends the search
_SCALING_STEPS = 4
_MAX_WIDTH = math.log(64)
_TABLE_BYTES = max(layer_bytes(variant) for variant, spec in SPECS.items() if spec.in_space)


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is for: `input_shape` is (H, W, C)."""

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int


# The data sets of the µNAS paper; shapes as the authors' figures have them (shared/golden/munas.json).
TASKS = (
    Task("digits", (8, 8, 1), 10),
    Task("mnist", (28, 28, 1), 10),
    Task("fashion-mnist", (28, 28, 1), 10),
    Task("chars74k", (48, 48, 3), 62),
    Task("chars74k-binary", (48, 48, 3), 2),
    Task("cifar10", (32, 32, 3), 10),
    Task("cifar10-binary", (32, 32, 3), 2),
    Task("speech-commands", (49, 40, 1), 12),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a sampled network may need: bytes of weights and tables in flash, bytes of arena, MACs."""

    constants_bytes: int
    arena_bytes: int
    macs: int = MACS_HIGH

    def __post_init__(self) -> None:
        if self.constants_bytes < 4096 or self.arena_bytes < 8192 or self.macs < 2 * MACS_LOW:
            raise UsageError(
                f"the budget leaves {self.constants_bytes} bytes for weights and {self.arena_bytes} bytes for the"
                " arena; calibration needs at least 4096 and 8192: give a larger --flash or --sram"
            )


@dataclass(frozen=True, slots=True)
class Sample:
    """One network to measure. `weight_seed` fixes its random weights."""

    index: int
    task: Task
    architecture: Architecture
    dense_per_channel: bool
    weight_seed: int

    @property
    def name(self) -> str:
        """For reports and the model's identity string."""
        return f"sample-{self.index:05d}-{self.task.name}"

    def graph(self) -> Graph:
        """The operator graph as deployed."""
        return build_graph(self.architecture, self.task.input_shape, self.task.num_classes)

    def to_json(self) -> dict[str, Any]:
        """For the store; `sample_from_json` is the inverse."""
        task = self.task
        stored = _Stored(
            self.index, task.name, task.input_shape, task.num_classes, to_dict(self.architecture),
            self.dense_per_channel, self.weight_seed,
        )  # fmt: skip
        return to_document(stored)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A sample as the store has it; `architecture` is what `munas.arch.space` writes and checks."""

    index: int
    task: str
    input_shape: tuple[int, int, int]
    num_classes: int
    architecture: Any
    dense_per_channel: bool
    weight_seed: int


def sample_from_json(document: Mapping[str, Any]) -> Sample:
    """Inverse of `Sample.to_json`. Raises KeyError, TypeError or ValueError on a foreign document."""
    stored = from_document(_Stored, document)
    architecture = parse(stored.architecture)
    if not isinstance(architecture, Architecture):
        raise ValueError("a sample is a CNN")
    task = Task(stored.task, stored.input_shape, stored.num_classes)
    return Sample(stored.index, task, architecture, stored.dense_per_channel, stored.weight_seed)


@dataclass(frozen=True, slots=True)
class _Target:
    macs: float
    constants_bytes: float
    arena_bytes: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    distance: float
    architecture: Architecture
    graph: Graph
    quick_arena: int


def draw_sample(seed: int, index: int, limits: Limits) -> Sample:
    """Sample `index` (0, 1, ...) of `seed`; fits `limits`. Takes about 20 ms. Raises UsageError for absurd limits."""
    rng = np.random.default_rng([seed, index])
    task = TASKS[index % len(TASKS)]
    per_channel = bool(rng.random() < PER_CHANNEL_SHARE)
    weight_seed = int(rng.random() * 2**31)
    target = _target(seed, index, limits)
    best: list[_Candidate] = []
    for _ in range(CANDIDATES):
        candidate = _scaled(random_cnn(rng), task, target, per_channel)
        if _fits_roughly(candidate.graph, candidate.quick_arena, limits, per_channel):
            best.append(candidate)
            if candidate.distance < NEAR:
                break
    for candidate in sorted(best, key=lambda item: item.distance):
        if arena_bytes(candidate.graph) <= limits.arena_bytes:
            return Sample(index, task, candidate.architecture, per_channel, weight_seed)
    return _fallback(rng, index, task, limits, per_channel, weight_seed)


def _fallback(rng: Generator, index: int, task: Task, limits: Limits, per_channel: bool, weight_seed: int) -> Sample:
    """The first network that fits when none near the target does: ever narrower."""
    for attempt in range(400):
        architecture = scale_widths(random_cnn(rng), 0.5 ** (1 + attempt / 40))
        graph = build_graph(architecture, task.input_shape, task.num_classes)
        if _fits_roughly(graph, arena_bytes(graph), limits, per_channel):
            return Sample(index, task, architecture, per_channel, weight_seed)
    raise UsageError(f"no network for {task.name} found within {limits}; give a larger --flash or --sram")


def _target(seed: int, index: int, limits: Limits) -> _Target:
    macs, constants, arena = _spread(seed, index)
    usual = min(MACS_USUAL, limits.macs)
    if macs < MACS_USUAL_SHARE:
        low, high, part = MACS_LOW, usual, macs / MACS_USUAL_SHARE
    else:
        low, high, part = usual, limits.macs, (macs - MACS_USUAL_SHARE) / (1 - MACS_USUAL_SHARE)
    return _Target(
        macs=low * (high / low) ** part,
        constants_bytes=limits.constants_bytes * (0.03 + 0.95 * constants),
        arena_bytes=limits.arena_bytes * (0.05 + 0.90 * arena),
    )


def _spread(seed: int, index: int) -> tuple[float, float, float]:
    """Point `index` of a three-dimensional low-discrepancy sequence in [0, 1), shifted by the seed.

    Additive recurrence with the powers of the plastic number's three-dimensional relative, g^4 = g + 1.
    """
    ratio = 1.2207440846057596
    shift = np.random.default_rng(seed).random(3)
    first, second, third = (math.fmod(shift[axis] + index / ratio ** (axis + 1), 1.0) for axis in range(3))
    return first, second, third


def _scaled(architecture: Architecture, task: Task, target: _Target, per_channel: bool) -> _Candidate:
    """`architecture` with all widths scaled until its constants are near the target (secant steps, logarithmic)."""
    width, exponent = 0.0, 2.0  # constants go with the square of the widths, where layers are wide
    previous: tuple[float, float] | None = None
    nearest = math.inf
    for _ in range(_SCALING_STEPS):
        trial = scale_widths(architecture, math.exp(width))
        graph = build_graph(trial, task.input_shape, task.num_classes)
        miss = math.log(rough_constants(graph, per_channel) / target.constants_bytes)
        if abs(miss) < nearest:
            nearest, chosen, kept = abs(miss), trial, graph
        if previous is not None and width != previous[0]:
            exponent = min(2.5, max(0.5, (miss - previous[1]) / (width - previous[0])))
        previous = width, miss
        width = min(_MAX_WIDTH, max(-_MAX_WIDTH, width - miss / exponent))
    arena = quick_arena(kept)
    distance = nearest + abs(math.log(kept.macs / target.macs)) + 0.5 * abs(math.log(arena / target.arena_bytes))
    return _Candidate(distance, chosen, kept, arena)


def scale_widths(architecture: Architecture, factor: float) -> Architecture:
    """A copy with all filters and units multiplied by `factor` and clipped to the search space."""
    blocks = tuple(
        Block(tuple(_scale_layer(layer, factor) for layer in block.layers), block.is_branch)
        for block in architecture.blocks
    )
    dense = tuple(
        replace(layer, units=min(MAX_UNITS, max(MIN_UNITS, round(layer.units * factor))))
        for layer in architecture.dense
    )
    return Architecture(blocks, architecture.pooling, dense)


def _scale_layer(layer: Layer, factor: float) -> Layer:
    if layer.type is LayerType.DEPTHWISE:
        return layer
    filters = min(MAX_FILTERS, max(1, round(layer.filters * factor)))
    return layer if filters == layer.filters else replace(layer, filters=filters)


def quick_arena(graph: Graph) -> int:
    """Bytes that the hungriest operator needs alone: a lower bound of the arena, cheap."""
    return max(_operator_bytes(graph))


def _operator_bytes(graph: Graph) -> Iterator[int]:
    for operator in graph.operators:
        inputs = sum(math.prod(shape) for shape in operator.in_shapes)
        in_place = bool(operator.in_place_inputs)
        yield inputs + (0 if in_place else operator.out_elements) + scratch_bytes(operator)


def rough_constants(graph: Graph, dense_per_channel: bool) -> int:
    """Flash for weights and tables, or at most 28 bytes an operator and 8 a dense layer's output more.

    Cheaper than the exact figure, which asks which kernels a limit of code leaves.
    """
    total = 0
    for operator in graph.operators:
        total += _TABLE_BYTES
        if operator.weight_bytes:
            rows = operator.out_shape[-1]
            total += constant_bytes(_like(operator, dense_per_channel), operator.weight_bytes - rows, rows)
    return total


def _like(operator: Operator, dense_per_channel: bool) -> KernelVariant:
    """A variant that keeps as many constants as the operator's own, or as the one that may take its place."""
    if operator.kind is Kind.DENSE:
        return KernelVariant.FC_PER_CHANNEL if dense_per_channel else KernelVariant.FC_ANY
    grouped = operator.kind is Kind.DEPTHWISE and operator.in_shapes[0][2] > 1
    return KernelVariant.DW if grouped else KernelVariant.CONV_1X1


def _fits_roughly(graph: Graph, arena: int, limits: Limits, per_channel: bool) -> bool:
    return (
        graph.macs <= limits.macs
        and arena <= limits.arena_bytes
        and rough_constants(graph, per_channel) <= limits.constants_bytes
    )


def describe(sample: Sample) -> str:
    """One line for people: input, blocks, tail."""
    return summary(sample.architecture, sample.task.input_shape)


def summary(architecture: Architecture, input_shape: tuple[int, ...]) -> str:
    """`architecture` in one line, e.g. ``28x28x1: c5x16/2 d3 | +p24 | max4 | 64 32``.

    c = convolution, p = 1x1, d = depthwise with kernel, x filters, /2 = stride, ^ = pre-pool; ``+`` opens a branch.
    """
    blocks = [
        ("+" if block.is_branch else "") + " ".join(_layer_text(layer) for layer in block.layers)
        for block in architecture.blocks
    ]
    pooling = [f"{architecture.pooling.type.value}{architecture.pooling.size}"] if architecture.pooling else []
    dense = " ".join(str(layer.units) for layer in architecture.dense)
    return f"{'x'.join(map(str, input_shape))}: " + " | ".join([*blocks, *pooling, dense])


def _layer_text(layer: Layer) -> str:
    letter = {LayerType.CONV: f"c{layer.kernel}", LayerType.POINTWISE: "p", LayerType.DEPTHWISE: f"d{layer.kernel}"}
    filters = "" if layer.type is LayerType.DEPTHWISE else f"x{layer.filters}"
    return ("^" if layer.pre_pool else "") + letter[layer.type] + filters + ("/2" if layer.stride == 2 else "")
