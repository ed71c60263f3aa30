"""All strategies by name. One more is a class in a module of its own that meets `Strategy`, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from munas.search.evolve import AgeingEvolution, RandomSearch, Space, Strategy
from munas.search.nsga2 import Nsga2
from munas.search.objective import Bounds


@dataclass(frozen=True, slots=True)
class StrategySettings:
    """What a strategy is made from; those that have no use for a field ignore it."""

    space: Space
    bounds: Bounds
    population: int = 100
    sample: int = 25


StrategyFactory: TypeAlias = Callable[[StrategySettings], Strategy]

STRATEGIES: Mapping[str, StrategyFactory] = {
    "evolution": lambda s: AgeingEvolution(s.space, s.bounds, s.population, s.sample),
    "random": lambda s: RandomSearch(s.space),
    "nsga2": lambda s: Nsga2(s.space, s.bounds, s.population),
}
"""By the name that the command line uses."""
