"""Calibrations of a board, and what they predict."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hil.api.harness import Harness, Model, board_of, content_of, modelled_as, via_of
from hil.boards.board import Board
from hil.boards.linked import link_of
from hil.bring_up.clock import clocks_of
from hil.calibration.calibrate import Request, calibration_for
from hil.calibration.calibrate import calibrate as run_calibration
from hil.calibration.estimates import ModelEstimate, estimate_model
from hil.calibration.options import DEFAULT_SAMPLES
from hil.calibration.population import DEFAULT_POPULATION
from hil.calibration.probes import PROBES_OF
from hil.calibration.result import CalibrationResult, read_result
from hil.errors import UsageError
from hil.jobs.campaign import Progress, Silent
from hil.measure.harness import Harness as MeasuringHarness
from hil.measure.harness import Options
from hil.measure.workers import NodeHarnessFactory, workers_of
from hil.report.run import write_calibration_report
from hil.runtimes.registry import DEFAULT_RUNTIME
from munas.cost.calibration import Calibration
from munas.cost.optimise import Optimise

CALIBRATION_FILE = "calibration.toml"


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """A calibration of `board` and what was found on the way; `options` are those it was measured with."""

    board: Board
    options: Options
    calibration: Calibration
    folder: Path
    result: CalibrationResult | None = None


def calibrate(
    board: Board | str, samples: int = DEFAULT_SAMPLES, *, seed: int = 1, via: str = "auto", device: str | None = None,
    runtime: str = DEFAULT_RUNTIME, timer: str | None = None, workers: int | None = None,
    folder: str | os.PathLike[str] | None = None, progress: Progress | None = None,
    population: str = DEFAULT_POPULATION, fresh: bool = False,
) -> CalibrationRun:  # fmt: skip
    """Measure `samples` networks of the µNAS space on `board`, fit, validate; the same call goes on where it stopped.

    `folder` (default: runs/BOARD-RUNTIME-VIA) gets calibration.toml, result.json, report.html and store.sqlite. `seed`
    draws the networks of the `population` (``budget`` or ``paper``); `workers` processes measure (default: cores, or
    connected boards). With `fresh` every network is compiled, which otherwise only those are that others are checked
    against, and QEMU is loaded for each. Other parameters: `Harness`.
    Raises UsageError for too few samples, StoreError, what `Harness` raises, and what every measurement may.
    """
    harness = Harness(board, via=via, device=device, several=True, runtime=runtime, timer=timer)
    return calibrated(
        harness, samples, seed, workers=workers, folder=folder, progress=progress, population=population, fresh=fresh
    )


def calibrated(
    harness: Harness, samples: int, seed: int, *, workers: int | None = None,
    folder: str | os.PathLike[str] | None = None, progress: Progress | None = None,
    population: str = DEFAULT_POPULATION, cluster: str | None = None, fresh: bool = False,
) -> CalibrationRun:  # fmt: skip
    """`calibrate` with a harness that is there already; `cluster` is the address of a Ray cluster that measures.

    Via hardware the boards are then those of the cluster's nodes (`munas-hil worker`).
    """
    board, options = harness.board, harness.options
    if options.via == "hardware" and cluster is None:
        options = with_clocks(board, options, progress)
    place = run_folder(board, options, population) if folder is None else Path(folder)
    how = replace(options, transcripts=place / "transcripts", keep_constant_channels=True, fresh=fresh)
    measurer, execution = workers_of(board, how, cluster, workers)
    if isinstance(measurer, NodeHarnessFactory):
        measurer = replace(measurer, clocks=clocks_of)
    request = Request(
        board=board,
        identity=harness.identity,
        measurer=measurer,
        folder=place,
        samples=samples,
        seed=seed,
        workers=execution.workers,
        code=harness.inner.kernel_code(),
        population=population,
        probes=PROBES_OF[harness.identity.runtime],
        clocks=partial(clocks_of, board, options.devices, (progress or Silent()).tell) if options.devices else tuple,
        backend=execution.backend,
        needs=execution.needs,
    )
    result = run_calibration(request, progress)
    write_calibration_report(result)
    found = calibration_for(Path(result.calibration_path), harness.identity)
    return CalibrationRun(board, options, found, request.folder, result)


def with_clocks(board: Board, options: Options, progress: Progress | None = None) -> Options:
    """`options` for the boards whose clock is right, with what was measured of it. Raises DeviceLost without one."""
    readings = clocks_of(board, options.devices, (progress or Silent()).tell)
    right = {item.device for item in readings}
    devices = tuple(item for item in options.devices if item.serial_number in right)
    return replace(options, devices=devices, clocks=readings)


def load_calibration(
    board: Board | str, path: str | os.PathLike[str] | None = None, *, via: str = "auto",
    runtime: str = DEFAULT_RUNTIME, timer: str | None = None,
) -> CalibrationRun:  # fmt: skip
    """A calibration of `board` that is there already: its run folder or calibration.toml; default: as `calibrate`.

    Raises UsageError when there is none, CalibrationMismatch (naming the differences) when it belongs to another
    board, compiler, or version of the firmware than would be used now.
    """
    chosen = board_of(board)
    place = via_of(chosen, via, timer)
    options = Options(via=place, runtime=runtime, modelled=modelled_as(chosen, place, timer))
    file = run_folder(chosen, options) if path is None else Path(path)
    file = file / CALIBRATION_FILE if file.is_dir() or path is None else file
    if not file.is_file():
        with_runtime = "" if runtime == DEFAULT_RUNTIME else f" --runtime {runtime}"
        raise UsageError(
            f"there is no calibration at {file}; make one with: munas-hil calibrate --board {chosen.name}{with_runtime}"
        )
    found = calibration_for(file, MeasuringHarness(chosen, options).identity)
    result = read_result(file.parent) if (file.parent / "result.json").is_file() else None
    return CalibrationRun(chosen, options, found, file.parent, result)


def estimate(model: Model, calibration: CalibrationRun, name: str | None = None) -> ModelEstimate:
    """Time with its interval, flash and RAM of a network; nothing is built or run.

    Raises ModelError for what cannot be imported, and for kernels that the calibration has never seen.
    """
    (found,) = estimates([model], calibration, [name])
    return found


def estimates(
    models: Iterable[Model], calibration: CalibrationRun, names: Iterable[str | None] | None = None
) -> list[ModelEstimate]:
    """`estimate` of several networks."""
    harness = MeasuringHarness(calibration.board, calibration.options)
    found = []
    for model, name in zip(models := list(models), names or [None] * len(models), strict=True):
        data, usual = content_of(model)
        found.append(estimate_model(data, name or usual, calibration.board, calibration.calibration, harness))
    return found


def run_folder(board: Board, options: Options, population: str = DEFAULT_POPULATION) -> Path:
    """Where a board's calibration is kept unless the user names another folder."""
    modelled = "-modelled" if options.modelled == "timer" else ""
    link = "-rtt" if link_of(board.target(options.via)) == "rtt" else ""
    drawn = "" if population == DEFAULT_POPULATION else f"-{population}"
    asked = "" if board.optimise is Optimise.BALANCED else f"-{board.optimise}"
    return Path("runs") / f"{board.name}-{options.runtime}-{options.via}{modelled}{link}{drawn}{asked}"
