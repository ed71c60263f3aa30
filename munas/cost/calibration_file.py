"""A calibration as a TOML file: its tables and keys, and the bounds of their values.

It is read as untrusted input: unknown keys, wrong types, negative or endless numbers are errors that name the key.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from munas.cost.calibration import Calibration, CodePart, Latency, Linked, LinkedSet, MemoryModel
from munas.cost.certainty import Certainty
from munas.cost.kernels import KernelVariant
from munas.cost.variants import cost_leader, loop_names
from munas.files import FileError, read_toml

FORMAT = 2  # 1 had one relative interval for all networks
MAX_FILE_BYTES = 1 << 20


class CalibrationError(ValueError):
    """A calibration file that cannot be used; the message names file and key."""


def write_calibration(calibration: Calibration) -> str:
    """The TOML text; the same calibration gives the same text. Raises CalibrationError where the reader would."""
    try:
        return tomli_w.dumps(_File.of(calibration).model_dump(mode="json"))
    except ValidationError as error:
        raise CalibrationError(_message(error.errors()[0])) from error


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
    version = document.get("format", FORMAT)  # where it is missing, the file's fields say so
    if version != FORMAT:
        raise CalibrationError(f"format is {reprlib.repr(version)}, this program reads {FORMAT}; calibrate again")
    try:
        return _File.model_validate(document).calibration()
    except ValidationError as error:
        raise CalibrationError(_message(error.errors()[0])) from error


def _message(found: ErrorDetails) -> str:
    """One line for what pydantic found first."""
    key = ".".join(str(part) for part in found["loc"] if part != "[key]")
    kind = found["type"]
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        return f"unknown key {key}"
    if kind in ("model_type", "dict_type"):
        return f"{key} is not a table"
    if kind == "kernel":
        return f"{key}: {found['msg']}"
    return f"{key} = {reprlib.repr(found['input'])}: {found['msg']}"


# -- the file, table by table --


def _variant(value: object) -> KernelVariant:
    try:
        return KernelVariant(str(value))
    except ValueError:
        raise PydanticCustomError("kernel", "this version has no such kernel; calibrate again") from None


def _variants(value: object) -> frozenset[KernelVariant]:
    return frozenset(map(_variant, value.split("+") if isinstance(value, str) else value))  # type: ignore[call-overload]


def _joined(variants: Iterable[KernelVariant]) -> str:
    return "+".join(sorted(variants))


def _plain(value: object) -> object:
    if not isinstance(value, str | int | bool):
        raise PydanticCustomError("plain", "neither text, integer nor boolean")
    return value


Number = Annotated[float, Field(ge=-1e18, le=1e18, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, le=1e18, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Variant = Annotated[KernelVariant, BeforeValidator(_variant)]
Variants = Annotated[frozenset[KernelVariant], BeforeValidator(_variants), PlainSerializer(_joined)]
Plain = Annotated[str | int | bool, BeforeValidator(_plain)]
Row = Annotated[tuple[Number, ...], Strict(False)]  # a list in TOML
Rows = Annotated[tuple[Row, ...], Strict(False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _MacOnly(_Table):
    slope: NotNegative
    intercept: Number


class _Interval(_Table):
    level: Part
    low: Number
    high: Number
    frame_spread: NotNegative


class _Certainty(_Table):
    spread: NotNegative
    whitening: Rows


class _Latency(_Table):
    unit: str
    fixed: Number
    per_step: Number
    mac_only: _MacOnly
    interval: _Interval
    paths: dict[Variant, dict[str, NotNegative]]
    certainty: dict[Variant, _Certainty]

    @classmethod
    def of(cls, latency: Latency) -> Self:
        return cls(
            unit=latency.unit,
            fixed=latency.fixed,
            per_step=latency.per_step,
            mac_only=_MacOnly(slope=latency.mac_slope, intercept=latency.mac_intercept),
            interval=_Interval(
                level=latency.level, low=latency.low, high=latency.high, frame_spread=latency.frame_spread
            ),
            paths={
                variant: dict(zip(loop_names(variant), costs, strict=True))
                for variant, costs in sorted(latency.paths.items())
            },
            certainty={
                variant: _Certainty(spread=known.spread, whitening=known.whitening)
                for variant, known in sorted(latency.certainty.items())
            },
        )

    def latency(self) -> Latency:
        """Raises CalibrationError where a kernel has other loops than this program's."""
        interval = self.interval
        if interval.low > interval.high:
            raise CalibrationError(f"latency.interval.low = {interval.low} is above high = {interval.high}")
        return Latency(
            self.unit, self.mac_only.slope, self.mac_only.intercept, self.fixed, self.per_step,
            {variant: self._costs(variant) for variant in self.paths},
            interval.level, interval.low, interval.high, interval.frame_spread, self._certainty(),
        )  # fmt: skip

    def _costs(self, variant: KernelVariant) -> tuple[float, ...]:
        costs, loops = self.paths[variant], loop_names(variant)
        key = f"latency.paths.{variant}"
        if missing := [loop for loop in loops if loop not in costs]:
            raise CalibrationError(f"{key}.{missing[0]} is missing")
        if unknown := [loop for loop in costs if loop not in loops]:
            raise CalibrationError(f"unknown key {key}.{unknown[0]}")
        return tuple(costs[loop] for loop in loops)

    def _certainty(self) -> dict[KernelVariant, Certainty]:
        """One for each variant that others cost as, of those in `paths`, and no more."""
        if differing := {cost_leader(variant) for variant in self.paths} ^ set(self.certainty):
            raise CalibrationError(
                f"latency.certainty.{min(differing)} is missing, or not one that a kernel of latency.paths costs as"
            )
        for variant, known in self.certainty.items():
            size = len(loop_names(variant))
            if [len(row) for row in known.whitening] != [size] * size:
                raise CalibrationError(f"latency.certainty.{variant}.whitening is not {size} lists of {size} numbers")
        return {variant: Certainty(known.spread, known.whitening) for variant, known in self.certainty.items()}


