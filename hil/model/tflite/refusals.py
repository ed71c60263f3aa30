"""What cannot be imported, said first and with the remedy."""

from __future__ import annotations

from hil.errors import ModelError
from hil.model.tflite import schema
from hil.model.tflite.container import Container, RawOperator

FULL_INTEGER = (
    "quantise it with full-integer quantisation: converter.optimizations = [tf.lite.Optimize.DEFAULT], "
    "representative_dataset, target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]"
)

_BLOCKS = "only around a convolution of stride 1, where it makes a dilation; convert the model with batch size 1"
_NO_INT8 = "LiteRT's reference kernels have none of int8, so that nothing could be verified"
_REMEDIES = {
    "DENSIFY": "its weights are sparse; convert again without Optimize.EXPERIMENTAL_SPARSITY",
    "LSTM": "convert it as UNIDIRECTIONAL_SEQUENCE_LSTM (keras.layers.LSTM), or unrolled (unroll=True)",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "convert two LSTMs, one of which reads backwards, or unrolled (unroll=True)",
    "SUM": "LiteRT's reference kernel takes int8 for uint8, so that no result can be verified; use a mean instead",
    "ELU": "LiteRT's reference kernels have none, so that no result can be verified; use another activation",
    "IF": "control flow is not supported",
    "WHILE": "control flow is not supported; unroll the loop (keras.layers.LSTM(..., unroll=True))",
    "SHAPE": "it is not a constant here; convert the model with batch size 1",
    "SPACE_TO_BATCH_ND": _BLOCKS,
    "BATCH_TO_SPACE_ND": _BLOCKS,
    "BATCH_MATMUL": "a product with a constant is a FULLY_CONNECTED (keras.layers.Dense); that of two activations, as "
    "attention has it, is not supported",
    "SQUARE": "multiply the tensor by itself (MUL)",
    "SQUARED_DIFFERENCE": "take the difference (SUB), and multiply it by itself (MUL)",
    "NEG": "LiteRT's kernel negates numbers without their zero point; subtract from a constant 0 (SUB)",
    "SQRT": _NO_INT8,
    "RSQRT": "scale by what is known after training (BatchNormalization) instead of by what each input gives",
    "DIV": "multiply by the reciprocal, where that is a constant (MUL)",
    "SIN": _NO_INT8,
    "COS": _NO_INT8,
    "FAKE_QUANT": "convert the model with quantisation applied (TFLITE_BUILTINS_INT8)",
}
_HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF")


def unsupported(operator: RawOperator) -> ModelError:
    """The error for an operator that nothing here executes."""
    remedy = _REMEDIES.get(operator.name, "")
    if operator.name.startswith("custom operator"):
        remedy = "custom operators run on the host; convert the network without them"
    return operator.refuse("not supported" + (f": {remedy}" if remedy else ""))


def check_quantised(container: Container) -> None:
    """Raise ModelError for a network that is not int8 at all: float32, weights only, 16-bit activations, uint8."""
    kinds = [
        (container.tensors[operator.outputs[0]].type, operator)
        for operator in container.operators
        if operator.outputs and operator.name in _HEAVY
    ]
    if not kinds:
        kinds = [(container.tensors[op.outputs[0]].type, op) for op in container.operators if op.outputs]
    types = {element for element, _ in kinds}
    if not types or schema.INT8 in types or schema.INT16 in types:
        return
    if schema.FLOAT32 in types:
        hybrid = any(
            container.tensors[index].type == schema.INT8 and container.tensors[index].data is not None
            for _, operator in kinds
            for index in operator.inputs
            if index >= 0
        )
        what = (
            "only its weights are quantised (dynamic range), its activations are float32" if hybrid else "it is float32"
        )
        raise ModelError(f"the model is not int8: {what}; {FULL_INTEGER}")
    if schema.UINT8 in types:
        raise ModelError(
            f"the model is not int8: its activations are uint8, as converters before 2020 made them"
            f"{_beyond_int8(container)}; convert the original again with TFLITE_BUILTINS_INT8"
        )


def _beyond_int8(container: Container) -> str:
    """Why shifting all zero points by 128 does not make int8 of a uint8 network: weights that are no int8 then."""
    weights = [
        container.tensors[operator.inputs[1]]
        for operator in container.operators
        if operator.name in _HEAVY[:3] and len(operator.inputs) > 1 and operator.inputs[1] >= 0
    ]
    found = [raw for raw in weights if raw.type == schema.UINT8 and raw.data and len(raw.zero_points) == 1]
    lost = [raw for raw in found if not _fits_int8(bytes(raw.data or b""), raw.zero_points[0])]
    if not lost:
        return ", whose kernels round otherwise than those of int8"
    return (
        f", and the weights of {len(lost)} of {len(weights)} layers, less their zero point, do not fit int8, so that "
        "they cannot be shifted"
    )


def _fits_int8(data: bytes, zero_point: int) -> bool:
    return max(data) - zero_point <= 127 and min(data) - zero_point >= -128
