"""Strategies: which network to try next.

A strategy is asked for trials and told what became of them, in any order and with several under way. It holds no
chance of its own: the generator is the search's, whose state is stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

from munas.arch.morphs import morphs
from munas.arch.space import AnyArchitecture, draw_choice, draw_integer, random_cnn, random_mlp
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, draw_lambdas, fitness
from munas.search.trial import Trial, TrialResult

if TYPE_CHECKING:
    from numpy.random import Generator

SPARSITY_STEP = 0.05
"""Standard deviation of what a child adds to its parent's sparsity."""

MAX_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Space:
    """What trials are drawn from: CNNs or MLPs, and the range of sparsity (None = nothing is pruned)."""

    mlp: bool = False
    sparsity: tuple[float, float] | None = None

    def random(self, rng: Generator, index: int) -> Trial:
        """A trial drawn from the whole space."""
        architecture: AnyArchitecture = random_mlp(rng) if self.mlp else random_cnn(rng)
        sparsity = 0.0
        if self.sparsity is not None:
            low, high = self.sparsity
            sparsity = low + (high - low) * float(rng.random())
        return Trial(index, architecture, sparsity, draw_integer(rng, 0, MAX_SEED), None, "random")

    def child(self, rng: Generator, index: int, parent: Trial) -> Trial:
        """A trial one morph away from its parent, uniform over the morphs that apply."""
        morph = draw_choice(rng, morphs(parent.architecture))
        architecture = morph.apply(rng)
        sparsity = 0.0
        if self.sparsity is not None:
            low, high = self.sparsity
            step = NormalDist(0, SPARSITY_STEP).inv_cdf(max(float(rng.random()), 2**-54))  # one double, as all draws
            sparsity = min(max(parent.sparsity + step, low), high)
        return Trial(index, architecture, sparsity, draw_integer(rng, 0, MAX_SEED), parent.index, morph.change)


class Strategy(Protocol):
    """Proposes trials and learns from their trials."""

    def ask(self, rng: Generator, index: int) -> Trial:
        """The trial of that index. Whatever is left to chance comes from `rng`."""
        ...

    def tell(self, trial_result: TrialResult) -> None:
        """A trial is finished. Called once for each, in the order in which they finish, failed ones included."""
        ...


class RandomSearch:
    """Trials drawn independently; nothing is learnt."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def ask(self, rng: Generator, index: int) -> Trial:
        """A random trial."""
        return self._space.random(rng, index)

    def tell(self, trial_result: TrialResult) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A finished trial in the population; `figures` is None when it failed."""

    trial: Trial
    figures: Mapping[Metric, float] | None


class AgeingEvolution:
    """Ageing evolution as in µNAS: the oldest member dies, however fit it is.

    The first `population` trials are random. Each later one is a child of the fittest of `sample` members, drawn
    with replacement and compared under weights drawn for that sample alone. A failed trial takes its place in the
    population, as if it had the worst fitness, and has no children.
    """

    def __init__(self, space: Space, bounds: Bounds, population: int = 100, sample: int = 25) -> None:
        """Raises ValueError for an empty population or sample."""
        if population < 1 or sample < 1:
            raise ValueError(f"population {population} and sample {sample} must be 1 or more")
        self._space, self._bounds, self._size, self._sample = space, bounds, population, sample
        self._members: deque[_Member] = deque(maxlen=population)

    def ask(self, rng: Generator, index: int) -> Trial:
        """A random trial at first, then a child."""
        parent = self._parent(rng) if index >= self._size else None
        return self._space.random(rng, index) if parent is None else self._space.child(rng, index, parent)

    def tell(self, trial_result: TrialResult) -> None:
        """The youngest member; the oldest leaves when the population is full."""
        trained, resources = trial_result.trained, trial_result.resources
        known = trial_result.status == "ok" and trained is not None and resources is not None
        figures = features(trained.error, resources) if known and trained and resources else None
        self._members.append(_Member(trial_result.trial, figures))

    def _parent(self, rng: Generator) -> Trial | None:
        """The fittest of a sample; None when there is nobody fit to be in it."""
        if not self._members:
            return None
        lambdas = draw_lambdas(self._bounds, rng)
        chosen = [draw_choice(rng, self._members) for _ in range(self._sample)]
        fit = [member for member in chosen if member.figures is not None]
        if not fit:
            return None
        return max(fit, key=lambda member: fitness(member.figures or {}, self._bounds, lambdas)).trial
