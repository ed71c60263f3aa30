"""Work of the kernels that no network of the search space uses; the others' is in munas.cost.kernels.

All are loops of our own in firmware/kernels without a vector loop, so few counts explain them: `outputs`, entries of
the inner loop (`blocks`), its trips (`scalar_loops`), and the pixels or runs around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from munas.cost.gathers import Window
from munas.cost.kernels import KernelVariant, Shape, Work, dense, positions, softmax


def lookup(elements: int) -> Work:
    """Work of a table of 256 values over `elements`."""
    return Work(KernelVariant.LOOKUP, 0, elements, elements, scalar_loops=elements)


def moved(variant: KernelVariant, outputs: int, run: int, inner: int) -> Work:
    """Work of moving `outputs` elements in runs of `run`, `inner` of which lie along the innermost axis."""
    runs = outputs // run
    bytewise = run == 1
    return Work(
        variant,
        macs=0,
        outputs=outputs,
        inputs=outputs,
        copies=0 if bytewise else runs,
        blocks=runs // inner,
        scalar_loops=runs if bytewise else outputs // 4 + runs * (run % 4),
    )


def binary(variant: KernelVariant, counts: Sequence[int]) -> Work:
    """Work of element-wise arithmetic along axes of `counts` elements."""
    outputs = prod(counts)
    return Work(variant, 0, outputs, 2 * outputs, blocks=outputs // counts[-1], scalar_loops=outputs)


def reduce(variant: KernelVariant, kept: Sequence[int], walked: Sequence[int]) -> Work:
    """Work of a reduction of `walked` elements for each of `kept` outputs."""
    outputs, each = prod(kept), prod(walked)
    return Work(
        variant, 0, outputs, outputs * each, columns=each, blocks=outputs * walked[0], scalar_loops=outputs * each
    )


def dense_rows(inputs: int, outputs: int, rows: int, *, per_channel: bool) -> Work:
    """Work of a fully connected layer over several rows; `pixels` are the rows."""
    one = dense(inputs, outputs, per_channel=per_channel)
    variant = (
        KernelVariant.FC_PER_CHANNEL_ROWS if one.variant is KernelVariant.FC_PER_CHANNEL else KernelVariant.FC_ROWS
    )
    return replace(
        one,
        variant=variant,
        macs=rows * one.macs,
        outputs=rows * one.outputs,
        inputs=rows * one.inputs,
        pixels=rows,
        blocks=rows * one.blocks,
        vector_loops=rows * one.vector_loops,
        scalar_loops=rows * one.scalar_loops,
        setup_loops=rows * one.setup_loops,
        unsure=rows * one.unsure,
    )


def grouped(in_shape: Shape, out_shape: Shape, window: Window, depth: int) -> Work:
    """Work of a convolution in groups of `depth` input channels: `blocks` taps, `vector_loops` of them on the input."""
    rows, inside = out_shape[2], positions(in_shape, out_shape, window)
    work = _direct(KernelVariant.CONV_GROUPED, out_shape, window.size, depth, prod(out_shape) * window.size)
    return replace(work, inputs=inside * rows * depth, vector_loops=inside * rows, scalar_loops=inside * rows * depth)


_DEPTHWISE = (KernelVariant.DW, KernelVariant.DW_3X3, KernelVariant.DW_ANY)


def grouped_like(work: Work) -> Work:
    """Work of a convolution, depthwise or over all channels, by the kernel of those in groups."""
    inside, products = work.inputs, work.inputs
    if work.variant not in _DEPTHWISE:
        inside, products = work.inputs // (work.columns // work.taps) * work.rows, work.inputs * work.rows
    return replace(
        work,
        variant=KernelVariant.CONV_GROUPED,
        inputs=products,
        im2col_bytes=0,
        scratch_bytes=0,
        copies=0,
        blocks=work.outputs * work.taps,
        vector_loops=inside,
        scalar_loops=products,
        setup_loops=0,
        trips=(),
    )


def transposed(in_shape: Shape, out_shape: Shape, window: Window) -> Work:
    """Work of a transposed convolution: `setup_loops` rows of windows and `blocks` taps; `copies` of these are in a row
    that has input, `vector_loops` at a pixel."""
    reached = in_shape[0] * in_shape[1] * out_shape[2] * window.size
    work = _direct(KernelVariant.CONV_TRANSPOSED, out_shape, window.size, in_shape[2], reached)
    rows, columns = (_met(in_shape[at], out_shape[at], window, at) for at in range(2))
    return replace(
        work,
        setup_loops=work.outputs * window.kernel[0],
        blocks=work.outputs * window.size,
        copies=rows * out_shape[1] * window.kernel[1] * out_shape[2],
        vector_loops=rows * columns * out_shape[2],
        scalar_loops=rows * columns * out_shape[2] * in_shape[2],
    )


def _met(inputs: int, outputs: int, window: Window, axis: int) -> int:
    """How often a tap finds an input along an axis, summed over the outputs of a transposed convolution."""
    step, before = window.stride[axis], window.padding[2 * axis]
    places = (at * step + tap - before for at in range(inputs) for tap in range(window.kernel[axis]))
    return sum(0 <= place < outputs for place in places)


def _direct(variant: KernelVariant, out_shape: Shape, taps: int, depth: int, entries: int) -> Work:
    pixels, rows = out_shape[0] * out_shape[1], out_shape[2]
    return Work(
        variant,
        macs=entries * depth,
        outputs=pixels * rows,
        inputs=entries * depth,
        pixels=pixels,
        rows=rows,
        columns=taps * depth,
        blocks=entries,
        vector_loops=pixels * rows * taps,
        scalar_loops=entries * depth,
    )


def lstm(steps: int, inputs: int, cells: int, integer_bits: int) -> Work:
    """Work of an LSTM: `blocks` cells in all steps, of four rows each; their columns in fours, pairs, and one.

    The function of a cell takes a step more for each of its `integer_bits`: `copies` are these.
    """
    updates, columns = steps * cells, inputs + cells
    return Work(
        KernelVariant.LSTM,
        macs=4 * updates * columns,
        outputs=updates,
        inputs=4 * updates * columns,
        pixels=steps,
        rows=4 * cells,
        columns=columns,
        copies=updates * integer_bits,
        blocks=updates,
        vector_loops=updates * (inputs // 4 + cells // 4),
        scalar_loops=updates * (inputs % 4 // 2 + cells % 4 // 2),
        setup_loops=updates * (inputs % 2 + cells % 2),
    )


def svdf(inputs: int, units: int, rank: int, memory: int) -> Work:
    """Work of an SVDF: `blocks` filters, their inputs in fours and what is left of these, and their memory."""
    filters = units * rank
    return Work(
        KernelVariant.SVDF,
        macs=filters * (inputs + memory),
        outputs=units,
        inputs=filters * (inputs + memory),
        pixels=units,
        rows=filters,
        columns=inputs,
        copies=filters * (memory - 1),
        blocks=filters,
        vector_loops=filters * (inputs // 4),
        scalar_loops=filters * (inputs % 4),
    )


def wide_conv(in_shape: Shape, out_shape: Shape, window: Window, depth: int) -> Work:
    """Work of a convolution of 16-bit activations: `copies` taps, `blocks` of them inside, of `depth` products each."""
    outputs = prod(out_shape)
    inside = positions(in_shape, out_shape, window) * out_shape[2]
    return Work(
        KernelVariant.WIDE_CONV,
        macs=outputs * window.size * depth,
        outputs=outputs,
        inputs=inside * depth,
        pixels=out_shape[0] * out_shape[1],
        rows=out_shape[2],
        columns=window.size * depth,
        copies=outputs * window.size,
        blocks=inside,
        setup_loops=outputs * window.kernel[0],
        vector_loops=inside * (depth // 4),
        scalar_loops=inside * (depth % 4),
    )


def wide_dense(inputs: int, outputs: int, rows: int) -> Work:
    """Work of a dense layer of 16-bit activations, over `rows` inputs."""
    each = rows * outputs
    return Work(
        KernelVariant.WIDE_FC,
        macs=each * inputs,
        outputs=each,
        inputs=each * inputs,
        pixels=rows,
        rows=outputs,
        columns=inputs,
        vector_loops=each * (inputs // 4),
        scalar_loops=each * (inputs % 4),
    )


def wide_pool(variant: KernelVariant, in_shape: Shape, out_shape: Shape, window: Window) -> Work:
    """Work of a pool of 16-bit activations: `scalar_loops` positions inside."""
    outputs = prod(out_shape)
    inside = positions(in_shape, out_shape, window) * out_shape[2]
    return Work(
        variant,
        macs=outputs * window.size,
        outputs=outputs,
        inputs=inside,
        pixels=out_shape[0] * out_shape[1],
        blocks=outputs * window.kernel[0],
        scalar_loops=inside,
    )


def elements(variant: KernelVariant, count: int) -> Work:
    """Work of a function of each of `count` elements."""
    return Work(variant, 0, count, count, scalar_loops=count)


def wide_softmax(rows: int, columns: int) -> Work:
    """Work of a softmax of 16-bit activations."""
    size = rows * columns
    return Work(KernelVariant.WIDE_SOFTMAX, 0, size, size, pixels=rows, rows=columns, scalar_loops=size)


def softmax_to_16(rows: int, columns: int, reach: int) -> Work:
    """Work of a softmax of int8 whose result has 16 bits."""
    return replace(softmax(rows, columns, reach), variant=KernelVariant.SOFTMAX_TO_16)


def log_softmax(rows: int, columns: int, reach: int) -> Work:
    """Work of the logarithm of a softmax."""
    return replace(softmax(rows, columns, reach), variant=KernelVariant.LOG_SOFTMAX)


def resize_bilinear(variant: KernelVariant, out_shape: Shape) -> Work:
    """Work of a bilinear resize to (H, W, C)."""
    outputs = prod(out_shape)
    return Work(
        variant,
        macs=0,
        outputs=outputs,
        inputs=4 * outputs,
        pixels=out_shape[0] * out_shape[1],
        scalar_loops=outputs,
    )
