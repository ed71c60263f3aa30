"""Layers of constants, computed on import as LiteRT would: what unrolled recurrent layers of an open batch begin with.

Their state is a FILL at first; the dense layer that reads it, and parts of its result, are constants too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hil.model import quantise
from hil.model.network import DenseParams, DType, MoveParams, OpKind, Params, Quantization, ReshapeParams, Tensor
from hil.model.tflite.checks import Imported
from hil.model.tflite.container import RawOperator
from hil.model.tflite.tensors import CoreTensors

_SOURCES: Mapping[OpKind, int] = {OpKind.SPLIT: 1}  # which input it is; the first one of all others
_KINDS = frozenset(
    {
        *(OpKind.FULLY_CONNECTED, OpKind.RESHAPE, OpKind.SQUEEZE, OpKind.EXPAND_DIMS, OpKind.STRIDED_SLICE),
        *(OpKind.SLICE, OpKind.SPLIT, OpKind.SPLIT_V, OpKind.UNPACK, OpKind.TRANSPOSE),
    }
)


def is_of_constants(operator: RawOperator, tensors: CoreTensors) -> bool:
    """Whether nothing that the operator reads depends on the network's input, and it can be computed here."""
    if operator.kind not in _KINDS or tensors.is_wide(operator):
        return False
    position = _SOURCES.get(operator.kind, 0)
    return tensors.has(operator, position) and tensors.raw(operator, position).data is not None


def fold(operator: RawOperator, tensors: CoreTensors, imported: list[Imported]) -> None:
    """Register the outputs of an operator of constants, as imported, as constants."""
    for position, (inputs, params) in enumerate(imported):
        operands = [tensors.core(index) if index >= 0 else None for index in inputs]
        tensors.set_constant(operator, position, _computed(params, operands, tensors.output(operator, position)[1]))


def _computed(params: Params, operands: list[Tensor | None], output: Quantization) -> bytes:
    source = operands[0]
    assert source is not None
    assert source.data is not None
    assert source.dtype is DType.INT8
    if isinstance(params, MoveParams):
        places = np.array(params.start)
        for axis in params.axes:
            steps = np.array(axis.offsets) if axis.offsets else axis.step * np.arange(axis.count)
            places = places[..., None] + steps
        return bytes(np.frombuffer(source.data, np.int8)[places].tobytes())
    if isinstance(params, ReshapeParams):
        return source.data
    assert isinstance(params, DenseParams)
    return _dense(params, source, operands[1], operands[2], output)


def _dense(
    params: DenseParams, source: Tensor, weights: Tensor | None, bias: Tensor | None, output: Quantization
) -> bytes:
    assert weights is not None
    assert weights.data is not None
    assert source.data is not None
    matrix = np.frombuffer(weights.data, np.int8).reshape(weights.shape).astype(np.int64)
    rows = np.frombuffer(source.data, np.int8).reshape(params.rows, -1).astype(np.int64) - source.quant.zero_point
    sums = rows @ matrix.T
    if bias is not None and bias.data is not None:
        sums += np.frombuffer(bias.data, "<i4")
    scaled = sums * (source.quant.scale * np.array(weights.quant.scales) / output.scale)  # in double, as LiteRT
    whole = np.trunc(scaled)
    rounded = whole + np.where(np.abs(scaled - whole) >= 0.5, np.sign(scaled), 0.0) + output.zero_point
    return bytes(np.clip(rounded, *quantise.activation_range(params.activation, output)).astype(np.int8).tobytes())
