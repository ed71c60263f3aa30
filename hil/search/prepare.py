"""From options to a search that can be run. Everything is checked here, before TensorFlow is loaded."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hil.boards.board import Board
from hil.boards.sizes import KIB, typed_size_bytes
from hil.cache import cache_dir
from hil.calibration.calibrate import calibration_for
from hil.calibration.forecast import CODE, kept_free
from hil.errors import ToolMissing, UsageError
from hil.jobs.places import backend_of, usual_workers
from hil.measure.measurement import Identity
from hil.runtimes.registry import DEFAULT_RUNTIME
from hil.search.bounds import BoundOptions, Limits, limits_of
from hil.search.errors import mapped
from hil.search.interpreted import InterpretedAssessor, LinkedSets
from hil.search.options import SearchOptions
from hil.search.recalibrate import NOTHING, Base, records_beside
from hil.search.request import STORE_FILE, UNLIMITED, ExportOptions, Request
from hil.search.scale import DEFAULT_TRIALS, Drawn, Scale, announcement, drawn, least_effort, most_macs, scale_of
from hil.search.training import TrainingRequest, training_setup, work_of
from hil.terminal import printable
from hil.timers import TIMERS
from munas.arch.graph import Mode
from munas.cost.calibration import Calibration, CodePart, KernelCode, MemoryModel
from munas.cost.kernels import KernelVariant
from munas.cost.optimise import Optimise
from munas.cost.resources import Assessor
from munas.cost.variants import SPECS
from munas.data import DATASETS, Dataset, is_own, load_dataset, own_name
from munas.data.loader import Loader
from munas.data.own import left_out
from munas.data.own_checks import counted, some
from munas.search.metrics import Metric
from munas.search.objective import Bounds, unreachable
from munas.search.store import SearchStore
from munas.search.study import SearchSettings
from munas.search.training_jobs import training_needs
from munas.training.train import KerasTraining

INSTALL_SEARCH = "make install-search (or: pip install 'munas-hil[search]')"
POOL = 30  # proposals that the surrogate chooses from; with the morphs after it that takes some tenths of a second
EXPORT_SHARE = 0.35  # of all minutes, kept for re-training, measuring and testing the front
_OPEN = ("effort", "population", "sample")  # options that the time decides where they were left open
_IMPORT_S = 300.0  # that TensorFlow may take to be imported
_MANY_MACS = 5_000_000  # few networks within 64 KB have more, so that a bound above says nothing
_FEW = 100  # examples: a network's error on so few is uncertain by several points
_MEMORY_SHARE = 0.8  # of the machine's, over all workers
_NODE_MEMORY_BYTES = 2 * KIB**3  # of a training on a cluster, whose nodes may be smaller than this machine
_ALIASES = {"ageing": "evolution"}
_SPACE_VARIANTS = tuple(variant for variant, spec in SPECS.items() if spec.in_space)


def check(options: SearchOptions) -> None:
    """Raise UsageError for what is wrong by itself, before a tool or a file is looked for."""
    if options.dataset not in DATASETS:
        if not is_own(options.dataset):
            known = ", ".join(DATASETS)
            raise UsageError(
                f"--dataset {options.dataset} does not exist (known: {known}; or an .npz file, or a folder of class"
                " folders)"
            )
        if options.recipe == "paper":
            raise UsageError(f"--recipe paper: the authors have none for {options.dataset}; leave it out")
        if options.source is not None:
            raise UsageError(
                f"--source {options.source}: --dataset {options.dataset} is its own source; name one of them"
            )
    _memory_limit_bytes(options)
    _check_teacher(options.teacher)
    _check_folder(options.output)


def bound_options(options: SearchOptions) -> BoundOptions:
    """The bounds among the options."""
    return BoundOptions(
        preset=options.preset, error=options.max_error, ram=options.max_ram, flash=options.max_flash,
        latency=options.max_latency, macs=options.max_macs, weights=options.max_weights,
        peak_memory=options.max_peak_memory, model_size=options.max_model_size,
    )  # fmt: skip


def _strategy(options: SearchOptions) -> str:
    return _ALIASES.get(options.strategy, options.strategy)


def _workers(options: SearchOptions) -> int:
    if options.workers is not None:
        return options.workers
    if options.cluster is None:
        return usual_workers(None)
    return usual_workers(options.cluster, training_needs(_memory_limit_bytes(options), gpu=options.gpu))


def _memory_limit_bytes(options: SearchOptions) -> int:
    """Of one worker; by default its share of the machine's memory, as far as that is where it works."""
    text = options.memory_limit
    if text is None and options.cluster is not None:
        return _NODE_MEMORY_BYTES
    if text is None:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return max(1 << 30, int(machine * _MEMORY_SHARE) // _workers(options))
    if text[-1:] in "gG" and text[:-1].isdecimal() and len(text) < 10:
        size_bytes = int(text[:-1]) * KIB**3
    else:
        size_bytes = typed_size_bytes("--memory-limit", text)
    if size_bytes < 256 * KIB * KIB:
        raise UsageError(f"--memory-limit {text} is less than the 256M that training takes at the very least")
    return size_bytes


def _check_teacher(path: Path | None) -> None:
    if path is None:
        return
    if not os.path.isfile(path):
        raise UsageError(f"--teacher {path} is not a file")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise UsageError(f"--teacher {path} is not a .keras file, which Keras 3's model.save writes")


def _check_folder(path: Path | None) -> None:
    if path is None:
        return
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:  # a name that is too long, for one
        raise UsageError(f"--output {path}: {error.strerror}; name another folder") from error
    if is_other:
        raise UsageError(f"--output {path} is not a folder; name another one")


def require_training() -> None:
    """Raise ToolMissing when the [search] extra is not installed. Imports nothing."""
    for module, name in (("tensorflow", "TensorFlow"), ("keras", "Keras")):
        if importlib.util.find_spec(module) is None:
            raise ToolMissing(f"{name}, which trains the networks,", INSTALL_SEARCH)


def _require_gpu() -> None:
    """Raise UsageError where TensorFlow sees no GPU. It is asked in a process of its own, since it is slow to import
    and its driver must not be started in one that forks."""
    script = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    try:
        found = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=_IMPORT_S, check=False
        ).stdout.split()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--gpu: TensorFlow could not be asked for GPUs: {error}") from error
    if not found or not found[-1].isdecimal() or found[-1] == "0":
        raise UsageError(
            "--gpu: TensorFlow sees no GPU here; leave it out, or install tensorflow[and-cuda] and a driver"
        )


