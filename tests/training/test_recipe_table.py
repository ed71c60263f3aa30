"""The table of the two recipes: every training once, however often it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from munas.arch.graph import build_graph
from munas.training.comparison import MACS, MODEL_SIZE, STORE, network, stored, train
from munas.training.recipe_table import KINDS, Case, job, table

CASES = [Case("digits", 0, 0, kind, 1.0) for kind in KINDS]


def test_networks_are_within_their_limits_and_the_same_again() -> None:
    drawn = [network(number, (28, 28, 1), 10) for number in range(8)]
    assert drawn == [network(number, (28, 28, 1), 10) for number in range(8)]
    assert len(set(drawn)) == 8
    for architecture in drawn:
        graph = build_graph(architecture, (28, 28, 1), 10)
        assert MACS[0] <= graph.macs <= MACS[1]
        assert graph.model_size <= MODEL_SIZE


def test_only_pairs_are_compared() -> None:
    def case(number: int, kind: str, seed: int = 0) -> Case:
        return Case("mnist", number, seed, kind, 3.0)  # type: ignore[arg-type]

    errors = {
        case(0, "fast"): 0.10, case(0, "paper"): 0.30, case(0, "fast", 1): 0.20, case(0, "paper", 1): 0.10,
        case(1, "fast"): 0.20, case(1, "paper"): 0.25, case(2, "fast"): 0.9, case(3, "paper"): 0.8,
    }  # fmt: skip
    assert table(errors).splitlines()[2:] == ["| mnist | 3, 2 | 3 | 20.0 % | 25.0 % | 5.0 points | 2 of 3 |"]
    assert len(table({case(2, "fast"): 0.9}).splitlines()) == 2


@pytest.mark.slow
def test_a_table_that_was_stopped_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    trained = dict(train(CASES, job, tmp_path, 1))
    assert set(trained) == set(CASES)
    assert all(0 < outcome.error < 0.9 for outcome in trained.values())
    assert stored(tmp_path / STORE, Case) == trained
    assert list(train(CASES, job, tmp_path, 1)) == []
    lines = (tmp_path / STORE).read_text().splitlines(keepends=True)
    (tmp_path / STORE).write_text(lines[0] + lines[1][:-9])
    again = dict(train(CASES, job, tmp_path, 1))
    assert set(again) == {CASES[1]}
    assert {case: outcome.error for case, outcome in stored(tmp_path / STORE, Case).items()} == {
        case: outcome.error for case, outcome in trained.items()
    }
