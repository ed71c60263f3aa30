"""Fit of the memory model: what the image holds besides weights, tables and arena. Never too small.

The linker drops what a network does not use, so code is a base plus parts that come with kernel paths. The parts are
found by linear programming: the smallest worst overshoot among all models that undershoot no measured image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from hil.errors import UsageError
from hil.measurement import Memory
from munas.calibration import CodePart, MemoryModel
from munas.kernels import Path

Array = NDArray[np.float64]

# Paths that share code besides their own: a part for each that is present at all.
SHARED = (
    frozenset({Path.CONV_1X1, Path.CONV_1X1_STRIDED}),
    frozenset({Path.CONV_IM2COL, Path.DW_IM2COL}),
    frozenset({Path.CONV_1X1, Path.CONV_1X1_STRIDED, Path.CONV_IM2COL}),
    frozenset({Path.DW_3X3, Path.DW_IM2COL, Path.DW_MULT4, Path.DW_GENERIC}),
    frozenset({Path.MAX_POOL, Path.AVG_POOL}),
    frozenset({Path.MAX_POOL, Path.CONV_IM2COL, Path.DW_IM2COL}),
    frozenset({Path.ADD, Path.ADD_PADDED}),
)
_ROUND_TO = 4


@dataclass(frozen=True, slots=True)
class Image:
    """One linked network: `constants` are its weights and tables as predicted, bytes."""

    paths: frozenset[Path]
    constants: int
    memory: Memory

    @property
    def code(self) -> int:
        """Measured flash besides the constants, bytes."""
        return self.memory.flash_total - self.constants


def fit_memory(images: Sequence[Image]) -> MemoryModel:
    """The model with the smallest worst overshoot of flash. Raises UsageError without images."""
    if not images:
        raise UsageError("no network was measured, so there is nothing to fit the memory model on")
    # Images with the same paths have the same code but for alignment: the largest speaks for all.
    largest: dict[frozenset[Path], int] = {}
    for image in images:
        largest[image.paths] = max(image.code, largest.get(image.paths, 0))
    present = frozenset[Path]().union(*largest)
    groups = [frozenset({path}) for path in sorted(present)]
    groups += [shared for shared in SHARED if len(shared & present) > 1]
    sizes = _envelope(groups, largest)
    parts = tuple(CodePart(group, size) for group, size in zip(groups, sizes[1:], strict=True) if size)
    missing = present - frozenset[Path]().union(*(part.paths for part in parts))
    parts += tuple(CodePart(frozenset({path}), 0) for path in sorted(missing))
    return MemoryModel(
        flash_base=sizes[0],
        parts=parts,
        static_ram=max(image.memory.static_ram for image in images),
        stack_reserved=max(image.memory.stack_reserved for image in images),
        stack_used=max(image.memory.stack_used for image in images),
    )


def _envelope(groups: Sequence[frozenset[Path]], largest: dict[frozenset[Path], int]) -> list[int]:
    """Base and a size for each group, whole words, so that no image of `largest` is larger than its sum."""
    rows = np.array([[1.0, *(float(bool(group & paths)) for group in groups)] for paths in largest])
    code = np.array(list(largest.values()), dtype=np.float64)
    width = rows.shape[1]
    # Variables: sizes >= 0, then the worst overshoot. Minimise that, then (a little) the sum of all overshoots.
    cost = np.append(rows.sum(axis=0) * 1e-3 / len(code), 1.0)
    above = np.hstack([-rows, np.zeros((len(code), 1))])
    below = np.hstack([rows, -np.ones((len(code), 1))])
    solution = linprog(
        cost, A_ub=np.vstack([above, below]), b_ub=np.concatenate([-code, code]), bounds=[(0, None)] * (width + 1)
    )
    if not solution.success:  # cannot happen: a large base satisfies every row
        raise UsageError(f"the memory model cannot be fitted: {solution.message}")
    return [_ROUND_TO * math.ceil(round(float(value), 3) / _ROUND_TO) for value in solution.x[:width]]
