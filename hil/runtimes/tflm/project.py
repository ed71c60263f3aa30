"""TFLM network -> C++ project: the .tflite, its operators, the network alone, and what the measuring runtime asks for.

The project contains no TFLM: it is compiled against its headers and linked with its library (see `detect`).
All else - start-up, protocol, measuring, ports, linker script - is the firmware that generated networks use as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from hil.codegen.render import float_literal, template
from hil.runtimes.tflm.adders import call_of, header_of, is_narrow
from hil.runtimes.tflm.arena import WRITTEN_FOR
from hil.runtimes.tflm.headers import Registry
from hil.runtimes.tflm.network import Network

NETWORK = ("model.cc", "operators.cc", "network.cc")  # the network without anything that measures it
LEAST_ARENA_BYTES = 16  # so that the linker has something to place: it grows to what the budget leaves
POINTER_BYTES = 4  # of a microcontroller
_BYTES_PER_LINE = 20
_HEX = tuple(f"0x{value:02x}" for value in range(256))
_MODEL = struct.Struct("<H2x5I2b2xff2I")  # hil_model_t behind its two pointers


def entries(kinds: Iterable[str], registry: Registry | None, *widths: bool) -> str:
    """C++ of the measuring runtime's access to these operators, with kernels for int8 only (False) or for more types
    (True). Raises ModelError for one that TFLM does not have."""
    found = [_operators(kinds, registry, wide) for wide in widths]
    operators = list({operator["name"]: operator for operators, _ in found for operator in operators}.values())
    headers = sorted({header for _, headers in found for header in headers})
    return template("tflm/entries.cc").render(operators=operators, headers=headers)


def texts(network: Network, registry: Registry | None) -> Iterator[tuple[str, str]]:
    """Name and text of the files of a standalone project that belong to TFLM. Raises ModelError."""
    operators, headers = _operators(network.operators, registry, network.is_wide)
    common = {
        "operators": operators,
        "headers": headers,
        "arena_least": LEAST_ARENA_BYTES,
        "layers": len(network.steps),
        "input": network.input,
        "output": network.output,
        "zero_points": _zero_points(network),
        "model_bytes": len(network.flatbuffer),
        "variables": network.variables,
        "arena_size": network.arena_bytes if network.is_arena_known else 2 * network.arena_bytes,
        "arena_note": _arena_note(network),
        "input_scale": float_literal(network.input.scale),
        "output_scale": float_literal(network.output.scale),
    }
    yield "model.cc", template("tflm/model.cc").render(lines=_lines(network.flatbuffer), **common)
    for name in ("model.h", "model.c", "plan.h", "operators.h", "operators.cc", "network.h", "network.cc"):
        yield name, template(f"tflm/{name}").render(**common)
    yield "entries.cc", entries(network.operators, registry, network.is_wide)


def placeholder_texts(kinds: Iterable[str], registry: Registry, wide: bool) -> Iterator[tuple[str, str]]:
    """`texts` for an image that gets a network of these operators when it is linked: without any of its figures."""
    port = {"size": 0, "zero_point": 0, "scale": 0.0}
    common = {
        "operators": _operators(kinds, registry, wide)[0], "arena_least": LEAST_ARENA_BYTES, "layers": 0, "input": port,
        "output": port, "zero_points": (0, 0), "model_bytes": 0, "variables": 0, "input_scale": float_literal(0.0),
        "output_scale": float_literal(0.0),
    }  # fmt: skip
    yield "model.cc", template("tflm/model.cc").render(lines=_lines(bytes(16)), **common)
    for name in ("model.h", "model.c", "plan.h"):
        yield name, template(f"tflm/{name}").render(**common)


def _operators(kinds: Iterable[str], registry: Registry | None, wide: bool) -> tuple[list[dict[str, str]], list[str]]:
    """What templates say of operators, and the headers that they need besides the resolver's."""
    kinds = list(kinds)
    calls = {kind: call_of(kind, registry, wide=wide) for kind in kinds}
    operators = [
        {
            "name": f"{kind}{'_wide' if wide and is_narrow(kind) else ''}",
            "operator": kind,
            "add": add,
            "registration": item,
        }
        for kind, (add, item) in calls.items()
    ]
    return operators, sorted({header_of(kind, item) for kind, (_, item) in calls.items()} - {""})


def model_struct(network: Network) -> bytes:
    """`hil_model_t` of the network as the compiler lays it out, behind its two pointers."""
    given, result = network.input, network.output
    return _MODEL.pack(
        len(network.steps), 0, 0, given.size, 0, result.size, *_zero_points(network), result.scale, given.scale, 0,
        network.variables,
    )  # fmt: skip


def _zero_points(network: Network) -> tuple[int, int]:
    """The input's and the output's, as far as the firmware asks for them: of int8."""
    given, result = (0 if port.is_wide else port.zero_point for port in (network.input, network.output))
    return given, result


def _arena_note(network: Network) -> str:
    if network.is_arena_known:
        return f"The least that starts, by the allocations of {WRITTEN_FOR}; its arena_used_bytes() says what it uses."
    return "A guess: lower it to what arena_used_bytes() says, and a little more for starting."


def _lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _BYTES_PER_LINE):
        yield "    " + ", ".join(_HEX[value] for value in data[start : start + _BYTES_PER_LINE]) + ","
