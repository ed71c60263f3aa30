"""Calibration: sample the search space, measure, fit, validate, and write it all down.

A run folder holds ``store.sqlite`` (every measurement), ``calibration.toml`` (what `estimate` and the search use),
``result.json`` (what `report` renders) and ``report.html``. The same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hil.boards.board import Board
from hil.calibration.analyse import (
    Analysis,
    analyse,
    code_sizes,
    cycle_shares,
    example,
    fits_of,
    mean_stages,
    worst_misses,
)
from hil.calibration.devices import DeviceReport, device_reports
from hil.calibration.fit import MIN_OBSERVATIONS, path_errors
from hil.calibration.forecast import CODE, RESERVES, fitting, kept_free, tflite_of
from hil.calibration.population import DEFAULT_POPULATION, POPULATIONS
from hil.calibration.probe import Room
from hil.calibration.probes import PROBES, PROBES_VERSION, probe_tflite
from hil.calibration.record import MeasuredNetwork, Record, from_result, network_of, outputs_of, to_result
from hil.calibration.result import CalibrationResult, Failure
from hil.calibration.sample import Limits, describe
from hil.codegen.plan import make_plan
from hil.errors import BudgetError, CheckFailed, InfrastructureError, StoreError, TargetFaultError, UsageError
from hil.files import write_text
from hil.jobs.campaign import Execution, Progress, Summary, UsesDevices, run_campaign
from hil.jobs.store import Result, Run, Store
from hil.measure.arena import ArenaMap, arena_map
from hil.measure.measurement import Identity, Measurement, Outputs
from hil.model.load import parse_model
from hil.runtimes.base import Deployment
from hil.runtimes.registry import DEFAULT_RUNTIME
from hil.targets.clock import ClockReading
from munas.cost.calibration import Calibration, KernelCode
from munas.cost.calibration_file import CalibrationError, load_calibration, write_calibration
from munas.cost.optimise import Optimise
from munas.jobs.base import ONE_CORE, JobBackend, Needs
from munas.jobs.local import LOCAL

SAMPLER_VERSION = 3  # raise it when `draw_sample` draws other networks, or other weights: old results are another run
PRELOAD = ("hil.calibration.calibrate", "hil.measure.workers")
"""What workers of a calibration import."""

FIRST_PROBE = 1_000_000  # number of the first probe in the store: samples have those below
FIRST_AGAIN = 2_000_000  # ... and of the first time that the first sample was measured again
AGAIN_EVERY = 20  # networks on a board


class Measured(Protocol):
    """What a measurement gives back (`hil.measure.harness.Measured`)."""

    @property
    def measurement(self) -> Measurement:
        """What was measured."""
        ...

    @property
    def plan(self) -> Deployment:
        """How the network lies in memory."""
        ...

    @property
    def functions(self) -> Mapping[str, int]:
        """Bytes of code of each function that the image links."""
        ...


Measurer = Callable[[bytes, str], Measured]
"""Measures one .tflite, given as its bytes and a name."""

MeasurerFactory = Callable[[], Measurer]
"""Makes the measurer in a worker process; must pickle."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to calibrate: `identity` is that of the board and build that `measurer` measures with.

    `code` is what the linker keeps for each kernel path, where it is known; `population` names what is drawn. `probes`
    are measured beside the samples. `clocks` reads the clocks of connected boards again when all is measured.
    """

    board: Board
    identity: Identity
    measurer: MeasurerFactory
    folder: Path
    samples: int = 200
    seed: int = 0
    workers: int = 2
    code: KernelCode | None = None
    population: str = DEFAULT_POPULATION
    probes: int = PROBES
    clocks: Callable[[], tuple[ClockReading, ...]] = tuple
    backend: JobBackend = LOCAL
    needs: Needs = ONE_CORE

    @property
    def execution(self) -> Execution:
        """Who measures."""
        return Execution(self.workers, self.backend, PRELOAD, needs=self.needs)

    @property
    def limits(self) -> Limits:
        """What a sampled network may need."""
        budget, reserve = self.board.budget, kept_free(RESERVES, self.identity.runtime, self.identity.optimise)
        if self.identity.runtime == "tflm" and min(budget.flash - reserve.flash, budget.sram - reserve.sram) < 8192:
            raise UsageError(
                f"TFLM alone takes up to {CODE['tflm'].flash // 1024} KB of flash and {CODE['tflm'].sram // 1024} KB "
                f"of RAM, and the budget is {budget.flash} and {budget.sram} bytes: give --flash 256K --sram 128K"
            )
        return Limits(budget.flash - reserve.flash, budget.sram - reserve.sram)

    @property
    def run(self) -> Run:
        """The key of its results. Not the number of samples: a larger calibration goes on with a smaller one."""
        budget = self.board.budget.model_dump()
        versions = {"sampler": SAMPLER_VERSION, "probes": PROBES_VERSION}
        parameters = {**versions, "limits": asdict(self.limits), "budget": budget}
        if self.population != DEFAULT_POPULATION:
            parameters["population"] = self.population
        return Run("calibrate", asdict(self.identity), self.seed, parameters)

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of all networks in their order. On boards the first one comes again and again: it shows a drift."""
        networks = [*range(self.samples), *range(FIRST_PROBE, FIRST_PROBE + self.probes)]
        if self.identity.simulated:
            return tuple(networks)
        found = list[int]()
        for number, index in enumerate(networks):
            if number % AGAIN_EVERY == 0:
                found.append(FIRST_AGAIN + number // AGAIN_EVERY)
            found.append(index)
        return (*found, FIRST_AGAIN + -(-len(networks) // AGAIN_EVERY))


@dataclass(frozen=True, slots=True)
class SampleJobFactory:
    """Makes, inside a worker, the job that draws, writes and measures one sample.

    With an `identity`, a measurement of another one is an InfrastructureError: a worker that started after sources or
    toolchain were changed must not add to the run.
    """

    measurer: MeasurerFactory
    seed: int
    limits: Limits
    identity: Identity | None = None
    population: str = DEFAULT_POPULATION

    def __call__(self) -> Callable[[int], Result]:
        measure = self.measurer()

        def job(index: int) -> Result:
            started = time.perf_counter()
            network, name, write = self._drawn(index)
            drawn = time.perf_counter()
            try:
                data = write()
                seconds = {"draw": drawn - started, "write": time.perf_counter() - drawn}
                measured = measure(data, name)
            except BudgetError as error:
                if index >= FIRST_PROBE:  # the budget is small: its own networks do not have such layers either
                    return Result(index, "ok", network, error=str(error))
                return Result(index, "failed", network, error=str(error))
            except (UsageError, CheckFailed, TargetFaultError) as error:
                return Result(index, "failed", network, error=str(error))
            if self.identity is not None and measured.measurement.identity != self.identity:
                raise InfrastructureError("sources or toolchain changed while calibrating; run the same command again")
            measurement = replace(measured.measurement, seconds=seconds | measured.measurement.seconds)
            return to_result(index, network, measurement, measured.plan, measured.functions)

        return job

    @property
    def runtime(self) -> str:
        """What the networks are drawn for."""
        return DEFAULT_RUNTIME if self.identity is None else self.identity.runtime

    def _drawn(self, index: int) -> tuple[Mapping[str, Any], str, Callable[[], bytes]]:
        """What the store keeps of network `index`, its name, and what writes its .tflite."""
        if index >= FIRST_AGAIN:
            sample = POPULATIONS[self.population].draw(self.seed, 0, self.limits)
            return {"again": index - FIRST_AGAIN}, sample.name, lambda: tflite_of(sample)
        if index < FIRST_PROBE:
            sample = fitting(POPULATIONS[self.population].draw, self.seed, index, self.limits, self.runtime)
            return sample.to_json(), sample.name, lambda: tflite_of(sample)
        room, number = Room.within(self.limits.constants_bytes, self.limits.arena_bytes), index - FIRST_PROBE
        return {"probe": number}, f"probe-{number:03d}", lambda: probe_tflite(self.seed, number, room, self.runtime)

    def without(self, device: str) -> SampleJobFactory | None:
        """See `hil.jobs.campaign.UsesDevices`."""
        measurer = self.measurer.without(device) if isinstance(self.measurer, UsesDevices) else None
        return None if measurer is None else replace(self, measurer=measurer)


def calibrate(request: Request, progress: Progress | None = None) -> CalibrationResult:
    """Measure, fit, validate and write the run folder.

    Raises UsageError for too few samples or too small a budget, StoreError, what `run_campaign` raises,
    and InfrastructureError when the folder cannot be written. Nothing measured is lost by any of them.
    """
    if request.samples < MIN_OBSERVATIONS:
        raise UsageError(f"--samples {request.samples} is too few to fit on; use {MIN_OBSERVATIONS} or more")
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"--output {request.folder} is not a folder; name another one") from error
    except OSError as error:
        raise InfrastructureError(f"run folder {request.folder}: {error.strerror}; name another folder") from error
    factory = SampleJobFactory(request.measurer, request.seed, request.limits, request.identity, request.population)
    with Store(request.folder / "store.sqlite") as store:
        run_id = store.run_id(request.run)
        summary = run_campaign(store, run_id, request.indices, factory, progress=progress, execution=request.execution)
    clocks = request.clocks() if summary.ok + summary.failed else ()
    # What was stored is asked for anew: a store that somebody removed or replaced meanwhile does not have it.
    wanted = set(request.indices)
    with Store(request.folder / "store.sqlite") as store:
        results = [item for item in store.results(store.run_id(request.run)) if item.sample in wanted]
    if len(results) < len(wanted):
        raise StoreError(
            f"{request.folder / 'store.sqlite'} has {len(results)} of the {len(wanted)} networks: it was changed "
            "during the run; run the same command again"
        )
    result = _conclude(request, summary, results, clocks)
    write_text(request.folder / "result.json", json.dumps(result.to_json(), allow_nan=False) + "\n")
    return result


def _conclude(
    request: Request, summary: Summary, results: Sequence[Result], clocks: Sequence[ClockReading]
) -> CalibrationResult:
    records, probes = stored_networks(results)
    failures = tuple(
        Failure(result.sample, _description(request, result.sample), result.error)
        for result in results
        if result.status == "failed"
    )
    if len(records) < MIN_OBSERVATIONS:
        cause = f"; the first failure is: {failures[0].error}" if failures else ""
        raise InfrastructureError(f"only {len(records)} of {request.samples} networks could be measured{cause}")
    analysis = analyse(records, request.identity, request.seed, request.code, probes)
    result = _result(request, summary, records, failures, analysis, outputs_of(results))
    if not request.identity.simulated:
        result = replace(result, devices=_on_boards(results, clocks))
    write_text(request.folder / "calibration.toml", write_calibration(analysis.calibration))
    return result


def stored_networks(results: Iterable[Result]) -> tuple[list[Record], list[MeasuredNetwork]]:
    """Samples and probes among results of a calibration. Raises StoreError for what is neither."""
    done = [result for result in results if result.status == "ok"]
    records = [from_result(result) for result in done if result.sample < FIRST_PROBE]
    return records, [network_of(result) for result in done if _is_probe(result.sample) and result.record]


def _is_probe(index: int) -> bool:
    return FIRST_PROBE <= index < FIRST_AGAIN


def _on_boards(results: Iterable[Result], clocks: Sequence[ClockReading]) -> tuple[DeviceReport, ...]:
    """What the connected boards were like; `clocks` were read in the end."""
    done = [result for result in results if result.status == "ok" and result.record]
    found = [(result.sample, network_of(result).measurement) for result in done]
    first = [measurement for index, measurement in found if index >= FIRST_AGAIN]
    return device_reports([measurement for _, measurement in found], first, clocks)


def _description(request: Request, index: int) -> str:
    if index >= FIRST_AGAIN:
        return "the first network again"
    if index >= FIRST_PROBE:
        return f"probe {index - FIRST_PROBE}"
    draw = POPULATIONS[request.population].draw
    return describe(fitting(draw, request.seed, index, request.limits, request.identity.runtime))


def _result(
    request: Request,
    summary: Summary,
    records: Sequence[Record],
    failures: tuple[Failure, ...],
    analysis: Analysis,
    outputs: Outputs,
) -> CalibrationResult:
    latency, memory = analysis.latency, analysis.calibration.memory
    mac_only, per_operator = fits_of(analysis)
    tight = [record.measurement.memory.arena_planned == record.network.lower_bound for record in records]
    return CalibrationResult(
        identity=request.identity,
        unit=latency.latency.unit,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=request.seed,
        budget_flash=request.board.budget.flash,
        budget_sram=request.board.budget.sram,
        samples=analysis.samples,
        failed=failures,
        mac_only=mac_only,
        per_operator=per_operator,
        interval_coverage=latency.coverage,
        paths=path_errors([record.observation for record in records], latency.held),
        memory=analysis.memory,
        code_sizes=code_sizes(memory),
        worst=worst_misses(analysis.samples),
        outputs_checked=outputs.checked,
        outputs_mismatched=outputs.mismatched,
        models_per_minute=_rate(request, summary, records),
        wall_seconds=summary.seconds,
        workers=request.workers,
        stage_seconds=mean_stages(records),
        arena_tight=sum(tight) / len(tight),
        arena_map=_example_arena(records),
        cycles=cycle_shares(records),
        population=request.population,
        calibration_path=str(request.folder / "calibration.toml"),
        report_path=str(request.folder / "report.html"),
    )


def _example_arena(records: Sequence[Record]) -> ArenaMap | None:
    record = example(records)
    if record is None or record.measurement.identity.runtime != "cmsis-nn":
        return None  # TFLM plans its arena on the device
    model = parse_model(tflite_of(record.sample), record.sample.name)
    optimise = Optimise(record.measurement.identity.optimise)
    plan = make_plan(model, keep_constant_channels=True, optimise=optimise)  # as it was measured
    return arena_map(plan, record.sample.name, describe(record.sample))


def _rate(request: Request, summary: Summary, records: Sequence[Record]) -> float:
    """Models a minute of this run; when everything was there already, what the stored stage times amount to."""
    if summary.ok + summary.failed:
        return summary.per_minute
    seconds = sum(sum(record.measurement.seconds.values()) for record in records)
    return 60.0 * request.workers * len(records) / seconds if seconds > 0 else 0.0


def calibration_for(path: Path, identity: Identity) -> Calibration:
    """The calibration at `path`, for `identity`. Raises UsageError, and CalibrationMismatch naming the differences."""
    try:
        calibration = load_calibration(path)
        theirs = Identity(**calibration.identity)  # type: ignore[arg-type]
    except CalibrationError as error:
        raise UsageError(f"{error}; calibrate again if another version wrote it") from error
    except TypeError as error:
        raise UsageError(f"{path}: its identity has other fields than this version's; calibrate again") from error
    identity.require_same(theirs, f"calibration {path}")
    return calibration


def relocated(result: CalibrationResult, folder: Path) -> CalibrationResult:
    """The result with the paths of the folder that it lies in now (a run folder may have been moved)."""
    return replace(result, calibration_path=str(folder / "calibration.toml"), report_path=str(folder / "report.html"))
