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


_ANY = range(1, limits.MAX_INTERFACE + 1)

OPERATORS: Mapping[OpKind, OperatorCode] = {
    OpKind.ADD: OperatorCode(0, 11, range(2, 3)),
    OpKind.AVERAGE_POOL_2D: OperatorCode(1, 5),
    OpKind.CONCATENATION: OperatorCode(2, 10, _ANY),
    OpKind.CONV_2D: OperatorCode(3, 1, range(3, 4)),  # the kernel demands a bias
    OpKind.DEPTHWISE_CONV_2D: OperatorCode(4, 2, range(2, 4)),
    OpKind.DEQUANTIZE: OperatorCode(6, 38),
    OpKind.FULLY_CONNECTED: OperatorCode(9, 8, range(2, 4)),
    OpKind.MAX_POOL_2D: OperatorCode(17, 5),
    OpKind.RELU: OperatorCode(19),
    OpKind.RELU6: OperatorCode(21),
    OpKind.RESHAPE: OperatorCode(22, 17, range(1, 3)),
    OpKind.SOFTMAX: OperatorCode(25, 9),
    OpKind.PAD: OperatorCode(34, 22, range(2, 3)),
    OpKind.MEAN: OperatorCode(40, 27, range(2, 3)),
    OpKind.QUANTIZE: OperatorCode(114, 89),
}
"""One row a kind of operator. What its options and inputs mean: hil/model/tflite/operators.py."""

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
INT64 = 4
DTYPES: dict[int, DType] = {0: DType.FLOAT32, 2: DType.INT32, 3: DType.UINT8, 9: DType.INT8}
ELEMENT_BYTES: dict[int, int] = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 10: 8, 12: 8, 15: 4, 16: 2}

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
