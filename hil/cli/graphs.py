"""`munas-hil graph`: architectures in a JSON file to figures, by `munas.arch.graph`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from hil.errors import UsageError
from hil.files import read_json
from munas.arch.footprint import describe
from munas.arch.graph import Mode, graph_of_entry, mode_of


def describe_file(path: Path, mode: str) -> list[dict[str, Any]]:
    """The figures of each architecture in `path`, in order.

    The file holds one ``{input_shape, num_classes, architecture}`` (or ``{layers}``, an operator graph), or a list of
    them, in the notation of the golden figures. Raises UsageError naming the entry.
    """
    try:
        chosen = mode_of(mode)
    except ValueError as error:
        raise UsageError(f"--mode {mode}: choose {' or '.join(get_args(Mode))}") from error
    document = read_json(path)
    entries = document if isinstance(document, list) else [document]
    return [_describe(entry, f"{path.name}[{index}]", chosen) for index, entry in enumerate(entries)]


def _describe(entry: Any, where: str, mode: Mode) -> dict[str, Any]:
    try:
        return describe(graph_of_entry(entry, mode))
    except ValueError as error:  # ArchitectureError is one
        raise UsageError(f"{where}: {error}") from error
