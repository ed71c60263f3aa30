"""Synthetic results of a search with the shape of a real one, for tests of what reads them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np

from hil.calibration.result import Failure
from hil.measure.measurement import Identity
from hil.search.result import Box, Finalist, MeasuredFigures, Point, SearchResult, boxes_of
from munas.arch.graph import Graph, build_graph
from munas.arch.space import Architecture, random_cnn, to_dict
from munas.cost.resources import Resources
from munas.search.objective import pareto_front
from tests.calibration_results import IDENTITY

INPUT_SHAPE = (28, 28, 1)
BASE_CODE, BASE_RAM = 12_288, 4_096
INTERVAL = 0.012
BOUNDS = {"error": 0.12, "ram": 65_536.0, "flash": 65_536.0, "latency": 4.0e6}
SETTINGS = {
    "trials": 2000, "effort": 0.25, "halving": True, "sparsity": [0.05, 0.9], "population": 100, "sample": 25,
    "mlp": False, "time_limit_s": 600.0, "memory_limit_bytes": 2 << 30, "final_seeds": 3, "final_effort": 1.0,
}  # fmt: skip


def _resources(macs: float, size: float, peak: float) -> Resources:
    weights = int(size * 1.06) + 480
    latency = macs * 2.4 + 41_000
    return Resources(
        macs=int(macs), model_size=int(size), peak_memory=int(peak), ram=int(peak * 1.12) + BASE_RAM,
        flash=weights + BASE_CODE, flash_weights=weights, latency=latency, latency_low=latency * (1 - INTERVAL),
        latency_high=latency * (1 + INTERVAL), unit="instructions",
    )  # fmt: skip


@cache
def _networks(count: int, seed: int) -> tuple[tuple[Architecture, Graph], ...]:
    """Networks that become smaller as a search would make them."""
    rng = np.random.default_rng(seed)
    found: list[tuple[Architecture, Graph]] = []
    while len(found) < count:
        limit = 3e5 if len(found) < count / 4 else 1.2e5 if len(found) < count / 2 else 6e4
        architecture = random_cnn(rng)
        graph = build_graph(architecture, INPUT_SHAPE, 10)
        if graph.model_size < limit and graph.macs < 8 * limit * 10:
            found.append((architecture, graph))
    return tuple(found)


def _point(index: int, graph: Graph, total: int, rng: np.random.Generator, pruned: bool) -> Point:
    sparsity = float(rng.uniform(0.05, 0.8)) if pruned else 0.0
    kept = 1 - sparsity * 0.9
    peak = max(op.out_elements for op in graph.operators) * 1.5
    drawn = _resources(graph.macs, graph.model_size, peak)
    after = _resources(graph.macs * kept**1.7, graph.model_size * kept**1.8, peak * max(kept, 0.4))
    finished_s = 3600.0 * (index + 1 + float(rng.uniform(-2, 2))) / (total + 4)
    if rng.random() < 0.02:
        return Point(index, finished_s, None, None, sparsity, "failed", 0, False, False, drawn)
    skill = 0.085 + 0.9 * (after.macs + 3e4) ** -0.17 * (1 - 0.35 * index / total) + 0.02 * sparsity**2
    error = float(min(max(skill * rng.lognormal(0.0, 0.3) + rng.exponential(0.02), 0.087), 0.9))
    stopped = error > 0.22 and bool(rng.random() < 0.8)
    values = {"error": error, "ram": after.ram, "flash": after.flash, "latency": after.latency or 0.0}
    feasible = not stopped and all(values[name] <= bound for name, bound in BOUNDS.items())
    parent = None if index < total // 4 else int(rng.integers(max(index, 1)))
    return Point(
        index, finished_s, round(error, 4), round(error * 0.985, 4), round(sparsity, 3), "ok", 3 if stopped else 11,
        stopped, feasible, after, drawn if pruned else None, parent,
        "random" if parent is None else "block 2, layer 1: filters + 3",
    )  # fmt: skip


def _front(points: list[Point]) -> tuple[int, ...]:
    rows = [
        (item.error, item.resources.ram, item.resources.flash, item.resources.latency or 0.0, item.index)
        for item in points
        if item.error is not None and item.resources is not None and item.feasible
    ]
    kept = pareto_front([row[:4] for row in rows])
    return tuple(int(row[4]) for row in sorted(rows[position] for position in kept))


def _finalist(point: Point, architecture: Architecture, layers: tuple[Box, ...], rng: np.random.Generator) -> Finalist:
    assert point.resources is not None
    assert point.error is not None
    predicted = point.resources
    errors = tuple((seed, round(point.error * float(rng.uniform(0.9, 0.98)), 4)) for seed in (11, 12, 13))
    mean, spread = float(np.mean([e for _, e in errors])), float(np.std([e for _, e in errors], ddof=1))
    return Finalist(
        index=point.index, architecture=to_dict(architecture), layers=layers, seed_errors=errors,
        chosen_seed=min(errors, key=lambda pair: pair[1])[0], mean_error=mean, sd_error=spread,
        test_accuracy=round(1 - mean * 1.03, 4), predicted=predicted,
        measured=MeasuredFigures(
            latency=(predicted.latency or 0.0) * (1 + float(rng.normal(0, 0.004))), unit="instructions",
            ram=predicted.ram - int(rng.integers(0, 3)) * 4, flash=predicted.flash - int(rng.integers(0, 20)) * 4,
            arena=predicted.ram - BASE_RAM, flash_weights=predicted.flash_weights, checked=32, mismatched=0,
            sha256=hashlib.sha256(str(point.index).encode()).hexdigest(),
        ),
        outside=(), folder=f"front/{point.index:05d}", sparsity=point.sparsity,
        error=min(error for _, error in errors), float_error=round(0.98 * min(error for _, error in errors), 4),
    )  # fmt: skip


def search_result(points: int = 200, seed: int = 1, *, pruned: bool = True) -> SearchResult:
    """A search over `points` trials, with up to five re-trained finalists of its front."""
    rng = np.random.default_rng(seed)
    networks = _networks(points, seed)
    found = [_point(index, graph, points, rng, pruned) for index, (_, graph) in enumerate(networks)]
    front = _front(found)
    chosen = front[:: max(len(front) // 5, 1)][:5]
    finalists = tuple(
        _finalist(found[index], networks[index][0], boxes_of(networks[index][1]), rng) for index in chosen
    )  # fmt: skip
    failures = tuple(
        Failure(item.index, "28x28x1: 7 blocks, 2 dense", "over the limit of 600 s") for item in found if not item.error
    )
    return SearchResult(
        dataset="fashion-mnist", dataset_sha256=hashlib.sha256(b"fashion").hexdigest(), input_shape=INPUT_SHAPE,
        num_classes=10, board="nucleo-f746zg", identity=IDENTITY, unit="instructions", milliseconds_per_unit=None,
        bounds=dict(BOUNDS), hard_budget={"ram": 131_072.0, "flash": 131_072.0}, preset=None,
        strategy="ageing-evolution", seed=seed,
        settings=dict(SETTINGS) if pruned else {**SETTINGS, "sparsity": None},
        points=tuple(sorted(found, key=lambda item: item.finished_s)), front=front, finalists=finalists,
        winner=finalists[0].index if finalists else None, ok=sum(item.status == "ok" for item in found),
        failed=len(failures), rejected=points // 3, failures=failures, stop_reason="time", seconds=3600.0,
        finals_seconds=412.0, images_per_second=21_400.0, workers=2, started="2026-11-22T09:00:00+00:00",
        finished="2026-11-22T10:07:12+00:00",
        command="munas-hil search --dataset fashion-mnist --board nucleo-f746zg --minutes 60 --effort 0.25 "
        f"--seed {seed} --workers 2" + ("" if pruned else " --no-pruning"),
        train_examples=54_000, validation_examples=6_000, test_examples=10_000,
    )  # fmt: skip


def hardware(result: SearchResult) -> SearchResult:
    """The same search as if a board had measured it: cycles, which are milliseconds."""
    identity: Identity = replace(result.identity, via="hardware", simulated=False, timer="dwt-cycles")

    def in_cycles(found: Resources | None) -> Resources | None:
        return None if found is None else replace(found, unit="cycles")

    points = tuple(
        replace(item, resources=in_cycles(item.resources), drawn=in_cycles(item.drawn)) for item in result.points
    )
    finalists = tuple(
        replace(
            item, predicted=replace(item.predicted, unit="cycles"),
            measured=None if item.measured is None else replace(item.measured, unit="cycles"),
        )
        for item in result.finalists
    )  # fmt: skip
    return replace(
        result, identity=identity, unit="cycles", milliseconds_per_unit=1e3 / identity.clock_hz, points=points,
        finalists=finalists,
    )  # fmt: skip
