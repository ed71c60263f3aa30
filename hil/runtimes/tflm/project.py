"""TFLM network -> C++ project: operators.cc with the operators it uses, model.c with the .tflite as words, plan.h.

The project contains no TFLM: it is compiled against its headers and linked with its library (see `detect`).
All else - start-up, protocol, measuring, ports, linker script - is the firmware that generated networks use as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hil.codegen.render import float_literal, template
from hil.model.network import OpKind
from hil.runtimes.tflm.adders import ADDERS
from hil.runtimes.tflm.network import Network

OPERATORS = "operators.cc"
_WORDS_PER_LINE = 10


def texts(network: Network) -> Iterator[tuple[str, str]]:
    """Name and text of the files that belong to TFLM."""
    lines = list(_lines(network.flatbuffer))
    common = {
        "arena": network.arena,
        "layers": len(network.steps),
        "input": network.input,
        "output": network.output,
        "model_bytes": len(network.flatbuffer),
    }
    operators = [_operator(kind) for kind in network.operators]
    yield OPERATORS, template(f"tflm/{OPERATORS}").render(operators=operators)
    scales = {"input_scale": network.input.scale, "output_scale": network.output.scale}
    literals = {name: float_literal(scale) for name, scale in scales.items()}
    yield "model.c", template("tflm/model.c").render(**literals, **common)
    words = -(-len(network.flatbuffer) // 4)
    yield "model_data.h", template("tflm/model_data.h").render(words=words, lines=lines, **common)
    yield "plan.h", template("tflm/plan.h").render(**common)


def _operator(kind: OpKind) -> dict[str, str]:
    add, registration = ADDERS[kind]
    return {"add": add, "registration": f"tflite::Register_{registration}()" if registration else ""}


def _lines(data: bytes) -> Iterator[str]:
    padded = data + bytes(-len(data) % 4)
    words = [f"0x{word:08x}" for (word,) in struct.iter_unpack("<I", padded)]
    for start in range(0, len(words), _WORDS_PER_LINE):
        yield "    " + ", ".join(words[start : start + _WORDS_PER_LINE]) + ","
