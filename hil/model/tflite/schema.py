"""Numbers of the TensorFlow Lite schema (schema.fbs, version 3) that the importer understands, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hil.model.network import Activation, DType, OpKind
from hil.model.tflite import limits

IDENTIFIER = b"TFL3"
VERSION = 3


@dataclass(frozen=True, slots=True)
class OperatorCode:
    """How the schema writes one kind of operator.

    `code` is its BuiltinOperator, `options` its member of the union BuiltinOptions (0: it has none), `inputs` the
    numbers of inputs that LiteRT's kernel takes.
    """

    code: int
    options: int = 0
    inputs: range = range(1, 2)


_ANY = range(1, limits.MAX_OPERANDS + 1)
_TWO = range(2, 3)

OPERATORS: Mapping[OpKind, OperatorCode] = {
    OpKind.ADD: OperatorCode(0, 11, _TWO),
    OpKind.AVERAGE_POOL_2D: OperatorCode(1, 5),
    OpKind.CONCATENATION: OperatorCode(2, 10, _ANY),
    OpKind.CONV_2D: OperatorCode(3, 1, range(3, 4)),  # the kernel demands a bias
    OpKind.DEPTHWISE_CONV_2D: OperatorCode(4, 2, range(2, 4)),
    OpKind.DEPTH_TO_SPACE: OperatorCode(5, 94),
    OpKind.DEQUANTIZE: OperatorCode(6, 38),
    OpKind.FULLY_CONNECTED: OperatorCode(9, 8, range(2, 4)),
    OpKind.LOGISTIC: OperatorCode(14),
    OpKind.MAX_POOL_2D: OperatorCode(17, 5),
    OpKind.MUL: OperatorCode(18, 21, _TWO),
    OpKind.RELU: OperatorCode(19),
    OpKind.RELU_N1_TO_1: OperatorCode(20),
    OpKind.RELU6: OperatorCode(21),
    OpKind.RESHAPE: OperatorCode(22, 17, range(1, 3)),
    OpKind.RESIZE_BILINEAR: OperatorCode(23, 15, _TWO),
    OpKind.SOFTMAX: OperatorCode(25, 9),
    OpKind.SPACE_TO_DEPTH: OperatorCode(26, 19),
    OpKind.SVDF: OperatorCode(27, 6, range(5, 6)),
    OpKind.TANH: OperatorCode(28),
    OpKind.PAD: OperatorCode(34, 22, _TWO),
    OpKind.GATHER: OperatorCode(36, 23, _TWO),
    OpKind.BATCH_TO_SPACE_ND: OperatorCode(37, 24, range(3, 4)),
    OpKind.SPACE_TO_BATCH_ND: OperatorCode(38, 25, range(3, 4)),
    OpKind.TRANSPOSE: OperatorCode(39, 26, _TWO),
    OpKind.MEAN: OperatorCode(40, 27, _TWO),
    OpKind.SUB: OperatorCode(41, 28, _TWO),
    OpKind.SQUEEZE: OperatorCode(43, 30),
    OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM: OperatorCode(44, 71, range(24, 25)),
    OpKind.STRIDED_SLICE: OperatorCode(45, 32, range(4, 5)),
    OpKind.EXP: OperatorCode(47, 33),
    OpKind.SPLIT: OperatorCode(49, 35, _TWO),
    OpKind.LOG_SOFTMAX: OperatorCode(50, 36),
    OpKind.PRELU: OperatorCode(54, 0, _TWO),
    OpKind.MAXIMUM: OperatorCode(55, 39, _TWO),
    OpKind.MINIMUM: OperatorCode(57, 39, _TWO),
    OpKind.PADV2: OperatorCode(60, 43, range(3, 4)),
    OpKind.SLICE: OperatorCode(65, 48, range(3, 4)),
    OpKind.TRANSPOSE_CONV: OperatorCode(67, 49, range(3, 5)),
    OpKind.TILE: OperatorCode(69, 51, _TWO),
    OpKind.EXPAND_DIMS: OperatorCode(70, 52, _TWO),
    OpKind.LOG: OperatorCode(73),
    OpKind.REDUCE_MAX: OperatorCode(82, 27, _TWO),
    OpKind.PACK: OperatorCode(83, 59, _ANY),
    OpKind.UNPACK: OperatorCode(88, 64),
    OpKind.REDUCE_MIN: OperatorCode(89, 27, _TWO),
    OpKind.RESIZE_NEAREST_NEIGHBOR: OperatorCode(97, 74, _TWO),
    OpKind.LEAKY_RELU: OperatorCode(98, 75),
    OpKind.MIRROR_PAD: OperatorCode(100, 77, _TWO),
    OpKind.ABS: OperatorCode(101, 78),
    OpKind.SPLIT_V: OperatorCode(102, 79, range(3, 4)),
    OpKind.REVERSE_V2: OperatorCode(105, 81, _TWO),
    OpKind.QUANTIZE: OperatorCode(114, 89),
    OpKind.HARD_SWISH: OperatorCode(117, 91),
    OpKind.CALL_ONCE: OperatorCode(129, 103, range(1)),
    OpKind.BROADCAST_TO: OperatorCode(130, 104, _TWO),
    OpKind.VAR_HANDLE: OperatorCode(142, 111, range(1)),
    OpKind.READ_VARIABLE: OperatorCode(143, 112),
    OpKind.ASSIGN_VARIABLE: OperatorCode(144, 113, _TWO),
    OpKind.GELU: OperatorCode(150, 116),
}
"""One row a kind of operator. What its options and inputs mean: hil/model/tflite/importers."""

KINDS: Mapping[int, OpKind] = {row.code: kind for kind, row in OPERATORS.items()}

ACTIVATIONS: dict[int, Activation] = {
    0: Activation.NONE,
    1: Activation.RELU,
    2: Activation.RELU_N1_TO_1,
    3: Activation.RELU6,
}

PADDING_SAME, PADDING_VALID = 0, 1

TYPE_NAMES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64"),
    *("complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4"),
)
FLOAT32, INT32, INT64, BOOL, INT16, INT4 = 0, 2, 4, 6, 7, 17
UINT8, INT8 = 3, 9
TYPE_ADVICE: Mapping[int, str] = {
    FLOAT32: "convert the model with full-integer quantisation",
    INT16: "activations of 16 bits (16x8 quantisation) are not supported here; convert with TFLITE_BUILTINS_INT8",
    3: "uint8 tensors are of converters before 2020; convert the model again with TFLITE_BUILTINS_INT8",
}
"""What to do about a tensor of this type where int8 is needed."""

DTYPES: dict[int, DType] = {0: DType.FLOAT32, 2: DType.INT32, 3: DType.UINT8, 7: DType.INT16, 9: DType.INT8}
BIASES: Mapping[int, DType] = {INT32: DType.INT32, INT64: DType.INT64}
ELEMENT_BITS: dict[int, int] = {
    **{0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 10: 64, 12: 64, 15: 32, 16: 16, INT4: 4},
}

WIDE_KINDS = frozenset(
    {
        *(OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.FULLY_CONNECTED, OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D),
        *(OpKind.ADD, OpKind.SUB, OpKind.MUL, OpKind.MAXIMUM, OpKind.MINIMUM, OpKind.LOGISTIC, OpKind.TANH),
        *(OpKind.SOFTMAX, OpKind.MEAN, OpKind.REDUCE_MAX, OpKind.REDUCE_MIN, OpKind.RESIZE_BILINEAR, OpKind.QUANTIZE),
        *(OpKind.RESHAPE, OpKind.SQUEEZE, OpKind.EXPAND_DIMS, OpKind.STRIDED_SLICE, OpKind.SLICE, OpKind.SPLIT),
        *(OpKind.SPLIT_V, OpKind.UNPACK, OpKind.PACK, OpKind.CONCATENATION, OpKind.GATHER, OpKind.TRANSPOSE),
        *(OpKind.REVERSE_V2, OpKind.TILE, OpKind.BROADCAST_TO, OpKind.PAD, OpKind.PADV2, OpKind.MIRROR_PAD),
        *(OpKind.RESIZE_NEAREST_NEIGHBOR, OpKind.SPACE_TO_BATCH_ND, OpKind.BATCH_TO_SPACE_ND),
    }
)
"""Operators that may have activations of 16 bits."""

CUSTOM = 32


def type_name(code: int) -> str:
    """Name of an element type, for messages."""
    return TYPE_NAMES[code] if 0 <= code < len(TYPE_NAMES) else f"type {code}"


def operator_name(code: int) -> str:
    """Name of an operator code, for messages; every operator of the installed schema is known, supported or not."""
    kind = KINDS.get(code)
    if kind is not None:
        return kind.value
    from ai_edge_litert.schema_py_generated import BuiltinOperator  # slow to import, and only for refusals

    names = {value: name for name, value in vars(BuiltinOperator).items() if not name.startswith("_")}
    return str(names.get(code, f"operator code {code}"))
