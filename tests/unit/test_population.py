"""Networks drawn as the authors of µNAS drew theirs."""

from __future__ import annotations

import pytest

from hil.calibration.population import (
    PAPER_LIMIT_BYTES,
    PAPER_TASK,
    POPULATIONS,
    draw_as_the_authors,
    population_called,
)
from hil.calibration.sample import Limits
from hil.errors import UsageError
from munas.arch.footprint import peak_memory
from munas.arch.graph import build_graph

LIMITS = Limits(1 << 20, 1 << 19)


def test_every_network_of_the_paper_is_within_its_limits_and_the_same_again() -> None:
    drawn = [draw_as_the_authors(0, index, LIMITS) for index in range(6)]
    assert [draw_as_the_authors(0, index, LIMITS) for index in (3, 5)] == [drawn[3], drawn[5]]
    assert len({sample.architecture for sample in drawn}) == len(drawn)
    for sample in drawn:
        assert (sample.task.input_shape, sample.task.num_classes) == ((64, 64, 3), 10)
        graph = build_graph(sample.architecture, PAPER_TASK.input_shape, PAPER_TASK.num_classes, "paper")
        assert graph.model_size <= PAPER_LIMIT_BYTES
        assert peak_memory(graph, count_input=True) <= PAPER_LIMIT_BYTES


def test_an_unknown_population_names_those_that_are_known() -> None:
    assert set(POPULATIONS) == {"budget", "paper"}
    with pytest.raises(UsageError, match=r"--population papr does not exist \(known: budget, paper\)"):
        population_called("papr")
