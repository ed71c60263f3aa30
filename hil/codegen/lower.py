"""Node -> layer: which kernel runs, and the constants that it reads, as the generated C shows them.

Only numbers leave this module: nothing of the text in a .tflite reaches the C source. What a kernel's table cannot hold
is a ModelError here, so that the firmware need not check it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hil.codegen.fold import Node
from hil.codegen.layer import Arena, Constant, ConstantOf, Layer, Lowered, Value
from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import (
    Activation,
    AddParams,
    ConcatParams,
    ConvParams,
    DenseParams,
    DepthwiseParams,
    Model,
    OpKind,
    PadParams,
    PoolParams,
    Quantization,
    SoftmaxParams,
    Tensor,
)
from munas.cost import kernels
from munas.cost.kernels import KernelVariant, Window, Work
from munas.cost.variants import SPECS

_INT16_MAX = 2**15 - 1
_INT16_KERNELS = (KernelVariant.DW_IM2COL, KernelVariant.DW_GENERIC)  # they count pixels in 16 bits with a sign

Int32Array = NDArray[np.int32]


def lower(model: Model, node: Node) -> Lowered:
    """The layer for `node`. Raises ModelError, naming the operator, where the kernels have a limit."""
    try:
        return LOWERINGS[node.op.kind](model, node)
    except ModelError as error:
        raise ModelError(f"operator {node.op.index} ({node.op.kind}): {error}") from error


def _layer(work: Work, fields: dict[str, Value], **more: object) -> Layer:
    spec = SPECS[work.path]
    return Layer(spec.function, spec.struct, tuple(fields.items()), **more)  # type: ignore[arg-type]


def _bounded(what: str, value: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise ModelError(f"{what} of {value} is beyond the kernels' limit of {limit}")
    return value


def _pair(name: str, what: str, values: Sequence[int], limit: int) -> dict[str, Value]:
    return {f"{name}_{axis}": _bounded(what, value, limit) for axis, value in zip("hw", values, strict=True)}


def _quantised(node: Node, activation: Activation) -> dict[str, Value]:
    """Zero point and activation range of a layer's output."""
    low, high = quantise.activation_range(activation, node.result.quant)
    return {"output_zero_point": node.result.quant.zero_point, "act_min": low, "act_max": high}


def _operands(model: Model, node: Node) -> tuple[Tensor, Int32Array]:
    """Weights, and one bias an output; a layer without bias has zeros."""
    weights = model.tensors[node.op.inputs[1]]
    bias = node.op.inputs[2] if len(node.op.inputs) > 2 else -1
    count = node.out_size[2] if node.op.kind is not OpKind.FULLY_CONNECTED else weights.shape[0]
    data = model.tensors[bias].data if bias >= 0 else None
    return weights, np.zeros(count, "<i4") if data is None else np.frombuffer(data, "<i4")


def _with_zero_point(bias: Int32Array, weights: Tensor, zero_point: int) -> Int32Array:
    """Biases with -zero_point * (sum of the row's weights) in them, for kernels that multiply the input as it is."""
    assert weights.data is not None
    sums = np.frombuffer(weights.data, "i1").reshape(len(bias), -1).sum(axis=1, dtype=np.int64)
    folded: Int32Array = (bias - zero_point * sums).astype("<i4")  # wraps around, as the kernels' sums do
    return folded


def _weights(tensor: Tensor) -> Constant:
    assert tensor.data is not None
    return Constant("weights", "int8_t", tensor.data, " x ".join(str(extent) for extent in tensor.shape))


def _channels(bias: Int32Array, multipliers: Sequence[quantise.Multiplier]) -> Constant:
    values = [*bias.tolist(), *(item.significand for item in multipliers), *(item.shift for item in multipliers)]
    comment = f"{len(multipliers)} biases, significands, shifts"
    return Constant("channels", "int32_t", np.array(values, "<i4").tobytes(), comment)


