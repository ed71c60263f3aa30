"""All published figures that the cycle model is held against: of chips (SoC files) and of cores (core_cycles.json)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.boards.soc import load_soc, soc_names
from hil.errors import InfrastructureError, UsageError
from hil.files import read_json


@dataclass(frozen=True, slots=True)
class Point:
    """One published figure beside the model's, both in `unit` (``ms`` of a chip, ``cycles`` of a core).

    `about` is the SoC or the core that it speaks of, `board` where it was measured, `held_out` whether nothing was
    fitted to it. `error_pct` is modelled / published - 1. `inside`: of a chip's figure out of the fit, whether the
    interval that its other networks give holds it; None for all others.
    """

    about: str
    board: str
    code: str
    unit: str
    published: float
    modelled: float
    error_pct: float
    held_out: bool
    source: str
    inside: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """One row of `evidence` in `timing validate --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Errors:
    """Of `count` points about one thing, in or out of the fit: per cent of magnitude, and how many are `inside` an
    interval made without them; None where there is no interval."""

    about: str
    held_out: bool
    count: int
    mean_pct: float
    max_pct: float
    inside: int | None

    def to_json(self) -> dict[str, Any]:
        """One row of `errors` in `timing validate --json`."""
        return asdict(self)


def core_file() -> Path:
    """The figures of cores that come with the project."""
    return Path(__file__).with_name("core_cycles.json")


def all_points() -> tuple[Point, ...]:
    """Everything, chips first. Raises BoardError, or InfrastructureError when core_cycles.json is damaged."""
    return (*_chip_points(), *_core_points(core_file()))


def all_intervals() -> dict[str, float]:
    """Half of the interval of each chip that has one, in per cent. Raises BoardError."""
    timings = {name: load_soc(name).timing for name in soc_names()}
    return {name: found.evidence.interval_pct for name, found in timings.items() if found and found.evidence}


def errors_of(points: Iterable[Point]) -> tuple[Errors, ...]:
    """Errors by what the points are about, those out of the fit apart from those in it, in order of appearance."""
    groups: dict[tuple[str, bool], list[Point]] = {}
    for point in points:
        groups.setdefault((point.about, point.held_out), []).append(point)
    return tuple(_errors(about, held_out, found) for (about, held_out), found in groups.items())


def _errors(about: str, held_out: bool, points: Sequence[Point]) -> Errors:
    sizes = [abs(point.error_pct) for point in points]
    known = [point.inside for point in points if point.inside is not None]
    inside = sum(known) if known else None
    return Errors(about, held_out, len(points), math.fsum(sizes) / len(sizes), max(sizes), inside)


def _chip_points() -> Iterable[Point]:
    for name in soc_names():
        timing = load_soc(name).timing
        if timing is None or timing.evidence is None:
            continue
        for row in timing.evidence.rows:
            yield Point(
                name, row.board, row.code, "ms", row.published_ms, row.modelled_ms, row.error_pct, row.held_out,
                row.source, timing.evidence.inside(row) if row.held_out else None,
            )  # fmt: skip


def _core_points(path: Path) -> Iterable[Point]:
    try:
        return [_core_point(row) for row in read_json(path, "table of core cycles")]
    except (UsageError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InfrastructureError(f"{path} is not a table of core cycles: {error}") from error


def _core_point(row: Mapping[str, Any]) -> Point:
    published, modelled = float(row["published_cycles"]), float(row["modelled_cycles"])
    return Point(
        str(row["core"]), str(row["board"]), str(row["code"]), "cycles", published, modelled,
        100 * (modelled / published - 1), bool(row["held_out"]), str(row["source"]),
    )  # fmt: skip
