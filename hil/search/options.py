"""The options of `munas-hil search`. Nothing heavy is imported here: the command line is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from hil.measure.options import PlaceOptions
from hil.options import MAX_SEED, MAX_WORKERS, Quantity, option

MAX_TRIALS = 10**6
MAX_MINUTES = 60.0 * 24 * 366


class SearchOptions(PlaceOptions):
    """What is searched for, how it is trained, and where the results go."""

    dataset: str = option(..., "--dataset", "-d", help="Data set: a name, an .npz, a folder.")
    source: Path | None = option(None, help="Its folder or file; default: the usual places.")
    runtime: str = option("cmsis-nn", help="What executes the networks: cmsis-nn or tflm.")
    calibration: Path | None = option(None, help="calibration.toml; default: that of the board's run folder.")
    # One bound for each row of munas.search.metrics that names an option.
    preset: str | None = option(None, help="The paper's bounds, e.g. munas-fashion.")
    max_error: float | None = option(
        None, help="Bound on the validation error, e.g. 0.1; default: the data set's.", gt=0, lt=1
    )
    max_ram: Quantity | None = option(None, help="Bound on RAM, e.g. 32K; default: the budget.")
    max_flash: Quantity | None = option(None, help="Bound on flash, code included; default: the budget.")
    max_latency: Quantity | None = option(None, help="Bound on time: 50ms, or 5M in the calibration's unit.")
    max_macs: Quantity | None = option(None, help="Bound on multiply-accumulates, e.g. 1.5M.")
    max_weights: Quantity | None = option(None, help="Bound on weights and tables in flash, e.g. 8K.")
    max_peak_memory: Quantity | None = option(None, help="Bound on peak memory as the paper counts it, e.g. 2500.")
    max_model_size: Quantity | None = option(None, help="Bound on model size as the paper counts it, e.g. 4500.")
    strategy: Literal["ageing", "evolution", "random", "nsga2"] = option(
        "ageing", help="ageing (evolution), random, or nsga2."
    )
    space: Literal["cnn", "mlp"] = option("cnn", help="cnn or mlp.")
    mode: Literal["deployed", "paper"] = option("deployed", help="Graph of MACs, size, peak memory: deployed or paper.")
    trials: int | None = option(
        None, "--trials", "--evaluations", "-n", ge=1, le=MAX_TRIALS,
        help="Networks to try; default 2000, or as --minutes allows.",
    )  # fmt: skip
    minutes: float | None = option(
        None, help="Time for everything; the search phase gets two thirds.", gt=0, le=MAX_MINUTES
    )
    effort: float | None = option(
        None, help="Part of the recipe's training work, for a trial; default: 0.2, less in few minutes.", gt=0, le=1
    )
    recipe: Literal["fast", "paper"] = option(
        "fast", help="Training: fast (one cycle of Adam), or paper (the authors')."
    )
    pruning: bool = option(True, help="Prune channels while training.")
    halving: bool = option(True, help="Stop hopeless trials early.")
    surrogate: bool = option(True, help="Of several proposals train the most promising one, improved by morphs.")
    inherit: bool = option(False, help="Start children from their parents' weights.")
    reject_infeasible: bool = option(True, help="Do not train what cannot fit.")
    population: int | None = option(
        None, help="Of ageing evolution; default: a fifth of the trials expected, 100 at most.", ge=1, le=10**5
    )
    sample: int | None = option(
        None, help="Drawn for each choice of a parent; default: a quarter of the population.", ge=1, le=10**4
    )
    gpu: bool = option(False, help="Train on the GPUs that TensorFlow sees, or on a cluster's: one each.")
    teacher: Path | None = option(None, help="A .keras model to distil from.")
    front: int = option(5, help="Networks to export at most.", ge=1, le=100)
    seeds: int = option(3, help="Re-trainings of each of them.", ge=1, le=100)
    final_effort: float = option(1.0, help="Effort of the re-trainings.", gt=0, le=1)
    recalibrate: bool = option(False, help="Add the new measurements to the calibration, in the run folder.")
    seed: int = option(0, help="Of the search.", ge=0, le=MAX_SEED)
    workers: int | None = option(None, help="Trainings at a time; default: cores.", ge=1, le=MAX_WORKERS)
    time_limit: float | None = option(
        None, help="Seconds that a trial may take; default: by its MACs and the pace so far.", gt=0, le=60 * MAX_MINUTES
    )
    memory_limit: Quantity | None = option(
        None, help="Memory of a worker, e.g. 2G; default: its share of the machine, 2G on a cluster."
    )
    serve: int | None = option(
        None, help="Port of a page on loopback that shows the search as it runs; 0: any.", ge=0, le=65535
    )
    output: Path | None = option(None, "--output", "-o", help="Run folder; default runs/search-DATASET-BOARD-BACKEND.")

    @field_validator("mode", mode="before")
    @classmethod
    def _mode_of_older_versions(cls, value: object) -> object:
        return {"faithful": "deployed", "reference": "paper"}.get(value, value) if isinstance(value, str) else value
