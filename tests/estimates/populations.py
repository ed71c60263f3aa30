"""Networks that nobody drew for calibrating: what `estimate` is held to.

``munas`` are random networks of the search space (not those of the calibration's sampler), ``random-cnn`` are drawn as
people build CNNs, ``hand-written`` are architectures that people know, ``public`` are files from a folder. All are pure
functions of a seed, but for the last, and none needs TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.tflite.file import Code, Fused
from munas.tflite.flatbuffer import write_tflite
from tests.firmware.operators import Network, Pair

Named = tuple[str, bytes]
BUDGET_BYTES = 60_000  # of weights, and of two neighbouring activations
MAX_MACS = 8_000_000
_SHAPES = ((28, 28, 1), (32, 32, 3), (49, 40, 1), (16, 16, 2), (24, 20, 3))


def munas(count: int, seed: int = 77) -> Iterator[Named]:
    """Uniform draws from the search space that fit: crowded in a corner of it, as they are."""
    rng, found = np.random.default_rng(seed), 0
    while found < count:
        shape, classes = _SHAPES[int(rng.integers(len(_SHAPES)))], int(rng.integers(2, 20))
        graph = build_graph(random_cnn(rng), shape, classes)
        largest = max(operator.out_elements for operator in graph.operators)
        if graph.model_size < BUDGET_BYTES * 0.6 and largest < BUDGET_BYTES / 4 and graph.macs < MAX_MACS:
            yield f"munas-{found}", write_tflite(graph, found, dense_per_channel=bool(rng.random() < 0.7))
            found += 1


class Drawn:
    """A CNN of the usual kind, layer by layer, within the budget."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 0xC77])
        height = int(self.rng.choice([8, 12, 16, 20, 24, 28, 32, 40, 48, 64]))
        width = height if self.rng.random() < 0.7 else int(self.rng.integers(6, 49))
        self.net = Network(seed, (height, width, int(self.rng.choice([1, 1, 2, 3, 3, 4]))))
        self.tensor = self.net.input
        self.weights = self.macs = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what has been built so far."""
        return self.net.shapes[self.tensor]

    def width(self) -> int:
        """A number of channels: round, or any."""
        rng = self.rng
        return int(rng.choice([4, 8, 8, 12, 16, 16, 24, 32, 48])) if rng.random() < 0.6 else int(rng.integers(3, 50))

    def fused(self) -> Fused:
        """Mostly an activation."""
        return Fused(int(self.rng.choice([Fused.NONE, Fused.RELU, Fused.RELU, Fused.RELU6])))

    def affords(self, weights: int, outputs: int, macs: int) -> bool:
        """Whether a layer fits, and if so pays for it."""
        activations = int(np.prod(self.shape)) + outputs
        if weights + self.weights > BUDGET_BYTES or activations > BUDGET_BYTES or macs + self.macs > MAX_MACS:
            return False
        self.weights, self.macs = self.weights + weights, self.macs + macs
        return True

    def conv(self) -> None:
        """A convolution of any window, often 3x3, often padded."""
        rng, (height, width, depth) = self.rng, self.shape
        side = int(rng.choice([1, 1, 2, 3, 3, 3, 4, 5, 7]))
        kernel: Pair = (side, side) if rng.random() < 0.8 else (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
        stride: Pair = (1, 1) if rng.random() < 0.6 else (2, 2) if rng.random() < 0.8 else (2, 1)
        same = bool(rng.random() < 0.6) or kernel[0] > height or kernel[1] > width
        dilation: Pair = (2, 2) if stride == (1, 1) and max(kernel) > 1 and rng.random() < 0.08 else (1, 1)
        if any((k - 1) * d >= s for k, d, s in zip(kernel, dilation, (height, width), strict=True)):
            same = True
        filters = self.width()
        pixels = -(-height // stride[0]) * -(-width // stride[1])
        weights = kernel[0] * kernel[1] * depth * filters
        if self.affords(weights, pixels * filters, pixels * weights):
            self.tensor = self.net.conv(
                self.tensor, filters, kernel, stride, same=same, dilation=dilation, fused=self.fused(),
                per_channel=bool(rng.random() < 0.9),
            )  # fmt: skip

    def separable(self) -> None:
        """A depthwise convolution and a 1x1."""
        rng, (height, width, depth) = self.rng, self.shape
        side = int(rng.choice([3, 3, 3, 5, 7]))
        stride = int(rng.choice([1, 1, 2]))
        multiplier = 1 if rng.random() < 0.85 else int(rng.choice([2, 3, 4, 8]))
        filters, pixels = self.width(), -(-height // stride) * -(-width // stride)
        weights = side * side * depth * multiplier + depth * multiplier * filters
        if self.affords(weights, pixels * (filters + depth * multiplier), pixels * weights):
            first = self.net.depthwise(
                self.tensor, multiplier, (side, side), (stride, stride), same=True, fused=self.fused()
            )
            self.tensor = self.net.conv(first, filters, (1, 1), fused=self.fused())

    def residual(self) -> None:
        """A convolution beside what it reads."""
        height, width, depth = self.shape
        weights = 9 * depth * depth
        if self.affords(weights, 3 * height * width * depth, height * width * weights):
            branch = self.net.conv(self.tensor, depth, (3, 3), same=True, fused=self.fused())
            self.tensor = self.net.add(branch, self.tensor, self.fused())

    def joined(self) -> None:
        """Two pools of the same image behind one another, as Inception has it."""
        height, width, depth = self.shape
        if self.affords(0, 3 * height * width * depth, 0):
            pooled = self.net.pool(self.tensor, (3, 3), (1, 1), average=False, same=True)
            self.tensor = self.net.concat([pooled, self.tensor], 3)

    def pooled(self) -> None:
        """Half the size."""
        height, width, _ = self.shape
        window = int(self.rng.choice([2, 2, 2, 3]))
        if min(height, width) > window:
            same, average = bool(self.rng.random() < 0.3), bool(self.rng.random() < 0.35)
            self.tensor = self.net.pool(self.tensor, (window, window), (2, 2), average=average, same=same)

    def tail(self) -> bytes:
        """Mean or flatten, dense layers, softmax or not."""
        rng, net = self.rng, self.net
        if rng.random() < 0.5 or np.prod(self.shape) > 4000:
            if rng.random() < 0.5:
                self.tensor = net.mean(self.tensor, keep_dims=bool(rng.random() < 0.3))
            else:
                self.tensor = net.pool(self.tensor, self.shape[:2], (1, 1), average=True)  # type: ignore[arg-type]
        for _ in range(int(rng.integers(0, 3))):
            units = int(rng.integers(8, 130))
            if np.prod(self.shape) * units < BUDGET_BYTES / 3:
                self.tensor = net.dense(self.tensor, units, per_channel=bool(rng.random() < 0.7), fused=Fused.RELU)
        self.tensor = net.dense(self.tensor, int(rng.choice([2, 3, 4, 10, 10, 12, 26])))
        if rng.random() < 0.7:
            self.tensor = net.softmax(self.tensor)
        return net.finish(self.tensor)


def random_cnn_tflite(seed: int) -> bytes:
    """One CNN: blocks of random kinds until it is small or long enough, and a tail."""
    drawn = Drawn(seed)
    steps = (drawn.conv, drawn.conv, drawn.separable, drawn.residual, drawn.joined, drawn.pooled, drawn.pooled)
    drawn.conv()
    for _ in range(int(drawn.rng.integers(2, 12))):
        steps[int(drawn.rng.integers(len(steps)))]()
    return drawn.tail()


def random_cnns(count: int, seed: int = 0) -> Iterator[Named]:
    """The population."""
    for number in range(count):
        yield f"cnn-{seed + number}", random_cnn_tflite(seed + number)


def hand_written() -> Iterator[Named]:
    """LeNet-5, All-CNN, DS-CNN, a small MobileNet, ResNet-8, autoencoders, 1-D networks and the like."""
    for name, build in sorted(_HAND_WRITTEN.items()):
        for variant in (1, 2, 3):
            net, tensor = build(variant)
            yield f"{name}-{variant}", net.finish(tensor)


Built = tuple[Network, int]


def _lenet(variant: int) -> Built:
    net = Network(variant, (28, 28, 1))
    x = net.conv(net.input, 6, (5, 5), same=True, fused=Fused.RELU)
    x = net.pool(x, (2, 2), (2, 2), average=variant != 2)
    x = net.conv(x, 16, (5, 5), fused=Fused.RELU)
    x = net.pool(x, (2, 2), (2, 2), average=variant != 2)
    for units in (120, 84)[: 3 - variant] if variant < 3 else (30,):
        x = net.dense(x, units, fused=Fused.RELU)
    return net, net.softmax(net.dense(x, 10))


def _all_cnn(variant: int) -> Built:
    net, width = Network(variant, (32, 32, 3)), (8, 12, 15)[variant - 1]
    x = net.input
    for factor, stride in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 1)):
        x = net.conv(x, width * factor, (3, 3), (stride, stride), same=True, fused=Fused.RELU)
    x = net.conv(net.conv(x, width * 2, (1, 1), fused=Fused.RELU), 10, (1, 1))
    return net, net.softmax(net.mean(x, keep_dims=False))


def _ds_cnn(variant: int) -> Built:
    net, width = Network(variant, (49, 10, 1)), (32, 25, 64)[variant - 1]
    x = net.conv(net.input, width, (10, 4), (2, 2), same=True, fused=Fused.RELU)
    for _ in range(2 + variant):
        x = net.depthwise(x, 1, (3, 3), same=True, fused=Fused.RELU)
        x = net.conv(x, width, (1, 1), fused=Fused.RELU)
    x = net.pool(x, net.shapes[x][:2], net.shapes[x][:2], average=True)  # type: ignore[arg-type]
    return net, net.softmax(net.dense(x, 12))


def _mobilenet(variant: int) -> Built:
    net, width = Network(variant, (48 * variant, 32, 3) if variant < 3 else (40, 40, 1)), 4 + 2 * variant
    x = net.conv(net.input, width, (3, 3), (2, 2), same=True, fused=Fused.RELU6)
    for factor, stride in ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1)):
        x = net.depthwise(x, 1, (3, 3), (stride, stride), same=True, fused=Fused.RELU6)
        x = net.conv(x, width * factor, (1, 1), fused=Fused.RELU6)
    return net, net.softmax(net.dense(net.mean(x, keep_dims=True), 2))


def _inverted(variant: int) -> Built:
    net, width = Network(variant, (32, 32, 3)), (8, 6, 10)[variant - 1]
    x = net.conv(net.input, width, (3, 3), (2, 2), same=True, fused=Fused.RELU6)
    for _ in range(1 + variant):
        wide = net.conv(x, width * 4, (1, 1), fused=Fused.RELU6)
        wide = net.depthwise(wide, 1, (5, 5) if variant == 3 else (3, 3), same=True, fused=Fused.RELU6)
        x = net.add(x, net.conv(wide, width, (1, 1)))
    return net, net.softmax(net.dense(net.mean(x, keep_dims=False), 10))


def _resnet8(variant: int) -> Built:
    net, width = Network(variant, (32, 32, 3)), (8, 9, 12)[variant - 1]
    x = net.conv(net.input, width, (3, 3), same=True, fused=Fused.RELU)
    for factor, stride in ((1, 1), (2, 2), (4, 2)):
        y = net.conv(x, width * factor, (3, 3), (stride, stride), same=True, fused=Fused.RELU)
        y = net.conv(y, width * factor, (3, 3), same=True)
        skip = x if stride == 1 else net.conv(x, width * factor, (1, 1), (stride, stride))
        x = net.add(y, skip, Fused.RELU)
    x = net.pool(x, net.shapes[x][:2], (1, 1), average=True)  # type: ignore[arg-type]
    return net, net.softmax(net.dense(x, 10))


def _autoencoder(variant: int) -> Built:
    size = (320, 257, 640)[variant - 1]
    net, x = Network(variant, (size,)), -1
    x = net.input
    for units in (32, 31, 8, 32):
        x = net.dense(x, units, fused=Fused.RELU, per_channel=variant != 2)
    return net, net.dense(x, size // 8, per_channel=variant != 2)


def _perceptron(variant: int) -> Built:
    net = Network(variant, (6 * variant,))
    x = net.dense(net.dense(net.input, 20 * variant, fused=Fused.RELU), 16, fused=Fused.RELU)
    return net, net.softmax(net.dense(x, 3 + variant))


def _sequence(variant: int) -> Built:
    """An accelerometer's window, as 1-D convolutions in two dimensions."""
    net = Network(variant, (1, 128, (3, 6, 9)[variant - 1]))
    x = net.conv(net.input, 8 * variant, (1, 7), (1, 2), same=True, fused=Fused.RELU)
    x = net.pool(x, (1, 2), (1, 2), average=False)
    x = net.conv(x, 16, (1, 3), same=variant == 1, fused=Fused.RELU, dilation=(1, 2) if variant == 3 else (1, 1))
    return net, net.softmax(net.dense(net.mean(x, keep_dims=False), 6))


