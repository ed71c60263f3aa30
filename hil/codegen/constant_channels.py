"""Channels that have the same value whatever the input is: they are left out, and what reads them counts them in.

An interval of every channel follows from weights, biases, activations and int8 inputs; a channel whose interval is
one value is constant, which is proven and not measured. Where all that read it are convolutions or dense layers, their
biases take its products up, and the rows that make it go. Depthwise convolutions and pools hand channels on, so theirs
go too. Every output of the network stays what it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import (
    ConvParams,
    DenseParams,
    DepthwiseParams,
    DType,
    Model,
    Op,
    Padding,
    PoolParams,
    Quantization,
    ReshapeParams,
    Tensor,
)

Values = NDArray[np.int64]

_INT32_MAX = 2**31 - 1
_NO_PADDING = Padding(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Interval:
    """Smallest and largest value of each channel, as int8."""

    low: Values
    high: Values

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which channels have one value only."""
        same: NDArray[np.bool_] = self.low == self.high
        return same


def without_constant_channels(model: Model) -> tuple[Model, int]:
    """`model` without channels that are constant, and how many of its convolutions' outputs went."""
    rewriter = _Rewriter(model)
    for group in rewriter.groups():
        rewriter.shrink(group)
    return rewriter.result(), rewriter.dropped


def intervals(model: Model) -> dict[int, Interval]:
    """Of all activations that have channels, by tensor."""
    found: dict[int, Interval] = {}
    for op in model.ops:
        if len(op.outputs) == 1 and model.tensors[op.outputs[0]].shape:
            channels = model.tensors[op.outputs[0]].shape[-1]
            try:
                found[op.outputs[0]] = _interval(model, op, found) or _anything(channels)
            except ModelError as error:
                raise ModelError(f"operator {op.index} ({op.kind}): {error}") from error
    return found


def _anything(channels: int) -> Interval:
    return Interval(np.full(channels, -128, np.int64), np.full(channels, 127, np.int64))


def _interval(model: Model, op: Op, known: dict[int, Interval]) -> Interval | None:
    """What `op` makes of its input's interval, where that is known to follow."""
    if _is_wide(model, op):
        return None
    if isinstance(op.params, ConvParams | DepthwiseParams):
        source = known.get(op.inputs[0]) or _anything(model.tensors[op.inputs[0]].shape[-1])
        return _convolved(model, op, op.params, source)
    if _hands_on(model, op) and op.inputs[0] in known:
        source, output = known[op.inputs[0]], model.tensors[op.outputs[0]]
        if isinstance(op.params, PoolParams):
            low, high = quantise.activation_range(op.params.activation, output.quant)
            return Interval(np.clip(source.low, low, high), np.clip(source.high, low, high))
        return source
    return None


def _is_wide(model: Model, op: Op) -> bool:
    """Whether it reads or writes 16 bits."""
    return DType.INT16 in (model.tensors[op.inputs[0]].dtype, model.tensors[op.outputs[0]].dtype)


def _convolved(model: Model, op: Op, params: ConvParams | DepthwiseParams, source: Interval) -> Interval | None:
    weights, result = model.tensors[op.inputs[1]], model.tensors[op.outputs[0]]
    rows = _rows(model, op)
    if rows is None:
        return None
    zero_point = model.tensors[op.inputs[0]].quant.zero_point
    low, high = source.low - zero_point, source.high - zero_point
    if params.padding != _NO_PADDING:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    if isinstance(params, DepthwiseParams):
        low, high = low[:, None, None], high[:, None, None]  # rows are taps of one channel each
    first, second = rows * low, rows * high
    bias = _bias(model, op, len(rows))
    sums = (np.minimum(first, second).sum(axis=(1, 2)) + bias, np.maximum(first, second).sum(axis=(1, 2)) + bias)
    scales = quantise.conv_multipliers(model.tensors[op.inputs[0]].quant, weights.quant, result.quant, len(rows))
    if max(int(np.abs(item).max(initial=0)) for item in sums) > _INT32_MAX or any(item.shift > 0 for item in scales):
        return None  # sums that might wrap around
    least, most = quantise.activation_range(params.activation, result.quant)
    ends = [
        np.clip(_rescaled(item, scales) + result.quant.zero_point, least, most) for item in sums
    ]  # scales are positive
    return Interval(*ends)


