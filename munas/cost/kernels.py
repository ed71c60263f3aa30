"""Which int8 kernel an operator takes on a Cortex-M with the DSP extension, and the work that it does there.

dw-mult4 and dw-generic are CMSIS-NN 4.0.0 without MVE, as the bakenn wheel packages it; all other paths are our kernels
(firmware/kernels). `Work` counts loop trips exactly as those sources run them, so that a time can be explained by it.
The same functions serve the search (`munas.cost.operators`) and the planner of a .tflite.

- conv-*: pixels in pairs, the last one of an odd number costs a pair as well; `blocks` tiles of 2 pixels x 4 rows;
  `vector_loops` of 16 products (2 columns) in them, in `setup_loops` goes beyond the first. `trips` gather the windows
  (munas.cost.gathers).
- dw, dw-any: `blocks` pixels of four channels each, in `scalar_loops` rows and `vector_loops` taps; `trips` as above.
- dw-3x3: the same, as if it were dw; further `trips` are its own, and `copies` fours of outputs and `setup_loops`
  single ones are clamped after all.
- dw-mult4, dw-generic: `blocks` outputs (four at once, or one), `setup_loops` rows, `scalar_loops` positions; `trips`
  are rows of the output, and outputs that are dilated down and along.
- fc, fc-per-channel: `blocks` fours of rows in `setup_loops` goes; `vector_loops` of 16 products (4 columns).
- max-pool, avg-pool: `blocks` windows walked (for 4 channels at once, or for a single one; the average always singly),
  each of `setup_loops` / `blocks` rows; `vector_loops` and `scalar_loops` positions in them.
- add, add-padded: `outputs` sums in `blocks` runs, `copies` of which have `vector_loops` fours, `setup_loops` of which
  have `scalar_loops` single ones; add-padded looks at `pixels` pixels (axes merged: `merge_axes`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from math import prod

from munas.cost.gathers import (
    DW_TRIPS,
    GATHERED_WORDS,
    TAPS_WIDTH,
    Clips,
    Trips,
    Window,
    axes,
    conv_trips,
    depthwise_trips,
    half_up,
    plane_trips,
    streamed,
)


class KernelVariant(StrEnum):
    """One way through the kernels; each has a cost structure of its own."""

    CONV_1X1 = "conv-1x1"
    CONV_IM2COL = "conv-im2col"
    CONV_ANY = "conv-any"
    DW_3X3 = "dw-3x3"
    DW = "dw"
    DW_ANY = "dw-any"
    DW_MULT4 = "dw-mult4"
    DW_GENERIC = "dw-generic"
    FC = "fc"
    FC_PER_CHANNEL = "fc-per-channel"
    FC_ANY = "fc-any"
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
    FC_ROWS_ANY = "fc-rows-any"
    CONV_GROUPED = "conv-grouped"
    CONV_TRANSPOSED = "conv-transposed"
    RESIZE_BILINEAR = "resize-bilinear"
    LSTM = "lstm"
    SVDF = "svdf"
    LOG_SOFTMAX = "log-softmax"
    SOFTMAX_TO_16 = "softmax-to-16"
    WIDE_CONV = "wide-conv"
    WIDE_FC = "wide-fc"
    WIDE_ADD = "wide-add"
    WIDE_SUB = "wide-sub"
    WIDE_MUL = "wide-mul"
    WIDE_MAXIMUM = "wide-maximum"
    WIDE_MINIMUM = "wide-minimum"
    WIDE_SUM = "wide-sum"
    WIDE_REDUCE_MAX = "wide-reduce-max"
    WIDE_REDUCE_MIN = "wide-reduce-min"
    WIDE_RESIZE_BILINEAR = "wide-resize-bilinear"
    WIDE_MAX_POOL = "wide-max-pool"
    WIDE_AVG_POOL = "wide-avg-pool"
    WIDE_LOGISTIC = "wide-logistic"
    WIDE_TANH = "wide-tanh"
    WIDE_SOFTMAX = "wide-softmax"
    WIDE_REQUANTIZE = "wide-requantize"
    # An interpreter's, in place of all above: munas.cost.interpreted.
    TFLM_CONV = "tflm-conv"
    TFLM_CONV_1X1 = "tflm-conv-1x1"
    TFLM_DW_3X3 = "tflm-dw-3x3"
    TFLM_DW = "tflm-dw"
    TFLM_DW_ANY = "tflm-dw-any"
    TFLM_FC = "tflm-fc"
    TFLM_FC_PER_CHANNEL = "tflm-fc-per-channel"
    TFLM_MAX_POOL = "tflm-max-pool"
    TFLM_AVG_POOL = "tflm-avg-pool"
    TFLM_ADD = "tflm-add"
    TFLM_PAD = "tflm-pad"
    TFLM_RESHAPE = "tflm-reshape"
    TFLM_MEAN = "tflm-mean"
    TFLM_SOFTMAX = "tflm-softmax"
    TFLM_RELU = "tflm-relu"
    TFLM_RELU6 = "tflm-relu6"
    TFLM_QUANTIZE = "tflm-quantize"
    TFLM_CONCAT = "tflm-concat"
    TFLM_OTHER = "tflm-other"


@dataclass(frozen=True, slots=True)
class Work:
    """What one operator costs. Counts are per inference; `scratch_bytes` is live only while the operator runs."""

    variant: KernelVariant
    macs: int  # µNAS's count: padding is not subtracted
    outputs: int  # elements written
    inputs: int  # activation elements read (each time they are read)
    pixels: int = 1  # output height * width
    rows: int = 1  # output channels
    columns: int = 0  # products summed for one output
    taps: int = 0  # of a convolution: positions of its window
    im2col_bytes: int = 0  # written to scratch, all in all
    scratch_bytes: int = 0
    copies: int = 0  # calls that move one pixel's channels (im2col, rows of pad and concat)
    blocks: int = 0  # entries into the inner loop
    vector_loops: int = 0  # trips of the inner SIMD loop (4 columns or 4 channels)
    scalar_loops: int = 0  # trips of the inner scalar loop (remainders, or paths that have no SIMD loop)
    setup_loops: int = 0  # trips of loops outside the inner one (rows of a window, goes of a dense layer)
    trips: Trips = ()  # of loops that gather windows: munas.cost.gathers
    unsure: int = 0  # 256ths of a dense layer's groups of four (and single outputs) that come near a half, as expected


Shape = Sequence[int]

MAX_EXTENT = 65535
"""Largest extent that the kernels' tables hold along one axis."""

