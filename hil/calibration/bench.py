"""How fast the loop itself is: models a minute, and host seconds per stage."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from hil.boards.board import Board
from hil.calibration.calibrate import Request, SampleJobFactory
from hil.calibration.record import from_result
from hil.errors import InfrastructureError
from hil.jobs.campaign import Progress, run_campaign
from hil.jobs.store import Store
from hil.measure.harness import Harness, Options
from hil.measure.workers import HarnessFactory
from munas.scratch import scratch_folder

STAGES = ("draw", "write", "plan", "generate", "compile", "link", "boot", "run", "verify")


@dataclass(frozen=True, slots=True)
class Stage:
    """Host seconds of one stage over all models."""

    name: str
    mean: float
    median: float
    max: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """`models_per_minute` is wall time, all workers together, kernels cached."""

    board: str
    via: str
    samples: int
    failed: int
    workers: int
    wall_seconds: float
    models_per_minute: float
    stages: tuple[Stage, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``bench --json``."""
        return asdict(self)


def run_bench(
    board: Board, options: Options, samples: int, seed: int, workers: int, progress: Progress | None = None
) -> BenchResult:
    """Measure `samples` networks into a store that is thrown away. Raises what `run_campaign` raises."""
    harness = Harness(board, options)  # compiles kernels and runtime when they are not cached: not part of the figure
    with scratch_folder("bench") as folder:
        request = Request(board, harness.identity, HarnessFactory(board, options), folder, samples, seed, workers)
        factory = SampleJobFactory(request.measurer, seed, request.limits, request.identity)
        with Store(folder / "store.sqlite") as store:
            run_id = store.run_id(request.run)
            summary = run_campaign(
                store, run_id, range(samples), factory, progress=progress, execution=request.execution
            )
            records = [from_result(result) for result in store.results(run_id) if result.status == "ok"]
    if not records:
        raise InfrastructureError("not one network could be measured; see the failures above")
    seconds = [record.measurement.seconds for record in records]
    names = [name for name in STAGES if any(name in item for item in seconds)]
    stages = tuple(_stage(name, [item.get(name, 0.0) for item in seconds]) for name in names)
    return BenchResult(
        board.name, options.via, len(records), summary.failed, workers, summary.seconds, summary.per_minute, stages
    )  # fmt: skip


def _stage(name: str, seconds: list[float]) -> Stage:
    return Stage(name, statistics.fmean(seconds), statistics.median(seconds), max(seconds))
