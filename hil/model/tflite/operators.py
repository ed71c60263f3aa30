"""One importer for each kind of operator: options to parameters, and every check that the kind needs.

An importer gets the operator and the tensors so far and returns (core indices of the inputs, parameters), a list of
these for an operator of several outputs, or raises ModelError. It compares the output's shape with the one that LiteRT
computes, so that both see the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.model.network import OpKind
from hil.model.tflite import elementwise, movement, recurrent, reductions, windows
from hil.model.tflite.checks import Imported
from hil.model.tflite.container import RawOperator
from hil.model.tflite.tensors import CoreTensors

Importer = Callable[[RawOperator, CoreTensors], Imported | list[Imported]]

IMPORTERS: Mapping[OpKind, Importer] = {
    OpKind.CONV_2D: windows.convolution,
    OpKind.DEPTHWISE_CONV_2D: windows.depthwise,
    OpKind.TRANSPOSE_CONV: windows.transpose_convolution,
    OpKind.FULLY_CONNECTED: windows.dense,
    OpKind.MAX_POOL_2D: windows.pool,
    OpKind.AVERAGE_POOL_2D: windows.pool,
    OpKind.RESIZE_BILINEAR: windows.resize_bilinear,
    OpKind.ADD: elementwise.binary,
    OpKind.SUB: elementwise.binary,
    OpKind.MUL: elementwise.binary,
    OpKind.MAXIMUM: elementwise.binary,
    OpKind.MINIMUM: elementwise.binary,
    OpKind.PRELU: elementwise.binary,
    OpKind.RELU: elementwise.rescaling,
    OpKind.RELU6: elementwise.rescaling,
    OpKind.QUANTIZE: elementwise.rescaling,
    OpKind.LOGISTIC: elementwise.function,
    OpKind.TANH: elementwise.function,
    OpKind.EXP: elementwise.function,
    OpKind.LOG: elementwise.function,
    OpKind.ABS: elementwise.function,
    OpKind.GELU: elementwise.function,
    OpKind.HARD_SWISH: elementwise.function,
    OpKind.LEAKY_RELU: elementwise.function,
    OpKind.RELU_N1_TO_1: elementwise.function,
    OpKind.SOFTMAX: reductions.softmax,
    OpKind.LOG_SOFTMAX: reductions.log_softmax,
    OpKind.MEAN: reductions.reduction,
    OpKind.REDUCE_MAX: reductions.reduction,
    OpKind.REDUCE_MIN: reductions.reduction,
    OpKind.RESHAPE: movement.reshape,
    OpKind.SQUEEZE: movement.squeeze,
    OpKind.EXPAND_DIMS: movement.expand_dims,
    OpKind.STRIDED_SLICE: movement.strided_slice,
    OpKind.SLICE: movement.slice_,
    OpKind.SPLIT: movement.split,
    OpKind.SPLIT_V: movement.split_v,
    OpKind.UNPACK: movement.unpack,
    OpKind.GATHER: movement.gather,
    OpKind.TRANSPOSE: movement.transpose,
    OpKind.REVERSE_V2: movement.reverse,
    OpKind.DEPTH_TO_SPACE: movement.depth_to_space,
    OpKind.SPACE_TO_DEPTH: movement.space_to_depth,
    OpKind.TILE: movement.tile,
    OpKind.BROADCAST_TO: movement.broadcast_to,
    OpKind.PAD: movement.pad,
    OpKind.PADV2: movement.pad,
    OpKind.MIRROR_PAD: movement.mirror_pad,
    OpKind.RESIZE_NEAREST_NEIGHBOR: movement.resize_nearest,
    OpKind.CONCATENATION: movement.concatenation,
    OpKind.PACK: movement.pack,
    OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM: recurrent.lstm,
    OpKind.SVDF: recurrent.svdf,
}
