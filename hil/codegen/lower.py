"""Node -> layer: which kernel runs, and the constants that it reads, as the generated C shows them.

Only numbers leave this module: nothing of the text in a .tflite reaches the C source. What a kernel's table cannot hold
is a ModelError here, so that the firmware need not check it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hil.codegen import arithmetic, moves, recurrent, wide
from hil.codegen.fields import Fields, bounded, in_place, layer_of, multiplier, pair, prefixed, quantised, source
from hil.codegen.fold import Node, Size
from hil.codegen.layer import Arena, Constant, ConstantOf, Lowered, Value
from hil.codegen.rows import (
    fits_fast_rows,
    fixed_scale,
    packable,
    plane_weights,
    row_channels,
    row_weights,
    tap_channels,
    tap_weights,
)
from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import (
    Activation,
    AddParams,
    BinaryParams,
    ConcatParams,
    ConvParams,
    DenseParams,
    DepthwiseParams,
    LookupParams,
    LstmParams,
    Model,
    MoveParams,
    NoParams,
    OpKind,
    PadParams,
    Params,
    PoolParams,
    Quantization,
    ReduceParams,
    ResizeParams,
    SoftmaxParams,
    SvdfParams,
    Tensor,
    TransposeConvParams,
    WideFunctionParams,
)
from munas.cost import kernels, plain
from munas.cost.gathers import Window, pairs_down
from munas.cost.kernels import KernelVariant, Work

_INT16_MAX = 2**15 - 1
_INT16_KERNELS = (KernelVariant.DW_MULT4, KernelVariant.DW_GENERIC)  # they count pixels in 16 bits with a sign

_ROWS = (KernelVariant.CONV_1X1, KernelVariant.CONV_IM2COL)
_TAPS = (KernelVariant.DW_3X3, KernelVariant.DW)

Int32Array = NDArray[np.int32]


def lower(model: Model, node: Node) -> Lowered:
    """The layer for `node`. Raises ModelError, naming the operator, where the kernels have a limit."""
    try:
        if wide.is_wide(node) and not isinstance(node.params, ConcatParams | MoveParams | PadParams):
            return wide.lower_wide(model, node)
        return LOWERINGS[type(node.params)](model, node)
    except ModelError as error:
        raise ModelError(f"operator {node.op.index} ({node.op.kind}): {error}") from error


def _operands(model: Model, node: Node) -> tuple[Tensor, Int32Array]:
    """Weights, and one bias an output; a layer without bias has zeros."""
    weights = model.tensors[node.op.inputs[1]]
    bias = node.op.inputs[2] if len(node.op.inputs) > 2 else -1
    count = weights.shape[3] if isinstance(node.params, DepthwiseParams) else weights.shape[0]
    data = model.tensors[bias].data if bias >= 0 else None
    return weights, np.zeros(count, "<i4") if data is None else np.frombuffer(data, "<i4")


def _with_zero_point(bias: Int32Array, rows: NDArray[np.int8], zero_point: int) -> Int32Array:
    """Biases with -zero_point * (sum of the row's weights) in them, for kernels that multiply the input as it is."""
    sums = rows.sum(axis=1, dtype=np.int64)
    folded: Int32Array = (bias - zero_point * sums).astype("<i4")  # wraps around, as the kernels' sums do
    return folded


def _weights(tensor: Tensor) -> Constant:
    assert tensor.data is not None
    return Constant("weights", "int8_t", tensor.data, _extents(tensor.shape))


def _extents(shape: Sequence[int]) -> str:
    return " x ".join(str(extent) for extent in shape)


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
    given, result = node.sizes[0], node.out_size
    if isinstance(params, ConvParams) and params.groups > 1:
        work = plain.grouped(given, result, window, weights.shape[3])
    else:
        work = (kernels.conv if isinstance(params, ConvParams) else kernels.depthwise)(given, result, window)
    if node.wanted is KernelVariant.CONV_GROUPED:
        work = plain.grouped_like(work)
    extents = _INT16_MAX if work.variant in _INT16_KERNELS else kernels.MAX_EXTENT
    fields = _window_fields(node, given, result, window, extents, work.scratch_bytes)
    fields |= quantised(node, params.activation)
    if work.variant is KernelVariant.CONV_GROUPED:
        fields = {**prefixed("conv", fields), "depth": 1 if isinstance(params, DepthwiseParams) else weights.shape[3]}
    multipliers = quantise.conv_multipliers(node.tensors[0].quant, weights.quant, node.result.quant, node.out_size[2])
    constants = (_weights(weights), _channels(bias, multipliers))
    if work.variant is KernelVariant.CONV_GROUPED and isinstance(params, DepthwiseParams):
        matrix, _ = _matrix(model, node, work)
        rows_of = Constant("weights", "int8_t", matrix.tobytes(), f"{_extents(weights.shape)}, by channel")
        constants = (rows_of, _channels(bias, multipliers))
    elif work.variant in _ROWS:
        work, constants = _rows(model, node, work, multipliers)
    elif work.variant in _TAPS:
        work, constants = _taps(model, node, work, multipliers)
        if work.variant is KernelVariant.DW_3X3:
            if (fields["act_min"], fields["act_max"]) != (-128, 127):
                work = kernels.depthwise_clamped(work)
            fields = _plane_fields(fields, pairs_down(result))
    return Lowered(layer_of(work, fields, constants=constants), work)


def _plane_fields(fields: Fields, down: bool) -> Fields:
    """The fields of a hil_dw_3x3_t, of those of a hil_conv_t."""
    gone = ("in_c", "out_c", "kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w")
    kept = {name: value for name, value in fields.items() if name not in gone}
    return {**kept, "channels_count": fields["in_c"], "pairs_down": int(down)}


def _window_fields(
    node: Node, given: Size, result: Size, window: Window, extents: int = kernels.MAX_EXTENT, scratch: int = 0
) -> Fields:
    """The fields of a hil_conv_t but for output zero point and activation."""
    return {
        "input": source(node),
        "output": Arena(node.output),
        **({"scratch": Arena(None)} if scratch else {}),
        "weights": ConstantOf("weights"),
        "channels": ConstantOf("channels"),
        **pair("in", "input size", given[:2], extents),
        "in_c": bounded("number of channels", given[2], kernels.MAX_EXTENT),
        **pair("out", "output size", result[:2], extents),
        "out_c": bounded("number of channels", result[2], kernels.MAX_EXTENT),
        **pair("kernel", "kernel size", window.kernel, 255),
        **pair("stride", "stride", window.stride, 255),
        "pad_top": bounded("padding", window.padding[0], 255),
        "pad_left": bounded("padding", window.padding[2], 255),
        **pair("dilation", "dilation", window.spread, 255),
        "input_zero_point": node.tensors[0].quant.zero_point,
    }


def _transposed(model: Model, node: Node) -> Lowered:
    params = cast(TransposeConvParams, node.params)
    weights, bias = _operands(model, node)
    pad = params.padding
    window = Window((weights.shape[1], weights.shape[2]), params.stride, (pad.top, pad.bottom, pad.left, pad.right))
    work = plain.transposed(node.sizes[0], node.out_size, window)
    fields = _window_fields(node, node.sizes[0], node.out_size, window)
    multipliers = quantise.conv_multipliers(node.tensors[0].quant, weights.quant, node.result.quant, node.out_size[2])
    layer = layer_of(
        work,
        fields | quantised(node, params.activation),
        constants=(_weights(weights), _channels(bias, multipliers)),
    )
    return Lowered(layer, work)


def _rows(
    model: Model, node: Node, work: Work, multipliers: Sequence[quantise.Multiplier]
) -> tuple[Work, tuple[Constant, Constant]]:
    """Work and constants of a convolution over all channels: one with large scales takes a slower kernel."""
    matrix, bias = _matrix(model, node, work)
    if node.wanted is KernelVariant.CONV_ANY or not fits_fast_rows(matrix, bias, multipliers):
        work = kernels.conv_any(work)
    elif node.wanted is not None:
        work = replace(work, variant=node.wanted)
    params, shape = cast(ConvParams | DepthwiseParams, node.params), model.tensors[node.op.inputs[1]].shape
    dilated = params.dilation[1] > 1 and shape[2] > 1
    in_words = node.sizes[0][2] % 4 == 0 and not dilated and work.variant is not KernelVariant.CONV_ANY
    by_fours = work.variant is KernelVariant.CONV_1X1 or in_words
    comment = f"{_extents(shape)}, interleaved"
    packed = work.variant is not KernelVariant.CONV_ANY
    return work, (row_weights(matrix, comment, by_fours=by_fours, packed=packed), row_channels(bias, multipliers))


def _taps(
    model: Model, node: Node, work: Work, multipliers: Sequence[quantise.Multiplier]
) -> tuple[Work, tuple[Constant, Constant]]:
    """The same for a depthwise convolution with one output for each input channel."""
    matrix, bias = _matrix(model, node, work)
    if not fits_fast_rows(matrix, bias, multipliers):
        work = kernels.depthwise_any(work)
    elif node.wanted is KernelVariant.DW:
        work = kernels.depthwise_plain(work)
    comment = f"{_extents(model.tensors[node.op.inputs[1]].shape)}, by four channels"
    if work.variant is KernelVariant.DW_3X3:
        weights = plane_weights(matrix, comment, down=pairs_down(node.out_size))
    else:
        weights = tap_weights(matrix, comment)
    return work, (weights, tap_channels(bias, multipliers))


def _matrix(model: Model, node: Node, work: Work) -> tuple[NDArray[np.int8], Int32Array]:
    """(rows, columns) weights, one row for each output channel, and biases with the input's zero point in them."""
    weights, bias = _operands(model, node)
    assert weights.data is not None
    flat = np.frombuffer(weights.data, "i1")
    if isinstance(node.params, DepthwiseParams):
        flat = flat.reshape(work.columns, work.rows).T
    matrix = np.ascontiguousarray(flat.reshape(work.rows, work.columns))
    return matrix, _with_zero_point(bias, matrix, node.tensors[0].quant.zero_point)


def _dense(model: Model, node: Node) -> Lowered:
    params = cast(DenseParams, node.params)
    weights, bias = _operands(model, node)
    rows, columns = weights.shape
    per_channel = weights.quant.per_channel
    if params.rows > 1:
        work = plain.dense_rows(columns, rows, params.rows, per_channel=per_channel)
    else:
        work = kernels.dense(columns, rows, per_channel=per_channel)
    assert weights.data is not None
    matrix = np.frombuffer(weights.data, "i1").reshape(rows, columns)
    bias = _with_zero_point(bias, matrix, node.tensors[0].quant.zero_point)
    scales = quantise.dense_scales(node.tensors[0].quant, weights.quant, node.result.quant)
    packed = packable(matrix) and node.wanted is None
    if not packed:
        work, scales = kernels.dense_any(work), scales * (rows if len(scales) == 1 else 1)
    chances = [_near_half(low) for _, low in scales] * (rows if len(scales) == 1 else 1)
    work = replace(work, unsure=params.rows * kernels.unsure_outputs(chances, together=packed))
    values = np.array([*bias.tolist(), *(word for scale in scales for word in scale)], "<i4")
    second = Constant("channels", "int32_t", values.tobytes(), f"{rows} biases, {len(scales)} scales")
    fields: dict[str, Value] = {
        "input": source(node),
        "output": Arena(node.output),
        "weights": ConstantOf("weights"),
        "channels": ConstantOf("channels"),
        "columns": columns,
        "rows": bounded("number of outputs", rows, kernels.MAX_EXTENT),
        "scale_step": 0 if work.variant in (KernelVariant.FC, KernelVariant.FC_ROWS) else 2,
        **quantised(node, params.activation),
    }
    if params.rows > 1:
        fields = {**prefixed("dense", fields), "count": params.rows}
    rows_first = row_weights(matrix, f"{_extents(weights.shape)}, interleaved", by_fours=True, packed=packed)
    return Lowered(layer_of(work, fields, constants=(rows_first, second)), work)


def _near_half(low: int) -> float:
    """How often a sum, rescaled by the upper bits of its scale, comes too near to a half for them to decide."""
    shift = (low & 63) - 32
    return min(1.0, 2.0 ** (1 - shift)) if 1 <= shift <= 30 else 1.0


def _pool(model: Model, node: Node) -> Lowered:
    params = cast(PoolParams, node.params)
    pad = params.padding
    window = Window(params.window, params.stride, (pad.top, pad.bottom, pad.left, pad.right))
    kind = "avg" if node.op.kind is OpKind.AVERAGE_POOL_2D else "max"
    work = kernels.pool(node.sizes[0], node.out_size, window, kind)
    limit = kernels.MAX_EXTENT
    low, high = quantise.activation_range(params.activation, node.result.quant)
    fields: dict[str, Value] = {
        "input": source(node),
        "output": Arena(node.output),
        **pair("in", "input size", node.sizes[0][:2], limit),
        "channels": bounded("number of channels", node.sizes[0][2], limit),
        **pair("out", "output size", node.out_size[:2], limit),
        **pair("window", "window", params.window, limit),
        **pair("stride", "stride", params.stride, limit),
        "pad_top": bounded("padding", pad.top, limit),
        "pad_left": bounded("padding", pad.left, limit),
        "act_min": low,
        "act_max": high,
    }
    return Lowered(layer_of(work, fields), work)


def _add(model: Model, node: Node) -> Lowered:
    params = cast(AddParams, node.params)
    larger, other = (1, 0) if node.tensors[1].quant.scale > node.tensors[0].quant.scale else (0, 1)
    first, second = node.tensors[larger].quant, node.tensors[other].quant
    work = kernels.add(node.sizes, node.out_size)
    scaling = quantise.add_parameters(first, second, node.result.quant)
    # Of equal scales the second one is halved too: multiplied by 1, and shifted by one bit.
    second_scale = (0, 0) if first.scale == second.scale else fixed_scale(scaling.second)
    output_scale = fixed_scale(scaling.output)
    if output_scale[1] < 0:
        raise ModelError(f"ADD: the output's scale {node.result.quant.scale:g} is too small for the kernel")
    common: dict[str, Value] = {
        "first": source(node, larger),
        "second": source(node, other),
        "output": Arena(node.output),
        "second_multiplier": second_scale[0],
        "output_multiplier": output_scale[0],
        "second_shift": second_scale[1],
        "output_shift": output_scale[1],
        "first_zero_point": first.zero_point,
        "second_zero_point": second.zero_point,
        **quantised(node, params.activation),
    }
    if work.variant is KernelVariant.ADD:
        fields: dict[str, Value] = {**common, "count": work.outputs}
    else:
        sizes = kernels.merge_axes([node.sizes[larger], node.sizes[other], node.out_size])
        fields = {f"add.{name}": value for name, value in common.items()}
        fields |= dict(zip(("first_size", "second_size", "output_size"), sizes, strict=True))
    return Lowered(layer_of(work, fields), work, in_place(node))


def _softmax(model: Model, node: Node) -> Lowered:
    if node.op.kind is OpKind.LOG_SOFTMAX:
        return arithmetic.lower_log_softmax(node)
    height, width, columns = node.sizes[0]
    parameters = quantise.softmax_parameters(node.tensors[0].quant, cast(SoftmaxParams, node.params).beta)
    work = kernels.softmax(height * width, columns, -parameters.diff_min)
    fields: dict[str, Value] = {
        "input": source(node),
        "output": Arena(node.output),
        **multiplier("", parameters.multiplier),
        "diff_min": parameters.diff_min,
        "rows": bounded("number of rows", height * width, kernels.MAX_EXTENT),
        "columns": bounded("number of columns", columns, kernels.MAX_EXTENT),
    }
    return Lowered(layer_of(work, fields), work, in_place(node))


def _requantize(model: Model, node: Node) -> Lowered:
    relu = node.op.kind in (OpKind.RELU, OpKind.RELU6)
    activation = Activation(node.op.kind) if relu else Activation.NONE
    pick: Callable[[Quantization, Quantization], quantise.Multiplier]
    pick = quantise.relu_multiplier if relu else quantise.ratio_multiplier
    ratio = pick(node.tensors[0].quant, node.result.quant)
    variant = KernelVariant.RELU if relu else KernelVariant.REQUANTIZE
    work = kernels.elementwise(variant, prod(node.out_size), shift=ratio.shift)
    fields: dict[str, Value] = {
        "input": source(node),
        "output": Arena(node.output),
        "count": work.outputs,
        **multiplier("", ratio),
        "input_zero_point": node.tensors[0].quant.zero_point,
        **quantised(node, activation),
    }
    return Lowered(layer_of(work, fields), work, in_place(node))


LOWERINGS: Mapping[type[Params], Callable[[Model, Node], Lowered]] = {
    ConvParams: _convolution,
    DepthwiseParams: _convolution,
    TransposeConvParams: _transposed,
    DenseParams: _dense,
    PoolParams: _pool,
    ResizeParams: arithmetic.lower_resize,
    AddParams: _add,
    BinaryParams: arithmetic.lower_binary,
    LookupParams: arithmetic.lower_lookup,
    NoParams: _requantize,
    SoftmaxParams: _softmax,
    ReduceParams: arithmetic.lower_reduce,
    MoveParams: moves.lower_move,
    PadParams: moves.lower_pad,
    ConcatParams: moves.lower_concat,
    LstmParams: recurrent.lower_lstm,
    SvdfParams: recurrent.lower_svdf,
    WideFunctionParams: wide.lower_wide,
}
"""By parameters; RESHAPE has none, as it only gives its input another name."""
