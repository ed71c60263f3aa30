"""The options of `munas-hil calibrate`."""

from __future__ import annotations

from pathlib import Path

from hil.measure.options import PlaceOptions
from hil.options import MAX_SEED, MAX_WORKERS, option

DEFAULT_SAMPLES = 200
FRESH_HELP = "Compile every network, not only those that others are checked against, and load QEMU anew for each."
MAX_SAMPLES = 100_000  # a day and a half of measuring at one a second and a half; each keeps some KB in the store


class CalibrateOptions(PlaceOptions):
    """What is sampled and measured, and where the results go."""

    samples: int = option(DEFAULT_SAMPLES, "--samples", "-n", help="Networks to measure.", ge=1, le=MAX_SAMPLES)
    seed: int = option(1, help="Seed of the sampled networks.", ge=0, le=MAX_SEED)
    population: str = option("budget", help="Networks drawn: budget (fill the board's) or paper (as the µNAS authors).")
    runtime: str = option("cmsis-nn", help="What executes the network: cmsis-nn or tflm.")
    workers: int | None = option(None, help="Worker processes; default: cores.", ge=1, le=MAX_WORKERS)
    output: Path | None = option(None, "--output", "-o", help="Run folder; default runs/BOARD-RUNTIME-BACKEND.")
    check: Path | None = option(None, help="An earlier calibrate --json: exit 1 if this is worse.")
    fresh: bool = option(False, help=FRESH_HELP)
    junit: Path | None = option(None, help="Write the checks as JUnit XML to this file.")
