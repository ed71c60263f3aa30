"""Numbers of the TensorFlow Lite schema (schema.fbs, version 3) that the importer understands, and their names."""

from __future__ import annotations

from hil.model.network import Activation, DType, OpKind

IDENTIFIER = b"TFL3"
VERSION = 3

KINDS: dict[int, OpKind] = {
    0: OpKind.ADD,
    1: OpKind.AVERAGE_POOL_2D,
    2: OpKind.CONCATENATION,
    3: OpKind.CONV_2D,
    4: OpKind.DEPTHWISE_CONV_2D,
    6: OpKind.DEQUANTIZE,
    9: OpKind.FULLY_CONNECTED,
    17: OpKind.MAX_POOL_2D,
    19: OpKind.RELU,
    21: OpKind.RELU6,
    22: OpKind.RESHAPE,
    25: OpKind.SOFTMAX,
    34: OpKind.PAD,
    40: OpKind.MEAN,
    114: OpKind.QUANTIZE,
}

# Members of the union BuiltinOptions. RELU and RELU6 have none.
OPTIONS: dict[OpKind, int] = {
    OpKind.CONV_2D: 1,
    OpKind.DEPTHWISE_CONV_2D: 2,
    OpKind.AVERAGE_POOL_2D: 5,
    OpKind.MAX_POOL_2D: 5,
    OpKind.FULLY_CONNECTED: 8,
    OpKind.SOFTMAX: 9,
    OpKind.CONCATENATION: 10,
    OpKind.ADD: 11,
    OpKind.RESHAPE: 17,
    OpKind.PAD: 22,
    OpKind.MEAN: 27,
    OpKind.DEQUANTIZE: 38,
    OpKind.QUANTIZE: 89,
}

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
