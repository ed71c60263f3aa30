"""How sure invented calibrations are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from munas.cost.certainty import Certainty
from munas.cost.kernels import KernelVariant
from munas.cost.variants import cost_leader, loop_names


def certainties(variants: Iterable[KernelVariant], spread: float = 0.02) -> dict[KernelVariant, Certainty]:
    """For each variant that others cost as: the spread, and little leverage."""
    leaders = dict.fromkeys(cost_leader(variant) for variant in variants)
    return {leader: Certainty(spread, _unit(len(loop_names(leader)))) for leader in leaders}


def _unit(size: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in np.eye(size))
