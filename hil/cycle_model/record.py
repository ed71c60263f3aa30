"""What the plugin counted: one record an inference, in a file of one JSON document a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from hil.errors import RunnerError


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts of a stretch of execution. `cycles` is the core's, at zero wait states; misses cost extra, by the board.

    `alu` to `other` count instructions by group (engine/classes.txt) and add up to `instructions`. `unaligned` is the
    parts beyond the first that unaligned loads were read in, `code_reads` and `data_reads` are look-ups in the lines,
    `flash_misses` and `ram_misses` those of data that missed, by what was read. `unknown` counts instructions that the
    decoder does not know and has to be 0.
    """

    cycles: int
    instructions: int
    taken: int
    mispredicted: int
    unaligned: int
    code_reads: int
    code_misses: int
    data_reads: int
    flash_misses: int
    ram_misses: int
    unknown: int
    alu: int
    multiply: int
    divide: int
    load: int
    store: int
    branch: int
    float: int
    other: int

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, item.name) - getattr(other, item.name) for item in fields(self)))

    def to_json(self) -> dict[str, int]:
        """Name to count, in the order of the fields."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One call of a layer's function at address `function`, with all since the layer before it."""

    function: int
    counters: Counters


@dataclass(frozen=True, slots=True)
class InferenceRecord:
    """One inference, the `index`-th since boot (from 1)."""

    index: int
    total: Counters
    layers: tuple[LayerRecord, ...]


class RecordReader:
    """Reads the records of a running emulator as they appear. Each record is given once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._columns: tuple[str, ...] = ()

    def read_new(self) -> list[InferenceRecord]:
        """Records finished since the last call. Raises RunnerError when the file is not the plugin's."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError as error:
            raise RunnerError(f"the timing records cannot be read: {error.strerror}") from error
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        found = []
        for line in data[:whole].splitlines():
            try:
                document = json.loads(line)
                if "columns" in document:
                    self._columns = tuple(document["columns"])
                else:
                    found.append(parse_record(self._columns, document))
            except (ValueError, KeyError, TypeError) as error:
                raise RunnerError(f"the timing records are damaged: {error}") from error
        return found


def parse_record(columns: Sequence[str], document: Mapping[str, object]) -> InferenceRecord:
    """A record's line. Raises KeyError, TypeError or ValueError when it is not one."""
    layers, index = document["layers"], document["inference"]
    if not isinstance(layers, list) or not isinstance(index, int):
        raise ValueError("not a record")
    parsed = tuple(LayerRecord(int(function), _counters(columns, row)) for function, row in layers)
    return InferenceRecord(index, _counters(columns, document["total"]), parsed)


def _counters(columns: Sequence[str], row: object) -> Counters:
    if not isinstance(row, list):
        raise ValueError("not a row of counts")
    return Counters(**dict(zip(columns, row, strict=True)))
