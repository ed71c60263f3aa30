"""What the assessor says of a network, and what nothing can do without."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from munas.arch.channels import channel_groups, resize
from munas.arch.footprint import peak_memory
from munas.arch.graph import build_graph
from munas.arch.space import (
    AnyArchitecture,
    Architecture,
    ArchitectureError,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    parse_architecture,
    random_cnn,
    random_mlp,
)
from munas.cost.calibration import Calibration, CodePart, Latency, MemoryModel
from munas.cost.converted import as_converted
from munas.cost.estimate import estimate
from munas.cost.floor import floor
from munas.cost.kernels import KernelVariant
from munas.cost.resources import Assessor
from munas.cost.variants import loop_names
from munas.search.metrics import Metric
from munas.search.objective import Bounds, unreachable
from tests.certainties import certainties

SHAPES = [(28, 28, 1), (32, 32, 3), (49, 40, 1), (8, 8, 1)]
FIGURES = ("macs", "model_size", "peak_memory", "ram", "flash", "flash_weights", "latency")


def calibration(seed: int = 0, per_step: float = 3.25) -> Calibration:
    rng = np.random.default_rng(seed)
    costs = {path: tuple(map(float, 10 * rng.random(len(loop_names(path))))) for path in KernelVariant}
    latency = Latency("instructions", 2.5, 1234.5, 400.0, per_step, costs, 0.95, -2.4, 2.5, 0.001, certainties(costs))
    parts = tuple(CodePart(frozenset({path}), int(rng.integers(50, 2000))) for path in KernelVariant)
    return Calibration({}, 150, 7, latency, MemoryModel(5000, parts, 220, 1536, 612))


def assessor(shape: tuple[int, ...], classes: int = 10, known: Calibration | None = None) -> Assessor:
    known = calibration() if known is None else known
    return Assessor(known.memory, known, shape, classes, proxies=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_figures_are_those_of_the_estimate_and_the_graph(shape: tuple[int, ...]) -> None:
    rng, judge = np.random.default_rng(5), assessor(shape)
    for _ in range(30):
        architecture = random_cnn(rng)
        graph, found = build_graph(architecture, shape, 10), judge.assess(architecture)
        known = estimate(as_converted(graph), calibration())
        assert (found.ram, found.flash, found.flash_weights) == (
            known.ram_total,
            known.flash_total,
            known.flash_weights,
        )
        assert (found.latency, found.latency_low, found.latency_high) == (
            known.latency.latency,
            known.latency.low,
            known.latency.high,
        )
        assert (found.macs, found.model_size, found.peak_memory) == (graph.macs, graph.model_size, peak_memory(graph))
        assert found.unit == "instructions"


def test_pools_that_the_converter_merges_cost_once() -> None:
    layer = Layer(LayerType.CONV, kernel=3, filters=8, pre_pool=True)
    other = Layer(LayerType.CONV, kernel=5, filters=8, pre_pool=True)
    main, branch = Block((layer,)), Block((other,), is_branch=True)
    judge = assessor((32, 32, 3))
    merged = judge.assess(Architecture((main, branch), None, (DenseLayer(10),)))
    graph = build_graph(Architecture((main, branch), None, (DenseLayer(10),)), (32, 32, 3), 10)
    apart = estimate(graph, calibration())
    assert merged.macs == graph.macs
    assert merged.flash_weights == apart.flash_weights - 40
    assert merged.latency is not None
    assert merged.latency < apart.latency.latency
    assert merged.ram <= apart.ram_total


def test_without_a_calibration_there_is_no_latency() -> None:
    architecture = random_cnn(np.random.default_rng(1))
    judge = assessor((28, 28, 1))
    less = Assessor(judge.memory, None, (28, 28, 1), 10).assess(architecture)
    whole = judge.assess(architecture)
    assert (less.latency, less.latency_low, less.latency_high, less.unit) == (None, None, None, "")
    assert less.peak_memory == -1
    assert (less.macs, less.ram, less.flash, less.flash_weights) == (
        whole.macs,
        whole.ram,
        whole.flash,
        whole.flash_weights,
    )


def test_an_assessor_can_be_sent_to_another_process() -> None:
    judge = assessor((28, 28, 1))
    architecture = random_cnn(np.random.default_rng(2))
    assert pickle.loads(pickle.dumps(judge)).assess(architecture) == judge.assess(architecture)


@pytest.mark.slow
@pytest.mark.parametrize("per_step", [3.25, -30.0])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("mlp", [False, True])
def test_no_network_costs_less_than_the_floor(mlp: bool, classes: int, per_step: float) -> None:
    rng = np.random.default_rng(11)
    for number in range(80):
        shape = SHAPES[number % len(SHAPES)]
        judge = assessor(shape, classes, calibration(number, per_step))
        architecture: AnyArchitecture = random_mlp(rng) if mlp else random_cnn(rng)
        graph = build_graph(architecture, shape, classes)
        narrow = rng.integers(1, 4, len(channel_groups(graph).groups))
        found = judge.assess(resize(architecture, graph, narrow.tolist()))
        least = floor(judge, mlp=mlp)
        for name in FIGURES:
            # The smallest network is its own floor: the same time, summed up in another order.
            assert getattr(least, name) <= getattr(found, name) * (1 + 1e-12), name


def test_bounds_that_nothing_can_meet() -> None:
    judge = assessor((32, 32, 3))
    least = floor(judge)
    assert least.ram == 3072 + 172 + 220 + 1536  # input, 13x13 out of 7x7, static, stack
    for metric in (Metric.PEAK_MEMORY, Metric.MODEL_SIZE, Metric.MACS, Metric.RAM, Metric.FLASH):
        bound = getattr(least, metric.value)
        assert unreachable(Bounds({metric: bound}), judge) is None
        message = unreachable(Bounds({metric: bound - 1}), judge)
        assert message is not None
        assert f"needs {bound:,}" in message
    assert least.latency is not None
    assert unreachable(Bounds({Metric.LATENCY: least.latency}), judge) is None
    message = unreachable(Bounds({Metric.LATENCY: least.latency - 1}), judge)
    assert message is not None
    assert "instructions or more" in message
    assert unreachable(Bounds({Metric.ERROR: 0.0}), judge) == "no network has an error of 0 or less"
    assert unreachable(Bounds({Metric.ERROR: 1e-9}), judge) is None
    with pytest.raises(ValueError, match="needs a calibration"):
        unreachable(Bounds({Metric.LATENCY: 1e9}), Assessor(judge.memory, None, (32, 32, 3), 10))
    with pytest.raises(ArchitectureError):
        unreachable(Bounds({}), assessor((64,)))


def test_proxies_of_the_reference_graph_are_the_authors(shared: Path) -> None:
    """And what is deployed does not depend on the mode."""
    for entry in json.loads((shared / "golden" / "munas.json").read_text())["cnn"]:
        shape, classes = tuple(entry["input_shape"]), entry["num_classes"]
        judge, architecture = assessor(shape, classes), parse_architecture(entry["architecture"])
        found, facts = replace(judge, mode="paper").assess(architecture), entry["facts"]
        expected = (facts["macs"], facts["model_size"], facts["pmu_excl_input"])
        assert (found.macs, found.model_size, found.peak_memory) == expected
        deployed = judge.assess(architecture)
        assert (found.ram, found.flash, found.latency) == (deployed.ram, deployed.flash, deployed.latency)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(28, 28, 1), (32, 32, 3), (9, 9, 2)]))
def test_the_floor_holds_in_both_modes(seed: int, shape: tuple[int, int, int]) -> None:
    judge = assessor(shape)
    least = floor(judge)
    found = replace(judge, mode="paper").assess(random_cnn(np.random.default_rng(seed)))
    assert found.macs >= least.macs
    assert found.model_size >= least.model_size
    assert found.peak_memory >= least.peak_memory
