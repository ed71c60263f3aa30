"""Layers that move elements, in as few and as long runs as there are: see `MoveParams`."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

import numpy as np

from hil.codegen.fields import Fields, bounded, layer_of, source
from hil.codegen.fold import Node, Run, runs_of
from hil.codegen.layer import Arena, Constant, ConstantOf, Lowered
from hil.errors import ModelError
from hil.model.network import Axis, ConcatParams, DType, Model, MoveParams, PadParams, Tensor
from munas.cost import kernels, plain
from munas.cost.kernels import KernelVariant

_COPY_AXES = 4  # HIL_COPY_AXES of hil_kernels.h
_SELECT_AXES = 3
_MAX_PLACES = 65536


def lower_move(model: Model, node: Node) -> Lowered:
    """A copy along strides, or by lists of places where there is no stride."""
    params = cast(MoveParams, node.params)
    width = node.result.dtype.size_bytes
    run = runs_of(params, width)
    start = source(node)
    first = Arena(start.storage, start.offset + params.start * width)
    if len(run.axes) > _COPY_AXES or any(axis.offsets for axis in run.axes):
        return _select(node, run, first)
    axes = [Axis(1, 0)] * (_COPY_AXES - len(run.axes)) + list(run.axes)
    work = plain.moved(KernelVariant.COPY, node.result.size_bytes, run.length, axes[-1].count)
    fields: Fields = {
        "input": first,
        "output": Arena(node.output),
        "run": run.length,
        "counts": tuple(axis.count for axis in axes),
        "steps": tuple(axis.step for axis in axes),
    }
    return Lowered(layer_of(work, fields), work)


def _select(node: Node, run: Run, first: Arena) -> Lowered:
    lists = [list(axis.offsets) or [axis.step * index for index in range(axis.count)] for axis in run.axes]
    lists = [[0]] * (_SELECT_AXES - len(lists)) + lists
    while len(lists) > _SELECT_AXES:
        at = min(range(len(lists) - 1), key=lambda index: len(lists[index]) * len(lists[index + 1]))
        lists[at : at + 2] = [[outer + inner for outer in lists[at] for inner in lists[at + 1]]]
    places = [place for item in lists for place in item]
    if len(places) > _MAX_PLACES:
        raise ModelError(f"it takes {len(places)} places to list; at most {_MAX_PLACES} are supported")
    work = plain.moved(KernelVariant.SELECT, node.result.size_bytes, run.length, len(lists[-1]))
    constant = Constant("places", "int32_t", np.array(places, "<i4").tobytes(), f"{len(places)} places")
    fields: Fields = {
        "input": first,
        "output": Arena(node.output),
        "places": ConstantOf("places"),
        "run": run.length,
        "counts": tuple(map(len, lists)),
    }
    return Lowered(layer_of(work, fields, constants=(constant,)), work)


def lower_concat(model: Model, node: Node) -> Lowered:
    """Runs of the inputs, one after the other."""
    axis = cast(ConcatParams, node.params).axis
    runs = prod(node.result.shape[:axis])
    rows = zip(node.inputs, node.offsets, node.tensors, strict=True)
    parts = tuple((Arena(storage, offset), tensor.size_bytes // runs) for storage, offset, tensor in rows)
    size = node.result.size_bytes
    work = kernels.move(KernelVariant.CONCAT, size, size, [(runs, each) for _, each in parts])
    fields: Fields = {
        "parts": ConstantOf("parts"),
        "output": Arena(node.output),
        "count": len(parts),
        "runs": runs,
    }
    return Lowered(layer_of(work, fields, parts=parts), work)


@dataclass(frozen=True, slots=True)
class _Padded:
    """An axis of a padding: elements of the input, and of padding before and after."""

    size: int
    before: int
    after: int

    @property
    def total(self) -> int:
        return self.before + self.size + self.after


def lower_pad(model: Model, node: Node) -> Lowered:
    """A copy into a larger tensor that has been filled."""
    params = cast(PadParams, node.params)
    low, high = params.value & 0xFF, params.value >> 8 & 0xFF
    if node.result.dtype is DType.INT16 and low != high:
        raise ModelError(f"it pads 16 bits by {params.value}, which is not one byte twice; supported: 0")
    axes = _padded_axes(node.tensors[0], params)
    limit = kernels.MAX_EXTENT
    sizes = tuple(bounded("size", axis.size, limit) for axis in axes)
    totals = tuple(bounded("padded size", axis.total, limit) for axis in axes)
    work = kernels.move(KernelVariant.PAD, prod(sizes), prod(totals), [(sizes[0] * sizes[1], sizes[2])])
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "input_size": sizes,
        "output_size": totals,
        "before": tuple(axis.before for axis in axes),
        "value": low - (low >> 7 << 8),
    }
    return Lowered(layer_of(work, fields), work)


def _padded_axes(tensor: Tensor, params: PadParams) -> list[_Padded]:
    """Three axes in bytes, the last unpadded ones joined into a run as far as the tables hold it. Raises ModelError."""
    axes = [_Padded(*item) for item in zip(tensor.shape, params.before, params.after, strict=True)]
    if tensor.dtype.size_bytes > 1:
        axes.append(_Padded(tensor.dtype.size_bytes, 0, 0))
    axes = [_Padded(1, 0, 0)] * (3 - len(axes)) + axes
    while len(axes) > 1 and axes[-1].total == axes[-1].size:
        outer, inner = axes[-2:]
        joined = _Padded(outer.size * inner.size, outer.before * inner.size, outer.after * inner.size)
        if joined.total > kernels.MAX_EXTENT:
            break
        axes[-2:] = [joined]
    while len(axes) > 3:  # outer axes: those of one element are left out, unpadded ones joined
        at = next((index for index, axis in enumerate(axes) if axis.total == 1), None)
        if at is not None:
            del axes[at]
            continue
        at = next((index for index in range(1, len(axes)) if axes[index].total == axes[index].size), None)
        if at is None:
            raise ModelError("it pads more than three dimensions")
        outer, inner = axes[at - 1 : at + 1]
        axes[at - 1 : at + 1] = [_Padded(outer.size * inner.size, outer.before * inner.size, outer.after * inner.size)]
    return [_Padded(1, 0, 0)] * (3 - len(axes)) + axes
