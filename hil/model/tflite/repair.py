"""Makes files of old converters acceptable to LiteRT without touching what they compute.

TOCO (2019) wrote the axis of the weights, 3, into the quantisation of one-dimensional per-channel biases of depthwise
convolutions. TFLite of that time did not look at it; LiteRT 2.3 refuses to load such a file. The field is set to 0.
"""

from __future__ import annotations

from hil.model.tflite import limits, schema
from hil.model.tflite.flatbuffer import Flatbuffer


def repaired(data: bytes) -> bytes:
    """`data`, which must have been imported before, with the axis of one-dimensional tensors set to 0."""
    subgraph = Flatbuffer(data).root(schema.IDENTIFIER).tables(2, limits.MAX_OPERATORS, "subgraphs")[0]
    patched = bytearray(data)
    for tensor in subgraph.tables(0, limits.MAX_TENSORS, "tensors"):
        quantisation = tensor.table(4)
        if quantisation is None or len(tensor.int32s(0)) != 1 or quantisation.int32(6) == 0:
            continue
        position = quantisation.position(6)
        patched[position : position + 4] = bytes(4)
    return bytes(patched) if patched != data else data