def _rescaled(sums: Values, scales: Sequence[quantise.Multiplier]) -> Values:
    """As the reference: a product of 31 bits, then a shift to the right, each rounded."""
    significands = np.array([item.significand for item in scales], np.int64)
    shifts = np.array([-item.shift if item.significand else 0 for item in scales], np.int64)
    products = (sums * significands + (1 << 30)) >> 31
    half = np.where(shifts > 0, 1 << np.maximum(shifts - 1, 0), 0)
    lowered = np.where((products < 0) & (shifts > 0), products - 1, products)
    shifted: Values = (lowered + half) >> shifts
    return shifted


def _rows(model: Model, op: Op) -> Values | None:
    """Weights as (outputs, taps, input channels), a depthwise convolution's as (channels, taps, 1).

    None for groups, and for more outputs than inputs of a depthwise one.
    """
    weights = model.tensors[op.inputs[1]]
    assert weights.data is not None
    values = np.frombuffer(weights.data, "i1").reshape(weights.shape).astype(np.int64)
    if isinstance(op.params, DepthwiseParams):
        if op.params.depth_multiplier != 1:
            return None
        return values.reshape(-1, values.shape[-1]).T[:, :, None]
    if isinstance(op.params, ConvParams) and op.params.groups > 1:
        return None
    return values.reshape(len(values), -1, values.shape[-1])


def _bias(model: Model, op: Op, count: int) -> Values:
    index = op.inputs[2] if len(op.inputs) > 2 else -1
    data = model.tensors[index].data if index >= 0 else None
    return np.zeros(count, np.int64) if data is None else np.frombuffer(data, "<i4").astype(np.int64)


def _hands_on(model: Model, op: Op) -> bool:
    """Whether output channel i depends on input channel i alone, and is constant if that is (a pool's, a reshape's)."""
    if isinstance(op.params, PoolParams):
        return True
    if isinstance(op.params, ReshapeParams):
        shapes = (model.tensors[op.inputs[0]].shape, model.tensors[op.outputs[0]].shape)
        return all(shape and int(np.prod(shape)) == shape[-1] for shape in shapes)
    return False


