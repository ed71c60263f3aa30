"""NSGA-II: who stays, who has children, and that pymoo's fronts and distances are what they should be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pymoo")

from munas.search.evolve import Space
from munas.search.metrics import Metric
from munas.search.nsga2 import Nsga2, _distances, _fronts, _places
from munas.search.objective import Bounds, pareto_front
from munas.search.trial import Task, Trial, TrialResult
from tests.stub_trainer import ASSESSOR, trained

BOUNDS = Bounds({Metric.ERROR: 0.1, Metric.RAM: 20_000})


def told(strategy: Nsga2, index: int, error: float, ram: int) -> Trial:
    trial = Space().random(np.random.default_rng(index), index)
    done = replace(trained(Task(trial, (), 1.0)), error=error)
    resources = replace(ASSESSOR.assess(done.architecture), ram=ram)
    strategy.tell(TrialResult(trial, "ok", done, resources, "", 1.0, 1.0))
    return trial


def parents(strategy: Nsga2, count: int = 200) -> set[int]:
    rng = np.random.default_rng(0)
    return {parent for _ in range(count) if (parent := strategy.ask(rng, 1000).parent) is not None}


def test_the_first_front_is_the_pareto_front() -> None:
    figures = np.random.default_rng(1).random((40, 3))
    fronts = _fronts(figures)
    assert fronts[0] == pareto_front(figures.tolist())
    assert sorted(place for front in fronts for place in front) == list(range(40))


def test_crowding_distances_are_debs() -> None:
    figures = np.array([[0.0, 4.0], [1.0, 2.0], [2.0, 1.0], [4.0, 0.0]])
    found = _distances(figures)
    assert math.isinf(found[0])
    assert math.isinf(found[3])
    # (2-0)/4 + (4-1)/4 and (4-1)/4 + (2-0)/4; some divide by the number of objectives
    assert found[1] == pytest.approx(found[2])


def test_what_is_dominated_leaves_first() -> None:
    strategy = Nsga2(Space(), BOUNDS, population=3)
    for index, (error, ram) in enumerate([(0.1, 15_000), (0.2, 9_000), (0.3, 16_000), (0.05, 18_000)]):
        told(strategy, index, error, ram)
    assert parents(strategy) == {0, 1, 3}


def test_what_is_outside_of_the_bounds_comes_after_all_others() -> None:
    strategy = Nsga2(Space(), BOUNDS, population=2)
    told(strategy, 0, 0.01, 30_000)
    told(strategy, 1, 0.5, 10_000)
    told(strategy, 2, 0.6, 19_000)
    assert 0 not in parents(strategy)


def test_parents_of_better_fronts_win() -> None:
    strategy = Nsga2(Space(), BOUNDS, population=10)
    for index in range(10):
        told(strategy, index, 0.1 + 0.01 * index, 10_000 + 100 * index)  # each dominates the next
    rng = np.random.default_rng(0)
    chosen = [strategy.ask(rng, 1000).parent for _ in range(300)]
    counts = [chosen.count(index) for index in range(10)]
    assert counts[0] > counts[5] > counts[9]
    places = _places(strategy._members)
    assert [front for front, _ in places] == list(range(1, 11))