def _convolution(model: Model, node: Node) -> Lowered:
    params = cast(ConvParams | DepthwiseParams, node.params)
    weights, bias = _operands(model, node)
    pad = params.padding
    padding = (pad.top, pad.bottom, pad.left, pad.right)
    window = Window((weights.shape[1], weights.shape[2]), params.stride, padding, params.dilation)
    source, result = node.sizes[0], node.out_size
    work = (kernels.conv if node.op.kind is OpKind.CONV_2D else kernels.depthwise)(source, node.out_size, window)
    if work.path is KernelVariant.CONV_IM2COL:
        _bounded("number of products for one output", work.columns, kernels.MAX_EXTENT)
    if work.path in (KernelVariant.CONV_1X1, KernelVariant.CONV_1X1_STRIDED):
        bias = _with_zero_point(bias, weights, node.tensors[0].quant.zero_point)
    if (
        work.path is KernelVariant.CONV_1X1 and work.pixels <= kernels.MAX_EXTENT
    ):  # one row: the kernel pairs pixels in a row
        source, result = (1, work.pixels, source[2]), (1, work.pixels, result[2])
    extents = _INT16_MAX if work.path in _INT16_KERNELS else kernels.MAX_EXTENT
    multipliers = quantise.conv_multipliers(node.tensors[0].quant, weights.quant, node.result.quant, node.out_size[2])
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        **({"scratch": Arena(None)} if work.scratch_bytes else {}),
        "weights": ConstantOf("weights"),
        "channels": ConstantOf("channels"),
        **_pair("in", "input size", source[:2], extents),
        "in_c": _bounded("number of channels", source[2], kernels.MAX_EXTENT),
        **_pair("out", "output size", result[:2], extents),
        "out_c": _bounded("number of channels", result[2], kernels.MAX_EXTENT),
        **_pair("kernel", "kernel size", window.kernel, 255),
        **_pair("stride", "stride", params.stride, 255),
        "pad_top": _bounded("padding", pad.top, 255),
        "pad_left": _bounded("padding", pad.left, 255),
        **_pair("dilation", "dilation", window.spread, 255),
        "input_zero_point": node.tensors[0].quant.zero_point,
        **_quantised(node, params.activation),
    }
    return Lowered(_layer(work, fields, constants=(_weights(weights), _channels(bias, multipliers))), work)


def _dense(model: Model, node: Node) -> Lowered:
    params = cast(DenseParams, node.params)
    weights, bias = _operands(model, node)
    rows, columns = weights.shape
    work = kernels.dense(columns, rows, per_channel=weights.quant.per_channel)
    bias = _with_zero_point(bias, weights, node.tensors[0].quant.zero_point)
    scales = quantise.dense_scales(node.tensors[0].quant, weights.quant, node.result.quant)
    values = np.array([*bias.tolist(), *(word for scale in scales for word in scale)], "<i4")
    second = Constant("channels", "int32_t", values.tobytes(), f"{rows} biases, {len(scales)} scales")
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        "weights": ConstantOf("weights"),
        "channels": ConstantOf("channels"),
        "columns": columns,
        "rows": _bounded("number of outputs", rows, kernels.MAX_EXTENT),
        "scale_step": 2 if len(scales) > 1 else 0,
        **_quantised(node, params.activation),
    }
    return Lowered(_layer(work, fields, constants=(_weights(weights), second)), work)


def _multiplier(prefix: str, value: quantise.Multiplier) -> dict[str, Value]:
    return {f"{prefix}significand": value.significand, f"{prefix}shift": value.shift}


def _pool(model: Model, node: Node) -> Lowered:
    params = cast(PoolParams, node.params)
    pad = params.padding
    window = Window(params.window, params.stride, (pad.top, pad.bottom, pad.left, pad.right))
    kind = "avg" if node.op.kind is OpKind.AVERAGE_POOL_2D else "max"
    work = kernels.pool(node.sizes[0], node.out_size, window, kind)
    limit = kernels.MAX_EXTENT
    low, high = quantise.activation_range(params.activation, node.result.quant)
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        **_pair("in", "input size", node.sizes[0][:2], limit),
        "channels": _bounded("number of channels", node.sizes[0][2], limit),
        **_pair("out", "output size", node.out_size[:2], limit),
        **_pair("window", "window", params.window, limit),
        **_pair("stride", "stride", params.stride, limit),
        "pad_top": _bounded("padding", pad.top, limit),
        "pad_left": _bounded("padding", pad.left, limit),
        "act_min": low,
        "act_max": high,
    }
    return Lowered(_layer(work, fields), work)


def _add(model: Model, node: Node) -> Lowered:
    params = cast(AddParams, node.params)
    first, second = (tensor.quant for tensor in node.tensors)
    work = kernels.add(node.sizes, node.out_size)
    scaling = quantise.add_parameters(first, second, node.result.quant)
    low, high = quantise.activation_range(params.activation, node.result.quant)
    common: dict[str, Value] = {
        "first": Arena(node.inputs[0]),
        "second": Arena(node.inputs[1]),
        "output": Arena(node.output),
        **_multiplier("first_", scaling.first),
        **_multiplier("second_", scaling.second),
        **_multiplier("output_", scaling.output),
        "first_zero_point": first.zero_point,
        "second_zero_point": second.zero_point,
        "output_zero_point": node.result.quant.zero_point,
        "act_min": low,
        "act_max": high,
    }
    if work.path is KernelVariant.ADD:
        fields: dict[str, Value] = {**common, "count": work.outputs}
    else:
        sizes = kernels.merge_axes([*node.sizes, node.out_size])
        fields = {f"add.{name}": value for name, value in common.items()}
        fields |= dict(zip(("first_size", "second_size", "output_size"), sizes, strict=True))
    pairs = zip(node.inputs, node.sizes, strict=True)
    in_place = dict.fromkeys(storage for storage, size in pairs if size == node.out_size)
    return Lowered(_layer(work, fields), work, tuple(in_place))


