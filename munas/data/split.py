"""Stratified splits, the same for every run of the same data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VALIDATION_SHARE = 0.1
"""Of the training examples, for data sets without a validation list of their own (munas.md)."""

TEST_SHARE = 0.2
"""Of all examples, for data sets without a test set of their own."""

SEED = 0


def stratified(labels: NDArray[np.int64], share: float, seed: int = SEED) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of (the rest, the held-out `share`), both ascending; int (N,) labels.

    Of each class, `share` of its examples is held out, rounded to the nearest number, but at least one and never all:
    every class needs two examples or more. Raises ValueError when one has fewer.
    """
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise ValueError(f"class {label} has fewer than 2 examples, which cannot be split")
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