class _Memory(_Table):
    flash_base: Count
    static_ram: Count
    stack_reserved: Count
    stack_used: Count
    code_alignment: Annotated[int, Field(ge=1, le=4096)] = 1
    flash_parts: dict[Variants, Count]
    flash_sets: dict[Variants, Count] = {}
    ram_sets: dict[Variants, Count] = {}

    @classmethod
    def of(cls, memory: MemoryModel) -> Self:
        return cls(
            flash_base=memory.flash_base,
            static_ram=memory.static_ram,
            stack_reserved=memory.stack_reserved,
            stack_used=memory.stack_used,
            code_alignment=memory.code_alignment,
            flash_parts={part.paths: part.bytes for part in memory.parts},
            flash_sets={item.paths: item.linked.code for item in memory.sets},
            ram_sets={item.paths: item.linked.ram for item in memory.sets},
        )

    def memory(self) -> MemoryModel:
        parts = tuple(CodePart(paths, size) for paths, size in self.flash_parts.items())
        if self.flash_sets.keys() != self.ram_sets.keys():
            raise CalibrationError(
                "memory.flash_sets and memory.ram_sets are not of the same networks; calibrate again"
            )
        sets = tuple(LinkedSet(paths, Linked(size, self.ram_sets[paths])) for paths, size in self.flash_sets.items())
        return MemoryModel(
            self.flash_base, parts, self.static_ram, self.stack_reserved, self.stack_used, self.code_alignment, sets
        )


class _File(_Table):
    format: int
    samples: Count
    seed: Count
    identity: dict[str, Plain]
    latency: _Latency
    memory: _Memory

    @classmethod
    def of(cls, calibration: Calibration) -> Self:
        return cls(
            format=FORMAT,
            samples=calibration.samples,
            seed=calibration.seed,
            identity=dict(calibration.identity),
            latency=_Latency.of(calibration.latency),
            memory=_Memory.of(calibration.memory),
        )

    def calibration(self) -> Calibration:
        return Calibration(self.identity, self.samples, self.seed, self.latency.latency(), self.memory.memory())
