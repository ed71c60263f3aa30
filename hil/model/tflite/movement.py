"""Importers of operators that only move elements: shapes, slices, joins, transpositions, paddings, enlargements.

All but padding, joining and reshaping become one `MoveParams`: for each axis of the output, where its elements lie in
the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from hil.model.network import Axis, ConcatParams, MoveParams, OpKind, PadParams, ReshapeParams, Tensor
from hil.model.tflite import limits, quantisation
from hil.model.tflite.checks import Imported, axis_of, expect_shape, options_of
from hil.model.tflite.container import RawOperator
from hil.model.tflite.integers import sliced
from hil.model.tflite.tensors import CoreTensors
from hil.model.tflite.windows import output_size


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements from one index of a dimension to the next."""
    return tuple(accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))[::-1] if shape else ()


def _moved(
    operator: RawOperator,
    tensors: CoreTensors,
    source: Tensor,
    shape: Sequence[int],
    params: MoveParams,
    position: int = 0,
) -> Imported:
    """Check shape and quantisation of output `position`, and count the elements."""
    expect_shape(operator, tensors, tuple(shape), position)
    tensors.count_work(operator, math.prod(shape))
    _keep_quantisation(operator, tensors, [source], position)
    return (source.index,), params


def _keep_quantisation(
    operator: RawOperator, tensors: CoreTensors, sources: Sequence[Tensor], position: int = 0
) -> None:
    quantisation.same(operator, [item.quant for item in sources] + [tensors.output(operator, position)[1]])


def _whole(source: Tensor) -> list[Axis]:
    return [Axis(size, step) for size, step in zip(source.shape, strides_of(source.shape), strict=True)]


# Shapes.


