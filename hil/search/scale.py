"""How large a search is made for the time there is: effort, population and sample where the user left them open, and
how many trials that should give.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from munas.arch.graph import build_graph
from munas.arch.prune import expected_architecture
from munas.cost.resources import Assessor
from munas.search.evolve import RandomSearch, Space
from munas.search.metrics import Metric
from munas.search.objective import Bounds
from munas.search.pace import Work
from munas.search.proposals import Proposer, Ranking
from munas.search.surrogate import Surrogate
from munas.search.trial import Trial, TrialResult

DEFAULT_TRIALS = 2000  # the paper's
_POPULATION, _SAMPLE, _EFFORT = 100, 25, 0.2  # for that many
_GENERATIONS = 5  # as many times the population should be renewed, at least
_LEAST_POPULATION, _LEAST_SAMPLE = 8, 2
_TRIALS_WANTED = 120  # before they are trained longer
_LEAST_TRIALS, _LEAST_MACS = 20, 20_000  # which the time has to allow, of networks of at least this size
_HALVED = 0.6  # of a full training that halving leaves on average: half are stopped at a quarter, a quarter at half
_EFFORTS = (0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025, 0.018, 0.0125, 0.009, 0.006)
_LEAST_PASSES, _LEAST_STEPS = 0.25, 300  # over the training images, and batches of training: below, ranks say nothing
_SAMPLED = 30  # networks that a search without a surrogate is judged by
_IMPROVED = 8  # and with one: half a second each
_NO_ERROR = Bounds({Metric.ERROR: 1e-3})  # out of reach: only the error counts
_BUSY = 0.75  # processes of others, above which the start says so


@dataclass(frozen=True, slots=True)
class Drawn:
    """Networks as the search comes to them: the mean of their MACs, which decides how many are trained in a time (it is
    up to ten times the median), and the share of the weights that pruning is expected to leave of them, by the median
    (1 without pruning)."""

    macs: float
    left: float


@dataclass(frozen=True, slots=True)
class Scale:
    """`trials` and `trial_s` are expectations: trials in the time there is (or as many as were asked for), and the
    seconds of one that is not stopped, on a core of its own."""

    effort: float
    population: int
    sample: int
    trials: int
    trial_s: float
    load: float = 0.0


def drawn(
    assessor: Assessor,
    budget: Bounds | None,
    mlp: bool,
    sparsity: tuple[float, float] | None,
    seed: int,
    *,
    is_ranked: bool = True,
) -> Drawn:
    """What the search will train, by random networks; with `is_ranked` they are improved before, by the least error
    that is expected of them, and the largest is left out, which alone may be most of so small a sample's mean. On
    CIFAR-10 within 11.4 k and 15.4 k, random networks have 0.17 M MACs on average, the first 20 trials of a search had
    0.82 M, and these have 0.68 M.

    Raises SearchError where nothing fits the budget.
    """
    shape, classes, space = assessor.input_shape, assessor.num_classes, Space(mlp, sparsity)
    ranking = Ranking(Surrogate(shape, classes), _NO_ERROR, 2, space, curious=False) if is_ranked else None
    proposer = Proposer(RandomSearch(space), assessor, budget, np.random.default_rng([seed, 3]), ranking=ranking)
    trials = [proposer.propose(index) for index in range(_IMPROVED if is_ranked else _SAMPLED)]
    macs = sorted(build_graph(trial.architecture, shape, classes).macs for trial in trials)
    if is_ranked:
        macs.pop()
    return Drawn(statistics.mean(macs), statistics.median(_expected_left(trial, assessor) for trial in trials))


def _expected_left(trial: Trial, assessor: Assessor) -> float:
    """Share of the weights that pruning to a trial's sparsity should leave."""
    shape, classes = assessor.input_shape, assessor.num_classes
    if trial.sparsity <= 0:
        return 1.0
    pruned = expected_architecture(trial.architecture, shape, classes, trial.sparsity)
    whole = build_graph(trial.architecture, shape, classes)
    return build_graph(pruned, shape, classes).model_size / whole.model_size


