"""Ageing evolution: who may be a parent, who wins, what a child is."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from munas.arch.morphs import morphs
from munas.arch.space import random_cnn
from munas.search.evolve import SPARSITY_STEP, AgeingEvolution, RandomSearch, Space, Strategy
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds
from munas.search.trial import Task, Trial, TrialResult
from tests.stub_trainer import ASSESSOR, BOUNDS, trained

ERROR_ONLY = Bounds({Metric.ERROR: 0.1})


def trial(index: int) -> Trial:
    return Trial(index, random_cnn(np.random.default_rng(index)), 0.3, index, None, "random")


def result(item: Trial, error: float | None, macs: int = 1000) -> TrialResult:
    """A trial with that error; None is a failure."""
    if error is None:
        return TrialResult(item, "failed", None, None, "died", 1.0, 1.0)
    done = replace(trained(Task(item, (), 1.0)), error=error)
    return TrialResult(item, "ok", done, replace(ASSESSOR.assess(item.architecture), macs=macs), "", 1.0, 1.0)


def parents(strategy: Strategy, count: int = 200) -> set[int | None]:
    rng = np.random.default_rng(0)
    return {strategy.ask(rng, 1000 + index).parent for index in range(count)}


def told(strategy: AgeingEvolution, errors: list[float | None]) -> AgeingEvolution:
    for index, error in enumerate(errors):
        strategy.tell(result(trial(index), error))
    return strategy


def test_the_first_population_is_random_and_the_rest_are_children() -> None:
    strategy, rng = AgeingEvolution(Space(), BOUNDS, population=10, sample=3), np.random.default_rng(0)
    asked = []
    for index in range(30):
        asked.append(strategy.ask(rng, index))
        strategy.tell(result(asked[-1], 0.5))
    assert all(item.parent is None for item in asked[:10])
    assert all(item.parent is not None for item in asked[10:])


def test_the_fittest_of_the_sample_is_the_parent() -> None:
    errors: list[float | None] = [0.5, 0.4, 0.1, 0.3, 0.2]
    everyone = told(AgeingEvolution(Space(), ERROR_ONLY, population=5, sample=60), errors)
    assert parents(everyone) == {2}
    one = told(AgeingEvolution(Space(), ERROR_ONLY, population=5, sample=1), errors)
    assert parents(one) == set(range(5))


@pytest.mark.slow
def test_a_sample_is_drawn_with_replacement() -> None:
    """A sample as large as the population still misses the fittest now and then: (4/5)^5 = 33 % of the time."""
    strategy = told(AgeingEvolution(Space(), ERROR_ONLY, population=5, sample=5), [0.5, 0.4, 0.1, 0.3, 0.2])
    rng = np.random.default_rng(0)
    missed = sum(strategy.ask(rng, 1000).parent != 2 for _ in range(1000))
    assert 260 < missed < 400


def test_the_oldest_dies_however_fit_it_is() -> None:
    strategy = told(AgeingEvolution(Space(), ERROR_ONLY, population=3, sample=60), [0.01, 0.4, 0.3])
    assert parents(strategy) == {0}
    strategy.tell(result(trial(3), 0.35))
    assert parents(strategy) == {2}


def test_age_counts_from_the_end_of_the_result() -> None:
    strategy = AgeingEvolution(Space(), ERROR_ONLY, population=2, sample=60)
    for index, error in ((5, 0.1), (1, 0.3), (0, 0.2)):
        strategy.tell(result(trial(index), error))
    assert parents(strategy) == {0}  # number 5 finished first, so it is the oldest


def test_a_failure_takes_a_place_and_never_wins() -> None:
    strategy = told(AgeingEvolution(Space(), ERROR_ONLY, population=3, sample=60), [0.1, None, 0.9])
    assert parents(strategy) == {0}
    strategy.tell(result(trial(3), None))  # number 0 dies of age
    assert parents(strategy) == {2}
    strategy.tell(result(trial(4), None))
    strategy.tell(result(trial(5), None))
    assert parents(strategy) == {None}


def test_weights_are_drawn_for_every_choice() -> None:
    """Of two that beat each other in one objective, each is the parent now and then."""
    bounds = Bounds({Metric.ERROR: 0.1, Metric.MACS: 1000})
    strategy = AgeingEvolution(Space(), bounds, population=2, sample=60)
    strategy.tell(result(trial(0), 0.05, macs=2000))
    strategy.tell(result(trial(1), 0.2, macs=500))
    assert parents(strategy) == {0, 1}


def test_a_child_is_one_morph_away() -> None:
    space, rng = Space(), np.random.default_rng(0)
    parent = min(map(trial, range(60)), key=lambda item: len(morphs(item.architecture)))
    changes = {morph.change for morph in morphs(parent.architecture)}
    children = [space.child(rng, 70, parent) for _ in range(40 * len(changes))]
    assert {child.change for child in children} == changes
    assert all(child.parent == parent.index and child.index == 70 for child in children)
    counts = Counter(child.change for child in children).values()
    assert max(counts) < 80  # uniform: 40 each, give or take six deviations
    assert min(counts) > 8


def test_sparsity_wanders_and_is_clipped() -> None:
    space, rng = Space(sparsity=(0.1, 0.9)), np.random.default_rng(0)
    parent = replace(min(map(trial, range(60)), key=lambda item: len(morphs(item.architecture))), sparsity=0.5)
    steps = [space.child(rng, 1, parent).sparsity - 0.5 for _ in range(2000)]
    assert statistics.fmean(steps) == pytest.approx(0, abs=0.005)
    assert statistics.stdev(steps) == pytest.approx(SPARSITY_STEP, rel=0.05)
    low = [space.child(rng, 1, replace(parent, sparsity=0.1)).sparsity for _ in range(200)]
    assert min(low) == 0.1
    assert 60 < low.count(0.1) < 140
    drawn = [space.random(rng, 0).sparsity for _ in range(500)]
    assert 0.1 <= min(drawn) < 0.12
    assert 0.88 < max(drawn) <= 0.9


def test_evolution_goes_where_the_bounds_are() -> None:
    """On the stub's figures: late children come closer to all bounds than random networks do."""
    bounds = Bounds({Metric.ERROR: 0.15, Metric.RAM: 6_000, Metric.FLASH: 20_000, Metric.MACS: 1e5})

    def excess(strategy: Strategy) -> float:
        rng, found = np.random.default_rng(1), []
        for index in range(150):
            item = strategy.ask(rng, index)
            done = trained(Task(item, (), 1.0))
            strategy.tell(TrialResult(item, "ok", done, ASSESSOR.assess(item.architecture), "", 1.0, 1.0))
            figures = features(done.error, ASSESSOR.assess(item.architecture))
            found.append(max(figures[metric] / bound for metric, bound in bounds.values.items()))
        return statistics.median(found[-50:])

    assert excess(AgeingEvolution(Space(), bounds, population=30, sample=10)) < 0.5 * excess(RandomSearch(Space()))


@pytest.mark.parametrize(("population", "sample"), [(0, 1), (1, 0)])
def test_nobody_is_no_population(population: int, sample: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        AgeingEvolution(Space(), BOUNDS, population, sample)