def reshape(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """RESHAPE, whose shape is a constant tensor or an option."""
    source = tensors.source(operator, allow_float=True)
    if tensors.has(operator, 1):
        target = tensors.integers(operator, 1, limits.MAX_RANK)
    elif operator.options is not None:
        target = operator.options.int32s(0)
    else:
        raise operator.refuse("it has neither a shape tensor nor options")
    known = math.prod(size for size in target if size != -1)
    if target.count(-1) == 1 and known > 0 and source.elements % known == 0:
        target = tuple(source.elements // known if size == -1 else size for size in target)
    if min(target, default=1) < 1 or math.prod(target) != source.elements:
        raise operator.refuse(f"a tensor of {source.elements} elements has no shape {list(target)}")
    return _reshaped(operator, tensors, source, target)


def _reshaped(operator: RawOperator, tensors: CoreTensors, source: Tensor, shape: tuple[int, ...]) -> Imported:
    expect_shape(operator, tensors, shape)
    tensors.count_work(operator, source.elements)
    _keep_quantisation(operator, tensors, [source])
    return (source.index,), ReshapeParams(shape)


def squeeze(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """SQUEEZE of the dimensions that its options name, or of all that are 1."""
    source = tensors.source(operator, allow_float=True)
    axes = operator.options.int32s(0) if operator.options is not None else ()
    dropped = {axis_of(operator, axis, len(source.shape)) for axis in axes}
    if not axes:
        dropped = {axis for axis, size in enumerate(source.shape) if size == 1}
    if any(source.shape[axis] != 1 for axis in dropped):
        raise operator.refuse(f"not all of the dimensions {sorted(dropped)} of {list(source.shape)} are 1")
    shape = tuple(size for axis, size in enumerate(source.shape) if axis not in dropped)
    return _reshaped(operator, tensors, source, shape)


def expand_dims(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """EXPAND_DIMS: one more dimension of 1."""
    source = tensors.source(operator, allow_float=True)
    (place, *_) = tensors.integers(operator, 1, 1) or (0,)
    axis = axis_of(operator, place, len(source.shape) + 1)
    return _reshaped(operator, tensors, source, (*source.shape[:axis], 1, *source.shape[axis:]))


# Parts.


def strided_slice(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """STRIDED_SLICE with constant ends."""
    source = tensors.source(operator, allow_float=True)
    ends = [tensors.integer_array(operator, position, limits.MAX_RANK) for position in (1, 2, 3)]
    index = sliced(operator, *ends)
    if len(index) > len(source.shape):
        raise operator.refuse(f"it has {len(index)} slices for {len(source.shape)} dimensions")
    start, axes, shape = 0, [], []
    steps = strides_of(source.shape)
    for axis, size in enumerate(source.shape):
        item = index[axis] if axis < len(index) else slice(None)
        if isinstance(item, int):
            start += axis_of(operator, item, size) * steps[axis]
            continue
        chosen = range(size)[item]
        if not chosen:
            raise operator.refuse("it takes nothing of its input")
        start += chosen[0] * steps[axis]
        axes.append(Axis(len(chosen), chosen.step * steps[axis]))
        shape.append(len(chosen))
    return _moved(operator, tensors, source, shape, MoveParams(start, tuple(axes)))


def slice_(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """SLICE: begin and size of each dimension, a size of -1 being all that is left."""
    source = tensors.source(operator, allow_float=True)
    begins, sizes = (tensors.integers(operator, position, limits.MAX_RANK) for position in (1, 2))
    if not len(begins) == len(sizes) == len(source.shape):
        raise operator.refuse("it needs a begin and a size for each dimension")
    rows = list(zip(source.shape, begins, sizes, strict=True))
    shape = [have - begin if size == -1 else size for have, begin, size in rows]
    ends = [begin + want for begin, want in zip(begins, shape, strict=True)]
    if min(begins) < 0 or min(shape) < 1 or any(end > have for end, have in zip(ends, source.shape, strict=True)):
        raise operator.refuse(f"its slice from {list(begins)} of {list(sizes)} does not lie in {list(source.shape)}")
    return _moved(operator, tensors, source, shape, _part(source, begins, shape))


def _part(source: Tensor, begins: Sequence[int], shape: Sequence[int]) -> MoveParams:
    steps = strides_of(source.shape)
    start = sum(begin * step for begin, step in zip(begins, steps, strict=True))
    return MoveParams(start, tuple(Axis(size, step) for size, step in zip(shape, steps, strict=True)))


def split(operator: RawOperator, tensors: CoreTensors) -> list[Imported]:
    """SPLIT into equal parts."""
    source = tensors.source(operator, 1, allow_float=True)
    (place, *_) = tensors.integers(operator, 0, 1) or (0,)
    axis, parts = axis_of(operator, place, len(source.shape)), len(operator.outputs)
    if not parts or source.shape[axis] % parts:
        raise operator.refuse(f"a dimension of {source.shape[axis]} does not split into {parts}")
    return _parts(operator, tensors, source, axis, [source.shape[axis] // parts] * parts)


def split_v(operator: RawOperator, tensors: CoreTensors) -> list[Imported]:
    """SPLIT_V into parts of given sizes, one of which may be -1."""
    source = tensors.source(operator, allow_float=True)
    sizes = list(tensors.integers(operator, 1, limits.MAX_OPERANDS))
    (place, *_) = tensors.integers(operator, 2, 1) or (0,)
    axis = axis_of(operator, place, len(source.shape))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = source.shape[axis] - sum(size for size in sizes if size != -1)
    if len(sizes) != len(operator.outputs) or min(sizes, default=0) < 1 or sum(sizes) != source.shape[axis]:
        raise operator.refuse(f"a dimension of {source.shape[axis]} does not split into {sizes}")
    return _parts(operator, tensors, source, axis, sizes)


def _parts(
    operator: RawOperator, tensors: CoreTensors, source: Tensor, axis: int, sizes: Sequence[int]
) -> list[Imported]:
    imported, first = [], 0
    for position, size in enumerate(sizes):
        begins = [first if at == axis else 0 for at in range(len(source.shape))]
        shape = [size if at == axis else have for at, have in enumerate(source.shape)]
        imported.append(_moved(operator, tensors, source, shape, _part(source, begins, shape), position))
        first += size
    return imported


def unpack(operator: RawOperator, tensors: CoreTensors) -> list[Imported]:
    """UNPACK: one output for each index of a dimension."""
    source, options = tensors.source(operator, allow_float=True), options_of(operator)
    axis = axis_of(operator, options.int32(1), len(source.shape))
    if source.shape[axis] != len(operator.outputs):
        raise operator.refuse(f"a dimension of {source.shape[axis]} does not give {len(operator.outputs)} outputs")
    step, whole = strides_of(source.shape)[axis], _whole(source)
    axes = tuple(item for at, item in enumerate(whole) if at != axis)
    shape = [size for at, size in enumerate(source.shape) if at != axis]
    return [
        _moved(operator, tensors, source, shape, MoveParams(position * step, axes), position)
        for position in range(len(operator.outputs))
    ]


def gather(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """GATHER of constant indices along one axis."""
    source, options = tensors.source(operator, allow_float=True), options_of(operator)
    axis, indices = axis_of(operator, options.int32(0), len(source.shape)), tensors.integer_array(operator, 1, 65536)
    if options.int32(1):
        raise operator.refuse("batch dimensions are not supported")
    chosen = indices.reshape(-1).tolist()
    if not chosen or not 0 <= min(chosen) <= max(chosen) < source.shape[axis]:
        raise operator.refuse(f"its indices are not within a dimension of {source.shape[axis]}")
    shape = (*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])
    step, axes = strides_of(source.shape)[axis], _whole(source)
    axes[axis] = _axis([index * step for index in chosen])
    start = axes[axis].offsets[0] if axes[axis].offsets else chosen[0] * step
    axes[axis] = _from_start(axes[axis], start)
    return _moved(operator, tensors, source, shape, MoveParams(start, tuple(axes)))


def _axis(places: Sequence[int]) -> Axis:
    """An axis of elements at these places, affine where they are evenly spaced."""
    steps = {second - first for first, second in pairwise(places)}
    if len(steps) <= 1:
        return Axis(len(places), steps.pop() if steps else 0)
    return Axis(len(places), 0, tuple(places))


def _from_start(axis: Axis, start: int) -> Axis:
    return Axis(axis.count, axis.step, tuple(place - start for place in axis.offsets))


def _by_places(places: Sequence[Sequence[int]], steps: Sequence[int]) -> MoveParams:
    """A movement whose output index i along an axis reads index places[axis][i]."""
    start, axes = 0, []
    for indices, step in zip(places, steps, strict=True):
        start += indices[0] * step
        axes.append(_from_start(_axis([index * step for index in indices]), indices[0] * step))
    return MoveParams(start, tuple(axes))


# Orders.


def transpose(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """TRANSPOSE by a constant permutation."""
    source = tensors.source(operator, allow_float=True)
    order = [axis_of(operator, axis, len(source.shape)) for axis in tensors.integers(operator, 1, limits.MAX_RANK)]
    if sorted(order) != list(range(len(source.shape))):
        raise operator.refuse(f"{order} is no permutation of its dimensions")
    whole = _whole(source)
    shape = [source.shape[axis] for axis in order]
    return _moved(operator, tensors, source, shape, MoveParams(0, tuple(whole[axis] for axis in order)))


def reverse(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """REVERSE_V2 along constant axes, which LiteRT wants beside each other."""
    source = tensors.source(operator, allow_float=True)
    axes = [axis_of(operator, axis, len(source.shape)) for axis in tensors.integers(operator, 1, limits.MAX_RANK)]
    turned = sorted(axes)
    if len(set(axes)) < len(axes) or turned[-1:] != [axis + len(axes) - 1 for axis in turned[:1]]:
        raise operator.refuse(f"axes {axes} are not beside each other")
    places = [range(size)[:: -1 if axis in turned else 1] for axis, size in enumerate(source.shape)]
    return _moved(operator, tensors, source, source.shape, _by_places(places, strides_of(source.shape)))


def depth_to_space(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """DEPTH_TO_SPACE: (N, H, W, b * b * C) to (N, H * b, W * b, C)."""
    source, block = _blocked(operator, tensors)
    batch, height, width, depth = source.shape
    channels = depth // (block * block)
    if depth % (block * block):
        raise operator.refuse(f"{depth} channels are no multiple of {block}x{block}")
    axes = (
        Axis(batch, height * width * depth), Axis(height, width * depth), Axis(block, block * channels),
        Axis(width, depth), Axis(block, channels), Axis(channels, 1),
    )  # fmt: skip
    shape = (batch, height * block, width * block, channels)
    return _moved(operator, tensors, source, shape, MoveParams(0, axes))


def space_to_depth(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """SPACE_TO_DEPTH: (N, H * b, W * b, C) to (N, H, W, b * b * C)."""
    source, block = _blocked(operator, tensors)
    batch, rows, columns, channels = source.shape
    if rows % block or columns % block:
        raise operator.refuse(f"{rows}x{columns} is no multiple of {block}x{block}")
    row = columns * channels
    axes = (
        Axis(batch, rows * row), Axis(rows // block, block * row), Axis(columns // block, block * channels),
        Axis(block, row), Axis(block, channels), Axis(channels, 1),
    )  # fmt: skip
    shape = (batch, rows // block, columns // block, channels * block * block)
    return _moved(operator, tensors, source, shape, MoveParams(0, axes))


def _blocked(operator: RawOperator, tensors: CoreTensors) -> tuple[Tensor, int]:
    source, block = tensors.source(operator), options_of(operator).int32(0)
    if len(source.shape) != 4 or not 1 <= block <= limits.MAX_DIMENSION:
        raise operator.refuse(f"a block of {block} on shape {list(source.shape)} is not supported")
    return source, block


# More elements than the input has.


def tile(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """TILE: each dimension repeated."""
    source = tensors.source(operator)
    times = tensors.integers(operator, 1, limits.MAX_RANK)
    if len(times) != len(source.shape) or min(times, default=1) < 1:
        raise operator.refuse(f"multiples {list(times)} do not suit shape {list(source.shape)}")
    shape = tuple(size * count for size, count in zip(source.shape, times, strict=True))
    axes = []
    for item, count in zip(_whole(source), times, strict=True):
        axes += [Axis(count, 0), item]
    return _moved(operator, tensors, source, shape, MoveParams(0, tuple(axes)))


def broadcast_to(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """BROADCAST_TO a constant shape."""
    source = tensors.source(operator)
    shape = tensors.integers(operator, 1, limits.MAX_RANK)
    own = (1,) * (len(shape) - len(source.shape)) + source.shape
    if len(own) != len(shape) or any(have not in (1, want) or want < 1 for have, want in zip(own, shape, strict=True)):
        raise operator.refuse(f"shape {list(source.shape)} does not broadcast to {list(shape)}")
    pairs = zip(shape, own, strides_of(own), strict=True)
    axes = tuple(Axis(want, step if have == want else 0) for want, have, step in pairs)
    return _moved(operator, tensors, source, shape, MoveParams(0, axes))


def pad(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """PAD by the zero point, PADV2 by a constant."""
    source = tensors.source(operator)
    before, after = _paddings(operator, tensors, len(source.shape))
    shape = tuple(low + size + high for low, size, high in zip(before, source.shape, after, strict=True))
    expect_shape(operator, tensors, shape)
    tensors.count_work(operator, math.prod(shape))
    _keep_quantisation(operator, tensors, [source])
    value = source.quant.zero_point
    if operator.kind is OpKind.PADV2:
        constant = tensors.operand(operator, 2)
        if constant.data is None or constant.elements != 1:
            raise operator.refuse("the value that it pads with has to be one constant")
        quantisation.same(operator, [source.quant, constant.quant])
        value = int(np.frombuffer(constant.data, constant.dtype.value)[0])
    return (source.index,), PadParams(before, after, value)


def _paddings(operator: RawOperator, tensors: CoreTensors, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found = tensors.integer_array(operator, 1, 2 * limits.MAX_RANK)
    values = found.reshape(-1).tolist()
    if found.shape != (rank, 2) or not all(0 <= value <= limits.MAX_DIMENSION for value in values):
        raise operator.refuse(f"paddings have to be {rank} pairs from 0 to {limits.MAX_DIMENSION}")
    return tuple(values[0::2]), tuple(values[1::2])


def mirror_pad(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """MIRROR_PAD: REFLECT leaves the edge out, SYMMETRIC repeats it."""
    source = tensors.source(operator)
    before, after = _paddings(operator, tensors, len(source.shape))
    offset = 0 if options_of(operator).int8(0) == 1 else 1
    places = []
    for size, low, high in zip(source.shape, before, after, strict=True):
        if max(low, high) > size - offset:
            raise operator.refuse(f"a padding of {max(low, high)} does not mirror {size} elements")
        left = [low - 1 + offset - index for index in range(low)]
        right = [size - 1 - offset - index for index in range(high)]
        places.append([*left, *range(size), *right])
    shape = [len(item) for item in places]
    return _moved(operator, tensors, source, shape, _by_places(places, strides_of(source.shape)))


def resize_nearest(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """RESIZE_NEAREST_NEIGHBOR of (N, H, W, C)."""
    source, options = tensors.source(operator), options_of(operator)
    align, half_pixel = options.flag(0), options.flag(1)
    if len(source.shape) != 4:
        raise operator.refuse(f"its input has shape {list(source.shape)}; supported: 4 dimensions")
    size = output_size(operator, tensors, contradicts=False)
    batch, height, width, channels = source.shape
    rows, columns = (
        [_nearest(index, have, want, align, half_pixel) for index in range(want)]
        for have, want in zip((height, width), size, strict=True)
    )
    places = [range(batch), rows, columns, range(channels)]
    params = _by_places(places, strides_of(source.shape))
    return _moved(operator, tensors, source, (batch, *size, channels), params)


def _nearest(index: int, have: int, want: int, align: bool, half_pixel: bool) -> int:
    """GetNearestNeighbor of resize_nearest_neighbor.h, in its float32 arithmetic."""
    stretched = align and want > 1
    scale = np.float32(have - 1 if stretched else have) / np.float32(want - 1 if stretched else want)
    position = (np.float32(index) + np.float32(0.5 if half_pixel else 0.0)) * scale
    whole = math.floor(float(position) + 0.5) if align else math.floor(float(position))
    return max(0, min(whole, have - 1))


# Joins.


def concatenation(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """CONCATENATION along any axis."""
    options = options_of(operator)
    sources = [tensors.source(operator, position) for position in range(len(operator.inputs))]
    rank = len(sources[0].shape)
    axis = axis_of(operator, options.int32(0), rank)
    if options.int8(1):
        raise operator.refuse("a fused activation is not supported")
    shape = list(sources[0].shape)
    for source in sources[1:]:
        if len(source.shape) != rank or any(source.shape[i] != shape[i] for i in range(rank) if i != axis):
            raise operator.refuse("its inputs have different shapes")
        shape[axis] += source.shape[axis]
    return _joined(operator, tensors, sources, shape, axis)


def pack(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """PACK: tensors of one shape along a new dimension."""
    sources = [tensors.source(operator, position) for position in range(len(operator.inputs))]
    first = sources[0].shape
    if any(source.shape != first for source in sources):
        raise operator.refuse("its inputs have different shapes")
    axis = axis_of(operator, options_of(operator).int32(1), len(first) + 1)
    return _joined(operator, tensors, sources, [*first[:axis], len(sources), *first[axis:]], axis)


def _joined(
    operator: RawOperator, tensors: CoreTensors, sources: list[Tensor], shape: Sequence[int], axis: int
) -> Imported:
    expect_shape(operator, tensors, tuple(shape))
    tensors.count_work(operator, math.prod(shape))
    _keep_quantisation(operator, tensors, sources)
    return tuple(source.index for source in sources), ConcatParams(axis)
