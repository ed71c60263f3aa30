"""TFLM network -> C++ project: the .tflite, its operators, the network alone, and what the measuring runtime asks for.

The project contains no TFLM: it is compiled against its headers and linked with its library (see `detect`).
All else - start-up, protocol, measuring, ports, linker script - is the firmware that generated networks use as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from hil.codegen.render import float_literal, template
from hil.model.network import OpKind
from hil.runtimes.tflm.adders import call_of, header_of
from hil.runtimes.tflm.arena import WRITTEN_FOR
from hil.runtimes.tflm.headers import Registry
from hil.runtimes.tflm.network import Network

NETWORK = ("model.cc", "operators.cc", "network.cc")  # the network without anything that measures it
LEAST_ARENA_BYTES = 16  # so that the linker has something to place: it grows to what the budget leaves
POINTER_BYTES = 4  # of a microcontroller
_BYTES_PER_LINE = 20
_HEX = tuple(f"0x{value:02x}" for value in range(256))
_MODEL = struct.Struct("<H2x5I2b2xffI")  # hil_model_t behind its two pointers


def entries(kinds: Iterable[OpKind], registry: Registry | None) -> str:
    """C++ of the measuring runtime's access to these operators. Raises ModelError for one that TFLM does not have."""
    operators, headers = _operators(kinds, registry)
    return template("tflm/entries.cc").render(operators=operators, headers=headers)


def texts(network: Network, registry: Registry | None) -> Iterator[tuple[str, str]]:
    """Name and text of the files of a standalone project that belong to TFLM. Raises ModelError."""
    operators, headers = _operators(network.operators, registry)
    common = {
        "operators": operators,
        "headers": headers,
        "arena_least": LEAST_ARENA_BYTES,
        "layers": len(network.steps),
        "input": network.input,
        "output": network.output,
        "model_bytes": len(network.flatbuffer),
        "arena_size": network.arena_bytes if network.is_arena_known else 2 * network.arena_bytes,
        "arena_note": _arena_note(network),
        "input_scale": float_literal(network.input.scale),
        "output_scale": float_literal(network.output.scale),
    }
    yield "model.cc", template("tflm/model.cc").render(lines=_lines(network.flatbuffer), **common)
    for name in ("model.h", "model.c", "plan.h", "operators.h", "operators.cc", "network.h", "network.cc"):
        yield name, template(f"tflm/{name}").render(**common)
    yield "entries.cc", entries(network.operators, registry)


def placeholder_texts(kinds: Iterable[OpKind], registry: Registry) -> Iterator[tuple[str, str]]:
    """`texts` for an image that gets a network of these operators when it is linked: without any of its figures."""
    port = {"size": 0, "zero_point": 0, "scale": 0.0}
    common = {
        "operators": _operators(kinds, registry)[0], "arena_least": LEAST_ARENA_BYTES, "layers": 0, "input": port,
        "output": port, "model_bytes": 0, "input_scale": float_literal(0.0), "output_scale": float_literal(0.0),
    }  # fmt: skip
    yield "model.cc", template("tflm/model.cc").render(lines=_lines(bytes(16)), **common)
    for name in ("model.h", "model.c", "plan.h"):
        yield name, template(f"tflm/{name}").render(**common)


def _operators(kinds: Iterable[OpKind], registry: Registry | None) -> tuple[list[dict[str, str]], list[str]]:
    """What templates say of operators, and the headers that they need besides the resolver's."""
    calls = {kind: call_of(kind, registry) for kind in kinds}
    operators = [{"name": kind.value, "add": add, "registration": item} for kind, (add, item) in calls.items()]
    return operators, sorted({header_of(kind, item) for kind, (_, item) in calls.items()} - {""})


def model_struct(network: Network) -> bytes:
    """`hil_model_t` of the network as the compiler lays it out, behind its two pointers."""
    return _MODEL.pack(
        len(network.steps), 0, 0, network.input.size, 0, network.output.size, network.input.zero_point,
        network.output.zero_point, network.output.scale, network.input.scale, 0,
    )  # fmt: skip


def _arena_note(network: Network) -> str:
    if network.is_arena_known:
        return f"The least that starts, by the allocations of {WRITTEN_FOR}; its arena_used_bytes() says what it uses."
    return "A guess: lower it to what arena_used_bytes() says, and a little more for starting."


def _lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _BYTES_PER_LINE):
        yield "    " + ", ".join(_HEX[value] for value in data[start : start + _BYTES_PER_LINE]) + ","