def request_of(
    options: SearchOptions,
    board: Board,
    identity: Identity,
    default_calibration: Path,
    folder: Path,
    code: Callable[[], KernelCode],
    tell: Callable[[str], None],
    *,
    linked: LinkedSets | None = None,
    command: str = "",
    began: float | None = None,
) -> Request:
    """The search that `options` asks for, on the board of `identity`.

    `folder` is where it runs unless another one was named; `code` asks the linker about kernels, `linked` about
    sets of an interpreter's operators; `command` reproduces
    the run, which `began` then (monotonic). Raises UsageError, CalibrationMismatch, ToolMissing and StoreError.
    """
    check(options)
    calibration, path = _calibration(options, board, identity, default_calibration, tell)
    costs = partial(_assessor, calibration=calibration, mode=options.mode, optimise=board.optimise, linked=linked)
    limits = limits_of(bound_options(options), options.dataset, board, calibration)
    base = _base(options, calibration, path, identity)
    known = DATASETS.get(options.dataset)
    if known is not None:  # before its files are looked for
        _refuse_unreachable(options, board, limits, costs(known))
    require_training()
    if options.gpu and options.cluster is None:
        _require_gpu()
    with mapped():
        dataset = load_dataset(options.dataset, options.source, cache_dir())
        if known is None:
            for line in introduced(dataset, options.dataset):
                tell(line)
            _refuse_unreachable(options, board, limits, costs(dataset))
        assessor = costs(dataset)
        where = options.output or folder
        stored = _stored(where / STORE_FILE)
        training = KerasTraining(dataset, kind=options.recipe)
        limits = _in_time(options, limits, training, stored, tell)
        scale, first = _scale(_as_stored(options, stored), training, limits, assessor)
        wanted = TrainingRequest(
            dataset,
            cache_dir(),
            scale.effort,
            options.pruning,
            options.halving,
            options.teacher,
            _workers(options),
            options.recipe,
        )
        setup = training_setup(wanted)
    tell(announcement(scale, first, _search_s(options), _workers(options), setup.sparsity))
    return Request(
        board=board,
        calibration=calibration,
        dataset=dataset,
        limits=limits,
        assessor=assessor,
        settings=_settings(options, scale, limits, setup.rung_epochs, setup.sparsity),
        training=setup,
        export=ExportOptions(options.front, options.seeds, options.final_effort, options.recalibrate),
        folder=where,
        seconds=None if options.minutes is None else 60 * options.minutes,
        setup_s=0.0 if began is None else time.monotonic() - began,
        preset=options.preset,
        base=base,
        code=code() if options.recalibrate else None,
        command=command,
        expected_trials=scale.trials,
        backend=backend_of(options.cluster),
    )


