"""A search is as large as its time allows, and begins inside its bounds, whatever these are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.search.bounds import BoundOptions, limits_of
from hil.search.scale import Drawn, Scale, announcement, drawn, least_effort, most_macs, pruning_note, scale_of
from munas.arch.graph import build_graph
from munas.cost.resources import Assessor
from munas.data import DATASETS
from munas.search.evolve import RandomSearch, Space
from munas.search.metrics import Metric, features
from munas.search.objective import PRESETS, Bounds, meets
from munas.search.pace import Work
from munas.search.proposals import Proposer
from munas.search.trial import Task, TrialResult
from tests.search_stub import stub_calibration
from tests.stub_trainer import ASSESSOR, trained

BOARD = load_board("nucleo-f746zg")
FIRST = Drawn(200_000.0, 0.4)


def work(effort: float) -> Work:
    return Work(round(1_600_000 * effort), 12_000, 6_000)


def scale(**changes: Any) -> Scale:
    given: dict[str, Any] = {"seconds": 390.0, "trials": None, "workers": 2, "halving": True}
    return scale_of(work, 0.01, FIRST, **{**given, **changes})


def assessor_of(dataset: str) -> Assessor:
    data, known = DATASETS[dataset], stub_calibration()
    return Assessor(known.memory, known, data.input_shape, data.num_classes, proxies=True)


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_drawn_first_is_inside_of_the_papers_bounds(name: str) -> None:
    preset = PRESETS[name]
    limits = limits_of(BoundOptions(preset=name), preset.dataset, BOARD, None)
    assessor, rng = assessor_of(preset.dataset), np.random.default_rng(4)
    trial = Proposer(RandomSearch(Space(sparsity=(0.3, 0.8))), assessor, limits.hard, rng).propose(0)
    assert meets(features(None, assessor.assess(trial.architecture)), preset.bounds.resources)


def test_few_minutes_make_a_small_search_and_many_the_papers() -> None:
    short, hour, days = scale(), scale(seconds=2400.0), scale(seconds=1e6)
    assert short.effort < hour.effort <= days.effort == 0.2
    assert 8 <= short.population < days.population == 100
    assert days.sample == 25
    assert 60 <= short.trials < days.trials


def test_what_is_given_is_taken() -> None:
    found = scale(effort=0.05, population=33, sample=7)
    assert (found.effort, found.population, found.sample) == (0.05, 33, 7)
    assert found.trials < scale(effort=0.02).trials
    assert scale(trials=10).trials == 10
    assert scale(seconds=None).trials == 2000
    assert scale(seconds=None, trials=40).population == 8
    assert scale(seconds=None, trials=40, effort=1.0).effort == 1.0


def test_an_effort_is_never_so_small_that_errors_say_nothing() -> None:
    assert scale_of(work, 0.1, FIRST, seconds=1.0, trials=None, workers=1, halving=True).effort == 0.1
    assert least_effort(60, 1295, 32) * 60 * 1295 >= 300 * 32
    assert least_effort(1, 100, 10) == 0.2


@pytest.mark.parametrize("seconds", [120.0, 600.0, 3600.0])
def test_networks_are_no_larger_than_there_is_time_for_twenty_of_them(seconds: float) -> None:
    found = most_macs(work(0.02), seconds, workers=1)
    assert 20 * work(0.02).seconds(found) == pytest.approx(seconds, rel=0.05)
    assert most_macs(work(0.02), seconds, workers=1, load=3.0) < found
    assert most_macs(work(0.02), 10.0, workers=1) == 20_000


def test_few_large_networks_count_for_what_they_take() -> None:
    """The time of many trials is told by the mean, which a median is far from."""
    shape, classes = (28, 28, 1), 10
    assessor = replace(ASSESSOR, input_shape=shape, num_classes=classes)
    proposer = Proposer(RandomSearch(Space(False, None)), assessor, None, np.random.default_rng([0, 3]))
    macs = [build_graph(proposer.propose(index).architecture, shape, classes).macs for index in range(30)]
    assert drawn(assessor, None, False, None, 0, is_ranked=False).macs == pytest.approx(np.mean(macs))
    assert np.mean(macs) > 1.5 * np.median(macs)


@pytest.mark.slow
def test_a_search_that_ranks_trains_larger_networks_than_are_drawn() -> None:
    """Within CIFAR-10's published sizes the mean of 20 trials was 0.82 M MACs, that of random networks 0.17 M."""
    budget = Bounds({Metric.MODEL_SIZE: 11_400, Metric.PEAK_MEMORY: 15_400})
    assessor = assessor_of("cifar10")
    ranked, plain = (drawn(assessor, budget, False, None, 0, is_ranked=value).macs for value in (True, False))
    assert 0.4e6 < ranked < 1.7e6
    assert ranked > 2 * plain


def test_the_start_says_what_is_coming() -> None:
    text = announcement(scale(), FIRST, 390.0, 2, (0.05, 0.8))
    assert "trials are expected in 6.5 min with 2 at a time" in text
    assert "200 K MACs" in text
    assert "about 1 trial is expected in 6.5 min" in announcement(scale(trials=1), FIRST, 390.0, 2, None)
    assert "pruning by 5% to 80% of the channels is expected to leave 40% of the weights" in text
    assert "pruning" not in announcement(scale(), FIRST, None, 2, None)


def test_pruning_is_judged_by_what_it_left() -> None:
    first = drawn(ASSESSOR, None, False, (0.3, 0.6), 0, is_ranked=False)
    assert 0 < first.left < 1
    trial = replace(RandomSearch(Space()).ask(np.random.default_rng(0), 0), sparsity=0.5)
    done = trained(Task(trial, (), 1.0))
    result = TrialResult(trial, "ok", done, ASSESSOR.assess(done.architecture), "", 1.0, 1.0)
    assert pruning_note([result], ASSESSOR).startswith("pruning left 100% of the weights of 1 networks (median)")
    assert pruning_note([replace(result, trial=replace(trial, sparsity=0.0))], ASSESSOR) == ""