STACK_COLUMNS = 256
"""Products for one output up to which a convolution has its two pixels on the stack (firmware/kernels/conv.c)."""

PLANE_PIXELS = 4
"""Outputs of a channel from which on a depthwise convolution of 3 x 3 is faster by planes (firmware/kernels)."""

PACKED_COLUMNS = 511
"""Products for one output up to which two rows are summed in one register (firmware/kernels/quads.c)."""

COLUMNS_AT_ONCE = 504
"""Columns of every further go where there are more; the first one has what is left of them."""

FOURS_AT_ONCE, FOURS_IN_FIRST = 124, PACKED_COLUMNS // 4
"""Columns, in fours, that a dense layer sums up in a go, and in the first one (firmware/kernels/dense_quads.c)."""


def positions(in_shape: Shape, out_shape: Shape, window: Window) -> int:
    """Window positions on the input, summed over all output pixels (all of them without padding)."""
    if window.padding == (0, 0, 0, 0):
        return out_shape[0] * out_shape[1] * window.size
    rows, columns = axes(in_shape, out_shape, window)
    return _total(rows) * _total(columns)


def _rows_inside(in_shape: Shape, out_shape: Shape, window: Window) -> int:
    """Rows of the window that fall on the input, summed over all output rows."""
    return _total(axes(in_shape, out_shape, window)[0])


