"""Layers of 16-bit activations (16x8 quantisation): the same parameters as those of int8, other kernels."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from math import prod
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hil.codegen.arithmetic import broadcast, lower_reduce, lower_resize
from hil.codegen.fields import Fields, bounded, in_place, layer_of, multiplier, pair, source
from hil.codegen.fold import Node
from hil.codegen.layer import Arena, Constant, ConstantOf, Lowered, Value
from hil.codegen.rows import BY_FOURS
from hil.errors import ModelError
from hil.model import quantise, wide_tables
from hil.model.network import (
    Activation,
    AddParams,
    BinaryParams,
    ConvParams,
    DenseParams,
    DepthwiseParams,
    DType,
    Model,
    NoParams,
    OpKind,
    Params,
    PoolParams,
    ReduceParams,
    ResizeParams,
    SoftmaxParams,
    WideFunctionParams,
)
from munas.cost import kernels, plain
from munas.cost.gathers import Window
from munas.cost.kernels import KernelVariant

Int8Array = NDArray[np.int8]

_BINARY = {
    OpKind.ADD: KernelVariant.WIDE_ADD,
    OpKind.SUB: KernelVariant.WIDE_SUB,
    OpKind.MUL: KernelVariant.WIDE_MUL,
    OpKind.MAXIMUM: KernelVariant.WIDE_MAXIMUM,
    OpKind.MINIMUM: KernelVariant.WIDE_MINIMUM,
}


def lower_wide(model: Model, node: Node) -> Lowered:
    """The layer of a node that reads or writes 16 bits. Raises ModelError where there is none."""
    lowering = _LOWERINGS.get(type(node.params))
    if lowering is None:
        raise ModelError("it has no kernel for 16-bit activations")
    return lowering(model, node)


def is_wide(node: Node) -> bool:
    """Whether an activation of the node has 16 bits. States of recurrent layers do not count."""
    return DType.INT16 in (node.tensors[0].dtype, node.result.dtype)


def _ports(node: Node) -> Fields:
    return {"input": source(node), "output": Arena(node.output)}


def _activation(node: Node, activation: Activation) -> Fields:
    low, high = quantise.activation_range(activation, node.result.quant, bits=16)
    return {"act_min": low, "act_max": high}


def _by_fours(rows: Int8Array) -> bytes:
    """(rows, columns) with each four columns in the order that SXTB16 leaves."""
    fours = rows.shape[1] // 4 * 4
    mixed = rows[:, :fours].reshape(len(rows), -1, 4)[:, :, BY_FOURS].reshape(len(rows), -1)
    return np.concatenate([mixed, rows[:, fours:]], axis=1).tobytes()


def _bias(model: Model, node: Node, count: int) -> list[int]:
    index = node.op.inputs[2] if len(node.op.inputs) > 2 else -1
    data = model.tensors[index].data if index >= 0 else None
    return [0] * count if data is None else np.frombuffer(data, "<i8").tolist()


def _convolution(model: Model, node: Node) -> Lowered:
    params, weights = cast(ConvParams | DepthwiseParams, node.params), model.tensors[node.op.inputs[1]]
    assert weights.data is not None
    values = np.frombuffer(weights.data, "i1").reshape(weights.shape)
    if isinstance(params, DepthwiseParams):
        values = values.transpose(3, 1, 2, 0)  # a group a channel
        groups = node.sizes[0][2]
    else:
        groups = params.groups
    filters, height, width, depth = values.shape
    pad, limit = params.padding, kernels.MAX_EXTENT
    window = Window((height, width), params.stride, (pad.top, pad.bottom, pad.left, pad.right), params.dilation)
    work = plain.wide_conv(node.sizes[0], node.out_size, window, depth)
    multipliers = quantise.conv_multipliers(node.tensors[0].quant, weights.quant, node.result.quant, filters)
    words = [
        struct.pack("<qI", bias, _reduced(item))
        for bias, item in zip(_bias(model, node, filters), multipliers, strict=True)
    ]
    fields: Fields = {
        **_ports(node),
        "weights": ConstantOf("weights"),
        "channels": ConstantOf("channels"),
        **pair("in", "input size", node.sizes[0][:2], limit),
        "in_c": bounded("number of channels", node.sizes[0][2], limit),
        **pair("out", "output size", node.out_size[:2], limit),
        "out_c": bounded("number of channels", filters, limit),
        "depth": depth,
        "filters": filters // groups,
        **pair("kernel", "kernel size", (height, width), 255),
        **pair("stride", "stride", params.stride, 255),
        "pad_top": bounded("padding", pad.top, 255),
        "pad_left": bounded("padding", pad.left, 255),
        **pair("dilation", "dilation", window.spread, 255),
        **_activation(node, params.activation),
    }
    constants = (
        Constant("weights", "int8_t", _by_fours(values.reshape(-1, depth)), " x ".join(map(str, values.shape))),
        Constant("channels", "int32_t", b"".join(words), f"{filters} biases of 64 bits, multipliers, shifts"),
    )
    return Lowered(layer_of(work, fields, constants=constants), work)


def _reduced(item: quantise.Multiplier) -> int:
    """15 bits of a multiplier, and by how much its product with a sum is shifted, in the upper half."""
    factor = (item.significand + (1 << 15)) >> 16 if item.significand < 0x7FFF0000 else 0x7FFF
    return factor | (15 - item.shift) << 16


def _dense(model: Model, node: Node) -> Lowered:
    params, weights = cast(DenseParams, node.params), model.tensors[node.op.inputs[1]]
    assert weights.data is not None
    rows, columns = weights.shape
    work = plain.wide_dense(columns, rows, params.rows)
    scales = [node.tensors[0].quant.scale * scale / node.result.quant.scale for scale in weights.quant.scales]
    scales *= rows if len(scales) == 1 else 1
    words = [struct.pack("<qd", bias, scale) for bias, scale in zip(_bias(model, node, rows), scales, strict=True)]
    fields: Fields = {
        **_ports(node),
        "weights": ConstantOf("weights"),
        "channels": ConstantOf("channels"),
        "columns": columns,
        "rows": bounded("number of outputs", rows, kernels.MAX_EXTENT),
        "count": bounded("number of rows", params.rows, kernels.MAX_EXTENT),
        **_activation(node, params.activation),
    }
    values = np.frombuffer(weights.data, "i1").reshape(rows, columns)
    constants = (
        Constant("weights", "int8_t", _by_fours(values), f"{rows} x {columns}"),
        Constant("channels", "int32_t", b"".join(words), f"{rows} biases of 64 bits, scales"),
    )
    return Lowered(layer_of(work, fields, constants=constants), work)


def _binary(model: Model, node: Node) -> Lowered:
    operands = [model.tensors[index] for index in node.op.inputs[:2]]
    activation = cast(AddParams | BinaryParams, node.params).activation
    work, fields, constants = broadcast(_BINARY[node.op.kind], node, operands)
    first, second, output = operands[0].quant, operands[1].quant, node.result.quant
    fields |= _activation(node, activation)
    if node.op.kind in (OpKind.ADD, OpKind.SUB):
        scaling = quantise.add_parameters(first, second, output, left_shift=15)
        fields |= {**multiplier("first_", scaling.first), **multiplier("second_", scaling.second)}
        fields |= multiplier("output_", scaling.output)
    elif node.op.kind is OpKind.MUL:
        fields |= multiplier("output_", quantise.product_multiplier(first, second, output))
    return Lowered(layer_of(work, fields, constants=constants), work, in_place(node))


def _pool(model: Model, node: Node) -> Lowered:
    params, limit = cast(PoolParams, node.params), kernels.MAX_EXTENT
    pad = params.padding
    window = Window(params.window, params.stride, (pad.top, pad.bottom, pad.left, pad.right))
    average = node.op.kind is OpKind.AVERAGE_POOL_2D
    variant = KernelVariant.WIDE_AVG_POOL if average else KernelVariant.WIDE_MAX_POOL
    work = plain.wide_pool(variant, node.sizes[0], node.out_size, window)
    fields: Fields = {
        **_ports(node),
        **pair("in", "input size", node.sizes[0][:2], limit),
        "channels": bounded("number of channels", node.sizes[0][2], limit),
        **pair("out", "output size", node.out_size[:2], limit),
        **pair("window", "window", params.window, limit),
        **pair("stride", "stride", params.stride, limit),
        "pad_top": bounded("padding", pad.top, limit),
        "pad_left": bounded("padding", pad.left, limit),
        **_activation(node, params.activation),
    }
    return Lowered(layer_of(work, fields), work)


def _function(model: Model, node: Node) -> Lowered:
    params = cast(WideFunctionParams, node.params)
    is_tanh = node.op.kind is OpKind.TANH
    work = plain.elements(KernelVariant.WIDE_TANH if is_tanh else KernelVariant.WIDE_LOGISTIC, node.result.elements)
    fields: Fields = {
        **_ports(node),
        "table": ConstantOf("table"),
        "count": work.outputs,
        "multiplier": params.multiplier,
        "shift": params.shift,
    }
    table = Constant("table", "int16_t", wide_tables.logistic().tobytes(), "the logistic function")
    return Lowered(layer_of(work, fields, constants=(table,)), work, in_place(node))


def _softmax(model: Model, node: Node) -> Lowered:
    height, width, columns = node.sizes[0]
    beta, limit = cast(SoftmaxParams, node.params).beta, kernels.MAX_EXTENT
    rows = bounded("number of rows", height * width, limit)
    sizes: dict[str, Value] = {"rows": rows, "columns": bounded("number of columns", columns, limit)}
    if node.tensors[0].dtype is DType.INT8:
        parameters = quantise.softmax_parameters(node.tensors[0].quant, beta)
        work = plain.softmax_to_16(rows, columns, -parameters.diff_min)
        fields = {**_ports(node), **multiplier("", parameters.multiplier), "diff_min": parameters.diff_min, **sizes}
        return Lowered(layer_of(work, fields), work)
    work = plain.wide_softmax(rows, columns)
    scale = float(np.float32(node.tensors[0].quant.scale) * np.float32(beta)) / (10.0 / 65535.0)
    fields = {
        **_ports(node),
        "tables": ConstantOf("tables"),
        **multiplier("", quantise.quantize_multiplier(scale)),
        **sizes,
    }
    tables = np.concatenate([wide_tables.exponential(), wide_tables.reciprocal()])
    constant = Constant("tables", "int16_t", tables.tobytes(), "exp(x), 1 / (1 + x)")
    return Lowered(layer_of(work, fields, constants=(constant,)), work, in_place(node))


def _requantize(model: Model, node: Node) -> Lowered:
    before, after = node.tensors[0], node.result
    work = plain.elements(KernelVariant.WIDE_REQUANTIZE, prod(node.out_size))
    fields: Fields = {
        **_ports(node),
        "count": work.outputs,
        **multiplier("", quantise.ratio_multiplier(before.quant, after.quant)),
        "input_zero_point": before.quant.zero_point,
        "output_zero_point": after.quant.zero_point,
        "is_input_wide": int(before.dtype is DType.INT16),
        "is_output_wide": int(after.dtype is DType.INT16),
    }
    return Lowered(layer_of(work, fields), work, in_place(node))


_LOWERINGS: Mapping[type[Params], Callable[[Model, Node], Lowered]] = {
    ConvParams: _convolution,
    DepthwiseParams: _convolution,
    DenseParams: _dense,
    AddParams: _binary,
    BinaryParams: _binary,
    PoolParams: _pool,
    ReduceParams: lower_reduce,
    ResizeParams: lower_resize,
    WideFunctionParams: _function,
    SoftmaxParams: _softmax,
    NoParams: _requantize,
}
