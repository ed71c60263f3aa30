"""From stored measurements to a calibration and its result: fits, validation, errors, the example arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from hil.calibration.fit import FOLDS, Held, LatencyFit, fit_latency, folds_of, named_coefficients
from hil.calibration.fit_memory import Image, fit_memory
from hil.calibration.forecast import CODE_ALIGNMENT, Forecast, forecast
from hil.calibration.record import MeasuredNetwork, Record
from hil.calibration.result import (
    CodeSize,
    CycleClass,
    CycleShares,
    Fit,
    LayerCycles,
    MemoryErrors,
    SampleResult,
)
from hil.calibration.sample import describe
from hil.measure.measurement import Identity
from hil.timers import MODELLED
from munas.cost.calibration import Calibration, KernelCode, MemoryModel
from munas.cost.kernels import KernelVariant

WORST = 20
_EXAMPLE_STEPS = range(6, 17)  # enough to show something, few enough to read


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that follows from the measurements alone."""

    calibration: Calibration
    latency: LatencyFit
    samples: tuple[SampleResult, ...]
    memory: MemoryErrors


def analyse(
    records: Sequence[Record],
    identity: Identity,
    seed: int,
    code: KernelCode | None = None,
    probes: Sequence[MeasuredNetwork] = (),
) -> Analysis:
    """Fit and validate on `records`, and fit on `probes` too.

    Raises UsageError for too few records, CalibrationMismatch for one of another identity.
    """
    for network in (*(record.network for record in records), *probes):
        identity.require_same(network.measurement.identity, f"{network.measurement.model} in the store")
    unit = records[0].measurement.latency.unit if records else ""
    observations = [record.observation for record in records]
    probed = [network.observation(index) for index, network in enumerate(probes)]
    latency = fit_latency(observations, unit, seed, probes=probed)
    forecasts = [forecast(record.sample, identity.runtime, identity.optimise) for record in records]
    images = [record.image(predicted) for record, predicted in zip(records, forecasts, strict=True)]
    images += [network.image(network.weights + network.tables) for network in probes]
    alignment = CODE_ALIGNMENT[identity.runtime]
    memory = fit_memory(images, code, alignment)
    held_out = _held_out_models(images, seed, memory, code)
    samples = tuple(
        _sample_result(record, predicted, held, model)
        for record, predicted, held, model in zip(records, forecasts, latency.held, held_out, strict=False)
    )
    calibration = Calibration(asdict(identity), len(records), seed, latency.latency, memory)
    return Analysis(calibration, latency, samples, _memory_errors(samples))


def _held_out_models(
    images: Sequence[Image], seed: int, everything: MemoryModel, code: KernelCode | None
) -> list[MemoryModel]:
    """For each image a memory model that did not see it; the final one where it is the only user of a kernel."""
    fold_of = folds_of(len(images), seed)
    models = [
        fit_memory(
            [image for image, its in zip(images, fold_of, strict=True) if its != fold], code, everything.code_alignment
        )
        for fold in range(FOLDS)
    ]
    return [
        everything if _is_new_to(models[fold], image) else models[fold]
        for image, fold in zip(images, fold_of, strict=True)
    ]


def _is_new_to(model: MemoryModel, image: Image) -> bool:
    """Whether the linker, not a fit, has to say how large the image's code is: a kernel, or a set of an interpreter's
    operators, that the model has not seen."""
    return bool(model.unknown(image.paths)) or (bool(model.sets) and model.linked(image.paths) is None)


def _sample_result(record: Record, predicted: Forecast, held: Held, model: MemoryModel) -> SampleResult:
    sample, measurement = record.sample, record.measurement
    memory, paths = measurement.memory, frozenset(work.variant for work in predicted.works)
    repeated = measurement.repeatability
    return SampleResult(
        index=sample.index,
        model=sample.name,
        summary=describe(sample),
        sha256=measurement.sha256,
        input_shape=sample.task.input_shape,
        num_classes=sample.task.num_classes,
        macs=sum(work.macs for work in record.works),
        layers=len(record.works),
        fold=held.fold,
        measured=measurement.latency.median,
        predicted_mac=held.mac_only,
        predicted_op=held.per_operator,
        low=held.low,
        high=held.high,
        **asdict(memory),
        predicted_arena=predicted.arena,
        predicted_flash=model.code(paths) + predicted.constants,
        predicted_ram=model.ram(predicted.arena, paths),
        unsteady=0 if repeated is None or repeated.is_steady else repeated.spread,
    )