def conv_variant(window: Window) -> KernelVariant:
    """The path of a convolution from all input channels to all output channels."""
    if window.kernel == (1, 1) and window.padding == (0, 0, 0, 0):
        return KernelVariant.CONV_1X1
    return KernelVariant.CONV_IM2COL


def depthwise_variant(window: Window, multiplier: int, channels: int, pixels: int) -> KernelVariant:
    """The path of a depthwise convolution to `pixels` of the output. Windows that are too large for our kernel take
    CMSIS-NN's; images that are too small for planes are multiplied where they lie."""
    height, width = window.kernel
    if multiplier == 1 and width <= TAPS_WIDTH and height * ((width - 1) * window.spread[1] + 1) <= GATHERED_WORDS:
        plain = window.kernel == (3, 3) and window.spread == window.stride == (1, 1)
        return KernelVariant.DW_3X3 if plain and channels >= 4 and pixels >= PLANE_PIXELS else KernelVariant.DW
    return KernelVariant.DW_MULT4 if multiplier % 4 == 0 and window.spread == (1, 1) else KernelVariant.DW_GENERIC


def conv_scratch_bytes(columns: int) -> int:
    """Scratch of a convolution with `columns` products for one output; no other operator of a graph has any."""
    return 0 if columns <= STACK_COLUMNS else 4 * columns


