"""Which int8 kernel an operator takes on a Cortex-M with the DSP extension, and the work that it does there.

conv-im2col and dw-* are CMSIS-NN 4.0.0 without MVE, as the bakenn wheel packages it. The other paths are our kernels
(firmware/kernels): CMSIS-NN lacks one, rounds otherwise than the reference (fully connected), or takes so much code
that 16 KiB would not do (1x1, pools). `Work` counts loop trips exactly as those sources run them, so that a time can be
explained by it. The same functions serve the search (`work_of`) and the planner of a .tflite.

Trips of the kernels of ours, all in pairs; the last one of an odd number costs a pair as well:
- conv-1x1: `rows` / 2 pairs of rows, in `setup_loops` image rows (a strided one: for each output row; else one);
  `blocks` tiles of 2 pixels x 2 rows, each with 4 requantisations; `vector_loops` of 16 products (4 columns),
  `scalar_loops` of 4.
- fc, fc-per-channel: `blocks` pairs of rows; `vector_loops` of 8 products, `scalar_loops` of 2; `outputs` rescalings.
- max-pool, avg-pool: `blocks` windows walked (for 4 channels at once, or for a single one; the average always singly),
  each of `setup_loops` / `blocks` rows; `vector_loops` and `scalar_loops` positions in them.
- add, add-padded: `outputs` sums in `blocks` runs; add-padded looks at `pixels` pixels (axes merged: `merge_axes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from munas.arch.graph import Operator


class KernelVariant(StrEnum):
    """One way through the kernels; each has a cost structure of its own."""

    CONV_1X1 = "conv-1x1"
    CONV_1X1_STRIDED = "conv-1x1-strided"
    CONV_IM2COL = "conv-im2col"
    DW_3X3 = "dw-3x3"
    DW_IM2COL = "dw-im2col"
    DW_MULT4 = "dw-mult4"
    DW_GENERIC = "dw-generic"
    FC = "fc"
    FC_PER_CHANNEL = "fc-per-channel"
    MAX_POOL = "max-pool"
    AVG_POOL = "avg-pool"
    ADD = "add"
    ADD_PADDED = "add-padded"
    PAD = "pad"
    MEAN = "mean"
    SOFTMAX = "softmax"
    RELU = "relu"
    CONCAT = "concat"
    REQUANTIZE = "requantize"
    LOOKUP = "lookup"
    COPY = "copy"
    SELECT = "select"
    ADD_BROADCAST = "add-broadcast"
    SUB = "sub"
    MUL = "mul"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    PRELU = "prelu"
    SUM = "sum"
    REDUCE_MAX = "reduce-max"
    REDUCE_MIN = "reduce-min"
    FC_ROWS = "fc-rows"
    FC_PER_CHANNEL_ROWS = "fc-per-channel-rows"
    CONV_GROUPED = "conv-grouped"
    CONV_TRANSPOSED = "conv-transposed"
    RESIZE_BILINEAR = "resize-bilinear"


@dataclass(frozen=True, slots=True)
class Work:
    """What one operator costs. Counts are per inference; `scratch_bytes` is live only while the operator runs."""

    path: KernelVariant
    macs: int  # µNAS's count: padding is not subtracted
    outputs: int  # elements written
    inputs: int  # activation elements read (each time they are read)
    pixels: int = 1  # output height * width
    rows: int = 1  # output channels
    columns: int = 0  # products summed for one output
    im2col_bytes: int = 0  # written to scratch, all in all
    scratch_bytes: int = 0
    copies: int = 0  # calls that move one pixel's channels (im2col, rows of pad and concat)
    blocks: int = 0  # entries into the inner loop
    vector_loops: int = 0  # trips of the inner SIMD loop (4 columns or 4 channels)
    scalar_loops: int = 0  # trips of the inner scalar loop (remainders, or paths that have no SIMD loop)
    setup_loops: int = (
        0  # trips of loops outside the inner one (im2col's conversion, rows of a window, pairs of channels)
    )


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pool: (height, width) pairs; `padding` is (top, bottom, left, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def size(self) -> int:
        """Positions in the window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def spread(self) -> tuple[int, int]:
        """Dilation with axes of one element, where it has no effect, set to 1."""
        return (
            self.dilation[0] if self.kernel[0] > 1 else 1,
            self.dilation[1] if self.kernel[1] > 1 else 1,
        )


