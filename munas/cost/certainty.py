"""How sure the time of a layer is that a fit predicts: the less, the less the layer is like those that were measured.

A layer's counts, divided by its time, say which part of the time each loop takes. In a least-squares fit the expected
error of a new row x is spread * sqrt(1 + x' G^-1 x), where G is the sum of x x' over all rows that were fitted: the
second term is the row's leverage. It is small for a mix of loops that was measured, and grows without bound for one
that was not. G is kept as a matrix W with W'W = G^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = tuple[tuple[float, ...], ...]

RIDGE = 1e-6  # of a loop's own share in G: leverage stays a number where a mix of loops never occurred


@dataclass(frozen=True, slots=True)
class Certainty:
    """Of the layers of one kernel: `spread` is their relative error (root mean square), `whitening` is W."""

    spread: float
    whitening: Matrix
    _matrix: NDArray[Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_matrix", np.array(self.whitening, dtype=np.float64))

    def error(self, counts: Sequence[float], time: float) -> float:
        """Expected error of a layer with these loop counts that is predicted to take `time`, in the unit of time."""
        if time <= 0.0:
            return 0.0
        mix = self._matrix @ np.asarray(counts, dtype=np.float64)
        return self.spread * float(np.sqrt(time * time + mix @ mix))


def whitening_of(shares: NDArray[Any]) -> Matrix:
    """W for the rows `shares` (rows, loops), each a layer's counts divided by its time."""
    lengths = np.linalg.norm(shares, axis=0)
    lengths[lengths == 0.0] = 1.0  # a loop that never ran: its share is measured in the whole time
    scaled = shares / lengths
    lower = np.linalg.cholesky(scaled.T @ scaled + RIDGE * np.eye(shares.shape[1]))
    inverse = np.linalg.solve(lower, np.diag(1.0 / lengths))
    return tuple(tuple(float(value) for value in row) for row in inverse)
