"""SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND: what converters make of a dilation when the batch is open.

The three are one convolution with a dilation, whose padding is the blocks' minus what is cropped again. Those of Conv1D
have three dimensions outside, and views on both sides of the convolution, which give it a height of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hil.model.network import ConvParams, DepthwiseParams, Op, OpKind, Padding, ReshapeParams, Tensor
from hil.model.tflite import limits, quantisation, schema
from hil.model.tflite.checks import activation_of, image, options_of
from hil.model.tflite.container import Container, RawOperator
from hil.model.tflite.integers import IntArray
from hil.model.tflite.tensors import CoreTensors
from hil.model.tflite.windows import as_depthwise

_CONVOLUTIONS = (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D)


@dataclass(frozen=True, slots=True)
class Dilated:
    """The three operators. `block` is the dilation (height, width); `paddings` and `crops` are pairs for each.

    `views` are what gives a convolution of one dimension its height, and takes it again; none in two dimensions.
    """

    split: RawOperator
    convolution: RawOperator
    join: RawOperator
    block: tuple[int, int]
    paddings: tuple[int, int, int, int]
    crops: tuple[int, int, int, int]
    views: tuple[RawOperator, ...] = ()


def dilated_convolutions(
    container: Container, core: Sequence[RawOperator], integers: Mapping[int, IntArray]
) -> dict[int, Dilated | None]:
    """The operators that belong to dilated convolutions by index: the last of three has the whole, the others None."""
    readers: dict[int, list[RawOperator]] = {}
    for operator in core:
        for index in operator.inputs:
            readers.setdefault(index, []).append(operator)
    found: dict[int, Dilated | None] = {}
    for first in core:
        if first.kind is not OpKind.SPACE_TO_BATCH_ND or len(first.inputs) != 3 or len(first.outputs) != 1:
            continue
        if (whole := _dilated(first, readers, container, integers)) is not None:
            found |= dict.fromkeys((first.index, whole.convolution.index, *(view.index for view in whole.views)))
            found[whole.join.index] = whole
    return found


def _dilated(
    first: RawOperator,
    readers: Mapping[int, list[RawOperator]],
    container: Container,
    integers: Mapping[int, IntArray],
) -> Dilated | None:
    """What begins with a SPACE_TO_BATCH_ND, where that is a dilated convolution."""
    chain = [first]
    while len(chain) < 5 and (following := _only_reader(chain[-1], readers, container)) is not None:
        chain.append(following)
    at = next((place for place, item in enumerate(chain) if item.kind in _CONVOLUTIONS), 0)
    if at not in (1, 2) or len(chain) <= 2 * at:
        return None
    last, views = chain[2 * at], (chain[1], chain[3]) if at == 2 else ()
    if last.kind is not OpKind.BATCH_TO_SPACE_ND or len(last.inputs) != 3:
        return None
    values = [integers.get(index) for index in (*first.inputs[1:], *last.inputs[1:])]
    sizes = [item.reshape(-1).tolist() for item in values if item is not None]
    if not all(0 <= number <= 255 for item in sizes for number in item):
        return None
    if views and [len(item) for item in sizes] == [1, 2, 1, 2]:  # a height of 1, which nothing is done to
        sizes = [[1, *sizes[0]], [0, 0, *sizes[1]], [1, *sizes[2]], [0, 0, *sizes[3]]]
    elif views:
        return None
    if [len(item) for item in sizes] != [2, 4, 2, 4] or sizes[0] != sizes[2] or 0 in sizes[0]:
        return None
    (top, bottom, left, right), (above, below, before, behind) = sizes[1], sizes[3]
    block, paddings, crops = (sizes[0][0], sizes[0][1]), (top, bottom, left, right), (above, below, before, behind)
    return Dilated(first, chain[at], last, block, paddings, crops, views)


def _only_reader(
    operator: RawOperator, readers: Mapping[int, list[RawOperator]], container: Container
) -> RawOperator | None:
    """The one operator that reads the output, and reads it first; None when there are others."""
    if len(operator.outputs) != 1 or operator.outputs[0] in container.outputs:
        return None
    users = readers.get(operator.outputs[0], [])
    if len(users) != 1 or not users[0].inputs or users[0].inputs[0] != operator.outputs[0]:
        return None
    return users[0]


def import_dilated(found: Dilated, tensors: CoreTensors) -> list[Op]:
    """One convolution instead of three operators, between its views. Raises ModelError."""
    operator, last = found.convolution, found.join
    options = options_of(operator)
    is_depthwise = operator.kind is OpKind.DEPTHWISE_CONV_2D
    for item in (found.split, *found.views, operator, last):
        tensors.check_widths(item)
    outside, before = _source(found, tensors)
    source = before or outside
    weights = tensors.weights(operator, axis=3 if is_depthwise else 0, rank=4)
    filters = weights.shape[3 if is_depthwise else 0]
    bias = tensors.bias(operator, filters)
    steps = [options.int32(slot, 1) for slot in ((1, 2, 5, 6) if is_depthwise else (1, 2, 4, 5))]
    if options.int8(0) != schema.PADDING_VALID or steps != [1, 1, 1, 1]:
        raise operator.refuse("between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND it needs VALID padding and stride 1")
    channels = source.shape[3]
    groups = 1 if is_depthwise else channels // weights.shape[3]
    if not is_depthwise and (bias is None or groups * weights.shape[3] != channels or groups < 1 or filters % groups):
        raise operator.refuse("its weights do not suit its input, or it has no bias")
    multiplier = filters // channels
    stated = (1, options.int32(3) * channels, options.int32(3))
    if is_depthwise and (weights.shape[0], filters, multiplier) != stated:
        raise operator.refuse(f"{filters} weights a tap do not suit {channels} channels")
    padding = Padding(*(pad - crop for pad, crop in zip(found.paddings, found.crops, strict=True)))
    if min(padding.top, padding.bottom, padding.left, padding.right) < 0:
        raise last.refuse("it crops more than SPACE_TO_BATCH_ND has padded; convert the model with batch size 1")
    shape = _output_shape(found, source.shape, weights.shape[1:3], padding, filters)
    raw, output = tensors.output(last)
    shown = (1, *shape[2:]) if found.views else shape
    if raw.shape != shown and not tensors.restate(last, 0, shown):
        raise last.refuse(f"its output has shape {list(raw.shape)}, but its inputs and options give {list(shown)}")
    _check_views(found, tensors, source.shape, weights.shape)
    quantisation.same(last, [tensors.output(item)[1] for item in (operator, *found.views[1:])] + [output])
    quantisation.same(
        found.split, [source.quant] + [tensors.output(item)[1] for item in (found.split, *found.views[:1])]
    )
    tensors.count_work(operator, math.prod(shape) * weights.elements)
    quantisation.check_weights(operator, source, weights, bias, output)
    activation = activation_of(operator, options.int8(4 if is_depthwise else 3))
    params: ConvParams | DepthwiseParams = ConvParams((1, 1), found.block, padding, activation, groups)
    if is_depthwise:
        params = DepthwiseParams((1, 1), found.block, padding, activation, multiplier)
    elif groups == channels > 1:  # one channel a group
        weights, params = (
            as_depthwise(tensors, weights),
            DepthwiseParams((1, 1), found.block, padding, activation, multiplier),
        )
    after = tensors.between(shape, output, raw.name) if found.views else None
    result = tensors.add_output(last, 0, None)
    inputs = (source.index, weights.index, -1 if bias is None else bias.index)
    assert operator.kind is not None
    made = (result if after is None else after.index,)
    convolution = Op(operator.index, operator.kind, inputs, made, params)
    if before is None or after is None:
        return [convolution]
    view, back = ReshapeParams(before.shape), ReshapeParams(shown)
    return [
        Op(found.split.index, OpKind.RESHAPE, (outside.index,), (before.index,), view),
        convolution,
        Op(last.index, OpKind.RESHAPE, (after.index,), (result,), back),
    ]


def _source(found: Dilated, tensors: CoreTensors) -> tuple[Tensor, Tensor | None]:
    """The input, and where it has one dimension the same as an image with a height of 1. Raises ModelError."""
    if not found.views:
        return image(found.split, tensors), None
    outside = tensors.source(found.split)
    if len(outside.shape) != 3 or outside.shape[0] != 1:
        raise found.split.refuse(f"its input has shape {list(outside.shape)}; supported: 3 dimensions, batch 1")
    return outside, tensors.between((1, 1, *outside.shape[1:]), outside.quant, outside.name)


def _check_views(found: Dilated, tensors: CoreTensors, source: tuple[int, ...], weights: tuple[int, ...]) -> None:
    """Refuse views that do anything but give the blocks a height of 1 and take it again, whatever their number is."""
    if not found.views:
        return
    first, second = found.views
    length = (source[2] + found.paddings[2] + found.paddings[3]) // found.block[1]
    filters = weights[3] if found.convolution.kind is OpKind.DEPTHWISE_CONV_2D else weights[0]
    expanded, squeezed = (1, length, source[3]), (length - weights[2] + 1, filters)
    if first.kind is OpKind.EXPAND_DIMS and tensors.integers(first, 1, 1) in ((1,), (-3,)):
        pass
    elif first.kind is not OpKind.RESHAPE or not _gives(first, tensors, expanded, found.block[1]):
        raise first.refuse("between SPACE_TO_BATCH_ND and a convolution it has to give a height of 1")
    if second.kind is OpKind.SQUEEZE and options_of(second).int32s(0) in ((1,), (-3,)):
        return
    if second.kind is not OpKind.RESHAPE or not _gives(second, tensors, squeezed, found.block[1]):
        raise second.refuse("between a convolution and BATCH_TO_SPACE_ND it has to take its height of 1")


def _gives(operator: RawOperator, tensors: CoreTensors, shape: tuple[int, ...], blocks: int) -> bool:
    """Whether a RESHAPE gives each of the blocks this shape."""
    target = tensors.integers(operator, 1, limits.MAX_RANK)
    return target[:1] in ((-1,), (blocks,)) and target[1:] == shape


def _output_shape(
    found: Dilated, source: tuple[int, ...], window: tuple[int, ...], padding: Padding, filters: int
) -> tuple[int, ...]:
    """(1, H, W, C) of the whole. Raises ModelError when the blocks do not divide the padded input."""
    sizes = []
    pads = ((padding.top, padding.bottom), (padding.left, padding.right))
    for axis, (low, high) in enumerate(pads):
        block, taps, size = found.block[axis], window[axis], source[axis + 1]
        padded = size + found.paddings[2 * axis] + found.paddings[2 * axis + 1]
        result = size + low + high - (taps - 1) * block
        if padded % block or result < 1 or (taps - 1) * block + 1 > limits.MAX_DIMENSION:
            raise found.split.refuse(f"blocks of {block} do not divide {padded} elements, or leave nothing")
        sizes.append(result)
    return (1, *sizes, filters)
