"""Plan -> C project: model.c, weights.h, plan.h, board.h, build.h, memory.x; CMakeLists.txt and all sources on request.

Rendering is deterministic. Logic is here, templates (firmware/templates) only loop and substitute. Nothing but numbers,
and names that we chose, gets into the C: see hil/codegen/lower.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hil.boards.board import Board, Via
from hil.build.sources import LINK_FLAGS, CmsisRoots, Group, Library, Project, cmsis_files, library
from hil.codegen.fold import Size
from hil.codegen.layer import Arena, Constant, ConstantOf, Value
from hil.codegen.network_object import can_be_written, network_object, offset_in_arena, stated, tensor_offsets
from hil.codegen.plan import Plan, Step
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
_BYTES_A_LINE = 24
_ESCAPE = len(r"\x00")


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
        project = write_project(folder, texts, linked, options)
    except OSError as error:
        raise InfrastructureError(f"cannot write the project into {folder}: {error.strerror or error}") from error
    if options.standalone or not can_be_written(plan, options.weights, board.optimise):
        return project
    return replace(project, network=partial(network_object, plan, project.build_id, options.profile))


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
    offsets = tensor_offsets(plan)
    return {
        "steps": [_step(step, offsets) for step in plan.steps],
        "input": stated(plan.input),
        "output": stated(plan.output),
        "input_scale": float_literal(stated(plan.input).scale),
        "output_scale": float_literal(stated(plan.output).scale),
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
        "parts": [(offset_in_arena(place, step, offsets), size) for place, size in step.layer.parts],
    }


def _size(size: Size) -> str:
    return "x".join(str(extent) for extent in size)


def _value(value: Value, step: Step, offsets: dict[int, int]) -> str:
    """A field's initialiser in C."""
    match value:
        case Arena():
            return f"hil_arena + {offset_in_arena(value, step, offsets)}"
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
        "lines": "\n".join(_lines(constant)),
    }


def _lines(constant: Constant) -> list[str]:
    """The elements in C. Bytes are string literals, which GCC reads ten times faster than lists of numbers."""
    if constant.dtype == "int8_t":
        text, length = "\\x" + constant.values.hex("|").replace("|", "\\x"), _BYTES_A_LINE * _ESCAPE
        return [f'    "{text[start : start + length]}"' for start in range(0, _ESCAPE * len(constant.values), length)]
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