def _calibration(
    options: SearchOptions, board: Board, identity: Identity, default: Path, tell: Callable[[str], None]
) -> tuple[Calibration | None, Path]:
    path = options.calibration or default
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait for ever
        raise UsageError(f"calibration {path} is not a file; name a calibration.toml")
    if options.calibration is not None or os.path.isfile(path):
        known = calibration_for(path, identity)
        if known.latency.unit != (unit := TIMERS[identity.timer].unit):
            raise UsageError(
                f"calibration {path}: latency.unit is {known.latency.unit!r}, and {identity.timer} counts {unit};"
                " calibrate again"
            )
        used = _SPACE_VARIANTS if identity.runtime == DEFAULT_RUNTIME else ()
        unseen = [item.value for item in used if item not in known.latency.paths]
        if unseen:
            tell(
                f"{path} was made with too few networks to have seen the kernels {', '.join(unseen)}: what is predicted"
                " of networks that use them may not hold; calibrate with more samples"
            )
        return known, path
    with_runtime = "" if identity.runtime == DEFAULT_RUNTIME else f" --runtime {identity.runtime}"
    tell(
        f"there is no calibration at {path}: memory is predicted with reserves, rather too large than too small, and"
        f" MACs take the place of latency; make one with: munas-hil calibrate --board {board.name}{with_runtime}"
    )
    return None, path


def introduced(dataset: Dataset, path: str) -> list[str]:
    """What was found in a data set of the user's own, what is made of it, and what may not be as it was meant."""
    sizes = {"train": len(dataset.train), "validation": len(dataset.validation), "test": len(dataset.test)}
    lines = [_described(dataset, sizes)]
    if beside := left_out(Path(path)):
        lines.append(f"left out: {beside}")
    height, width, channels = dataset.input_shape
    if height in (1, 3) and width == channels:
        lines.append(f"height {height}, width {width}, {channels} channels: channels come last; if not, transpose them")
    lines += [
        f"{part} has {counted(size, 'example')}: its accuracy says little"
        for part, size in sizes.items()
        if part != "train" and size < _FEW
    ]
    return [printable(f"{path}: {line}") for line in lines]


def _described(dataset: Dataset, sizes: Mapping[str, int]) -> str:
    shape, pictures = "x".join(map(str, dataset.input_shape)), dataset.train.inputs.dtype == np.uint8
    parts = (dataset.train, dataset.validation, dataset.test)
    counts = np.sum([np.bincount(part.labels, minlength=dataset.num_classes) for part in parts], axis=0)
    listed = some([f"{name} {count}" for name, count in zip(dataset.classes, counts.tolist(), strict=True)])
    what = "pictures" if pictures else "MFCC of recordings" if dataset.constants else "arrays of numbers"
    listed_sizes = ", ".join(f"{size:,} {part}" for part, size in sizes.items())
    return (
        f"{what} of {shape} in {dataset.num_classes} classes ({listed}); {listed_sizes}; parts that it has not are"
        " split off, stratified, seed 0; scaled to mean 0 and deviation 1"
    )


def _assessor(
    shaped: Dataset | Loader,
    calibration: Calibration | None,
    mode: Mode,
    optimise: Optimise,
    linked: LinkedSets | None,
) -> Assessor:
    """Proxies included: the report shows them, and presets bound them. `linked` is given for an interpreter only."""
    runtime = DEFAULT_RUNTIME if linked is None else "tflm"
    memory = calibration.memory if calibration is not None else _cautious(runtime, optimise)
    maker = Assessor if linked is None else partial(InterpretedAssessor, sets=linked)
    shape, classes = shaped.input_shape, shaped.num_classes
    return maker(memory, calibration, shape, classes, proxies=True, mode=mode, optimise=optimise)


def _cautious(runtime: str, optimise: Optimise) -> MemoryModel:
    """Memory of the runtime before there is a calibration; the code of every kernel is in the base."""
    reserve = kept_free(CODE, runtime, optimise)
    parts = tuple(CodePart(frozenset({path}), 0) for path in KernelVariant)
    return MemoryModel(reserve.flash, parts, static_ram=reserve.sram, stack_reserved=0, stack_used=0)


