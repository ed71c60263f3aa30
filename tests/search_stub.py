"""A search's surroundings without TensorFlow and QEMU: networks with random weights, made-up figures."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hil.build.sources import Project
from hil.cli import main as cli
from hil.codegen.plan import Plan, make_plan
from hil.measure.harness import Measured
from hil.measure.measurement import Build, Identity, LayerTime, Measurement, Memory, Outputs
from hil.measure.measurement import Latency as Times
from hil.model.load import parse_model
from hil.runtimes.base import Deployment
from hil.search import prepare
from hil.search.training import TrainingRequest, TrainingSetup
from munas.cost.calibration import Calibration, CodePart, Latency, MemoryModel
from munas.cost.kernels import KernelVariant
from munas.cost.resources import Resources
from munas.cost.variants import loop_names
from munas.data import Dataset, Examples
from munas.search.trial import TrialResult
from tests.calibration_results import IDENTITY
from tests.certainties import certainties
from tests.network_trainer import INPUT_SHAPE, NUM_CLASSES, PRELOAD, StubTrainer


@dataclass(frozen=True)
class StubCosts:
    """Ten seconds a training at full effort, one a test."""

    def training(self, trial_result: TrialResult, effort: float) -> float:
        return 10.0 * effort

    def test(self, resources: Resources) -> float:
        return 1.0


def stub_training(request: TrainingRequest, journal: Path | None = None) -> TrainingSetup:
    """In the place of `hil.search.training.training_setup`."""
    sparsity = (0.0, 0.5) if request.pruning else None
    trainer = StubTrainer(journal=journal)
    return TrainingSetup(trainer, (), sparsity, StubCosts(), lambda tflite: 0.9, {"trainer": "stub"}, PRELOAD)


def stub_calibration() -> Calibration:
    """Every kernel loop takes one instruction (what is counted in 256ths a 256th); 12,000 bytes of code."""
    paths = {path: tuple(1 / 256 if name == "unsure" else 1.0 for name in loop_names(path)) for path in KernelVariant}
    latency = Latency("instructions", 1.0, 0.0, 1000.0, 10.0, paths, 0.95, -2.5, 2.5, 0.001, certainties(paths))
    parts = tuple(CodePart(frozenset({path}), 0) for path in sorted(KernelVariant))
    return Calibration(asdict(IDENTITY), 100, 0, latency, MemoryModel(12_000, parts, 2000, 1024, 600))


def stub_dataset() -> Dataset:
    """Digits in shape and name only."""
    rng = np.random.default_rng(0)

    def part(count: int) -> Examples:
        return Examples(rng.integers(0, 17, (count, *INPUT_SHAPE), np.uint8), rng.integers(0, NUM_CLASSES, count))

    return Dataset("digits", INPUT_SHAPE, NUM_CLASSES, part(40), part(10), part(20), (1 / 16,), (0.0,), "0" * 64)


@dataclass
class StubHarness:
    """Measures what `predict` says of a plan, with errors on demand; counts its measurements."""

    predict: Callable[[Plan], tuple[float, int, int]]  # latency, RAM, flash
    identity: Identity = field(default_factory=lambda: IDENTITY)
    mismatched: int = 0
    fails: Exception | None = None
    measured: list[str] = field(default_factory=list)

    def deploy(self, data: bytes, name: str) -> Plan:
        return make_plan(parse_model(data, name), keep_constant_channels=True)  # as the search's own harness

    def measure(self, data: bytes, name: str, deployed: Deployment | None = None) -> Measured:
        self.measured.append(name)
        if self.fails is not None:
            raise self.fails
        plan = deployed or self.deploy(data, name)
        assert isinstance(plan, Plan)
        latency, ram, flash = self.predict(plan)
        weights = plan.weights_bytes + plan.table_bytes
        memory = Memory(
            arena_planned=plan.arena_bytes, arena_used=plan.arena_bytes, stack_used=500, stack_reserved=1024,
            static_ram=ram - plan.arena_bytes - 1024, ram_total=ram, flash_weights=weights, flash_code=flash - weights,
            flash_total=flash,
        )  # fmt: skip
        share = latency / len(plan.steps)
        layers = tuple(LayerTime(step.index, step.kind.value, step.name, share) for step in plan.steps)
        measurement = Measurement(
            model=name,
            sha256=hashlib.sha256(data).hexdigest(),
            identity=self.identity,
            latency=Times("instructions", (round(latency),) * 8),
            layers=layers,
            memory=memory,
            outputs=Outputs(8, self.mismatched),
            build=Build("0" * 32, "0" * 64, "gcc", "-O2", "kernels"),
        )
        return Measured(measurement, plan, (), {"hil_conv2d": 400})

    def generate(self, data: bytes, name: str, folder: Path, deployed: Deployment | None = None) -> Project:
        (folder / "model.c").write_text(f"// {name}\n")
        return _NO_PROJECT


_NO_PROJECT: Any = None


def main() -> None:
    """`munas-hil` with the stub for the training; trainings leave files in the folder ``journal``, if there is one."""
    journal = Path("journal").resolve()
    prepare.training_setup = functools.partial(  # type: ignore[assignment]
        stub_training, journal=journal if journal.is_dir() else None
    )
    prepare.require_training = lambda: None
    cli.main()
