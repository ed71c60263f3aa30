"""What an operator costs in TFLM, as counts that explain its time: trips of the loops that its kernels have.

Written from reading CMSIS-NN 4ab83cc3c, as TFLM 90b983c2b calls it on a core with the DSP extension and without MVE.
The names of the counts are those of munas.cost.interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from hil.model.network import ConvParams, DepthwiseParams, Model, Op, OpKind, PoolParams
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import KernelVariant, Work

Shape = tuple[int, ...]
Taps = tuple[tuple[int, int], ...]
Trips = tuple[int, ...]

VARIANTS: Mapping[OpKind, tuple[KernelVariant, ...]] = {
    OpKind(operator): tuple(item for item, (other, _) in INTERPRETED.items() if other == operator)
    for operator, _ in INTERPRETED.values()
    if operator
}
"""The variants that work of an operator may have: they decide which code is linked."""


def work_of(op: Op, model: Model) -> Work:
    """Work of one operator of an imported model."""
    shapes = [model.tensors[index].shape for index in op.inputs if index >= 0]
    source, output = shapes[0], model.tensors[op.outputs[0]].shape
    match op.params:
        case ConvParams():
            return _conv(op.params, _hwc(source), _hwc(output), shapes[1])
        case DepthwiseParams():
            return _depthwise(op.params, _hwc(source), _hwc(output), shapes[1])
        case PoolParams():
            return _pool(op, op.params, _hwc(source), _hwc(output))
    if op.kind is OpKind.FULLY_CONNECTED:
        per_channel = model.tensors[op.inputs[1]].quant.per_channel
        return _dense(shapes[1][1], shapes[1][0], per_channel)
    return _other(op, shapes, output)


def converted_work_of(op: Op, model: Model) -> Work | None:
    """Work of what TensorFlow's converter leaves of an operator that we wrote: a depthwise convolution of one channel
    is an ordinary one there, and one pixel is not reshaped (None)."""
    source, output = (model.tensors[index].shape for index in (op.inputs[0], op.outputs[0]))
    if isinstance(op.params, DepthwiseParams) and source[3] == 1:
        _, height, width, rows = model.tensors[op.inputs[1]].shape
        return _conv(op.params, _hwc(source), _hwc(output), (rows, height, width, 1))
    if op.kind is OpKind.RESHAPE and len(source) == 4 and source[1:3] == (1, 1):
        return None
    return work_of(op, model)


def unknown(elements: int) -> Work:
    """Work of an operator of which no more is known than that it writes `elements` bytes."""
    return _work(KernelVariant.TFLM_OTHER, (1, elements), elements, elements)


def _work(variant: KernelVariant, trips: Trips, inputs: int, outputs: int, macs: int = 0, **more: int) -> Work:
    assert len(trips) == len(INTERPRETED[variant][1])
    return Work(variant, macs, outputs, inputs, trips=trips, **more)


def _inner(times: int, count: int) -> Trips:
    """`times` an inner loop of `count`, four a trip, and one by one what is left."""
    fours, ones = divmod(count, 4)
    return (times * (fours > 0), times * fours, times * (ones > 0), times * ones)


def _wide(times: int, count: int) -> Trips:
    """The same with sixteen a trip before the fours."""
    sixteens, rest = divmod(count, 16)
    return (times * (sixteens > 0), times * sixteens, *_inner(times, rest))


def _copies(times: int, count: int) -> Trips:
    """`times` a memcpy of `count` bytes: blocks of 64, rows of 16, words, a halfword, a byte."""
    blocks, rows, words = count // 64, count % 64 // 16, count % 16 // 4
    loops = (blocks > 0, blocks, rows > 0, rows, words > 0, words, count % 4 > 0, count % 2, count % 4 // 2)
    return (times, *(times * trips for trips in loops))


def _taps(size: int, outputs: int, kernel: int, stride: int, before: int, dilation: int = 1) -> Taps:
    """For each output along an axis: the window's first tap that is inside, and how many are."""
    found = []
    for output in range(outputs):
        base = output * stride - before
        inside = [tap for tap in range(kernel) if 0 <= base + tap * dilation < size]
        found.append((inside[0] if inside else kernel, len(inside)))
    return tuple(found)


