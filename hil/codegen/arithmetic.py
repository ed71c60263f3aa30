"""Layers of element-wise arithmetic, functions by table, and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

from hil.codegen.fields import Fields, bounded, in_place, layer_of, multiplier, quantised, source
from hil.codegen.fold import Node
from hil.codegen.layer import Arena, Constant, ConstantOf, Lowered, Value
from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import (
    BinaryParams,
    DType,
    LookupParams,
    Model,
    OpKind,
    Quantization,
    ReduceParams,
    ResizeParams,
    Tensor,
)
from hil.model.tflite.movement import strides_of
from munas.cost import kernels, plain
from munas.cost.kernels import KernelVariant, Work

_BINARY_AXES = 4
_SUMS = {OpKind.ADD: KernelVariant.ADD_BROADCAST, OpKind.SUB: KernelVariant.SUB}
_EXTREMES = {OpKind.MAXIMUM: KernelVariant.MAXIMUM, OpKind.MINIMUM: KernelVariant.MINIMUM}
_PRODUCTS = {OpKind.MUL: KernelVariant.MUL, OpKind.PRELU: KernelVariant.PRELU}
_REDUCTIONS = {
    (OpKind.MEAN, DType.INT8): KernelVariant.SUM,
    (OpKind.REDUCE_MAX, DType.INT8): KernelVariant.REDUCE_MAX,
    (OpKind.REDUCE_MIN, DType.INT8): KernelVariant.REDUCE_MIN,
    (OpKind.MEAN, DType.INT16): KernelVariant.WIDE_SUM,
    (OpKind.REDUCE_MAX, DType.INT16): KernelVariant.WIDE_REDUCE_MAX,
    (OpKind.REDUCE_MIN, DType.INT16): KernelVariant.WIDE_REDUCE_MIN,
}
_RESIZES = {DType.INT8: KernelVariant.RESIZE_BILINEAR, DType.INT16: KernelVariant.WIDE_RESIZE_BILINEAR}


def lower_lookup(model: Model, node: Node) -> Lowered:
    """A table of 256 values."""
    work = plain.lookup(node.result.elements)
    table = Constant("table", "int8_t", cast(LookupParams, node.params).table, "results for -128 ... 127")
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "table": ConstantOf("table"),
        "count": node.result.elements,
    }
    return Lowered(layer_of(work, fields, constants=(table,)), work, in_place(node))


def lower_binary(model: Model, node: Node) -> Lowered:
    """Arithmetic of two operands, one of which may be a constant."""
    params = cast(BinaryParams, node.params)
    operands = [model.tensors[index] for index in node.op.inputs[:2]]
    if node.op.kind is not OpKind.PRELU and operands[0].data is None and operands[1].data is None:
        operands = list(node.tensors)
    work, fields, constants = broadcast({**_SUMS, **_EXTREMES, **_PRODUCTS}[node.op.kind], node, operands)
    fields |= _scaling(node, operands, params)
    return Lowered(layer_of(work, fields, constants=constants), work, in_place(node))


def broadcast(
    variant: KernelVariant, node: Node, operands: Sequence[Tensor]
) -> tuple[Work, Fields, tuple[Constant, ...]]:
    """Work, fields of the walk over both operands, and the constant among these, of a kernel that repeats axes."""
    counts, first_steps, second_steps = broadcast_axes(operands[0].shape, operands[1].shape, node.result.shape)
    places, constants = operand_places(node, operands)
    fields: Fields = {
        "first": places[0],
        "second": places[1],
        "output": Arena(node.output),
        "counts": counts,
        "first_steps": first_steps,
        "second_steps": second_steps,
    }
    return plain.binary(variant, counts), fields, constants


def operand_places(node: Node, operands: Sequence[Tensor]) -> tuple[list[Value], tuple[Constant, ...]]:
    """Where both operands lie: activations in the arena, a constant in flash."""
    places: list[Value] = []
    constants: list[Constant] = []
    for role, operand in zip(("first", "second"), operands, strict=True):
        if operand.data is None:
            places.append(source(node, len(places) - len(constants)))
        else:
            constants.append(
                Constant(role, f"{operand.dtype}_t", operand.data, " x ".join(map(str, operand.shape)) or "1")
            )
            places.append(ConstantOf(role))
    return places, tuple(constants)


def broadcast_axes(
    first: Sequence[int], second: Sequence[int], output: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(counts, steps of the first operand, of the second) along as few axes as there are. Raises ModelError."""
    sides = []
    for shape in (first, second):
        full = (1,) * (len(output) - len(shape)) + tuple(shape)
        steps = strides_of(full)
        sides.append([0 if size == 1 else step for size, step in zip(full, steps, strict=True)])
    merged: list[tuple[int, int, int]] = []
    for count, a, b in zip(output, *sides, strict=True):
        if count == 1:
            continue
        if merged and merged[-1][1:] == (a * count, b * count):
            merged[-1] = (merged[-1][0] * count, a, b)
        else:
            merged.append((count, a, b))
    if len(merged) > _BINARY_AXES:
        raise ModelError(f"shapes {list(first)} and {list(second)} broadcast along too many dimensions")
    rows = [(1, 0, 0)] * (_BINARY_AXES - len(merged)) + merged
    counts, first_steps, second_steps = zip(*rows, strict=True)
    return counts, first_steps, second_steps