def conv(in_shape: Shape, out_shape: Shape, window: Window) -> Work:
    """Work of a convolution from (H, W, C) to (H, W, C), two pixels at a time."""
    path = conv_variant(window)
    pixels, rows, columns = out_shape[0] * out_shape[1], out_shape[2], window.size * in_shape[2]
    pairs = half_up(pixels)
    return Work(
        path,
        macs=pixels * rows * columns,
        outputs=pixels * rows,
        inputs=positions(in_shape, out_shape, window) * in_shape[2],
        pixels=pixels,
        rows=rows,
        columns=columns,
        taps=window.size,
        im2col_bytes=pixels * columns * 2,
        scratch_bytes=conv_scratch_bytes(columns),
        blocks=pairs * (rows // 4),
        vector_loops=pairs * (rows // 4) * (columns // 2),
        setup_loops=pairs * (rows // 4) * max(0, -((PACKED_COLUMNS // 2 - columns // 2) // (COLUMNS_AT_ONCE // 2))),
        trips=conv_trips(in_shape, out_shape, window),
    )


def conv_any(work: Work) -> Work:
    """The same convolution with a scale of 1/2 or more, which the fast kernels do not rescale."""
    return replace(work, variant=KernelVariant.CONV_ANY, trips=streamed(work.trips))


def _total(clips: Clips) -> int:
    return sum((end - first) * count for (first, end), count in clips.items())


def depthwise(in_shape: Shape, out_shape: Shape, window: Window) -> Work:
    """Work of a depthwise convolution; the multiplier is out_shape[2] / in_shape[2]. Of one channel, a full one."""
    if in_shape[2] == 1:
        return conv(in_shape, out_shape, window)
    channels, rows, pixels = in_shape[2], out_shape[2], out_shape[0] * out_shape[1]
    path = depthwise_variant(window, rows // channels, channels, pixels)
    inside = positions(in_shape, out_shape, window)
    work = Work(
        path,
        macs=pixels * rows * window.size,
        outputs=pixels * rows,
        inputs=inside * rows,
        pixels=pixels,
        rows=rows,
        columns=window.size,
        taps=window.size,
    )
    if path in (KernelVariant.DW_MULT4, KernelVariant.DW_GENERIC):
        each = 4 if path is KernelVariant.DW_MULT4 else 1  # outputs at a time
        entered = _rows_inside(in_shape, out_shape, window) * out_shape[1]
        return replace(
            work,
            copies=pixels * channels,
            blocks=pixels * rows // each,
            setup_loops=entered * rows // each,
            scalar_loops=inside * rows // each,
            trips=(out_shape[0], *(pixels * rows * (dilation > 1) for dilation in window.spread)),
        )
    groups = -(-channels // 4)
    trips = depthwise_trips(in_shape, out_shape, window)
    return replace(
        work,
        blocks=groups * pixels,
        vector_loops=groups * pixels * window.size,
        scalar_loops=groups * pixels * window.kernel[0],
        trips=(*trips, *plane_trips(in_shape, out_shape, window)) if path is KernelVariant.DW_3X3 else trips,
    )


def depthwise_clamped(work: Work) -> Work:
    """The same convolution with an activation that is narrower than int8, if its kernel clamps afterwards."""
    if work.variant is not KernelVariant.DW_3X3:
        return work
    return replace(work, copies=work.outputs // 4, setup_loops=work.outputs % 4)


def depthwise_plain(work: Work) -> Work:
    """A convolution of 3 x 3 by the kernel of any window."""
    return replace(work, variant=KernelVariant.DW, trips=work.trips[: len(DW_TRIPS)], copies=0, setup_loops=0)


def depthwise_any(work: Work) -> Work:
    """The same convolution with a scale of 1/2 or more."""
    return replace(depthwise_plain(work), variant=KernelVariant.DW_ANY)


def dense(inputs: int, outputs: int, *, per_channel: bool = True) -> Work:
    """Work of a fully connected layer; a single output has one scale anyway."""
    quads, fours = outputs // 4, inputs // 4
    goes = min(fours, 1) + max(0, -((FOURS_IN_FIRST - fours) // FOURS_AT_ONCE))
    return Work(
        KernelVariant.FC_PER_CHANNEL if per_channel and outputs > 1 else KernelVariant.FC,
        macs=inputs * outputs,
        outputs=outputs,
        inputs=inputs * (quads + (outputs % 4).bit_count()),
        rows=outputs,
        columns=inputs,
        blocks=quads,
        vector_loops=quads * (inputs // 4),
        scalar_loops=quads * (inputs % 4),
        setup_loops=quads * goes,
        unsure=unsure_outputs([0.11 / math.sqrt(inputs)] * outputs),
    )


def unsure_outputs(chances: Sequence[float], *, together: bool = True) -> int:
    """`Work.unsure` of a dense layer whose outputs come near a half with these chances.

    Four outputs are rescaled `together`: one near a half makes all of them take the long way. Where the scales are not
    known, chances are those of networks as they are trained: the more columns, the smaller the scale.
    """
    fours = len(chances) // 4 * 4 if together else 0
    quads = [1.0 - math.prod(1.0 - chance for chance in chances[at : at + 4]) for at in range(0, fours, 4)]
    return round(256 * (sum(quads) + (0.4 if together else 1.0) * sum(chances[fours:])))


def dense_any(work: Work) -> Work:
    """The same layer with a weight of -128."""
    several = work.variant in (KernelVariant.FC_ROWS, KernelVariant.FC_PER_CHANNEL_ROWS)
    return replace(work, variant=KernelVariant.FC_ROWS_ANY if several else KernelVariant.FC_ANY)


def pool(in_shape: Shape, out_shape: Shape, window: Window, kind: str) -> Work:
    """Work of a pool; `kind` is "max" or "avg"."""
    channels, pixels = out_shape[2], out_shape[0] * out_shape[1]
    inside = positions(in_shape, out_shape, window)
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
        setup_loops=_rows_inside(in_shape, out_shape, window) * out_shape[1] * (quads + rest),
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
        return Work(
            KernelVariant.ADD,
            macs=outputs,
            outputs=outputs,
            inputs=inputs,
            pixels=pixels,
            rows=rows,
            copies=int(outputs >= 4),
            blocks=1,
            vector_loops=outputs // 4,
            scalar_loops=outputs % 4,
            setup_loops=int(outputs % 4 > 0),
        )
    first, second, output = merge_axes([*in_shapes, out_shape])
    runs = _add_runs(first, second, output)
    return Work(
        KernelVariant.ADD_PADDED,
        macs=outputs,
        outputs=outputs,
        inputs=inputs,
        pixels=output[0] * output[1],
        rows=output[2],
        copies=sum(count for length, count in runs.items() if length >= 4),
        blocks=sum(runs.values()),
        vector_loops=sum(length // 4 * count for length, count in runs.items()),
        scalar_loops=sum(length % 4 * count for length, count in runs.items()),
        setup_loops=sum(count for length, count in runs.items() if length % 4),
    )


def _add_runs(first: tuple[int, int, int], second: tuple[int, int, int], output: tuple[int, int, int]) -> Counter[int]:
    """Lengths of runs of one kind (both inputs, one of them, none), and how many there are over all pixels."""
    both = min(first[0], second[0]) * min(first[1], second[1])
    only_first, only_second = first[0] * first[1] - both, second[0] * second[1] - both
    none = output[0] * output[1] - both - only_first - only_second
    a, b = first[2], second[2]
    runs: Counter[int] = Counter()
    for count, channels in ((both, (a, b)), (only_first, (a, 0)), (only_second, (0, b)), (none, (0, 0))):
        ends = (0, min(channels), max(channels), output[2])
        for begin, end in pairwise(ends):
            if end > begin:
                runs[end - begin] += count
    return runs


def elementwise(path: KernelVariant, elements: int, *, shift: int = 0) -> Work:
    """Work of RELU and REQUANTIZE by a multiplier of this shift: what is shifted to the right is rounded once more."""
    rounded = elements if shift <= 0 else 0
    return Work(path, macs=0, outputs=elements, inputs=elements, vector_loops=rounded, scalar_loops=elements)


def softmax(rows: int, columns: int, reach: int = 255) -> Work:
    """Work of a softmax over the last of (rows, columns).

    Exponentials are computed where a logit is at most `reach` steps below the largest, and are 0 beyond. Below 255 it
    is a matter of the data: logits that are spread evenly are assumed below the largest, whose is always computed.
    """
    size = rows * columns
    computed = rows + rows * (columns - 1) * min(reach, 255) // 255
    return Work(
        KernelVariant.SOFTMAX, macs=0, outputs=size, inputs=3 * size, pixels=rows, rows=columns,
        vector_loops=computed, scalar_loops=size,
    )  # fmt: skip


def mean(in_shape: Shape, *, shift: int = 0) -> Work:
    """Work of the mean over height and width of (H, W, C); `shift` as in `elementwise`."""
    size = prod(in_shape)
    pixels = in_shape[0] * in_shape[1]
    return Work(
        KernelVariant.MEAN,
        macs=0,
        outputs=in_shape[2],
        inputs=size,
        rows=in_shape[2],
        columns=pixels,
        vector_loops=in_shape[2] if shift <= 0 else 0,
        scalar_loops=size,
    )


def move(path: KernelVariant, inputs: int, outputs: int, runs: Sequence[tuple[int, int]]) -> Work:
    """Work of PAD and CONCAT: `inputs` elements moved in `runs` (how many, how long) into `outputs` elements.

    Our memcpy and memset (firmware/kernels/memory.c) take a word at a time, and then what is left by bytes.
    """
    return Work(
        path,
        macs=0,
        outputs=outputs,
        inputs=inputs,
        pixels=sum(count for count, length in runs if length % 4),
        copies=sum(count for count, _ in runs),
        setup_loops=sum(count for count, length in runs if length >= 4),
        blocks=outputs // 4,
        vector_loops=sum(count * (length // 4) for count, length in runs),
        scalar_loops=sum(count * (length % 4) for count, length in runs),
    )


def align(size: int, to: int = 4) -> int:
    """`size` rounded up to a multiple of `to`."""
    return -(-size // to) * to
