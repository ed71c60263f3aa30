"""Makes files acceptable to LiteRT's reference kernels without touching what they compute.

TOCO (2019) wrote the axis of the weights, 3, into the quantisation of one-dimensional per-channel biases of depthwise
convolutions. TFLite of that time did not look at it; LiteRT 2.3 refuses to load such a file. The field is set to 0.

A converter states for each operator the oldest version of its kernel that can run it. The table of the reference
kernels is older than that of the optimised ones, although the code behind both is the same for these operators: TILE of
version 3, as TensorFlow 2.21 writes it for UpSampling2D, is unknown to it. Such a version is lowered to the table's.
"""

from __future__ import annotations

from hil.model.network import OpKind
from hil.model.tflite import limits, schema
from hil.model.tflite.flatbuffer import Flatbuffer, Table

REFERENCE_VERSIONS = {
    OpKind.ADD: (5, 6), OpKind.DEPTHWISE_CONV_2D: (6, 7), OpKind.DEPTH_TO_SPACE: (1, 2), OpKind.MUL: (7, 8),
    OpKind.SOFTMAX: (3, 4), OpKind.TRANSPOSE: (8, 9), OpKind.SQUEEZE: (1, 2), OpKind.STRIDED_SLICE: (4, 8),
    OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM: (3, 4), OpKind.TILE: (2, 3), OpKind.ABS: (3, 5),
}  # fmt: skip
"""The newest versions in ai-edge-litert 2.3.0's tables of reference kernels and of optimised ones, where these differ.
What is newer than both stays as it is: nobody knows what it means."""

_BY_CODE = {schema.OPERATORS[kind].code: versions for kind, versions in REFERENCE_VERSIONS.items()}


def repaired(data: bytes) -> bytes:
    """`data`, which must have been imported before, with the axis of one-dimensional tensors set to 0, and versions of
    operators lowered to those that the reference kernels' table has."""
    root = Flatbuffer(data).root(schema.IDENTIFIER)
    patched = bytearray(data)
    for tensor in root.tables(2, limits.MAX_OPERATORS, "subgraphs")[0].tables(0, limits.MAX_TENSORS, "tensors"):
        quantisation = tensor.table(4)
        if quantisation is None or len(tensor.int32s(0)) != 1 or quantisation.int32(6) == 0:
            continue
        position = quantisation.position(6)
        patched[position : position + 4] = bytes(4)
    for code in root.tables(1, limits.MAX_OPERATORS, "operator codes"):
        _lower(code, patched)
    return bytes(patched) if patched != data else data


def _lower(code: Table, patched: bytearray) -> None:
    ours, newest = _BY_CODE.get(max(code.int8(0), code.int32(3)), (0, 0))
    if ours < code.int32(2, 1) <= newest:
        position = code.position(2)
        patched[position : position + 4] = ours.to_bytes(4, "little")
