"""Assembles int8 .tflite files: tensors, operators and options as the TFLite schema lays them out.

Knows the format and nothing of networks; `munas.tflite.flatbuffer` decides what goes in. Field numbers are those of the
TensorFlow Lite schema (schema.fbs, file identifier TFL3, version 3). Building is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

ABSENT = -1
"""Tensor index of an optional input that is not there."""

_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_BUFFER_ALIGNMENT = 16  # schema.fbs: force_align of Buffer.data
_LEGACY_CODE_LIMIT = 127  # operator codes above it do not fit the old byte field


class Code(IntEnum):
    """BuiltinOperator of the schema, for the operators that we write."""

    ADD = 0
    AVERAGE_POOL_2D = 1
    CONCATENATION = 2
    CONV_2D = 3
    DEPTHWISE_CONV_2D = 4
    DEPTH_TO_SPACE = 5
    DEQUANTIZE = 6
    FULLY_CONNECTED = 9
    LOGISTIC = 14
    MAX_POOL_2D = 17
    MUL = 18
    RELU = 19
    RELU_N1_TO_1 = 20
    RELU6 = 21
    RESHAPE = 22
    RESIZE_BILINEAR = 23
    SOFTMAX = 25
    SPACE_TO_DEPTH = 26
    SVDF = 27
    TANH = 28
    PAD = 34
    GATHER = 36
    BATCH_TO_SPACE_ND = 37
    SPACE_TO_BATCH_ND = 38
    TRANSPOSE = 39
    MEAN = 40
    SUB = 41
    SQUEEZE = 43
    UNIDIRECTIONAL_SEQUENCE_LSTM = 44
    STRIDED_SLICE = 45
    EXP = 47
    SPLIT = 49
    LOG_SOFTMAX = 50
    CAST = 53
    PRELU = 54
    MAXIMUM = 55
    MINIMUM = 57
    PADV2 = 60
    SLICE = 65
    TRANSPOSE_CONV = 67
    TILE = 69
    EXPAND_DIMS = 70
    LOG = 73
    SHAPE = 77
    REDUCE_MAX = 82
    PACK = 83
    UNPACK = 88
    REDUCE_MIN = 89
    FILL = 94
    RESIZE_NEAREST_NEIGHBOR = 97
    LEAKY_RELU = 98
    MIRROR_PAD = 100
    ABS = 101
    SPLIT_V = 102
    REVERSE_V2 = 105
    QUANTIZE = 114
    HARD_SWISH = 117
    WHILE = 119
    BROADCAST_TO = 130
    GELU = 150


class Element(IntEnum):
    """TensorType of the schema."""

    FLOAT32 = 0
    INT32 = 2
    UINT8 = 3
    INT64 = 4
    INT16 = 7
    INT8 = 9


class Fused(IntEnum):
    """ActivationFunctionType of the schema."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3


# The first version of an operator that takes int8 as we write it, as TensorFlow's converter states it; others have 2.
_FIRST = (
    Code.RESHAPE, Code.HARD_SWISH, Code.PRELU, Code.DEPTH_TO_SPACE, Code.SQUEEZE, Code.RELU_N1_TO_1,
    Code.EXPAND_DIMS, Code.TILE, Code.ABS, Code.UNIDIRECTIONAL_SEQUENCE_LSTM,
)  # fmt: skip
_OPERATOR_VERSIONS = {
    Code.CONV_2D: 3,
    Code.DEPTHWISE_CONV_2D: 3,
    Code.FULLY_CONNECTED: 4,
    Code.SVDF: 3,
    **dict.fromkeys(_FIRST, 1),
}
PER_CHANNEL_DENSE_VERSION = 12

_ELEMENTS = {
    np.dtype("<f4"): Element.FLOAT32,
    np.dtype("<i4"): Element.INT32,
    np.dtype("u1"): Element.UINT8,
    np.dtype("<i8"): Element.INT64,
    np.dtype("<i2"): Element.INT16,
    np.dtype("i1"): Element.INT8,
}


@dataclass(frozen=True, slots=True)
class Options:
    """BuiltinOptions of one operator: union member, and (slot, flatbuffers type, value) of each field."""

    union: int
    fields: tuple[tuple[int, str, float], ...] = ()
    ints: tuple[int, ...] | None = None  # a vector of int32 in slot 0 (ReshapeOptions.new_shape)


def conv_options(
    stride: tuple[int, int] = (1, 1),
    *,
    same: bool = False,
    activation: Fused = Fused.NONE,
    dilation: tuple[int, int] = (1, 1),
) -> Options:
    """Conv2DOptions. Pairs are (height, width)."""
    fields = ((0, "Int8", 0 if same else 1), (1, "Int32", stride[1]), (2, "Int32", stride[0]))
    return Options(1, (*fields, (3, "Int8", activation), (4, "Int32", dilation[1]), (5, "Int32", dilation[0])))


