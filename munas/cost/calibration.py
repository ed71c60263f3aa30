"""What calibration found out about one board and build: cost of every kernel loop, code sizes, RAM.

A calibration is data in a TOML file. It is read as untrusted input: unknown keys, wrong types, negative or endless
numbers are errors that name the key. It carries the identity of the build and board it belongs to; whoever uses it
compares that with their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from typing import Any

import tomli_w

from munas.cost.certainty import Certainty, Matrix
from munas.cost.kernels import KernelVariant, Work
from munas.cost.variants import cost_leader, loop_counts, loop_names
from munas.files import FileError, read_toml

FORMAT = 2  # 1 had one relative interval for all networks
MAX_FILE_BYTES = 1 << 20

KernelCode = Mapping[KernelVariant, Mapping[str, int]]
"""What the linker keeps for each path alone: bytes of functions by name. Empty when it is not known."""


class CalibrationError(ValueError):
    """A calibration file that cannot be used; the message names file and key."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Time of one inference in the calibration's unit, with the interval that holds it at the calibration's level.

    `layers` has one time for each work; `error` is the error to be expected, of which the interval is a multiple.
    `uncalibrated` names the paths whose cost had to be guessed from their MACs and elements because no calibration
    network used them (the interval does not cover that guess).
    """

    latency: float
    low: float
    high: float
    layers: tuple[float, ...]
    error: float = 0.0
    uncalibrated: tuple[KernelVariant, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Costs in `unit`. `paths` has one coefficient per name of `munas.cost.variants.loop_names`.

    A network takes `fixed` + `per_step` * steps + the sum over its layers. Measured time is within
    [prediction + low * error, prediction + high * error] for a part `level` of networks. The error to be expected is
    the root of a sum of squares: one term a kernel, whose layers err alike, and `frame_spread` times the whole.
    """

    unit: str
    mac_slope: float
    mac_intercept: float
    fixed: float
    per_step: float
    paths: Mapping[KernelVariant, tuple[float, ...]]
    level: float
    low: float
    high: float
    frame_spread: float
    certainty: Mapping[KernelVariant, Certainty]

    def predict(self, works: Sequence[Work]) -> Prediction:
        """Time of the network that executes `works`."""
        layers, errors = [], dict[KernelVariant, float]()
        for work in works:
            counts = loop_counts(work)
            coefficients = self.paths.get(work.path)
            if coefficients is None:
                layers.append(self.layer(work))
                continue
            layers.append(float(sum(map(mul, coefficients, counts))))
            leader = cost_leader(work.path)
            errors[leader] = errors.get(leader, 0.0) + self.certainty[leader].error(counts, layers[-1])
        total = max(0.0, self.fixed + self.per_step * len(works) + sum(layers))
        error = math.hypot(self.frame_spread * total, *errors.values())
        unknown = tuple(dict.fromkeys(work.path for work in works if work.path not in self.paths))
        low, high = max(0.0, total + self.low * error), total + self.high * error
        return Prediction(total, low, high, tuple(layers), error, unknown)

    def layer(self, work: Work) -> float:
        """Time of one layer."""
        coefficients = self.paths.get(work.path)
        if coefficients is None:
            return self.mac_slope * (work.macs + work.inputs + work.outputs)
        return float(sum(map(mul, coefficients, loop_counts(work))))

    def mac_only(self, macs: int) -> float:
        """µNAS's own proxy: a line through MACs."""
        return self.mac_intercept + self.mac_slope * macs