def _scaling(node: Node, operands: Sequence[Tensor], params: BinaryParams) -> Fields:
    first, second, output = operands[0].quant, operands[1].quant, node.result.quant
    if node.op.kind in _EXTREMES:  # all have one zero point and one scale: the numbers themselves are compared
        names = ("first_zero_point", "second_zero_point", "output_zero_point")
        return {**dict.fromkeys(names, 0), "act_min": -128, "act_max": 127}
    fields: Fields = {
        "first_zero_point": first.zero_point,
        "second_zero_point": second.zero_point,
        **quantised(node, params.activation),
    }
    if node.op.kind in _SUMS:
        scaling = quantise.add_parameters(first, second, output)
        fields |= {**multiplier("first_", scaling.first), **multiplier("second_", scaling.second)}
        return fields | multiplier("output_", scaling.output)
    if node.op.kind is OpKind.PRELU:
        fields |= multiplier("first_", quantise.relu_multiplier(first, output))
    return fields | multiplier("output_", quantise.product_multiplier(first, second, output))


def lower_reduce(model: Model, node: Node) -> Lowered:
    """A reduction over any axes; the mean over the axes in front of those that stay has a kernel of its own."""
    groups = _groups(node.tensors[0].shape, cast(ReduceParams, node.params).axes)
    is_walked = [walked for _, walked in groups]
    variant = _REDUCTIONS[node.op.kind, node.result.dtype]
    if variant is KernelVariant.SUM and is_walked in ([], [True], [False], [True, False]):
        pixels = next((count for count, walked in groups if walked), 1)
        channels = next((count for count, walked in groups if not walked), 1)
        if channels <= kernels.MAX_EXTENT:
            return _mean(node, pixels, channels)
    counts = [count for count, _ in groups]
    steps = strides_of(counts)
    kept = [(count, step) for (count, walked), step in zip(groups, steps, strict=True) if not walked]
    walked = [(count, step) for (count, walked), step in zip(groups, steps, strict=True) if walked]
    if max(len(kept), len(walked)) > 2:
        raise ModelError("it reduces dimensions that alternate with others too often")
    pad = (1, 0)
    kept, walked = [pad] * (2 - len(kept)) + kept, [pad] * (2 - len(walked)) + walked
    work = plain.reduce(variant, [count for count, _ in kept], [count for count, _ in walked])
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "kept": tuple(count for count, _ in kept),
        "walked": tuple(count for count, _ in walked),
        "kept_steps": tuple(step for _, step in kept),
        "walked_steps": tuple(step for _, step in walked),
        **_reduced(node, prod(count for count, _ in walked)),
    }
    return Lowered(layer_of(work, fields), work)


def _groups(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """(elements, whether they are reduced) of neighbouring dimensions together; those of one element left out."""
    groups: list[tuple[int, bool]] = []
    for axis, count in enumerate(shape):
        if count == 1:
            continue
        walked = axis in axes
        if groups and groups[-1][1] == walked:
            groups[-1] = (groups[-1][0] * count, walked)
        else:
            groups.append((count, walked))
    return groups


def _reduced(node: Node, count: int) -> Fields:
    before, after = node.tensors[0].quant, node.result.quant
    if node.op.kind is not OpKind.MEAN:
        return {}
    return {**multiplier("", quantise.mean_multiplier(before, after, count)), **_zero_points(before, after)}


def _zero_points(before: Quantization, after: Quantization) -> Fields:
    return {"input_zero_point": before.zero_point, "output_zero_point": after.zero_point}


def _mean(node: Node, pixels: int, channels: int) -> Lowered:
    before, after = node.tensors[0].quant, node.result.quant
    ratio = quantise.mean_multiplier(before, after, pixels)
    work = kernels.mean((1, pixels, channels), shift=ratio.shift)
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "pixels": pixels,
        "channels": channels,
        **multiplier("", ratio),
        **_zero_points(before, after),
    }
    return Lowered(layer_of(work, fields), work)


def lower_log_softmax(node: Node) -> Lowered:
    """The logarithm of a softmax."""
    height, width, columns = node.sizes[0]
    parameters, limit = quantise.log_softmax_parameters(node.tensors[0].quant), kernels.MAX_EXTENT
    work = plain.log_softmax(height * width, columns, -parameters.diff_min)
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        **multiplier("", parameters.multiplier),
        **multiplier("reverse_", parameters.reverse),
        "diff_min": parameters.diff_min,
        "rows": bounded("number of rows", height * width, limit),
        "columns": bounded("number of columns", columns, limit),
    }
    return Lowered(layer_of(work, fields), work, in_place(node))


def lower_resize(model: Model, node: Node) -> Lowered:
    """Bilinear resizing."""
    params = cast(ResizeParams, node.params)
    (height, width, channels), (rows, columns, _) = node.sizes[0], node.out_size
    work = plain.resize_bilinear(_RESIZES[node.result.dtype], node.out_size)
    limit = kernels.MAX_EXTENT
    if max(rows * params.scale[0], columns * params.scale[1]) >= 2**31 - 2**11:
        raise ModelError("its output is too large for 10 fractional bits")
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "scale_h": params.scale[0],
        "scale_w": params.scale[1],
        "in_h": bounded("height", height, limit),
        "in_w": bounded("width", width, limit),
        "out_h": bounded("height", rows, limit),
        "out_w": bounded("width", columns, limit),
        "channels": bounded("number of channels", channels, limit),
        "half_pixel_centers": int(params.half_pixel_centers),
    }
    return Lowered(layer_of(work, fields), work)