class _Rewriter:
    """Shrinks groups of activations that hand their channels on to each other."""

    def __init__(self, model: Model) -> None:
        self._model, self._tensors, self._ops = model, list(model.tensors), list(model.ops)
        self._intervals = intervals(model)
        self._readers: dict[int, list[int]] = {}
        for number, op in enumerate(model.ops):
            for index in op.inputs:
                self._readers.setdefault(index, []).append(number)
        self.dropped = 0

    def result(self) -> Model:
        return replace(self._model, tensors=tuple(self._tensors), ops=tuple(self._ops)) if self.dropped else self._model

    def groups(self) -> Iterator[list[int]]:
        """Operators each: a convolution that makes channels, those that hand them on, and those that take them in."""
        for number, op in enumerate(self._model.ops):
            if isinstance(op.params, ConvParams) and op.params.groups == 1 and not _is_wide(self._model, op):
                group = self._behind(number)
                if group:
                    yield group

    def _behind(self, maker: int) -> list[int]:
        """The group of a convolution; empty where something else reads its channels, or where constants are shared."""
        group, to_follow = [maker], [maker]
        while to_follow:
            output = self._model.ops[to_follow.pop()].outputs[0]
            readers = self._readers.get(output, [])
            if not readers or output in self._model.outputs or any(output == state for state, _ in self._model.states):
                return []
            for number in readers:
                op = self._model.ops[number]
                if op.inputs[0] != output or op.inputs.count(output) > 1:
                    return []
                if self._passes(op):
                    to_follow.append(number)
                elif not self._takes_in(op):
                    return []
                group.append(number)
        constants = [index for number in group for index in self._model.ops[number].inputs[1:] if index >= 0]
        return group if all(len(self._readers[index]) == 1 for index in constants) else []

    def _passes(self, op: Op) -> bool:
        return _hands_on(self._model, op) or (
            isinstance(op.params, DepthwiseParams) and op.params.depth_multiplier == 1
        )

    def _takes_in(self, op: Op) -> bool:
        if isinstance(op.params, DenseParams):
            return (
                op.params.rows == 1
                and self._model.tensors[op.inputs[0]].elements == self._model.tensors[op.inputs[0]].shape[-1]
            )
        return isinstance(op.params, ConvParams) and op.params.groups == 1

    def shrink(self, group: Sequence[int]) -> None:
        """Leave out the channels that all operators at the group's end see as constants that they can count in."""
        ends = [number for number in group[1:] if not self._passes(self._model.ops[number])]
        constant = np.logical_and.reduce([self._countable(self._model.ops[number]) for number in ends])
        if constant.all():
            constant[0] = False  # a layer keeps one channel at least
        if not constant.any():
            return
        for number in ends:
            self._count_in(self._ops[number], constant)
        for number in group:
            if number not in ends:
                self._leave_out(self._ops[number], ~constant)
        self.dropped += int(constant.sum()) * sum(
            not _hands_on(self._model, self._model.ops[number]) for number in group if number not in ends
        )

    def _countable(self, op: Op) -> NDArray[np.bool_]:
        """Input channels that are constant, and of which every output of `op` sees as many."""
        source = self._model.tensors[op.inputs[0]]
        interval = self._intervals[op.inputs[0]]
        nothing = interval.low == source.quant.zero_point
        biased = len(op.inputs) > 2 and op.inputs[2] >= 0
        padded = isinstance(op.params, ConvParams) and op.params.padding != _NO_PADDING
        countable: NDArray[np.bool_] = interval.constant & (nothing | (biased and not padded))
        return countable

    def _count_in(self, op: Op, constant: NDArray[np.bool_]) -> None:
        """The products of `op` with constant channels go into its bias, their weights away."""
        weights = self._tensors[op.inputs[1]]
        assert weights.data is not None
        values = np.frombuffer(weights.data, "i1").reshape(weights.shape)
        zero_point = self._model.tensors[op.inputs[0]].quant.zero_point
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            bias = self._tensors[op.inputs[2]]
            assert bias.data is not None
            offsets = (self._intervals[op.inputs[0]].low - zero_point)[constant]
            products = (values[..., constant].astype(np.int64) * offsets).reshape(len(values), -1).sum(axis=1)
            total = (np.frombuffer(bias.data, "<i4").astype(np.int64) + products).astype("<i4")
            self._tensors[op.inputs[2]] = replace(bias, data=total.tobytes())
        self._tensors[op.inputs[1]] = _with_values(weights, values[..., ~constant])

    def _leave_out(self, op: Op, kept: NDArray[np.bool_]) -> None:
        """Channels of what `op` makes, and the weights that make them."""
        output = self._tensors[op.outputs[0]]
        self._tensors[op.outputs[0]] = replace(output, shape=(*output.shape[:-1], int(kept.sum())))
        for place, index in enumerate(op.inputs[1:]):
            if index >= 0:
                tensor = self._tensors[index]
                assert tensor.data is not None
                values = np.frombuffer(tensor.data, "i1" if place == 0 else "<i4").reshape(tensor.shape)
                last = place == 0 and isinstance(op.params, DepthwiseParams)
                chosen = _with_values(tensor, values[..., kept] if last else values[kept])
                self._tensors[index] = replace(chosen, quantization=_chosen(tensor.quantization, kept))
        if isinstance(op.params, ReshapeParams):
            number = self._ops.index(op)
            self._ops[number] = replace(op, params=ReshapeParams(self._tensors[op.outputs[0]].shape))


def _with_values(tensor: Tensor, values: NDArray[np.int8] | NDArray[np.int32]) -> Tensor:
    return replace(tensor, shape=values.shape, data=np.ascontiguousarray(values).tobytes())


def _chosen(quantization: Quantization | None, kept: NDArray[np.bool_]) -> Quantization | None:
    if quantization is None or len(quantization.scales) != len(kept):
        return quantization
    pick = kept.tolist()
    points = quantization.zero_points
    return replace(
        quantization,
        scales=tuple(scale for scale, keep in zip(quantization.scales, pick, strict=True) if keep),
        zero_points=tuple(point for point, keep in zip(points, pick, strict=True) if keep)
        if len(points) == len(pick)
        else points,
    )