Shape = Sequence[int]

MAX_EXTENT = 65535
"""Largest extent that the kernels' tables hold along one axis."""


def _inside(inputs: int, outputs: int, kernel: int, stride: int, before: int, dilation: int) -> int:
    """Window positions along one axis that fall on the input, summed over all outputs."""
    total = 0
    for index in range(outputs):
        start = index * stride - before
        first = max(0, -(start // dilation))  # ceil(-start / dilation)
        last = min(kernel, -((start - inputs) // dilation))
        total += max(0, last - first)
    return total


def _positions(in_shape: Shape, out_shape: Shape, window: Window) -> int:
    """Window positions on the input, summed over all output pixels (all of them without padding)."""
    if window.padding == (0, 0, 0, 0):
        return out_shape[0] * out_shape[1] * window.size
    (top, _, left, _), spread = window.padding, window.spread
    rows = _inside(in_shape[0], out_shape[0], window.kernel[0], window.stride[0], top, spread[0])
    columns = _inside(in_shape[1], out_shape[1], window.kernel[1], window.stride[1], left, spread[1])
    return rows * columns


def conv_variant(window: Window) -> KernelVariant:
    """The path of a convolution (all input channels to all output channels)."""
    if window.kernel == (1, 1) and window.padding == (0, 0, 0, 0):
        return KernelVariant.CONV_1X1 if window.stride == (1, 1) else KernelVariant.CONV_1X1_STRIDED
    return KernelVariant.CONV_IM2COL


def depthwise_variant(window: Window, multiplier: int) -> KernelVariant:
    """The path of a depthwise convolution. The 3x3 kernel reads beyond a row when more than one column is padded."""
    if window.spread != (1, 1):
        return KernelVariant.DW_GENERIC
    if multiplier == 1:
        return KernelVariant.DW_3X3 if window.kernel == (3, 3) and max(window.padding) <= 1 else KernelVariant.DW_IM2COL
    return KernelVariant.DW_MULT4 if multiplier % 4 == 0 else KernelVariant.DW_GENERIC


def conv(in_shape: Shape, out_shape: Shape, window: Window) -> Work:
    """Work of a convolution from (H, W, C) to (H, W, C)."""
    path = conv_variant(window)
    pixels, rows, columns = out_shape[0] * out_shape[1], out_shape[2], window.size * in_shape[2]
    if path is KernelVariant.CONV_IM2COL:
        return _conv_im2col(in_shape, pixels, rows, columns, window)
    # One matrix product over all pixels; a strided one is a product for each output row. Odd ends cost a whole tile.
    calls, length = (1, pixels) if path is KernelVariant.CONV_1X1 else (out_shape[0], out_shape[1])
    tiles = calls * half_up(rows) * half_up(length)
    return Work(
        path,
        macs=pixels * rows * columns,
        outputs=pixels * rows,
        inputs=pixels * columns,
        pixels=pixels,
        rows=rows,
        columns=columns,
        blocks=tiles,
        vector_loops=tiles * (columns // 4),
        scalar_loops=tiles * (columns % 4),
        setup_loops=calls * half_up(rows),
    )


def _conv_im2col(in_shape: Shape, pixels: int, rows: int, columns: int, window: Window) -> Work:
    tiles = (pixels // 2) * (rows // 2 + rows % 2) + (pixels % 2) * rows
    return Work(
        KernelVariant.CONV_IM2COL,
        macs=pixels * rows * columns,
        outputs=pixels * rows,
        inputs=pixels * columns,
        pixels=pixels,
        rows=rows,
        columns=columns,
        im2col_bytes=pixels * columns * 2,
        scratch_bytes=2 * columns * 2,
        copies=pixels * window.size,
        blocks=tiles,
        vector_loops=tiles * (columns // 4),
        scalar_loops=tiles * (columns % 4),
        setup_loops=pixels * window.size * (in_shape[2] // 4 + in_shape[2] % 4),
    )


def depthwise(in_shape: Shape, out_shape: Shape, window: Window) -> Work:
    """Work of a depthwise convolution; the multiplier is out_shape[2] / in_shape[2]."""
    channels, rows, pixels = in_shape[2], out_shape[2], out_shape[0] * out_shape[1]
    path = depthwise_variant(window, rows // channels)
    inside = _positions(in_shape, out_shape, window)
    quads, rest = channels // 4, channels % 4
    im2col = blocks = vector = 0
    if path is KernelVariant.DW_3X3:
        blocks, vector, scalar = pixels * (quads + rest), inside * quads, inside * rest
    elif path is KernelVariant.DW_IM2COL:
        im2col = channels * window.size * 2
        blocks, vector = pixels * (quads + rest), pixels * quads * (window.size // 2)
        scalar = pixels * (quads * (window.size % 2) + rest * window.size)
    elif path is KernelVariant.DW_MULT4:
        blocks, scalar = pixels * rows // 4, inside * rows // 4
    else:
        blocks, scalar = pixels * rows, inside * rows
    return Work(
        path,
        macs=pixels * rows * window.size,
        outputs=pixels * rows,
        inputs=inside * rows,
        pixels=pixels,
        rows=rows,
        columns=window.size,
        im2col_bytes=pixels * im2col,
        scratch_bytes=im2col,
        copies=pixels * window.size if im2col else 0,
        blocks=blocks,
        vector_loops=vector,
        scalar_loops=scalar,
        setup_loops=pixels * window.size * (quads + rest) if im2col else 0,
    )


def dense(inputs: int, outputs: int, *, per_channel: bool = True) -> Work:
    """Work of a fully connected layer; a single output has one scale anyway."""
    tiles = half_up(outputs)
    return Work(
        KernelVariant.FC_PER_CHANNEL if per_channel and outputs > 1 else KernelVariant.FC,
        macs=inputs * outputs,
        outputs=outputs,
        inputs=inputs * tiles,
        rows=outputs,
        columns=inputs,
        blocks=tiles,
        vector_loops=tiles * (inputs // 4),
        scalar_loops=tiles * (inputs % 4),
    )


def pool(in_shape: Shape, out_shape: Shape, window: Window, kind: str) -> Work:
    """Work of a pool; `kind` is "max" or "avg"."""
    channels, pixels = out_shape[2], out_shape[0] * out_shape[1]
    inside = _positions(in_shape, out_shape, window)
    average = kind == "avg"
    quads, rest = (0, channels) if average else (channels // 4, channels % 4)
    return Work(
        KernelVariant.AVG_POOL if average else KernelVariant.MAX_POOL,
        macs=pixels * channels * window.size,
        outputs=pixels * channels,
        inputs=inside * channels,
        pixels=pixels,
        rows=channels,
        columns=window.size,
        blocks=pixels * (quads + rest),
        vector_loops=inside * quads,
        scalar_loops=inside * rest,
        setup_loops=pixels * (quads + rest) * window.kernel[0],
    )


def merge_axes(shapes: Sequence[Shape]) -> list[tuple[int, int, int]]:
    """(H, W, C) shapes with their trailing axes merged as long as all agree in them, in front of which 1s are put.

    What lies in one run of memory for all of them becomes one axis, so that a kernel has fewer, longer loops.
    """
    merged = [list(shape) for shape in shapes]
    while len(merged[0]) > 1 and len({shape[-1] for shape in merged}) == 1:
        joined = [[*shape[:-2], shape[-2] * shape[-1]] for shape in merged]
        if max(shape[-1] for shape in joined) > MAX_EXTENT:
            break
        merged = joined
    padded = [[1] * (3 - len(shape)) + shape for shape in merged]
    return [(height, width, channels) for height, width, channels in padded]


def add(in_shapes: Sequence[Shape], out_shape: Shape) -> Work:
    """Work of an Add of two inputs; one that is smaller than the output counts as zero beyond its bottom and right."""
    outputs, inputs = prod(out_shape), sum(prod(shape) for shape in in_shapes)
    if all(tuple(shape) == tuple(out_shape) for shape in in_shapes):
        rows = out_shape[-1]
        pixels = outputs // rows
        return Work(KernelVariant.ADD, outputs, outputs, inputs, pixels, rows, blocks=1, scalar_loops=outputs)
    first, second, output = merge_axes([*in_shapes, out_shape])
    pixels = output[0] * output[1]
    return Work(
        KernelVariant.ADD_PADDED,
        macs=outputs,
        outputs=outputs,
        inputs=inputs,
        pixels=pixels,
        rows=output[2],
        blocks=_add_runs(first, second, output),
        scalar_loops=outputs,
    )


def _add_runs(first: tuple[int, int, int], second: tuple[int, int, int], output: tuple[int, int, int]) -> int:
    """Runs of one kind (both inputs, one of them, none) over all pixels."""
    both = min(first[0], second[0]) * min(first[1], second[1])
    only_first, only_second = first[0] * first[1] - both, second[0] * second[1] - both
    none = output[0] * output[1] - both - only_first - only_second
    full = output[2]

    def runs(channels: tuple[int, int]) -> int:
        low, high = min(channels), max(channels)
        return (low > 0) + (high > low) + (full > high)

    a, b = first[2], second[2]
    return both * runs((a, b)) + only_first * runs((a, 0)) + only_second * runs((0, b)) + none * runs((0, 0))


def elementwise(path: KernelVariant, elements: int) -> Work:
    """Work of RELU and REQUANTIZE."""
    return Work(path, macs=0, outputs=elements, inputs=elements, scalar_loops=elements)


def softmax(rows: int, columns: int) -> Work:
    """Work of a softmax over the last of (rows, columns)."""
    size = rows * columns
    return Work(
        KernelVariant.SOFTMAX, macs=0, outputs=size, inputs=3 * size, pixels=rows, rows=columns, scalar_loops=size
    )


def mean(in_shape: Shape) -> Work:
    """Work of the mean over height and width of (H, W, C)."""
    size = prod(in_shape)
    pixels = in_shape[0] * in_shape[1]
    return Work(
        KernelVariant.MEAN,
        macs=0,
        outputs=in_shape[2],
        inputs=size,
        rows=in_shape[2],
        columns=pixels,
        scalar_loops=size,
    )


def move(path: KernelVariant, inputs: int, outputs: int, copies: int) -> Work:
    """Work of PAD and CONCAT: `inputs` elements moved in `copies` runs into a tensor of `outputs` elements."""
    return Work(path, macs=0, outputs=outputs, inputs=inputs, copies=copies)


@lru_cache(maxsize=256)
def _window(kernel: tuple[int, int], stride: tuple[int, int]) -> Window:
    """A search has few windows and asks for them a thousand times a second."""
    return Window(kernel, stride)


def work_of(operator: Operator) -> Work:
    """Work of a graph's operator as it is deployed (no padding, dense layers quantised per channel)."""
    kind, out_shape = str(operator.kind), operator.out_shape
    if kind == "Dense":
        return dense(prod(operator.in_shapes[0]), prod(out_shape))
    if kind == "Add":
        return add(operator.in_shapes, out_shape)
    if kind == "Pool":
        if operator.pool is None or operator.pool_type is None:
            raise ValueError(f"pool {operator.name} has no window")
        return pool(operator.in_shapes[0], out_shape, _window(operator.pool, operator.pool), operator.pool_type)
    window = _window((operator.kernel, operator.kernel), (operator.stride, operator.stride))
    return (conv if kind == "Conv2D" else depthwise)(operator.in_shapes[0], out_shape, window)


def scratch_bytes(operator: Operator) -> int:
    """Scratch that the kernel of a graph's operator needs beside its tensors; what `problem_of` takes."""
    return work_of(operator).scratch_bytes


def half_up(count: int) -> int:
    """Pairs that `count` things make, a single one at the end being a pair too."""
    return count // 2 + count % 2


def align(size: int, to: int = 4) -> int:
    """`size` rounded up to a multiple of `to`."""
    return -(-size // to) * to
