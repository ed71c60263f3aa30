"""Synthetic calibration results with the statistics of a real one, for tests of what reads them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hil.calibration.result import (
    CalibrationResult,
    CodeSize,
    CycleClass,
    CycleShares,
    Failure,
    Fit,
    LayerCycles,
    MemoryErrors,
    Metrics,
    PathError,
    SampleResult,
)
from hil.measure.arena import ArenaBuffer, ArenaMap, ArenaStep
from hil.measure.measurement import Identity

IDENTITY = Identity(
    board="nucleo-f746zg",
    core="cortex-m7",
    runtime="cmsis-nn",
    via="qemu",
    simulated=True,
    timer="icount-instructions",
    clock_hz=216_000_000,
    compiler="arm-none-eabi-gcc (15:12.2.rel1-1) 12.2.1 20221205",
    flags="-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16 -std=c11 -O2 -ffunction-sections "
    "-fdata-sections -fno-tree-loop-distribute-patterns",
    kernels="CMSIS-NN 4.0.0 (bakenn 1.0.0)",
    firmware="5f0c2f1f3c0e4f6a8b7d9e1023456789",
)
# instructions per MAC of each kernel path, and bytes of code it brings
PATHS = {
    "conv-im2col": (2.9, 1804), "conv-1x1": (2.2, 912), "dw-3x3": (6.8, 1496),
    "dw": (9.4, 1380), "dw-generic": (14.0, 1012), "fc-per-channel": (2.4, 388), "max-pool": (3.4, 620),
    "avg-pool": (4.1, 704), "add": (9.0, 512), "add-padded": (12.5, 640),
}  # fmt: skip
SHAPES = ((28, 28, 1), (32, 32, 3), (49, 40, 1), (64, 64, 3), (48, 48, 1))
BASE_CODE = 6212
INTERVAL = 0.055
COEFFICIENTS = {
    f"{path}.{feature}": rate * scale
    for path, (rate, _) in PATHS.items()
    for feature, scale in (("macs", 1.0), ("outputs", 3.1), ("calls", 310.0))
}
EMPTY_METRICS = Metrics(math.nan, math.nan, math.nan, math.nan, math.nan)


def _sample(index: int, rng: np.random.Generator) -> SampleResult:
    shape, blocks = SHAPES[int(rng.integers(len(SHAPES)))], int(rng.integers(1, 11))
    macs = int(10 ** rng.uniform(3.9, 7.4))
    mix = rng.dirichlet(np.full(len(PATHS), 0.35))
    per_mac = float(mix @ np.array([rate for rate, _ in PATHS.values()]))
    measured = float(round(macs * per_mac + 9000 * blocks + 21_000))
    predicted = measured * (1 + float(rng.normal(0, 0.022)) + (0.09 if rng.random() < 0.01 else 0.0))
    used = [size for (_, size), part in zip(PATHS.values(), mix, strict=True) if part > 0.03]
    code, weights = BASE_CODE + sum(used), int(rng.beta(1.3, 1.5) * 49_000) + 300
    arena = 4 * int(rng.beta(1.2, 1.4) * 14_300 + 200)
    static, stack = 1648, 2048
    return SampleResult(
        index=index, model=f"munas-{index:05d}",
        summary=f"{'x'.join(map(str, shape))}, {blocks} blocks, {int(rng.integers(1, 4))} dense",
        sha256=hashlib.sha256(str(index).encode()).hexdigest(), input_shape=shape,
        num_classes=10, macs=macs, layers=blocks * 2 + 2, fold=index % 10, measured=measured,
        predicted_mac=math.nan, predicted_op=predicted,
        low=predicted * (1 - INTERVAL), high=predicted * (1 + INTERVAL),
        flash_weights=weights, flash_code=code, flash_total=weights + code,
        arena_used=arena, arena_planned=arena, stack_used=1212, stack_reserved=stack, static_ram=static,
        ram_total=static + stack + arena, predicted_arena=arena, predicted_flash=weights + code + 96,
        predicted_ram=static + stack + arena,
    )  # fmt: skip


def _with_mac_fit(samples: list[SampleResult]) -> tuple[tuple[SampleResult, ...], dict[str, float]]:
    """`samples` with predictions of the line that has the least relative squared error, and that line."""
    if not samples:
        return (), {}
    macs, measured = np.array([item.macs for item in samples]), np.array([item.measured for item in samples])
    columns = np.stack([macs / measured, 1 / measured], axis=1)
    (slope, intercept), *_ = np.linalg.lstsq(columns, np.ones(len(samples)), rcond=None)
    law = {"macs": float(slope), "intercept": float(intercept)}
    return tuple(
        replace(item, predicted_mac=law["macs"] * item.macs + law["intercept"]) for item in samples
    ), law  # fmt: skip


def _metrics(samples: Sequence[SampleResult], predicted: Sequence[float]) -> Metrics:
    measured = np.array([item.measured for item in samples])
    error = np.abs(np.array(predicted) / measured - 1)
    r2 = 1 - float(((np.array(predicted) - measured) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())
    ranks = np.corrcoef(np.argsort(np.argsort(measured)), np.argsort(np.argsort(predicted)))[0, 1]
    return Metrics(float(error.mean()), float(error.max()), float((error <= 0.1).mean()), r2, float(ranks))


def _paths(rng: np.random.Generator) -> tuple[PathError, ...]:
    shares = np.sort(rng.dirichlet(np.full(len(PATHS), 0.8)))[::-1]
    return tuple(
        PathError(path, int(rng.integers(40, 4000)), float(part), float(rng.uniform(0.006, 0.06)),
                  float(rng.uniform(0.08, 0.3)), float(rng.normal(0, 0.008)))
        for path, part in zip(PATHS, shares, strict=True)
    )  # fmt: skip


def arena_map() -> ArenaMap:
    """A branch beside a main path, an Add in place, scratch of several kernels."""
    rows = (
        ("input", "input", 0, 3072, 0, 1), ("block 1", "activation", 3072, 18432, 0, 2),
        ("im2col", "scratch", 21504, 216, 0, 0), ("branch", "activation", 21504, 5408, 1, 5),
        ("im2col", "scratch", 26912, 600, 1, 1), ("block 2 dw", "activation", 26912, 5408, 2, 3),
        ("im2col", "scratch", 0, 1240, 2, 2),
        ("block 2", "activation", 0, 10816, 3, 4), ("block 2 pool", "activation", 10816, 2704, 4, 5),
        ("sum", "activation", 21504, 5408, 5, 6), ("block 3 dw", "activation", 0, 4608, 6, 7),
        ("im2col", "scratch", 4608, 900, 6, 6), ("block 3", "activation", 4608, 7200, 7, 8),
        ("pool", "activation", 0, 1800, 8, 9), ("dense 1", "activation", 1800, 128, 9, 10),
        ("logits", "output", 0, 12, 10, 10),
    )  # fmt: skip
    paths = ("conv-im2col", "conv-im2col", "dw", "conv-1x1", "max-pool", "add", "dw", "conv-1x1",
             "avg-pool", "fc-per-channel", "fc-per-channel")  # fmt: skip
    buffers = tuple(ArenaBuffer(*row) for row in rows)
    live = [sum(item.size for item in buffers if item.first_step <= step <= item.last_step) for step in range(11)]
    live[5] -= 5408  # the sum takes the branch's place
    live[2] += 1832  # alignment, so that this step needs the whole arena
    steps = tuple(ArenaStep(index, path.split("-")[0], path, live[index]) for index, path in enumerate(paths))
    high = max(item.offset + item.size for item in buffers)
    return ArenaMap("munas-00042", "32x32x3, 3 blocks (1 branch), 2 dense", high, high, steps, buffers)


def cycle_shares(pipeline: float = 0.2) -> CycleShares:
    """Shares of a run with modelled cycles; a negative `pipeline` is a core that issues two instructions at once."""
    means = {"alu": 0.3, "multiply": 0.2, "divide": 0.001, "load": 0.2, "store": 0.04, "branch": 0.05,
             "pipeline": pipeline, "code misses": 0.005}  # fmt: skip
    means["data misses"] = 1 - sum(means.values())
    classes = tuple(CycleClass(name, mean, mean - 0.01, mean + 0.01) for name, mean in means.items())
    layers = (LayerCycles(0, "conv-im2col", 0.7), LayerCycles(1, "fc-per-channel", 0.29))
    return CycleShares(30, classes, "munas-00042", "32x32x3, 1 block, 1 dense", layers)


def calibration_result(count: int = 1000, seed: int = 1, failed: int = 0, **changes: Any) -> CalibrationResult:
    """A result with `count` networks and `failed` failures; `changes` replace fields at the end."""
    rng = np.random.default_rng(seed)
    samples, mac_law = _with_mac_fit([_sample(index, rng) for index in range(count)])
    errors = sorted(samples, key=lambda item: -abs(item.error_op))
    mac = _metrics(samples, [item.predicted_mac for item in samples]) if count > 1 else EMPTY_METRICS
    operator = _metrics(samples, [item.predicted_op for item in samples]) if count > 1 else EMPTY_METRICS
    inside = [item.low <= item.measured <= item.high for item in samples]
    result = CalibrationResult(
        identity=IDENTITY, unit="instructions", created="2025-01-31T12:34:56Z", seed=seed, budget_flash=65536,
        budget_sram=65536, samples=samples,
        failed=tuple(
            Failure(count + index, "64x64x3, 7 blocks, 1 dense", f"RunnerError: QEMU stopped (variant {index % 2})")
            for index in range(failed)
        ),
        mac_only=Fit(mac, 10, mac_law),
        per_operator=Fit(operator, 10, COEFFICIENTS),
        interval_coverage=sum(inside) / count if count else math.nan,
        paths=_paths(rng) if count else (),
        memory=MemoryErrors(0, 0, 96 if count else 0, 0, 0, 0),
        code_sizes=(CodeSize("base", BASE_CODE), *(CodeSize(path, size) for path, (_, size) in PATHS.items())),
        worst=tuple(item.index for item in errors[:20]), outputs_checked=8 * count, outputs_mismatched=0,
        models_per_minute=163.2 if count else math.nan, wall_seconds=count * 60 / 163.2, workers=2,
        stage_seconds={"write": 0.012, "plan": 0.018, "generate": 0.021, "compile": 0.242, "link": 0.061,
                       "boot": 0.094, "run": 0.201, "verify": 0.043},
        arena_tight=0.997, arena_map=arena_map() if count else None, calibration_path="runs/1/calibration.toml",
        report_path="runs/1/report.html",
    )  # fmt: skip
    return replace(result, **changes)
