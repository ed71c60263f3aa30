"""Which proposals are worth training: the error of a network told from its architecture and from the trials so far.

A Bayesian linear model of the logit of the error over a dozen figures of the graph. Before the first trial it is what
trials of other searches have taught (`FIGURES`); every trial moves it. It knows little, and that little is what a
random network needs most: half of those that are made to fit a tight budget have a layer of one or two values that no
image gets through. `Record` holds every prediction against what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from munas.arch.graph import INPUT, Graph, Kind, Shape, build_graph
from munas.search.trial import Trial, TrialResult

if TYPE_CHECKING:
    from numpy.random import Generator

Vector = NDArray[np.float64]

FIGURES: tuple[tuple[str, float, float, float], ...] = (
    # name, typical value, typical spread, logits of the error a spread
    ("constant", 0.0, 1.0, -2.71),
    ("bits of MACs", 16.0, 2.5, -0.69),
    ("bits of weights", 12.0, 2.0, -0.24),
    ("bits of the narrowest tensor", 4.0, 1.5, -0.53),
    ("bits missing to four values", 0.0, 1.0, 0.33),
    ("convolutions", 3.5, 2.0, 0.13),
    ("share of them with ReLU", 0.7, 0.3, 0.05),
    ("share of them with batch norm", 0.5, 0.35, -0.05),
    ("bits of the values that go into the tail", 5.0, 1.5, -0.03),
    ("hidden dense layers", 1.5, 0.7, 0.0),
    ("bits of the first layer's channels", 2.5, 1.3, -0.03),
    ("sparsity", 0.3, 0.25, 0.26),
    ("share of the training that was done", 1.0, 0.4, -0.54),
)
"""The weights are what 162 trials of two MNIST searches taught within 2.8 KB and 2 KB, and three networks made by hand,
after weights from 77 trials of others: before, of those three (3.0, 4.2 and 5.9 % of errors) 16 % was expected, and of
networks of one channel that have 5 to 12 %, 12 %."""

_PRIOR = np.array([weight for *_, weight in FIGURES])
_CENTRES = np.array([centre for _, centre, _, _ in FIGURES])
_SPREADS = np.array([spread for _, _, spread, _ in FIGURES])
_DOUBTS = np.array([2.0, *[0.3] * (len(FIGURES) - 1)])  # how far each weight may be off; the level depends on the data
_NOISE = 0.4  # logits that the model cannot explain; 0.31 are left of those that taught it
_LIKE_PARENT = 0.5
"""Share of what a parent was better or worse than is told of it by its figures, that its children are. Of two searches
on MNIST, the rank correlation over children rose by it from 0.61 to 0.77 (17 children), and fell from 0.84 to 0.82 (38,
most of them close to each other)."""

_CURIOSITY = 0.5  # of the posterior's spread: by all of it the first proposals would be chosen by chance
_WIDEST_BITS = 4.0  # what is wider is no bottleneck
_WIDEST_TAIL_BITS = 8.0
_LEAST_ERROR = 1e-3


def narrowest(graph: Graph) -> int:
    """Values of the narrowest tensor on the widest way from the input to the logits."""
    widths = {INPUT: math.prod(graph.input_shape)}
    for index, operator in enumerate(graph.operators[:-1]):
        widths[index] = min(math.prod(operator.out_shape), max(widths[producer] for producer in operator.inputs))
    return max(widths[producer] for producer in graph.operators[-1].inputs)


def figures_of(graph: Graph, sparsity: float, done: float = 1.0) -> Vector:
    """The figures of a network (F,), in spreads from what is typical; `done` is the share of its training, 0..1."""
    layers = [operator for operator in graph.operators if operator.kind in (Kind.CONV, Kind.DEPTHWISE)]
    dense = [operator for operator in graph.operators if operator.kind is Kind.DENSE]
    bits = math.log2(narrowest(graph))
    values = [
        1.0,
        math.log2(1 + graph.macs),
        math.log2(1 + graph.model_size),
        min(bits, _WIDEST_BITS),
        max(0.0, 2.0 - bits),
        float(len(layers)),
        sum(operator.activation == "relu" for operator in layers) / max(1, len(layers)),
        sum(operator.batch_norm for operator in layers) / max(1, len(layers)),
        min(math.log2(math.prod(dense[0].in_shapes[0])), _WIDEST_TAIL_BITS),
        float(len(dense) - 1),
        math.log2(layers[0].out_shape[-1]) if layers else _CENTRES[10],
        sparsity,
        done,
    ]
    found: Vector = (np.array(values) - _CENTRES) / _SPREADS
    found[0] = 1.0
    return found


class Surrogate:
    """Predicts the int8 validation error of trials on one task."""

    def __init__(self, input_shape: Shape, num_classes: int, epochs: int = 1) -> None:
        """`epochs` are those of a trial that is not stopped."""
        self._shape, self._classes, self._epochs = input_shape, num_classes, max(1, epochs)
        doubts = 1 / _DOUBTS**2
        self._precision, self._target = np.diag(doubts), doubts * _PRIOR
        self._weights: Vector | None = _PRIOR
        self._told: dict[int | None, tuple[Vector, float]] = {}  # by trial: figures, and the error's logit
        self.record = Record()

    def predict(self, trial: Trial, weights: Vector | None = None) -> float:
        """The error (0..1) that a trial will have, or has by other weights (F,) than the likeliest ones. Raises
        ArchitectureError for an impossible architecture."""
        used = self._solved() if weights is None else weights
        logit = float(self._figures(trial) @ used)
        if trial.parent in self._told:
            figures, found = self._told[trial.parent]
            logit += _LIKE_PARENT * (found - float(figures @ used))
        return _share(logit)

    def drawn(self, rng: Generator) -> Vector:
        """Weights (F,) near the likeliest ones, the further off the less is known (Thompson sampling): what the best
        proposal is by them may be worth a trial, and where little is known each draw has another best one."""
        spread = np.linalg.solve(np.linalg.cholesky(self._precision).T, _normal(rng, len(FIGURES)))
        return self._solved() + _CURIOSITY * spread

    def tell(self, trial_result: TrialResult) -> None:
        """A trial is finished; of one that failed nothing is learnt."""
        trained = trial_result.trained
        if trial_result.status == "failed" or trained is None:
            return
        if not trained.stopped:
            self.record.add(self.predict(trial_result.trial), trained.error)
        self._epochs = max(self._epochs, trained.epochs)
        figures = self._figures(trial_result.trial, trained.epochs / self._epochs)
        self._precision += np.outer(figures, figures) / _NOISE**2
        self._target += figures * _logit(trained.error) / _NOISE**2
        self._told[trial_result.trial.index] = (figures, _logit(trained.error))
        self._weights = None

    def _figures(self, trial: Trial, done: float = 1.0) -> Vector:
        return figures_of(build_graph(trial.architecture, self._shape, self._classes), trial.sparsity, done)

    def _solved(self) -> Vector:
        if self._weights is None:
            self._weights = np.linalg.solve(self._precision, self._target)
        return self._weights


class Record:
    """What was predicted of each trial before it was known, and what it came to."""

    def __init__(self) -> None:
        self._pairs: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, predicted: float, found: float) -> None:
        """One more trial that was trained to the end."""
        self._pairs.append((predicted, found))

    def rank_correlation(self) -> float | None:
        """Spearman's, over all trials; None with fewer than three of them, or where all are alike."""
        predicted, found = (_ranks([pair[side] for pair in self._pairs]) for side in (0, 1))
        if len(self._pairs) < 3 or predicted.std() == 0 or found.std() == 0:
            return None
        return float(np.corrcoef(predicted, found)[0, 1])


def _ranks(values: Sequence[float]) -> Vector:
    """Ranks from 0; equal values share the mean of theirs."""
    array = np.asarray(values, np.float64)
    below = (array[:, None] > array[None, :]).sum(axis=1)
    equal = (array[:, None] == array[None, :]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2, np.float64)


def _normal(rng: Generator, count: int) -> Vector:
    """(count,) standard normal values, a double of the generator for each."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(max(float(rng.random()), 2**-54)) for _ in range(count)])


def _logit(error: float) -> float:
    bounded = min(max(error, _LEAST_ERROR), 1 - _LEAST_ERROR)
    return math.log(bounded / (1 - bounded))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -30.0), 30.0)))
