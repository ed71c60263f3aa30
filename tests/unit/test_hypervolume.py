"""Hypervolumes against counting, and over the time of a search."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hil.report.search.hypervolume import hypervolume_figure, volumes_over_time
from munas.search.hypervolume import hypervolume
from tests.search_results import search_result


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_share_of_a_grid_that_is_dominated(dimensions: int, seed: int) -> None:
    """Points on a grid: cells can be counted exactly."""
    rng, side = np.random.default_rng(seed), 6
    points = rng.integers(0, side + 2, (9, dimensions))
    cells = np.stack(np.meshgrid(*[np.arange(side)] * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    expected = (points[None] <= cells[:, None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(points.tolist(), [side] * dimensions) == pytest.approx(expected)


def test_nothing_dominates_nothing() -> None:
    assert hypervolume([], (1.0, 1.0, 1.0)) == 0
    assert hypervolume([(0.5, 1.0, 0.2)], (1.0, 1.0, 1.0)) == 0


def test_over_time_it_only_rises() -> None:
    result = search_result(150)
    steps = volumes_over_time(result)
    assert len(steps) > 3
    assert all(a[0] <= b[0] and a[1] < b[1] for a, b in pairwise(steps))
    assert 0 < steps[-1][1] < 1
    half = replace(result, points=result.points[:75])
    assert volumes_over_time(half)[-1][1] <= steps[-1][1]


def test_a_search_with_nothing_within_the_bounds_has_none() -> None:
    result = replace(search_result(20), bounds={"error": 0.1, "ram": 1.0})
    assert volumes_over_time(result) == ()
    assert "no network within the bounds" in str(hypervolume_figure([("this run", result)]))
