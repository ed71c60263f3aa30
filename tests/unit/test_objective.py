"""Bounds, the fitness of the golden figures, the Pareto front, and bounds that nothing can meet."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from munas.cost.resources import Resources
from munas.search.metrics import Metric, features
from munas.search.objective import PRESETS, Bounds, draw_lambdas, exceeded, fitness, meets, pareto_front

PAPER = (Metric.ERROR, Metric.PEAK_MEMORY, Metric.MODEL_SIZE, Metric.MACS)
RESOURCES = Resources(macs=1000, model_size=200, peak_memory=300, ram=4000, flash=5000, flash_weights=600)


def test_golden_fitness(shared: Path) -> None:
    entries = json.loads((shared / "golden" / "munas.json").read_text())["fitness"]
    assert entries
    for entry in entries:
        bounds = Bounds({m: bound for m, bound in zip(PAPER, entry["bounds"], strict=True) if bound is not None})
        figures = dict(zip(PAPER, entry["features"], strict=True))
        lambdas = dict(zip(PAPER, entry["lambdas"], strict=True))
        assert fitness(figures, bounds, lambdas) == entry["fitness"]


def test_the_worst_objective_counts_and_ten_times_its_bound_at_most() -> None:
    bounds = Bounds({Metric.ERROR: 0.1, Metric.RAM: 1000})
    lambdas = {Metric.ERROR: 0.5, Metric.RAM: 0.25}
    assert fitness({Metric.ERROR: 0.2, Metric.RAM: 250}, bounds, lambdas) == -4.0
    assert fitness({Metric.ERROR: 0.05, Metric.RAM: 1e9}, bounds, lambdas) == -40.0
    assert fitness({}, Bounds({}), {}) == 0.0
    assert fitness({Metric.ERROR: 0.2}, Bounds({Metric.ERROR: 0.0}), lambdas) == -20.0
    with pytest.raises(KeyError):
        fitness({Metric.ERROR: 0.2}, bounds, lambdas)


def test_features_leave_out_what_is_not_known() -> None:
    known = features(0.25, RESOURCES)
    assert known == {
        Metric.ERROR: 0.25, Metric.PEAK_MEMORY: 300, Metric.MODEL_SIZE: 200, Metric.MACS: 1000,
        Metric.RAM: 4000, Metric.FLASH: 5000, Metric.WEIGHTS: 600,
    }  # fmt: skip
    less = Resources(1000, 200, -1, 4000, 5000, 600, 7.5, 7.0, 8.0, "cycles")
    assert set(features(None, less)) == set(Metric) - {Metric.ERROR, Metric.PEAK_MEMORY}


def test_bounds_are_met_up_to_equality() -> None:
    figures = features(0.25, RESOURCES)
    assert meets(figures, Bounds({Metric.ERROR: 0.25, Metric.RAM: 4000}))
    assert exceeded(figures, Bounds({Metric.RAM: 3999, Metric.ERROR: 0.24, Metric.MACS: 1e9})) == (
        Metric.ERROR,
        Metric.RAM,
    )
    assert not meets({Metric.ERROR: float("nan")}, Bounds({Metric.ERROR: 1.0}))
    assert meets(figures, Bounds({Metric.ERROR: 0.1, Metric.RAM: 4000}).resources)


def test_bounds_as_values() -> None:
    bounds = Bounds({Metric.RAM: 10, Metric.ERROR: 0.5})
    same = Bounds({Metric.ERROR: 0.5, Metric.RAM: 10})
    assert bounds == same
    assert hash(bounds) == hash(same)
    assert pickle.loads(pickle.dumps(bounds)) == bounds
    assert bounds.to_json() == {"error": 0.5, "ram": 10}
    assert list(bounds.to_json()) == ["error", "ram"]
    assert Bounds.from_json(json.loads(json.dumps(bounds.to_json()))) == bounds


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected an object"),
        ({"speed": 1}, "unknown speed; known are error, peak_memory"),
        ({3: 1}, "unknown 3"),
        ({"ram": "64k"}, "bound on ram: '64k' is not a finite number"),
        ({"ram": True}, "bound on ram: True"),
        ({"ram": float("inf")}, "bound on ram: inf"),
        ({"latency": float("nan")}, "bound on latency: nan"),
        ({"error": None}, "bound on error: None"),
    ],
)
def test_bad_bounds_are_refused_by_key(document: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bounds.from_json(document)


def test_weights_are_uniform_seeded_and_never_zero() -> None:
    bounds = PRESETS["munas-fashion"].bounds
    drawn = [draw_lambdas(bounds, rng) for rng in [np.random.default_rng(3)] for _ in range(2000)]
    assert tuple(drawn[0]) == PAPER
    assert drawn[0] == draw_lambdas(bounds, np.random.default_rng(3))
    for metric in PAPER:
        values = [weights[metric] for weights in drawn]
        assert 0 < min(values) < 0.01
        assert 0.99 < max(values) <= 1
        assert np.mean(values) == pytest.approx(0.5, abs=0.03)


def test_presets_are_the_papers() -> None:
    assert {name: (p.dataset, *p.bounds.to_json().values()) for name, p in PRESETS.items()} == {
        "munas-mnist": ("mnist", 0.035, 2500, 4500, 30e6),
        "munas-fashion": ("fashion-mnist", 0.10, 64e3, 64e3, 30e6),
        "munas-mnist-binary": ("mnist-binary", 0.01, 2e3, 2e3, 1e6),
        "munas-chars74k": ("chars74k", 0.30, 10e3, 20e3, 1e6),
        "munas-chars74k-binary": ("chars74k-binary", 0.26, 1500, 1000, 1e6),
        "munas-cifar10": ("cifar10", 0.18, 75e3, 75e3, 30e6),
        "munas-cifar10-pruned": ("cifar10", 0.10, 50e3, 50e3, 60e6),
        "munas-cifar10-binary": ("cifar10-binary", 0.30, 3000, 2000, 1e6),
        "munas-speech": ("speech-commands", 0.085, 60e3, 40e3, 20e6),
    }
    assert [name for name, preset in PRESETS.items() if preset.pruned] == ["munas-cifar10-pruned"]
    assert all(tuple(preset.bounds.values) == PAPER for preset in PRESETS.values())


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=25))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int, int]]) -> None:
    def beaten(index: int) -> bool:
        return any(
            all(a <= b for a, b in zip(other, points[index], strict=True))
            and (other != points[index] or number < index)
            for number, other in enumerate(points)
            if number != index
        )

    assert pareto_front(points) == [index for index in range(len(points)) if not beaten(index)]
