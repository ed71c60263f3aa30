"""What calibration found out about one board and build: cost of every kernel loop, code sizes, RAM.

A calibration carries the identity of the build and board it belongs to; whoever uses it compares that with their own.
As a file it is what `munas.cost.calibration_file` reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from munas.cost.certainty import Certainty
from munas.cost.kernels import KernelVariant, Work, align
from munas.cost.variants import cost_leader, loop_counts

KernelCode = Mapping[KernelVariant, Mapping[str, int]]
"""What the linker keeps for each path alone: bytes of functions by name. Empty when it is not known."""


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
            coefficients = self.paths.get(work.variant)
            if coefficients is None:
                layers.append(self.layer(work))
                continue
            layers.append(float(sum(map(mul, coefficients, counts))))
            leader = cost_leader(work.variant)
            errors[leader] = errors.get(leader, 0.0) + self.certainty[leader].error(counts, layers[-1])
        total = max(0.0, self.fixed + self.per_step * len(works) + sum(layers))
        error = math.hypot(self.frame_spread * total, *errors.values())
        unknown = tuple(dict.fromkeys(work.variant for work in works if work.variant not in self.paths))
        low, high = max(0.0, total + self.low * error), total + self.high * error
        return Prediction(total, low, high, tuple(layers), error, unknown)

    def layer(self, work: Work) -> float:
        """Time of one layer."""
        coefficients = self.paths.get(work.variant)
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
class Linked:
    """An interpreter's image without its network, bytes: code in flash, and RAM besides the arena, stack included."""

    code: int
    ram: int


@dataclass(frozen=True, slots=True)
class LinkedSet:
    """What was linked for networks whose steps take `paths`."""

    paths: frozenset[KernelVariant]
    linked: Linked


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Flash and RAM beside weights, tables and arena, bytes. Never too small for the networks it was fitted on.

    Flash is weights + tables + `flash_base` + the linked `parts`. RAM is arena + `static_ram` + `stack_reserved`.
    `stack_used` is the most that any network used. Weights begin at a multiple of `code_alignment`. `sets` is what was
    linked for networks of these paths, where it is no sum of parts: an interpreter's kernels share messages.
    """

    flash_base: int
    parts: tuple[CodePart, ...]
    static_ram: int
    stack_reserved: int
    stack_used: int
    code_alignment: int = 1
    sets: tuple[LinkedSet, ...] = ()

    def code(self, paths: Iterable[KernelVariant]) -> int:
        """Flash of the code that a network links whose steps take `paths`."""
        present = frozenset(paths)
        exact = self.linked(present)
        if exact is not None:
            return exact.code
        code = self.flash_base + sum(part.bytes for part in self.parts if part.paths & present)
        return align(code, self.code_alignment)

    def linked(self, paths: frozenset[KernelVariant]) -> Linked | None:
        """What was linked for networks of these paths; None where nothing was, or where code is a sum of parts."""
        wanted = self._parts_of(paths) if self.sets else frozenset()
        return next((item.linked for item in self.sets if self._parts_of(item.paths) == wanted), None)

    def _parts_of(self, paths: frozenset[KernelVariant]) -> frozenset[frozenset[int]]:
        """What tells code from code: for each path the parts that come with it."""
        return frozenset(
            frozenset(index for index, part in enumerate(self.parts) if path in part.paths) for path in paths
        )

    def unknown(self, paths: Iterable[KernelVariant]) -> tuple[KernelVariant, ...]:
        """Paths whose code size is not known."""
        known = frozenset[KernelVariant]().union(*(part.paths for part in self.parts))
        return tuple(dict.fromkeys(path for path in paths if path not in known))

    def ram(self, arena_bytes: int, paths: Iterable[KernelVariant] = ()) -> int:
        """All RAM of a network whose steps take `paths`; the most that any image had where they were not linked."""
        exact = self.linked(frozenset(paths))
        return arena_bytes + (self.static_ram + self.stack_reserved if exact is None else exact.ram)

    def least_ram(self, arena_bytes: int) -> int:
        """As much RAM as every network needs with such an arena."""
        return min((arena_bytes + item.linked.ram for item in self.sets), default=self.ram(arena_bytes))


@dataclass(frozen=True, slots=True)
class Calibration:
    """One calibration. `identity` says which board, build and timer it belongs to."""

    identity: Mapping[str, str | int | bool]
    samples: int
    seed: int
    latency: Latency
    memory: MemoryModel