def _pad(model: Model, node: Node) -> Lowered:
    params = cast(PadParams, node.params)
    before = (0, 0, 0, *(params.before[1:] if len(params.before) > 1 else params.before))[-3:]
    source, output = kernels.merge_axes([node.sizes[0], node.out_size])
    work = kernels.move(KernelVariant.PAD, prod(source), prod(output), source[0] * source[1])
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        "input_size": source,
        "output_size": output,
        "before": _merged_offset(before, node.out_size, output),
        "value": node.result.quant.zero_point,
    }
    return Lowered(_layer(work, fields), work)


def _merged_offset(before: Sequence[int], size: Sequence[int], merged: Sequence[int]) -> tuple[int, int, int]:
    """`before` in the axes of `merged`, which has `size` with its trailing axes joined."""
    joined, extent, offset = 0, size[2], before[2]
    while extent != merged[2]:
        joined += 1
        offset += before[2 - joined] * extent
        extent *= size[2 - joined]
    outer = (0,) * joined + tuple(before[: 2 - joined])
    return outer[0], outer[1], offset


def _mean(model: Model, node: Node) -> Lowered:
    height, width, channels = node.sizes[0]
    work = kernels.mean(node.sizes[0])
    source, result = node.tensors[0].quant, node.result.quant
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        "pixels": height * width,
        "channels": _bounded("number of channels", channels, kernels.MAX_EXTENT),
        **_multiplier("", quantise.mean_multiplier(source, result, height * width)),
        "input_zero_point": source.zero_point,
        "output_zero_point": result.zero_point,
    }
    return Lowered(_layer(work, fields), work)


def _softmax(model: Model, node: Node) -> Lowered:
    height, width, columns = node.sizes[0]
    work = kernels.softmax(height * width, columns)
    parameters = quantise.softmax_parameters(node.tensors[0].quant, cast(SoftmaxParams, node.params).beta)
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        **_multiplier("", parameters.multiplier),
        "diff_min": parameters.diff_min,
        "rows": _bounded("number of rows", height * width, kernels.MAX_EXTENT),
        "columns": _bounded("number of columns", columns, kernels.MAX_EXTENT),
    }
    return Lowered(_layer(work, fields), work, node.inputs)


def _requantize(model: Model, node: Node) -> Lowered:
    relu = node.op.kind in (OpKind.RELU, OpKind.RELU6)
    activation = Activation(node.op.kind) if relu else Activation.NONE
    work = kernels.elementwise(KernelVariant.RELU if relu else KernelVariant.REQUANTIZE, prod(node.out_size))
    pick: Callable[[Quantization, Quantization], quantise.Multiplier]
    pick = quantise.relu_multiplier if relu else quantise.ratio_multiplier
    fields: dict[str, Value] = {
        "input": Arena(node.inputs[0]),
        "output": Arena(node.output),
        "count": work.outputs,
        **_multiplier("", pick(node.tensors[0].quant, node.result.quant)),
        "input_zero_point": node.tensors[0].quant.zero_point,
        **_quantised(node, activation),
    }
    return Lowered(_layer(work, fields), work, node.inputs)


def _concat(model: Model, node: Node) -> Lowered:
    axis = cast(ConcatParams, node.params).axis
    runs = prod(node.result.shape[:axis])
    parts = tuple(
        (storage, prod(tensor.shape[axis:])) for storage, tensor in zip(node.inputs, node.tensors, strict=True)
    )
    work = kernels.move(KernelVariant.CONCAT, prod(node.out_size), prod(node.out_size), runs * len(parts))
    fields: dict[str, Value] = {
        "parts": ConstantOf("parts"),
        "output": Arena(node.output),
        "count": len(parts),
        "runs": runs,
    }
    return Lowered(_layer(work, fields, parts=parts), work)


LOWERINGS: dict[OpKind, Callable[[Model, Node], Lowered]] = {
    OpKind.CONV_2D: _convolution,
    OpKind.DEPTHWISE_CONV_2D: _convolution,
    OpKind.FULLY_CONNECTED: _dense,
    OpKind.MAX_POOL_2D: _pool,
    OpKind.AVERAGE_POOL_2D: _pool,
    OpKind.ADD: _add,
    OpKind.PAD: _pad,
    OpKind.MEAN: _mean,
    OpKind.SOFTMAX: _softmax,
    OpKind.RELU: _requantize,
    OpKind.RELU6: _requantize,
    OpKind.QUANTIZE: _requantize,
    OpKind.CONCATENATION: _concat,
}
