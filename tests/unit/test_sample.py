"""The sampler: deterministic, inside the budget, spread over all of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hil.calibration.sample import (
    MACS_HIGH,
    TASKS,
    Limits,
    draw_sample,
    rough_constants,
    sample_from_json,
    scale_widths,
    summary,
)
from hil.errors import UsageError
from munas.arch.graph import Kind
from munas.arch.space import random_cnn, to_dict
from munas.cost.estimate import arena_bytes, table_bytes, weights_bytes, works_of
from munas.cost.operators import scratch_bytes, work_of

LIMITS = Limits(44 * 1024, 58 * 1024)
SMALL = Limits(6 * 1024, 20 * 1024)


@pytest.mark.parametrize("limits", [LIMITS, SMALL])
def test_samples_fit_the_limits_and_survive_json(limits: Limits) -> None:
    for index in range(60):
        sample = draw_sample(3, index, limits)
        graph = sample.graph()
        works = works_of(graph, dense_per_channel=sample.dense_per_channel)
        exact = weights_bytes(works) + table_bytes(works)
        dense_outputs = sum(item.out_shape[-1] for item in graph.operators if item.kind is Kind.DENSE)
        assert exact <= rough_constants(graph, sample.dense_per_channel) <= exact + 28 * len(works) + 8 * dense_outputs
        assert exact <= limits.constants_bytes
        assert arena_bytes(graph) <= limits.arena_bytes
        assert graph.macs <= limits.macs
        assert sample_from_json(json.loads(json.dumps(sample.to_json()))) == sample


def test_a_sample_depends_on_seed_and_index_only() -> None:
    forward = [draw_sample(5, index, LIMITS) for index in range(6)]
    backward = [draw_sample(5, index, LIMITS) for index in reversed(range(6))]
    assert forward == backward[::-1]
    assert draw_sample(6, 3, LIMITS) != forward[3]
    code = (
        "import json; from hil.calibration.sample import *;"
        f"print(json.dumps(draw_sample(5, 4, Limits({LIMITS.constants_bytes}, {LIMITS.arena_bytes})).to_json()))"
    )
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == forward[4].to_json()


@pytest.mark.slow
def test_samples_are_spread_over_the_budget_and_all_data_sets() -> None:
    samples = [draw_sample(1, index, LIMITS) for index in range(210)]
    graphs = [sample.graph() for sample in samples]
    macs = np.log10([graph.macs for graph in graphs])
    flash = np.array([rough_constants(its.graph(), its.dense_per_channel) for its in samples])
    arena = np.array([arena_bytes(graph) for graph in graphs])
    # Every decade from 10^4 to 10^7 has its part, and so has every quarter of flash and RAM but the last one.
    assert all(np.mean((macs >= decade) & (macs < decade + 1)) > 0.1 for decade in (4, 5, 6))
    assert 0 < np.mean(10**macs > 5e6) < 0.2
    assert np.mean(10**macs) < 4e6
    for used, limit in ((flash, LIMITS.constants_bytes), (arena, LIMITS.arena_bytes)):
        share = [np.mean((used >= limit * low) & (used < limit * (low + 0.25))) for low in (0, 0.25, 0.5)]
        assert min(share) > 0.1
        assert used.max() > 0.75 * limit
    assert {sample.task for sample in samples} == set(TASKS)
    assert 0.6 < np.mean([sample.dense_per_channel for sample in samples]) < 0.9


@pytest.mark.slow
def test_drawing_is_fast() -> None:
    started = time.process_time()
    for index in range(40):
        draw_sample(2, index, LIMITS)
    assert (time.process_time() - started) / 40 < 0.15  # measured: 0.04 s; the margin is for busy machines


@pytest.mark.parametrize(
    ("constants", "arena", "macs"), [(100, 60_000, MACS_HIGH), (40_000, 10, MACS_HIGH), (-5, 1, 1)]
)
def test_a_hopeless_budget_is_a_usage_error(constants: int, arena: int, macs: int) -> None:
    with pytest.raises(UsageError, match="--flash or --sram"):
        Limits(constants, arena, macs)


def test_scaling_stays_in_the_search_space_and_one_is_the_identity() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        architecture = random_cnn(rng)
        assert scale_widths(architecture, 1.0) == architecture
        for factor in (1e-9, 0.3, 1e9):
            to_dict(scale_widths(architecture, factor))  # the dataclasses refuse what is outside


def test_the_summary_names_every_part() -> None:
    sample = draw_sample(1, 5, LIMITS)
    text = summary(sample.architecture, sample.task.input_shape)
    assert text.startswith("32x32x3: ")
    assert text.count("|") == len(sample.architecture.blocks) + (sample.architecture.pooling is not None)
    assert text.count("+") == sum(block.is_branch for block in sample.architecture.blocks)


@pytest.mark.slow
def test_scratch_is_that_of_an_operators_work() -> None:
    seen = set()
    for index in range(60):
        for operator in draw_sample(5, index, LIMITS).graph().operators:
            assert scratch_bytes(operator) == work_of(operator).scratch_bytes
            seen.add((operator.kind, scratch_bytes(operator) > 0))
    assert len(seen) >= 6  # all kinds; convolutions with and without