def _axes(params: ConvParams | DepthwiseParams | PoolParams, source: Shape, output: Shape, kernel: Shape) -> list[Taps]:
    dilation = (1, 1) if isinstance(params, PoolParams) else params.dilation
    before = (params.padding.top, params.padding.left)
    return [
        _taps(source[axis], output[axis], kernel[axis], params.stride[axis], before[axis], dilation[axis])
        for axis in (0, 1)
    ]


def _inside(taps: Taps) -> int:
    return sum(count for _, count in taps)


def _conv(params: ConvParams | DepthwiseParams, source: Shape, output: Shape, weights: Shape) -> Work:
    rows, height, width, channels = weights
    pixels, columns = output[0] * output[1], height * width * channels
    macs, inputs, outputs = pixels * rows * columns, pixels * columns, pixels * rows
    unpadded = params.padding.top == 0 and params.padding.left == 0
    trips: Trips
    if (height, width) == (1, 1) and unpadded and params.dilation == (1, 1):
        # All pixels at once, or with strides a row of them.
        goes, at_once = (1, pixels) if params.stride == (1, 1) else output[:2]
        pairs, row = goes * (rows // 2), goes * (rows % 2)
        squares, last = pairs * (at_once // 2), pairs * (at_once % 2)
        trips = (
            1, goes, pairs, pairs * channels, squares, *_wide(squares, channels), last, *_wide(last, channels),
            row, row * at_once, row * at_once * channels, row * channels,
        )  # fmt: skip
        return _work(KernelVariant.TFLM_CONV_1X1, trips, inputs, outputs, macs, pixels=pixels, rows=rows)
    squares = (rows // 2) * (pixels // 2)
    down, along = _axes(params, source, output, (height, width))
    copies = _inside(down) * _inside(along)
    fills = pixels * height * width - copies
    twos, odd = pixels // 2, pixels % 2
    trips = (
        1, output[0], pixels, pixels * height, *_copies(copies, channels), fills, fills * channels,
        *_inner(pixels, columns), twos, squares, *_inner(squares, columns), twos * (rows % 2),
        *_inner(twos * (rows % 2), columns), odd, odd * rows, *_inner(odd * rows, columns),
    )  # fmt: skip
    return _work(KernelVariant.TFLM_CONV, trips, inputs, outputs, macs, pixels=pixels, rows=rows, columns=columns)


def _depthwise(params: DepthwiseParams, source: Shape, output: Shape, weights: Shape) -> Work:
    _, height, width, rows = weights
    pixels, channels, taps = output[0] * output[1], source[2], height * width
    macs, outputs = pixels * rows * taps, pixels * rows
    down, along = _axes(params, source, output, (height, width))
    rows_inside, inside = _inside(down) * output[1], _inside(down) * _inside(along)
    more = {"pixels": pixels, "rows": rows, "columns": taps}
    trips: Trips
    if channels != rows or params.dilation != (1, 1):
        trips = (1, output[0], pixels, outputs, rows_inside * rows, inside * rows)
        return _work(KernelVariant.TFLM_DW_ANY, trips, inside * rows, outputs, macs, **more)
    quads, rests = channels // 4, channels % 4
    if (height, width) == (3, 3) and max(params.padding.top, params.padding.left) <= 1:
        lefts = _inside(down) * sum(first == 0 for first, _ in along)
        rights = _inside(down) * sum(first + count == 3 for first, count in along)
        trips = (
            1, output[0], pixels, pixels * quads, rows_inside * quads, lefts * quads, rights * quads,
            pixels * rests, rows_inside * rests, lefts * rests, rights * rests,
        )  # fmt: skip
        return _work(KernelVariant.TFLM_DW_3X3, trips, inside * rows, outputs, macs, **more)
    fills = rows_inside * width - inside
    outside = [height - count for _, count in down]
    row_fills = sum(count > 0 for count in outside) * output[1]
    trips = (
        1, output[0], pixels, rows_inside, inside, *_inner(inside, channels), fills, fills * 2 * channels,
        row_fills, sum(outside) * output[1] * width * 2 * channels,
        pixels * (quads > 0), pixels * quads, pixels * quads * (taps // 2), pixels * quads * (taps % 2),
        pixels * (rests > 0), pixels * rests, pixels * rests * taps,
    )  # fmt: skip
    return _work(KernelVariant.TFLM_DW, trips, inside * rows, outputs, macs, **more)


def _pool(op: Op, params: PoolParams, source: Shape, output: Shape) -> Work:
    down, along = _axes(params, source, output, params.window)
    pixels, channels = output[0] * output[1], output[2]
    positions, window_rows = _inside(down) * _inside(along), _inside(down) * output[1]
    outputs = pixels * channels
    later = positions - pixels
    trips: Trips
    if op.kind is OpKind.AVERAGE_POOL_2D:
        trips = (1, output[0], pixels, window_rows, positions, later * channels, outputs)
        return _work(KernelVariant.TFLM_AVG_POOL, trips, positions * channels, outputs, pixels=pixels, rows=channels)
    trips = (
        1, output[0], pixels, window_rows, *_copies(pixels, channels), later, *_inner(later, channels),
        *_inner(1, outputs),
    )  # fmt: skip
    return _work(KernelVariant.TFLM_MAX_POOL, trips, positions * channels, outputs, pixels=pixels, rows=channels)


def _dense(columns: int, rows: int, per_channel: bool) -> Work:
    pairs, last = rows // 2, rows % 2
    trips = (1, pairs, *_inner(pairs, columns), last, *_inner(last, columns))
    variant = KernelVariant.TFLM_FC_PER_CHANNEL if per_channel else KernelVariant.TFLM_FC
    return _work(variant, trips, columns, rows, rows * columns, rows=rows, columns=columns)


def _other(op: Op, shapes: list[Shape], output: Shape) -> Work:
    inputs, outputs = prod(shapes[0]), prod(output)
    match op.kind:
        case OpKind.ADD:
            return _work(KernelVariant.TFLM_ADD, (1, *_inner(1, outputs)), 2 * outputs, outputs)
        case OpKind.PAD:
            inner, outer = _hwc(shapes[0]), _hwc(output)
            rows = inner[0]
            trips = (1, rows, inputs, outer[0] - rows, outputs - inputs)
            return _work(KernelVariant.TFLM_PAD, trips, inputs, outputs)
        case OpKind.RESHAPE:
            return _work(KernelVariant.TFLM_RESHAPE, (1, *_copies(1, inputs)), inputs, outputs)
        case OpKind.MEAN:
            return _work(KernelVariant.TFLM_MEAN, (1, inputs, outputs), inputs, outputs)
        case OpKind.SOFTMAX:
            return _work(KernelVariant.TFLM_SOFTMAX, (1, prod(output[:-1]), inputs), inputs, outputs)
        case OpKind.CONCATENATION:
            copies = prod(output[:-1]) * len(shapes)
            return _work(KernelVariant.TFLM_CONCAT, (1, copies, outputs), outputs, outputs)
        case OpKind.RELU:
            return _work(KernelVariant.TFLM_RELU, (1, inputs), inputs, outputs)
        case OpKind.RELU6:
            return _work(KernelVariant.TFLM_RELU6, (1, inputs), inputs, outputs)
        case OpKind.QUANTIZE:
            return _work(KernelVariant.TFLM_QUANTIZE, (1, inputs), inputs, outputs)
    return unknown(outputs)


def _hwc(shape: Shape) -> Shape:
    """Height, width, channels of a tensor of batch 1; missing dimensions are 1."""
    inner = shape[1:] if len(shape) > 1 else shape
    return (1,) * (3 - len(inner)) + tuple(inner)
