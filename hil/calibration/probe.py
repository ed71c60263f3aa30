"""A probe under construction: an input that is read in many shapes, and results that can be joined."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from munas.tflite.file import (
    QUANTIZE_OPTIONS,
    Code,
    Element,
    TfliteFile,
    concat_options,
)

SIZES = (720, 945, 1260, 1680, 2310, 2520, 3003, 3360, 4096, 5040, 5544, 6435)
"""Elements of a probe's input: numbers with many divisors, so that every arm finds a shape of its own. Some are
odd, as images of an odd number of pixels and channels are."""

Shape = tuple[int, int, int]
Pair = tuple[int, int]
Result = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Room:
    """What a probe may take: elements of its input, of an operator's result, of what is left of that to be joined.

    All results wait in the arena for that. `weights` are bytes of one operator.
    """

    inputs: int = 7560
    elements: int = 8192
    outputs: int = 2048
    weights: int = 3072

    @staticmethod
    def within(constants_bytes: int, arena_bytes: int) -> Room:
        """For a network with so much flash for constants and so much RAM for its arena."""
        usual = USUAL_ROOM
        return Room(
            min(usual.inputs, arena_bytes // 8),
            min(usual.elements, arena_bytes // 7),
            min(usual.outputs, arena_bytes // 24),
            min(usual.weights, constants_bytes // 16),
        )


USUAL_ROOM = Room()


@dataclass(slots=True)
class Probe:
    """A .tflite under construction.

    Activations have one quantisation unless it is said otherwise, so that everything can be joined.
    """

    rng: Generator
    elements: int
    scale: float
    zero_point: int
    room: Room
    file: TfliteFile = field(default_factory=TfliteFile)
    input: int = field(init=False)

    def __post_init__(self) -> None:
        self.input = self.tensor((self.elements,))

    def tensor(self, shape: tuple[int, ...]) -> int:
        """An activation, batch of one."""
        return self.file.activation("t", (1, *shape), self.scale, self.zero_point)

    def other(self, shape: tuple[int, ...], scale: float | None = None, zero_point: int | None = None) -> int:
        """An activation of another quantisation: a random one, near that of all others, unless it is given."""
        scale = self.scale * float(self.rng.uniform(0.5, 1.6)) if scale is None else scale
        zero_point = int(self.rng.integers(-128, 128)) if zero_point is None else zero_point
        return self.file.activation("t", (1, *shape), scale, zero_point)

    def wide(self, shape: tuple[int, ...], scale: float, zero_point: int = 0) -> int:
        """An activation of 16 bits."""
        return self.file.activation("t", (1, *shape), scale, zero_point, Element.INT16)

    def widened(self, tensor: int, shape: tuple[int, ...], scale: float) -> int:
        """`tensor` in 16 bits."""
        output = self.wide(shape, scale)
        self.file.operator(Code.QUANTIZE, [tensor], output, QUANTIZE_OPTIONS)
        return output

    def converted(self, tensor: int, shape: tuple[int, ...]) -> Result:
        """`tensor`, of another quantisation, as it can be joined."""
        output = self.tensor(shape)
        self.file.operator(Code.QUANTIZE, [tensor], output, QUANTIZE_OPTIONS)
        return output, shape

    def viewed(self, shape: tuple[int, ...]) -> int:
        """The input in another shape."""
        tensor = self.tensor(shape)
        self.file.operator(Code.RESHAPE, [self.input, self.file.constant("s", np.array([1, *shape], "<i4"))], tensor)
        return tensor

    def weights(
        self, shape: tuple[int, ...], axis: int, columns: int, *, per_channel: bool = True, coarse: bool = False
    ) -> list[int]:
        """Weights and biases with which the results use their range; `coarse` ones are few steps of a large scale."""
        rows = shape[axis]
        spread = 1.0 if coarse else 1.4 / (73 * 73 * math.sqrt(columns) * self.scale)  # of int8 products
        scales = (spread * self.rng.uniform(0.7, 1.4, rows if per_channel else 1)).astype(np.float32)
        values = self.rng.integers(*((-1, 2) if coarse else (-127, 128)), shape).astype(np.int8)
        if coarse:
            values.flat[0] = -128  # which some fast kernels cannot negate
        biases = self.rng.integers(-5000, 5000, rows).astype("<i4")
        weights = self.file.constant("w", values, scales, axis if per_channel else 0)
        return [weights, self.file.constant("b", biases, scales * np.float32(self.scale))]

    def shape(self, channels: Callable[[int], bool] = lambda _: True) -> Shape:
        """A random (H, W, C) of the input's elements whose channels are acceptable; small and large C alike."""
        fit = [c for c in range(1, min(257, self.elements + 1)) if self.elements % c == 0 and channels(c)]
        wanted = math.exp(self.rng.uniform(0, math.log(fit[-1] + 1)))
        c = min(fit, key=lambda value: abs(math.log(value / wanted)))
        pixels = self.elements // c
        heights = [h for h in range(1, pixels + 1) if pixels % h == 0]
        near = math.sqrt(pixels) * math.exp(self.rng.normal(0, 0.5))
        h = min(heights, key=lambda value: abs(math.log(value / near)))
        return h, pixels // h, c

    def finish(self, results: list[int], shapes: list[tuple[int, ...]]) -> bytes:
        """The file, with all results joined to one output."""
        flat = []
        for tensor, shape in zip(results, shapes, strict=True):
            flat.append(self.tensor((math.prod(shape),)))
            target = self.file.constant("s", np.array([1, math.prod(shape)], "<i4"))
            self.file.operator(Code.RESHAPE, [tensor, target], flat[-1])
        output = self.tensor((sum(math.prod(shape) for shape in shapes),))
        self.file.operator(Code.CONCATENATION, flat, output, concat_options(1))
        return self.file.finish([self.input], [output])
