"""Which networks a calibration draws: a table of populations, each a pure function of seed and index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hil.calibration.sample import Limits, Sample, Task, draw_sample
from hil.errors import UsageError
from munas.arch.footprint import peak_memory
from munas.arch.graph import Graph, build_graph
from munas.arch.morphs import random_child
from munas.arch.space import Architecture, random_authors_cnn

PAPER_R2 = 0.975
"""R^2 of MACs and latency over the µNAS authors' 1000 random networks on an STM32H743 (arXiv 2010.14246)."""

PAPER_TASK = Task("paper", (64, 64, 3), 10)
PAPER_LIMIT_BYTES = 250_000  # of weights, and of peak memory with the input, each
_MAX_MORPHS = 20_000


@dataclass(frozen=True, slots=True)
class Population:
    """`draw` gives sample `index` of a seed within limits; `flash` and `sram` are the budget that it is made
    for, None being the board's own; `description` is for people."""

    draw: Callable[[int, int, Limits], Sample]
    description: str
    flash: str | None = None
    sram: str | None = None


def draw_as_the_authors(seed: int, index: int, limits: Limits) -> Sample:
    """Network `index` as the µNAS authors draw theirs for MACs against latency: a random one, morphed until its size
    and its peak memory with the input are at most 250,000 bytes, both in their own graph. `limits` play no part.

    Each index has its own random numbers, so that workers share nothing. Raises UsageError when no morph leads there.
    """
    del limits
    rng = np.random.default_rng([seed, index])
    architecture = random_authors_cnn(rng)
    for _ in range(_MAX_MORPHS):
        graph = build_graph(architecture, PAPER_TASK.input_shape, PAPER_TASK.num_classes, "paper")
        if _fits_the_paper(graph):
            return Sample(index, PAPER_TASK, architecture, True, int(rng.integers(2**31)))
        child = random_child(architecture, rng)
        assert isinstance(child, Architecture)
        architecture = child
    raise UsageError(f"no network within {PAPER_LIMIT_BYTES} bytes after {_MAX_MORPHS} morphs (seed {seed}, {index})")


def _fits_the_paper(graph: Graph) -> bool:
    return graph.model_size <= PAPER_LIMIT_BYTES and peak_memory(graph, count_input=True) <= PAPER_LIMIT_BYTES


DEFAULT_POPULATION = "budget"
POPULATIONS: Mapping[str, Population] = {
    DEFAULT_POPULATION: Population(draw_sample, "fills the board's budget evenly in MACs, weights and arena"),
    "paper": Population(
        draw_as_the_authors, "as the authors of µNAS drew theirs for MACs against latency, 64x64x3, 10 classes",
        flash="1M", sram="512K",
    ),
}  # fmt: skip


def population_called(name: str) -> Population:
    """The population `name`. Raises UsageError with those that are known."""
    if name not in POPULATIONS:
        raise UsageError(f"--population {name} does not exist (known: {', '.join(POPULATIONS)})")
    return POPULATIONS[name]