def _memory_errors(samples: Sequence[SampleResult]) -> MemoryErrors:
    arena = [item.predicted_arena - item.arena_planned for item in samples]
    ram = [item.predicted_ram - item.ram_total for item in samples]
    flash = [item.predicted_flash - item.flash_total for item in samples]
    return MemoryErrors(
        arena_max_error=max(map(abs, arena), default=0),
        ram_max_error=max(map(abs, ram), default=0),
        flash_max_error=max(map(abs, flash), default=0),
        arena_under=sum(error < 0 for error in arena),
        ram_under=sum(error < 0 for error in ram),
        flash_under=sum(error < 0 for error in flash),
    )


def fits_of(analysis: Analysis) -> tuple[Fit, Fit]:
    """(MACs only, per operator) for the result."""
    fit = analysis.latency
    mac_only = {"macs": fit.latency.mac_slope, "intercept": fit.latency.mac_intercept}
    return Fit(fit.mac_only, fit.folds, mac_only), Fit(fit.per_operator, fit.folds, named_coefficients(fit.latency))


def code_sizes(memory: MemoryModel) -> tuple[CodeSize, ...]:
    """Parts of the code as the memory model has them, largest first."""
    parts = [CodeSize(_part_name(part.paths), part.bytes) for part in memory.parts if part.bytes]
    return (CodeSize("base", memory.flash_base), *sorted(parts, key=lambda part: (-part.bytes, part.part)))


def _part_name(paths: frozenset[KernelVariant]) -> str:
    if len(paths) == 1:
        return next(iter(paths)).value
    kinds = dict.fromkeys(path.value.partition("-")[0] for path in sorted(paths))
    return f"shared: {', '.join(kinds)}"


def worst_misses(samples: Sequence[SampleResult]) -> tuple[int, ...]:
    """Sample numbers with the largest relative errors of the per-operator fit, worst first."""
    ranked = sorted(samples, key=lambda item: (-abs(item.error_op), item.index))
    return tuple(item.index for item in ranked[:WORST])


def mean_stages(records: Sequence[Record]) -> dict[str, float]:
    """Mean host seconds of a model in each stage, in the order in which the first record has them."""
    stages = dict.fromkeys(stage for record in records for stage in record.measurement.seconds)
    return {stage: fmean(record.measurement.seconds.get(stage, 0.0) for record in records) for stage in stages}


def example(records: Sequence[Record]) -> Record | None:
    """The record whose arena is worth a picture: branches, not too many steps, a full arena."""

    def interest(record: Record) -> tuple[bool, int, int]:
        additions = sum(work.variant in (KernelVariant.ADD, KernelVariant.ADD_PADDED) for work in record.works)
        readable = len(record.works) in _EXAMPLE_STEPS
        return readable, min(additions, 3), record.measurement.memory.arena_planned

    return max(records, key=interest, default=None)


def cycle_shares(records: Sequence[Record]) -> CycleShares | None:
    """Where modelled cycles go, by class and by layer of the `example`; None where another timer gave the times."""
    timed = [
        (record, record.measurement.modelled) for record in records if record.measurement.identity.timer == MODELLED
    ]
    modelled = {record.sample.index: found for record, found in timed if found is not None}
    shown = example([record for record, found in timed if found is not None])
    if shown is None:
        return None
    parts = [{name: part / found.median for name, part in found.shares.items()} for found in modelled.values()]
    classes = []
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part.get(name, 0.0) for part in parts]
        classes.append(CycleClass(name, fmean(values), min(values), max(values)))
    whole = modelled[shown.sample.index]
    layers = tuple(
        LayerCycles(index, work.variant.value, cycles / whole.median)
        for index, (work, cycles) in enumerate(zip(shown.works, whole.layers, strict=True))
    )
    return CycleShares(len(parts), tuple(classes), shown.sample.name, describe(shown.sample), layers)
