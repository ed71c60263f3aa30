"""SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND: what converters make of a dilation when the batch is open.

The three are one convolution with a dilation, whose padding is the blocks' minus what is cropped again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hil.model.network import ConvParams, DepthwiseParams, Op, OpKind, Padding
from hil.model.tflite import limits, quantisation, schema
from hil.model.tflite.checks import activation_of, image, options_of
from hil.model.tflite.container import Container, RawOperator
from hil.model.tflite.integers import IntArray
from hil.model.tflite.tensors import CoreTensors

_CONVOLUTIONS = (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D)


@dataclass(frozen=True, slots=True)
class Dilated:
    """The three operators. `block` is the dilation (height, width); `paddings` and `crops` are pairs for each."""

    split: RawOperator
    convolution: RawOperator
    join: RawOperator
    block: tuple[int, int]
    paddings: tuple[int, int, int, int]
    crops: tuple[int, int, int, int]


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
        middle = _only_reader(first, readers, container)
        last = middle and middle.kind in _CONVOLUTIONS and _only_reader(middle, readers, container)
        if not middle or not last or last.kind is not OpKind.BATCH_TO_SPACE_ND or len(last.inputs) != 3:
            continue
        values = [integers.get(index) for index in (*first.inputs[1:], *last.inputs[1:])]
        sizes = [item.reshape(-1).tolist() for item in values if item is not None]
        if [len(item) for item in sizes] != [2, 4, 2, 4] or sizes[0] != sizes[2]:
            continue
        if not all(0 <= number <= 255 for item in sizes for number in item) or 0 in sizes[0]:
            continue
        top, bottom, left, right = sizes[1]
        above, below, before, behind = sizes[3]
        found |= {first.index: None, middle.index: None}
        found[last.index] = Dilated(
            first, middle, last, (sizes[0][0], sizes[0][1]), (top, bottom, left, right), (above, below, before, behind)
        )
    return found


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


def import_dilated(found: Dilated, tensors: CoreTensors) -> Op:
    """One convolution instead of three operators. Raises ModelError."""
    operator, last = found.convolution, found.join
    options = options_of(operator)
    is_depthwise = operator.kind is OpKind.DEPTHWISE_CONV_2D
    source = image(found.split, tensors)
    weights = tensors.weights(operator, axis=3 if is_depthwise else 0, rank=4)
    filters = weights.shape[3 if is_depthwise else 0]
    bias = tensors.bias(operator, filters)
    steps = [options.int32(slot, 1) for slot in ((1, 2, 5, 6) if is_depthwise else (1, 2, 4, 5))]
    if options.int8(0) != schema.PADDING_VALID or steps != [1, 1, 1, 1]:
        raise operator.refuse("between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND it needs VALID padding and stride 1")
    if not is_depthwise and (bias is None or weights.shape[3] != source.shape[3]):
        raise operator.refuse("its weights do not suit its input, or it has no bias")
    multiplier = filters // source.shape[3]
    stated = (1, options.int32(3) * source.shape[3], options.int32(3))
    if is_depthwise and (weights.shape[0], filters, multiplier) != stated:
        raise operator.refuse(f"{filters} weights a tap do not suit {source.shape[3]} channels")
    padding = Padding(*(pad - crop for pad, crop in zip(found.paddings, found.crops, strict=True)))
    if min(padding.top, padding.bottom, padding.left, padding.right) < 0:
        raise last.refuse("it crops more than SPACE_TO_BATCH_ND has padded; convert the model with batch size 1")
    shape = _output_shape(found, source.shape, weights.shape[1:3], padding, filters)
    raw, output = tensors.output(last)
    inner = tensors.output(operator)[1]
    quantisation.same(last, [inner, output])
    quantisation.same(found.split, [source.quant, tensors.output(found.split)[1]])
    if raw.shape != shape:
        raise last.refuse(f"its output has shape {list(raw.shape)}, but its inputs and options give {list(shape)}")
    tensors.count_work(operator, math.prod(shape) * weights.elements)
    quantisation.check_weights(operator, source, weights, bias, output)
    params = ConvParams((1, 1), found.block, padding, activation_of(operator, options.int8(4 if is_depthwise else 3)))
    result = tensors.add_output(last, 0, None)
    inputs = (source.index, weights.index, -1 if bias is None else bias.index)
    assert operator.kind is not None
    if is_depthwise:
        depthwise = DepthwiseParams(params.stride, params.dilation, padding, params.activation, multiplier)
        return Op(operator.index, operator.kind, inputs, (result,), depthwise)
    return Op(operator.index, operator.kind, inputs, (result,), replace(params))


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
