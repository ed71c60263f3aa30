"""Layers that keep state from one inference to the next: LSTM and SVDF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hil.codegen.fields import Fields, bounded, layer_of, multiplier, source
from hil.codegen.fold import Node
from hil.codegen.layer import Arena, Constant, ConstantOf, Lowered
from hil.codegen.rows import row_weights
from hil.model import quantise
from hil.model.network import LstmParams, Model, SvdfParams, Tensor
from munas.cost import kernels, plain

_GATES = 4


def lower_lstm(model: Model, node: Node) -> Lowered:
    """An LSTM over all of its steps."""
    params = cast(LstmParams, node.params)
    weights, hidden, bias = (model.tensors[index] for index in node.op.inputs[3:])
    _, cells, length = weights.shape
    work = plain.lstm(params.steps, length, cells, params.integer_bits)
    scales = [*params.input_scales, *params.hidden_scales, params.output_scale]
    multipliers = [quantise.quantize_multiplier(scale) for scale in scales]
    state = node.tensors[1].quant
    biases = np.stack(
        [
            _values(bias, "<i4") - node.tensors[0].quant.zero_point * _sums(weights),
            -state.zero_point * _sums(hidden),
        ]
    )  # (part, gate, cell), of which a cell's lie together
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "hidden": source(node, 1),
        "cells_state": source(node, 2),
        "weights": ConstantOf("weights"),
        "biases": ConstantOf("biases"),
        "significands": tuple(item.significand for item in multipliers),
        "steps": params.steps,
        "inputs": bounded("number of inputs", length, kernels.MAX_EXTENT),
        "cells": bounded("number of cells", cells, kernels.MAX_EXTENT),
        "clip": params.clip,
        "shifts": tuple(item.shift for item in multipliers),
        "integer_bits": params.integer_bits,
        "output_zero_point": params.output_zero_point,
    }
    constants = (
        Constant("weights", "int8_t", _interleaved(weights, hidden), f"{cells} cells of four rows, interleaved"),
        Constant("biases", "int32_t", biases.transpose(2, 0, 1).astype("<i4").tobytes(), f"8 biases of {cells} cells"),
    )
    return Lowered(layer_of(work, fields, constants=constants), work)


def _values(tensor: Tensor, dtype: str) -> NDArray[np.int64]:
    assert tensor.data is not None
    return np.frombuffer(tensor.data, dtype).astype(np.int64).reshape(tensor.shape)


def _sums(weights: Tensor) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = _values(weights, "i1").sum(axis=-1)
    return sums


def _interleaved(*parts: Tensor) -> bytes:
    """Of each cell, the rows of its four gates in each part."""
    found: list[bytes] = []
    arrays = [_values(part, "i1").astype(np.int8) for part in parts]
    for cell in range(arrays[0].shape[1]):
        found += [row_weights(np.ascontiguousarray(array[:, cell]), "", by_fours=True).values for array in arrays]
    return b"".join(found)


def lower_svdf(model: Model, node: Node) -> Lowered:
    """An SVDF: filters, their memory, and units of as many filters as its rank."""
    params = cast(SvdfParams, node.params)
    weights, in_time, bias = (model.tensors[index] for index in node.op.inputs[2:])
    filters, length = weights.shape
    memory, units = in_time.shape[1], filters // params.rank
    work = plain.svdf(length, units, params.rank, memory)
    of_filters = -node.tensors[0].quant.zero_point * _sums(weights)
    limit = kernels.MAX_EXTENT
    fields: Fields = {
        "input": source(node),
        "output": Arena(node.output),
        "state": source(node, 1),
        "weights": ConstantOf("weights"),
        "time_weights": ConstantOf("time_weights"),
        "biases": ConstantOf("biases"),
        **multiplier("feature_", quantise.quantize_multiplier(params.feature_scale)),
        **multiplier("output_", quantise.quantize_multiplier(params.output_scale)),
        "inputs": bounded("number of inputs", length, limit),
        "units": bounded("number of outputs", units, limit),
        "rank": bounded("rank", params.rank, limit),
        "memory": bounded("memory", memory, limit),
        "output_zero_point": node.result.quant.zero_point,
    }
    constants = (
        _constant("weights", "int8_t", _values(weights, "i1").astype("i1"), weights.shape),
        _constant("time_weights", "int16_t", _values(in_time, "<i2").astype("<i2"), in_time.shape),
        _constant(
            "biases", "int32_t", np.concatenate([of_filters, _values(bias, "<i4")]).astype("<i4"), (filters + units,)
        ),
    )
    return Lowered(layer_of(work, fields, constants=constants), work)


def _constant(role: str, dtype: str, values: NDArray[np.signedinteger], shape: Sequence[int]) -> Constant:
    return Constant(role, dtype, values.tobytes(), " x ".join(map(str, shape)))