def _refuse_unreachable(options: SearchOptions, board: Board, limits: Limits, assessor: Assessor) -> None:
    """Raise UsageError for bounds that nothing meets, and for inputs that the board cannot hold."""
    mlp, shape = options.space == "mlp", assessor.input_shape
    what = f"{options.dataset} ({'x'.join(map(str, shape))}, {assessor.num_classes} classes) on {board.name}"
    for bounds in (limits.hard, limits.bounds):
        if reason := unreachable(bounds, assessor, mlp=mlp):
            raise UsageError(f"{what}: {reason}; raise that bound, or take another data set or board")


def _base(options: SearchOptions, calibration: Calibration | None, path: Path, identity: Identity) -> Base:
    if not options.recalibrate:
        return NOTHING
    if calibration is None:
        raise UsageError(f"--recalibrate adds to a calibration, and there is none at {path}; run calibrate first")
    return records_beside(path, identity)


def _search_s(options: SearchOptions) -> float | None:
    """The search phase's seconds; None: no limit."""
    return None if options.minutes is None else 60 * options.minutes * (1 - EXPORT_SHARE)


def _stored(path: Path) -> Mapping[str, Any]:
    """What the search in the store at `path` is; empty without one."""
    if not path.is_file():
        return {}
    with SearchStore(path) as store:
        return store.identity() or {}


def _as_stored(options: SearchOptions, stored: Mapping[str, Any]) -> SearchOptions:
    """The options, with what was left open as the stored search has it: more time does not make it another search."""
    missing = {name: stored[name] for name in _OPEN if getattr(options, name) is None and name in stored}
    return options.model_copy(update=missing)


def _in_time(
    options: SearchOptions,
    limits: Limits,
    training: KerasTraining,
    stored: Mapping[str, Any],
    tell: Callable[[str], None],
) -> Limits:
    """The limits, and a hard one on MACs where there is no time for larger networks. A stored search has its own,
    however long it goes on."""
    if not options.reject_infeasible:
        return limits
    most, seconds = math.inf, _search_s(options)
    if stored:
        hard = stored.get("hard_budget")
        found = hard.get(Metric.MACS.value) if isinstance(hard, Mapping) else None
        most = found if isinstance(found, int | float) else most  # what is damaged is found to be another search
    elif seconds is not None:
        work = work_of(training, options.effort or _least_effort(training))
        found = most_macs(work, seconds, _workers(options), _load())
        most = found if found < _MANY_MACS else most
    if limits.hard.values.get(Metric.MACS, math.inf) <= most:
        return limits
    tell(f"networks of more than {most / 1000:,.0f} K MACs are not trained: there is no time for enough of them")
    return replace(limits, hard=Bounds({**limits.hard.values, Metric.MACS: most}))


def _scale(options: SearchOptions, training: KerasTraining, limits: Limits, assessor: Assessor) -> tuple[Scale, Drawn]:
    """How large the search is, and what it begins with."""
    pruning = training.used_recipe.pruning
    sparsity = (pruning.least, pruning.most) if options.pruning else None
    hard = limits.hard if options.reject_infeasible else None
    first = drawn(assessor, hard, options.space == "mlp", sparsity, options.seed, is_ranked=options.surrogate)
    scale = scale_of(
        lambda effort: work_of(training, effort), _least_effort(training), first,
        seconds=_search_s(options), trials=options.trials, workers=_workers(options), halving=options.halving,
        load=_load(), effort=options.effort, population=options.population, sample=options.sample,
    )  # fmt: skip
    return scale, first


def _least_effort(training: KerasTraining) -> float:
    recipe = training.used_recipe
    return least_effort(recipe.epochs, len(training.dataset.train), recipe.batch)


def _load() -> float:
    """How many processes others keep running here, by the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def _settings(
    options: SearchOptions,
    scale: Scale,
    limits: Limits,
    rung_epochs: tuple[int, ...],
    sparsity: tuple[float, float] | None,
) -> SearchSettings:
    seconds = _search_s(options)
    trials = options.trials or (DEFAULT_TRIALS if seconds is None else UNLIMITED)
    settings = SearchSettings(
        dataset=options.dataset if options.dataset in DATASETS else own_name(options.dataset),
        bounds=limits.bounds,
        hard_budget=limits.hard if options.reject_infeasible else None,
        strategy=_strategy(options),
        population=scale.population,
        sample=scale.sample,
        trials=trials,
        seconds=seconds,
        effort=scale.effort,
        rung_epochs=rung_epochs,
        sparsity=sparsity,
        mlp=options.space == "mlp",
        pool=POOL if options.surrogate else 1,
        inherit=options.inherit,
        gpu=options.gpu,
        workers=_workers(options),
        time_limit_s=options.time_limit,
        memory_limit_bytes=_memory_limit_bytes(options),
        seed=options.seed,
    )
    return settings
