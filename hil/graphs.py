"""`munas-hil graph`: architectures in a JSON file to figures, by `munas.graph`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from hil.errors import UsageError
from munas.graph import build_graph, describe
from munas.space import ArchitectureError, parse_architecture

MAX_FILE_BYTES = 64 * 1024 * 1024

Mode = Literal["faithful", "reference"]
_MODES: dict[str, Mode] = {"faithful": "faithful", "reference": "reference"}


def describe_file(path: Path, mode: str) -> list[dict[str, Any]]:
    """The figures of each architecture in `path`, in order.

    The file holds one ``{input_shape, num_classes, architecture}`` or a list of them, in the notation of the golden
    figures. Raises UsageError naming the entry.
    """
    chosen = _MODES.get(mode)
    if chosen is None:
        raise UsageError(f"--mode {mode}: choose faithful or reference")
    document = _read(path)
    entries = document if isinstance(document, list) else [document]
    return [_describe(entry, f"{path.name}[{index}]", chosen) for index, entry in enumerate(entries)]


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; split it")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}") from error


def _describe(entry: Any, where: str, mode: Mode) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: expected an object with input_shape, num_classes and architecture")
    for key in ("input_shape", "num_classes", "architecture"):
        if key not in entry:
            raise UsageError(f"{where}: {key} is missing")
    shape, classes = entry["input_shape"], entry["num_classes"]
    if not isinstance(shape, list) or not all(type(size) is int and 0 < size <= 4096 for size in shape):
        raise UsageError(f"{where}: input_shape must be a list of positive integers (at most 4096)")
    if type(classes) is not int or not 2 <= classes <= 65_536:
        raise UsageError(f"{where}: num_classes must be an integer of at least 2")
    try:
        architecture = parse_architecture(entry["architecture"])
        return describe(build_graph(architecture, tuple(shape), classes, mode=mode))
    except (ArchitectureError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error