def _inception(variant: int) -> Built:
    net = Network(variant, (24, 24, 3))
    x = net.conv(net.input, 8 * variant, (3, 3), (2, 2), same=True, fused=Fused.RELU)
    wide = net.pool(x, (3, 3), (1, 1), average=variant == 2, same=True)
    x = net.concat([wide, x], 3)
    x = net.conv(x, 16, (3, 3), (2, 2), same=True, fused=Fused.RELU)
    x = net.pool(net.requantize(x, Code.RELU), (2, 2), (2, 2), average=False)
    return net, net.softmax(net.dense(x, 5))


def _speech(variant: int) -> Built:
    """Micro speech: one depthwise convolution with a multiplier, and a dense layer."""
    net = Network(variant, (49, 40, 1))
    x = net.depthwise(net.input, (8, 4, 6)[variant - 1], (10, 8), (2, 2), same=True, fused=Fused.RELU)
    return net, net.softmax(net.dense(x, 4 if variant < 3 else 3))


_HAND_WRITTEN = {
    "all-cnn": _all_cnn, "autoencoder": _autoencoder, "ds-cnn": _ds_cnn, "inception": _inception,
    "inverted": _inverted, "lenet": _lenet, "mobilenet": _mobilenet, "perceptron": _perceptron, "resnet8": _resnet8,
    "sequence": _sequence, "speech": _speech,
}  # fmt: skip


def public(folders: Sequence[Path]) -> Iterator[Named]:
    """Every .tflite below the folders, each content once."""
    seen = set()
    for path in sorted(found for folder in folders for found in folder.rglob("*.tflite")):
        data = path.read_bytes()
        if data not in seen:
            seen.add(data)
            yield path.stem, data