def depthwise_options(
    stride: tuple[int, int] = (1, 1),
    multiplier: int = 1,
    *,
    same: bool = False,
    activation: Fused = Fused.NONE,
    dilation: tuple[int, int] = (1, 1),
) -> Options:
    """DepthwiseConv2DOptions. Pairs are (height, width)."""
    fields = ((0, "Int8", 0 if same else 1), (1, "Int32", stride[1]), (2, "Int32", stride[0]), (3, "Int32", multiplier))
    return Options(2, (*fields, (4, "Int8", activation), (5, "Int32", dilation[1]), (6, "Int32", dilation[0])))


def pool_options(
    window: tuple[int, int], stride: tuple[int, int], *, same: bool = False, activation: Fused = Fused.NONE
) -> Options:
    """Pool2DOptions. Pairs are (height, width)."""
    fields = ((0, "Int8", 0 if same else 1), (1, "Int32", stride[1]), (2, "Int32", stride[0]))
    return Options(5, (*fields, (3, "Int32", window[1]), (4, "Int32", window[0]), (5, "Int8", activation)))


def dense_options(activation: Fused = Fused.NONE, *, keep_num_dims: bool = False) -> Options:
    """FullyConnectedOptions."""
    return Options(8, ((0, "Int8", activation), (2, "Bool", keep_num_dims)))


def softmax_options(beta: float = 1.0) -> Options:
    """SoftmaxOptions."""
    return Options(9, ((0, "Float32", beta),))


def concat_options(axis: int) -> Options:
    """ConcatenationOptions."""
    return Options(10, ((0, "Int32", axis),))


def add_options(activation: Fused = Fused.NONE) -> Options:
    """AddOptions."""
    return Options(11, ((0, "Int8", activation),))


def reshape_options(shape: Sequence[int]) -> Options:
    """ReshapeOptions (old converters; new ones only give the shape as a tensor)."""
    return Options(17, ints=tuple(shape))


def reducer_options(keep_dims: bool) -> Options:
    """ReducerOptions (MEAN)."""
    return Options(27, ((0, "Bool", keep_dims),))


def lstm_options(cell_clip: float = 0.0, *, time_major: bool = False) -> Options:
    """UnidirectionalSequenceLSTMOptions of a layer whose activation is tanh."""
    return Options(71, ((0, "Int8", 4), (1, "Float32", cell_clip), (3, "Bool", time_major)))


def svdf_options(rank: int) -> Options:
    """SVDFOptions; the integer kernel demands RELU, which its output's range is."""
    return Options(6, ((0, "Int32", rank), (1, "Int8", Fused.RELU)))


PAD_OPTIONS = Options(22)
DEQUANTIZE_OPTIONS = Options(38)
QUANTIZE_OPTIONS = Options(89)


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    element: Element
    scales: NDArray[np.float32] | None
    zero_points: NDArray[np.int64] | None
    axis: int
    data: bytes
    is_variable: bool = False


@dataclass(frozen=True, slots=True)
class _Operator:
    code: tuple[Code, int]  # with the version
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options | None
    intermediates: tuple[int, ...] = ()