def scale_of(
    work: Callable[[float], Work],
    least_effort: float,
    first: Drawn,
    *,
    seconds: float | None,
    trials: int | None,
    workers: int,
    halving: bool,
    load: float = 0.0,
    effort: float | None = None,
    population: int | None = None,
    sample: int | None = None,
) -> Scale:
    """The scale of a search of `seconds` (None: no limit) and at most `trials` (None: as many as there is time for).

    `work` says what a trial does at an effort. What is given, is taken. `load` is how many processes of others are
    running, which take their share of the cores.
    """
    at_a_time = _at_a_time(workers, load)

    def number(value: float) -> int:
        if seconds is None:
            return trials or DEFAULT_TRIALS
        full_s = work(value).seconds(first.macs)
        aside_s = work(least_effort).seconds(0.0)
        cost_s = aside_s + max(0.0, full_s - aside_s) * (_HALVED if halving else 1.0)
        return max(1, min(trials or DEFAULT_TRIALS**2, int(at_a_time * seconds / cost_s)))

    if effort is None:
        allowed = [value for value in _EFFORTS if value >= least_effort] or [_EFFORT]
        wanted = min(_TRIALS_WANTED, trials or _TRIALS_WANTED)
        effort = next((value for value in allowed if number(value) >= wanted), allowed[-1])
    expected = number(effort)
    population = population or min(_POPULATION, max(_LEAST_POPULATION, expected // _GENERATIONS))
    sample = sample or max(_LEAST_SAMPLE, min(_SAMPLE, population // 4))
    return Scale(effort, population, sample, expected, work(effort).seconds(first.macs), load)


def most_macs(work: Work, seconds: float, workers: int, load: float = 0.0) -> int:
    """Of a network, so that `_LEAST_TRIALS` of that size can be trained in a search of `seconds`, each with that work:
    of few trials the best is a matter of luck. Two digits, at least `_LEAST_MACS`."""
    each_s = _at_a_time(workers, load) * seconds / _LEAST_TRIALS
    fixed_s = work.seconds(0.0)
    macs = max(_LEAST_MACS, (each_s - fixed_s) / (work.seconds(1.0) - fixed_s))
    return int(float(f"{macs:.2g}"))


def _at_a_time(workers: int, load: float) -> float:
    """How many trials are trained at once, each at the speed of a core of its own."""
    cores = os.cpu_count() or 1
    return min(workers, cores) * min(1.0, cores / (load + workers))


def least_effort(epochs: int, images: int, batch: int) -> float:
    """Below which errors of trials say nothing: a part of one pass over the images, and some hundred steps."""
    return min(_EFFORT, max(_LEAST_PASSES * images, _LEAST_STEPS * batch) / (epochs * images))


def announcement(
    scale: Scale, first: Drawn, seconds: float | None, workers: int, sparsity: tuple[float, float] | None
) -> str:
    """What the search will do, in a sentence or two, before it begins."""
    time_text = "" if seconds is None else f" in {seconds / 60:.3g} min"
    expected = "1 trial is" if scale.trials == 1 else f"{scale.trials:,} trials are"
    lines = (
        f"about {expected} expected{time_text} with {workers} at a time: effort {scale.effort:g},"
        f" population {scale.population}, sample {scale.sample}; networks will have"
        f" {first.macs / 1000:,.0f} K MACs on average and take {scale.trial_s:.0f} s each on a core of its own"
    )
    if scale.load >= _BUSY:
        lines += f"; the machine is busy (load {scale.load:.1f})"
    if sparsity is None:
        return lines
    return (
        f"{lines}; networks are within the bounds before they are pruned, and pruning by {sparsity[0]:.0%} to"
        f" {sparsity[1]:.0%} of the channels is expected to leave {first.left:.0%} of the weights"
    )


def pruning_note(trials: Sequence[TrialResult], assessor: Assessor) -> str:
    """What pruning left of the networks that were trained to the end, beside what was expected; empty without any."""
    shape, classes = assessor.input_shape, assessor.num_classes
    expected, found = [], []
    for item in trials:
        trial, trained = item.trial, item.trained
        if trained is None or trained.stopped or trial.sparsity <= 0:
            continue
        whole = build_graph(trial.architecture, shape, classes).model_size
        found.append(build_graph(trained.architecture, shape, classes).model_size / whole)
        expected.append(_expected_left(trial, assessor))
    if not found:
        return ""
    return (
        f"pruning left {statistics.median(found):.0%} of the weights of {len(found)} networks (median), and"
        f" {statistics.median(expected):.0%} was expected"
    )