@dataclass(frozen=True, slots=True)
class CodePart:
    """Code that is linked when a network has a step on any of `paths`."""

    paths: frozenset[KernelVariant]
    bytes: int


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Flash and RAM beside weights, tables and arena, bytes. Never too small for the networks it was fitted on.

    Flash is weights + tables + `flash_base` + the linked `parts`. RAM is arena + `static_ram` + `stack_reserved`.
    `stack_used` is the most that any network used.
    """

    flash_base: int
    parts: tuple[CodePart, ...]
    static_ram: int
    stack_reserved: int
    stack_used: int

    def code(self, paths: Iterable[KernelVariant]) -> int:
        """Flash of the code that a network links whose steps take `paths`."""
        present = frozenset(paths)
        return self.flash_base + sum(part.bytes for part in self.parts if part.paths & present)

    def unknown(self, paths: Iterable[KernelVariant]) -> tuple[KernelVariant, ...]:
        """Paths whose code size is not known."""
        known = frozenset[KernelVariant]().union(*(part.paths for part in self.parts))
        return tuple(dict.fromkeys(path for path in paths if path not in known))

    def ram(self, arena_bytes: int) -> int:
        """All RAM."""
        return arena_bytes + self.static_ram + self.stack_reserved


@dataclass(frozen=True, slots=True)
class Calibration:
    """One calibration. `identity` says which board, build and timer it belongs to."""

    identity: Mapping[str, str | int | bool]
    samples: int
    seed: int
    latency: Latency
    memory: MemoryModel


# -- TOML --


def write_calibration(calibration: Calibration) -> str:
    """The TOML text; the same calibration gives the same text."""
    latency, memory = calibration.latency, calibration.memory
    paths = {
        path.value: dict(zip(loop_names(path), coefficients, strict=True))
        for path, coefficients in sorted(latency.paths.items())
    }
    document: dict[str, Any] = {
        "format": FORMAT,
        "samples": calibration.samples,
        "seed": calibration.seed,
        "identity": dict(calibration.identity),
        "latency": {
            "unit": latency.unit,
            "fixed": latency.fixed,
            "per_step": latency.per_step,
            "mac_only": {"slope": latency.mac_slope, "intercept": latency.mac_intercept},
            "interval": {
                "level": latency.level,
                "low": latency.low,
                "high": latency.high,
                "frame_spread": latency.frame_spread,
            },
            "paths": paths,
            "certainty": {
                variant.value: {"spread": known.spread, "whitening": known.whitening}
                for variant, known in sorted(latency.certainty.items())
            },
        },
        "memory": {
            "flash_base": memory.flash_base,
            "static_ram": memory.static_ram,
            "stack_reserved": memory.stack_reserved,
            "stack_used": memory.stack_used,
            "flash_parts": {"+".join(sorted(part.paths)): part.bytes for part in memory.parts},
        },
    }
    return tomli_w.dumps(document)


def load_calibration(path: Path) -> Calibration:
    """Read the calibration file at `path`. Raises CalibrationError."""
    try:
        document = read_toml(path, MAX_FILE_BYTES)
    except FileError as error:
        raise CalibrationError(f"calibration {path} cannot be read: {error}; run calibrate first") from error
    try:
        return parse_calibration(document)
    except ValueError as error:
        raise CalibrationError(f"calibration {path}: {error}") from error


def parse_calibration(document: Mapping[str, Any]) -> Calibration:
    """The calibration in a parsed TOML document. Raises CalibrationError naming the key."""
    top = _Reader(document, "")
    if (version := top.integer("format")) != FORMAT:
        raise CalibrationError(f"format is {version}, this program reads {FORMAT}; calibrate again")
    calibration = Calibration(
        identity=_identity(top.mapping("identity")),
        samples=top.integer("samples"),
        seed=top.integer("seed"),
        latency=_latency(top.table("latency")),
        memory=_memory(top.table("memory")),
    )
    top.finish()
    return calibration


class _Reader:
    """A TOML table that is emptied key by key; what is left at the end is unknown."""

    def __init__(self, table: object, name: str) -> None:
        if not isinstance(table, Mapping):
            raise CalibrationError(f"{name} is not a table")
        self._left, self._name = dict(table), name

    def _take(self, key: str) -> object:
        if key not in self._left:
            raise CalibrationError(f"{self._path(key)} is missing")
        return self._left.pop(key)

    def _path(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def number(self, key: str, low: float = -1e18, high: float = 1e18) -> float:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise CalibrationError(f"{self._path(key)} = {value!r} is not a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int = 0, high: int = 2**63 - 1) -> int:
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise CalibrationError(f"{self._path(key)} = {value!r} is not an integer from {low} to {high}")
        return value

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise CalibrationError(f"{self._path(key)} = {value!r} is not a string")
        return value

    def matrix(self, key: str, size: int) -> Matrix:
        """A square matrix of numbers."""
        value = self._take(key)
        if not isinstance(value, list) or len(value) != size or any(not isinstance(row, list) for row in value):
            raise CalibrationError(f"{self._path(key)} is not {size} lists of {size} numbers")
        rows = []
        for row in value:
            reader = _Reader(dict(enumerate(row)), self._path(key))
            rows.append(tuple(reader.number(column) for column in range(size)))  # type: ignore[arg-type]
            reader.finish()
        return tuple(rows)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._take(key)
        if not isinstance(value, dict):
            raise CalibrationError(f"{self._path(key)} is not a table")
        return value

    def table(self, key: str) -> _Reader:
        return _Reader(self._take(key), self._path(key))

    def path_table(self, key: str) -> tuple[dict[KernelVariant, Any], str]:
        table, name = self.mapping(key), self._path(key)
        return {_path(text, name): value for text, value in table.items()}, name

    def finish(self) -> None:
        if self._left:
            raise CalibrationError(f"unknown key {self._path(sorted(map(str, self._left))[0])}")


def _path(text: str, where: str) -> KernelVariant:
    try:
        return KernelVariant(text)
    except ValueError:
        raise CalibrationError(f"{where}.{text}: unknown kernel path; it was made by another version") from None


def _identity(table: dict[str, Any]) -> dict[str, str | int | bool]:
    for key, value in table.items():
        if not isinstance(value, str | int | bool):
            raise CalibrationError(f"identity.{key} = {value!r} is neither text, integer nor boolean")
    return table


def _latency(table: _Reader) -> Latency:
    mac_only, interval = table.table("mac_only"), table.table("interval")
    by_path, name = table.path_table("paths")
    paths: dict[KernelVariant, tuple[float, ...]] = {}
    for path, value in by_path.items():
        costs = _Reader(value, f"{name}.{path}")
        paths[path] = tuple(costs.number(loop, 0.0) for loop in loop_names(path))
        costs.finish()
    certainty = _certainty(table, paths)
    latency = Latency(
        unit=table.text("unit"),
        mac_slope=mac_only.number("slope", 0.0),
        mac_intercept=mac_only.number("intercept"),
        fixed=table.number("fixed"),
        per_step=table.number("per_step"),
        paths=paths,
        level=interval.number("level", 0.0, 1.0),
        low=interval.number("low"),
        high=interval.number("high"),
        frame_spread=interval.number("frame_spread", 0.0),
        certainty=certainty,
    )
    for reader in (mac_only, interval, table):
        reader.finish()
    if latency.low > latency.high:
        raise CalibrationError(f"latency.interval.low = {latency.low} is above high = {latency.high}")
    return latency


def _certainty(table: _Reader, paths: Mapping[KernelVariant, Any]) -> dict[KernelVariant, Certainty]:
    """One for each variant that others cost as, of those in `paths`, and no more."""
    by_path, name = table.path_table("certainty")
    leaders = {cost_leader(path) for path in paths}
    if set(by_path) != leaders:
        differing = min(item.value for item in leaders ^ set(by_path))
        raise CalibrationError(f"{name}.{differing} is missing, or not one of {name}")
    certainty = {}
    for path, value in by_path.items():
        known = _Reader(value, f"{name}.{path}")
        certainty[path] = Certainty(known.number("spread", 0.0), known.matrix("whitening", len(loop_names(path))))
        known.finish()
    return certainty


def _memory(table: _Reader) -> MemoryModel:
    parts = []
    for text, value in table.mapping("flash_parts").items():
        paths = frozenset(_path(item, "memory.flash_parts") for item in text.split("+"))
        parts.append(CodePart(paths, _Reader({text: value}, "memory.flash_parts").integer(text)))
    model = MemoryModel(
        flash_base=table.integer("flash_base"),
        parts=tuple(parts),
        static_ram=table.integer("static_ram"),
        stack_reserved=table.integer("stack_reserved"),
        stack_used=table.integer("stack_used"),
    )
    table.finish()
    return model