class TfliteFile:
    """Collects tensors and operators; `finish` gives the file's bytes. Tensor indices are in the order of calls."""

    def __init__(self, description: str = "munas") -> None:
        self._description = description
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []

    def activation(
        self,
        name: str,
        shape: Sequence[int],
        scale: float | None,
        zero_point: int = 0,
        element: Element = Element.INT8,
    ) -> int:
        """Add a tensor without data; `shape` includes the batch. Returns its index."""
        scales = None if scale is None else np.array([scale], np.float32)
        points = None if scale is None else np.array([zero_point], np.int64)
        return self._append(_Tensor(name, tuple(shape), element, scales, points, 0, b""))

    def variable(self, name: str, shape: Sequence[int], scale: float, zero_point: int, element: Element) -> int:
        """Add a tensor that lives from one inference to the next. Returns its index."""
        scales, points = np.array([scale], np.float32), np.array([zero_point], np.int64)
        return self._append(_Tensor(name, tuple(shape), element, scales, points, 0, b"", is_variable=True))

    def constant(
        self,
        name: str,
        values: NDArray[Any],
        scales: Sequence[float] | NDArray[Any] | None = None,
        axis: int = 0,
        zero_point: int = 0,
    ) -> int:
        """Add a tensor with data (float32, int8 to int64, uint8 array); one scale, or one along `axis`."""
        scale_array = None if scales is None else np.asarray(scales, np.float32).reshape(-1)
        points = None if scale_array is None else np.full(scale_array.shape, zero_point, np.int64)
        element = _ELEMENTS[values.dtype]
        return self._append(_Tensor(name, values.shape, element, scale_array, points, axis, values.tobytes()))

    def operator(
        self,
        code: Code,
        inputs: Sequence[int],
        output: int | Sequence[int],
        options: Options | None = None,
        version: int = 0,
        intermediates: Sequence[int] = (),
    ) -> None:
        """Add an operator that writes `output`; version 0 is the usual one. Operators run in the order of calls."""
        versioned = (code, version or _OPERATOR_VERSIONS.get(code, 2))
        outputs = (output,) if isinstance(output, int) else tuple(output)
        self._operators.append(_Operator(versioned, tuple(inputs), outputs, options, tuple(intermediates)))

    def lstm(
        self,
        source: int,
        weights: Sequence[int],
        biases: Sequence[int],
        states: tuple[int, int],
        output: int,
        hidden: tuple[float, int],
        options: Options,
    ) -> None:
        """Add an LSTM of int8. `weights` are the four gates' for the input, then for the hidden state; `states` the
        hidden and the cell state; `hidden` is scale and zero point before a projection, of which there is none.
        """
        floats = [self.activation("unused", (0,), None, element=Element.FLOAT32) for _ in range(4)]
        intermediates = [*floats, self.activation("hidden", (0,), *hidden)]
        inputs = [source, *weights, *[ABSENT] * 3, *biases, *[ABSENT] * 2, *states, *[ABSENT] * 4]
        self.operator(Code.UNIDIRECTIONAL_SEQUENCE_LSTM, inputs, output, options, intermediates=intermediates)

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file, with the network's input and output tensors."""
        builder = flatbuffers.Builder(4096 + sum(len(tensor.data) + 256 for tensor in self._tensors))
        codes = sorted({operator.code for operator in self._operators})
        buffers = [_buffer(builder, b"")] + [_buffer(builder, tensor.data) for tensor in self._tensors]
        subgraph = self._subgraph(builder, codes, inputs, outputs)
        code_vector = _offsets(builder, [_operator_code(builder, *code) for code in codes])
        fields = (
            (0, "Uint32", _SCHEMA_VERSION),
            (1, "Offset", code_vector),
            (2, "Offset", _offsets(builder, [subgraph])),
            (3, "Offset", builder.CreateString(self._description)),
            (4, "Offset", _offsets(builder, buffers)),
        )
        builder.Finish(_table(builder, 5, fields), file_identifier=_FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _append(self, tensor: _Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _subgraph(
        self, builder: flatbuffers.Builder, codes: list[tuple[Code, int]], inputs: Sequence[int], outputs: Sequence[int]
    ) -> int:
        tensors = [_tensor(builder, tensor, 1 + index) for index, tensor in enumerate(self._tensors)]
        operators = [_operator(builder, codes.index(operator.code), operator) for operator in self._operators]
        fields = (
            (0, "Offset", _offsets(builder, tensors)),
            (1, "Offset", _int32s(builder, inputs)),
            (2, "Offset", _int32s(builder, outputs)),
            (3, "Offset", _offsets(builder, operators)),
            (4, "Offset", builder.CreateString("main")),
        )
        return _table(builder, 5, fields)


def _table(builder: flatbuffers.Builder, slots: int, fields: Sequence[tuple[int, str, float]]) -> int:
    """Write a table; fields are (slot, type, value), "Offset" being a reference to what was written before."""
    builder.StartObject(slots)
    for slot, kind, value in fields:
        if kind == "Offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        else:
            getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
    return int(builder.EndObject())


def _offsets(builder: flatbuffers.Builder, items: Sequence[int]) -> int:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def _int32s(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, "<i4")))


def _buffer(builder: flatbuffers.Builder, data: bytes) -> int:
    if not data:
        return _table(builder, 1, ())
    builder.StartVector(1, len(data), _BUFFER_ALIGNMENT)
    start = builder.Head() - len(data)
    builder.Bytes[start : builder.Head()] = data
    builder.head = start
    return _table(builder, 1, ((0, "Offset", builder.EndVector()),))


def _operator_code(builder: flatbuffers.Builder, code: Code, version: int) -> int:
    legacy = min(code, _LEGACY_CODE_LIMIT)
    return _table(builder, 4, ((0, "Int8", legacy), (2, "Int32", version), (3, "Int32", code)))


def _tensor(builder: flatbuffers.Builder, tensor: _Tensor, buffer: int) -> int:
    name = builder.CreateString(tensor.name)
    shape = _int32s(builder, tensor.shape)
    fields = [(0, "Offset", shape), (1, "Int8", tensor.element), (2, "Uint32", buffer), (3, "Offset", name)]
    if tensor.scales is not None:
        scales = builder.CreateNumpyVector(tensor.scales)
        points = builder.CreateNumpyVector(tensor.zero_points)
        slots = ((2, "Offset", scales), (3, "Offset", points), (6, "Int32", tensor.axis))
        fields.append((4, "Offset", _table(builder, 7, slots)))
    if tensor.is_variable:
        fields.append((5, "Bool", True))
    return _table(builder, 9, [*fields, (8, "Bool", True)])


def _operator(builder: flatbuffers.Builder, code: int, operator: _Operator) -> int:
    fields = [
        (0, "Uint32", code),
        (1, "Offset", _int32s(builder, operator.inputs)),
        (2, "Offset", _int32s(builder, operator.outputs)),
    ]
    options = operator.options
    if options is not None:
        members = list(options.fields)
        if options.ints is not None:
            members.append((0, "Offset", _int32s(builder, options.ints)))
        fields += [(3, "Uint8", options.union), (4, "Offset", _table(builder, 7, members))]
    if operator.intermediates:
        fields.append((8, "Offset", _int32s(builder, operator.intermediates)))
    return _table(builder, 9 if operator.intermediates else 5, fields)
