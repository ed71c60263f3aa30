"""Plan -> C project: model.c, weights.h, plan.h, board.h, build.h, memory.x; CMakeLists.txt and all sources on request.

Rendering is deterministic. Logic is here, templates (firmware/templates) only loop and substitute. Nothing but numbers,
and names that we chose, gets into the C: see hil/codegen/lower.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hil.boards.board import Board, Via
from hil.build.sources import LINK_FLAGS, CmsisRoots, Group, Library, Project, cmsis_files, library
from hil.codegen.fold import Size
from hil.codegen.layer import Arena, Constant, ConstantOf, Value
from hil.codegen.plan import Plan, Port, Step
from hil.codegen.render import (
    DEFAULTS,
    Options,
    board_texts,
    copy_firmware,
    float_literal,
    relative,
    template,
    write_project,
)
from hil.errors import InfrastructureError

_WIDTHS = {"int8_t": 1, "int16_t": 2, "int32_t": 4}
_HEX = tuple(f"\\x{value:02x}" for value in range(256))


def render(plan: Plan, board: Board, via: Via, cmsis: CmsisRoots, folder: Path, options: Options = DEFAULTS) -> Project:
    """Write the project of `plan` into `folder` (created when missing; files of the same names are replaced).

    A standalone project contains every source and builds by itself; another one is compiled against `library`.
    Raises BoardError when the board has no target for `via`, InfrastructureError when a file cannot be written.
    """
    target = board.target(via)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copied = None
        if options.standalone:
            copied = copy_firmware(folder, target, ("runtime", "kernels"))
            cmsis = _copy_cmsis(folder, cmsis)
        linked = library(board, target, cmsis, copied)
        texts = {**dict(_texts(plan, options)), **board_texts(board, via, options)}
        if options.standalone:
            texts["CMakeLists.txt"] = _cmake(folder, linked)
        return write_project(folder, texts, linked, options)
    except OSError as error:
        raise InfrastructureError(f"cannot write the project into {folder}: {error.strerror or error}") from error


_SECTIONS = {"flash": ".rodata.hil_weights", "ram": ".data.hil_weights"}


def _texts(plan: Plan, options: Options) -> Iterator[tuple[str, str]]:
    values = {
        "layers": len(plan.steps),
        "arena_bytes": plan.arena_bytes,
        "lower_bound_bytes": plan.lower_bound_bytes,
        "weights_bytes": plan.weights_bytes,
        "table_bytes": plan.table_bytes,
        "macs": plan.macs,
        "constant_channels": plan.constant_channels,
        "input": plan.input,
        "output": plan.output,
    }
    yield "model.c", template("model.c").render(**_model(plan))
    yield "weights.h", template("weights.h").render(arrays=list(_arrays(plan)), section=_SECTIONS[options.weights])
    yield "plan.h", template("plan.h").render(**values)


def _model(plan: Plan) -> dict[str, Any]:
    offsets = {item.label: item.offset for item in plan.buffers if item.kind == "tensor"}
    return {
        "steps": [_step(step, offsets) for step in plan.steps],
        "input": _stated(plan.input),
        "output": _stated(plan.output),
        "input_scale": float_literal(_stated(plan.input).scale),
        "output_scale": float_literal(_stated(plan.output).scale),
        "states": [
            {
                "number": number,
                "offset": state.offset,
                "bytes": len(state.initial),
                "fill": state.fill,
            }
            for number, state in enumerate(plan.states)
        ],
        "kept_bytes": plan.kept_bytes,
    }


def _stated(port: Port) -> Port:
    """What the firmware says of a port: of 16 bits it only knows the bytes."""
    return replace(port, scale=1.0, zero_point=0) if port.is_wide else port


def _step(step: Step, offsets: dict[int, int]) -> dict[str, Any]:
    return {
        "index": step.index,
        "kind": step.kind.value,
        "path": step.variant.value,
        "shapes": " + ".join(map(_size, step.in_sizes)) + f" -> {_size(step.out_size)}",
        "macs": step.work.macs,
        "in_place": step.in_place,
        "kernel": step.layer.kernel,
        "table": step.layer.table,
        "fields": [(name, _value(value, step, offsets)) for name, value in step.layer.fields],
        "parts": [(_offset(place, step, offsets), size) for place, size in step.layer.parts],
    }


def _size(size: Size) -> str:
    return "x".join(str(extent) for extent in size)


def _offset(place: Arena, step: Step, offsets: dict[int, int]) -> int:
    """Bytes from the start of the arena."""
    start = step.scratch_offset if place.storage is None else offsets[place.storage]
    assert start is not None
    return start + place.offset


def _value(value: Value, step: Step, offsets: dict[int, int]) -> str:
    """A field's initialiser in C."""
    match value:
        case Arena():
            return f"hil_arena + {_offset(value, step, offsets)}"
        case ConstantOf(role):
            return f"{role}_{step.index}"
        case tuple():
            return "{" + ", ".join(str(item) for item in value) + "}"
        case _:
            return str(value)


def _arrays(plan: Plan) -> Iterator[dict[str, Any]]:
    for step in plan.steps:
        for constant in step.layer.constants:
            yield {"layer": step.index, **_array(constant, step.index)}
    for number, state in enumerate(plan.states):
        if state.fill is None:
            initial = Constant("initial", "int8_t", state.initial, "what the state holds at first")
            yield {"layer": f"state {number}", **_array(initial, number)}


def _array(constant: Constant, number: int) -> dict[str, Any]:
    size = _WIDTHS[constant.dtype]
    return {
        "name": f"{constant.role}_{number}",
        "dtype": constant.dtype,
        "elements": constant.size_bytes // size,
        "comment": constant.comment,
        "is_text": constant.dtype == "int8_t",
        "lines": _lines(constant),
    }


def _lines(constant: Constant) -> list[str]:
    """The elements in C. Bytes are string literals, which GCC reads ten times faster than lists of numbers."""
    if constant.dtype == "int8_t":
        rows = [constant.values[start : start + 24] for start in range(0, len(constant.values), 24)]
        return ['    "' + "".join(map(_HEX.__getitem__, row)) + '"' for row in rows]
    words = [str(value) for value in np.frombuffer(constant.values, f"<i{_WIDTHS[constant.dtype]}").tolist()]
    return ["    " + ", ".join(words[start : start + 8]) + "," for start in range(0, len(words), 8)]


def _cmake(folder: Path, linked: Library) -> str:
    """CMakeLists.txt of a standalone project: all paths are relative to it."""
    model = Group("model", (folder / "model.c",), linked.groups[0].flags)
    return template("CMakeLists.txt").render(
        core_flags=linked.core_flags,
        groups=[
            {
                "name": group.name,
                "files": relative(folder, group.files),
                "flags": (*group.flags, *linked.defines),
            }
            for group in (model, *linked.groups)
        ],
        includes=relative(folder, linked.includes),
        system_includes=relative(folder, linked.system_includes),
        link_flags=LINK_FLAGS,
    )


def _copy_cmsis(folder: Path, cmsis: CmsisRoots) -> CmsisRoots:
    """Put what the firmware needs of CMSIS, with licences, into `folder`."""
    copies = CmsisRoots(folder / "cmsis-nn", folder / "cmsis-core")
    for root, copy in ((cmsis.nn, copies.nn), (cmsis.core, copies.core)):
        for path in cmsis_files(root):
            copied = copy / path.relative_to(root)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
    return copies
