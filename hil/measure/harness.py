"""One network, measured: import, plan, generate, compile, link, boot, verify bit for bit, read time and memory."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hil.boards.bank import banks_touched
from hil.boards.board import Board, Via
from hil.boards.placement import AS_EVER, Placement, placed
from hil.build.image import Image, build_library, compile_model, flags_text, kernel_functions, link
from hil.build.prelinked import insert, linked_set
from hil.build.sources import Project
from hil.build.toolchain import Toolchain, find_toolchain
from hil.build.written import WrittenObjects
from hil.cache import cache_dir, make_private
from hil.codegen.render import DEFAULT_PROFILE
from hil.codegen.render import Options as ProjectOptions
from hil.cycle_model.modelled import ModelledLatency, constants_id, modelled_latency
from hil.cycle_model.record import InferenceRecord
from hil.errors import (
    BudgetError,
    CoreLockedUp,
    HilError,
    InfrastructureError,
    ModelError,
    NeverBooted,
    UsageError,
)
from hil.files import read_regular
from hil.link.device import Device
from hil.link.session import KernelRefused
from hil.link.transcript import Transcript
from hil.measure.answers import Answers, reference_answers
from hil.measure.complaints import refuse_complaints, refused_by_kernel
from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement
from hil.measure.reader import Reader
from hil.model.reference import Reference
from hil.runtimes.base import Deployment, Expected, OperatorSet, Runtime, as_one_buffer
from hil.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES
from hil.targets.clock import ClockReading
from hil.targets.detect import Connected, linked_as
from hil.targets.place import make_runner
from hil.targets.runners.base import Runner, Session
from hil.timers import MODELLED, TIMERS, is_simulated
from munas.cost.calibration import KernelCode, Linked
from munas.scratch import scratch_folder

MAX_MODEL_BYTES = 64 * 1024 * 1024
MIN_INPUTS = 8
_UNBUILDABLE = '"$%:;?[]\\|'  # in the name of a folder: what CMake, make or the shell between them would take


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure: `inputs` are verified and timed one by one; `seed` makes the random ones among them.

    `devices` are the boards to use via hardware, whichever is free. `modelled`: whether a timing model watches, and
    its cycles stand beside the timer's figures, or in their place ("timer"). `profile` is the MLPerf model id that the
    firmware answers with; it also decides in which form MLPerf's `db` gives the input. `transcripts` is the folder for
    what went over the serial line of measurements that failed; default: one in the cache. `placement` says where the
    network's parts lie. `keep_constant_channels`: the network is as large as its architecture says, which calibration
    and search predict from; else channels that trained to be constant are left out. `clocks` are what was measured of
    the clocks of `devices`, and go with each measurement.
    With `fresh` every network is compiled, and its emulator started from its file; otherwise the object is written, and
    the emulator forked, where that makes no difference.
    """

    via: Via = "qemu"
    inputs: int = MIN_INPUTS
    seed: int = 0
    runtime: str = DEFAULT_RUNTIME
    devices: tuple[Connected, ...] = ()
    modelled: Literal["off", "beside", "timer"] = "off"
    profile: str = DEFAULT_PROFILE
    transcripts: Path | None = None
    placement: Placement = AS_EVER
    keep_constant_channels: bool = False
    clocks: tuple[ClockReading, ...] = ()
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement and the plan that the firmware was generated from; layers and steps correspond one to one.

    `answers` are the device's outputs, one an input: two runtimes are compared by them. `functions` is the code that
    was linked: bytes of flash by name.
    """

    measurement: Measurement
    plan: Deployment
    answers: tuple[bytes, ...] = ()
    functions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A network's firmware on a booted device that has proved to run it, and what it must compute.

    `own` is what the runtime's kernels compute where they round otherwise than LiteRT's reference kernels.
    `serial_number` is that of a connected board.
    """

    device: Device
    plan: Deployment
    litert: Expected
    own: Expected | None
    serial_number: str | None


@dataclass(slots=True)
class StageClock:
    """Host seconds a stage, summed."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block for `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class Harness:
    """A board (by a runner) with toolchain and kernels found: what measures one network after the other.

    Making one raises ToolMissing, BuildError or BoardError when something that every measurement needs is not there.
    """

    def __init__(self, board: Board, options: Options = Options()) -> None:
        if options.inputs < MIN_INPUTS:
            raise UsageError(f"at least {MIN_INPUTS} inputs have to be verified, not {options.inputs}")
        self.board = board = _placed(linked_as(board, options.devices), options)
        self.options = options
        self._toolchain: Toolchain = find_toolchain()
        self._project = _project_options(options, self._toolchain)
        self._runner: Runner = make_runner(
            options.via, options.devices, modelled=options.modelled != "off", keep_loaded=not options.fresh
        )
        self._runtime = make_runtime(board, options)
        self._library = self._runtime.library
        self._archive = build_library(self._library, self._toolchain)
        self._linked: dict[OperatorSet, Linked | None] = {}
        self._written = None if options.fresh else WrittenObjects(self._library, self._archive, self._toolchain)

    @property
    def identity(self) -> Identity:
        """What every measurement of this harness carries."""
        board, via = self.board, self.options.via
        is_modelled = self.options.modelled == "timer"
        timer = MODELLED if is_modelled else board.target(via).timer
        return Identity(
            board=board.name,
            core=board.core,
            runtime=self._runtime.name,
            via=via,
            simulated=is_simulated(via),
            timer=timer,
            clock_hz=board.clock_hz,
            tick_ns=board.target(via).tick_ns,
            compiler=self._toolchain.version,
            flags=flags_text(self._library) + _placement_text(self.options.placement),
            kernels=self._runtime.kernels,
            firmware=self._library.digest()[:16],
            cycle_model=constants_id(board) if is_modelled else "",
            optimise=board.optimise.value,
        )

    def kernel_code(self) -> KernelCode:
        """What the linker keeps of the library for each kernel path alone. Takes seconds. Raises BuildError."""
        entered = self._runtime.kernel_symbols
        kept = {
            name: kernel_functions(name, self._library, self._archive, self._toolchain)
            for name in sorted(set(entered.values()))
        }
        own = self._runtime.kernel_entry_bytes
        if own:  # its row in the interpreter's table of operators, which is one object for all of them
            kept = {name: {**functions, f"row of {name}": own} for name, functions in kept.items()}
        return {path: kept[name] for path, name in entered.items()}

    def linked(self, wanted: OperatorSet) -> Linked | None:
        """What images of networks of exactly these operators have besides the network; None where each network is
        linked by itself. A second for a set that nobody asked for before. Raises what `measure` does.
        """
        if wanted not in self._linked:
            with scratch_folder("set") as folder:
                project = self._runtime.render_set(wanted, folder, self._project)
                found = None if project is None else linked_set(project, self._archive, self._toolchain)
            self._linked[wanted] = found
        return self._linked[wanted]

    def linked_for(self, plan: Deployment) -> Linked | None:
        """The same for the operators of a network."""
        wanted = self._runtime.operator_set(plan)
        return None if wanted is None else self.linked(wanted)

    def deploy(self, data: bytes, name: str) -> Deployment:
        """The network as it would be measured. Raises ModelError, which names it."""
        try:
            return self._runtime.deploy(data, name, keep_constant_channels=self.options.keep_constant_channels)
        except ModelError as error:
            if error.model:
                raise
            raise ModelError(error.reason, name) from error

    def measure(self, data: bytes, name: str, deployed: Deployment | None = None) -> Measured:
        """Measure the .tflite `data`; `name` is for people, `deployed` what `deploy` made of it, if it was asked
        before.

        Raises HilError; BudgetError when it does not fit.
        """
        clock, identity = StageClock(), self.identity
        with clock.stage("plan"):
            plan = deployed or self.deploy(data, name)
        with clock.stage("verify"):
            wanted = self._answers(data, plan)
        with self._workshop(name) as (folder, transcript):
            project, image = self._build(plan, folder, clock)
            with clock.stage("boot"), contextlib.ExitStack() as opened:
                session, device = opened.enter_context(self._booted(image, plan, transcript))
                running = opened.pop_all()
            with running, clock.stage("run"):
                reader = Reader(session, device, plan, project, image)
                figures = reader.figures(wanted.patterns, wanted.own)
        modelled = self._modelled(figures.records, len(plan.steps), figures.memory.ram_total)
        timed = modelled if modelled is not None and self.options.modelled == "timer" else figures
        measurement = Measurement(
            model=name,
            sha256=hashlib.sha256(data).hexdigest(),
            identity=identity,
            latency=Latency(TIMERS[identity.timer].unit, timed.samples),
            layers=_layers(plan, timed.layers),
            memory=figures.memory,
            outputs=wanted.compared(figures.answers, plan.outputs),
            build=Build(
                id=project.build_id,
                elf_sha256=image.sha256,
                compiler=self._toolchain.version,
                flags=identity.flags,
                kernels=identity.kernels,
                constant_channels=plan.constant_channels,
            ),
            seconds=clock.seconds,
            modelled=modelled,
            device=session.device,
            repeatability=figures.repeatability,
            clock=next((item for item in self.options.clocks if item.device == session.device), None),
        )
        return Measured(measurement, plan, figures.answers, image.functions)

    @contextlib.contextmanager
    def _booted(self, image: Image, plan: Deployment, transcript: Transcript) -> Iterator[tuple[Session, Device]]:
        """A session whose device has said that it is ready. Raises HilError."""
        has_booted = False
        try:
            with self._runner.open(image.elf, self.board) as session:
                device = Device(session.port, session.timeouts, transcript)
                said = device.wait_ready()
                has_booted = True
                refuse_complaints(said, plan, self.board)
                yield session, device
        except KernelRefused as error:
            raise refused_by_kernel(error.refusal.layer, error.said, plan, self.board) from error
        except CoreLockedUp as error:
            if has_booted:
                raise
            # Nothing of the network has run yet: neither it nor its sample is to blame.
            raise NeverBooted(
                f"{error}; before its boot message, so that the firmware's build is broken: munas-hil cache --clear"
            ) from error

    def _modelled(self, records: Sequence[InferenceRecord], layers: int, ram_bytes: int) -> ModelledLatency | None:
        if self.options.modelled == "off":
            return None
        if len(records) != self.options.inputs:
            raise InfrastructureError(
                f"BUG: the timing plugin recorded {len(records)} of {self.options.inputs} inferences; report this"
            )
        origin = self.board.target("qemu").sram.origin
        banks = banks_touched(self.board.banks_via("qemu"), origin, origin + ram_bytes)
        return modelled_latency(self.board, records, layers, banks)

    @contextlib.contextmanager
    def running(self, data: bytes, name: str, deployed: Deployment | None = None) -> Iterator[Running]:
        """Build and boot the .tflite `data`, for whoever talks to the device himself. Raises HilError."""
        plan = deployed or self.deploy(data, name)
        refuse_float(plan, name)
        litert, own = self._expected(data, plan)
        with self._workshop(name) as (folder, transcript):
            project, image = self._build(plan, folder, StageClock())
            with self._booted(image, plan, transcript) as (session, device):
                Reader(session, device, plan, project, image).check(device.identity())
                yield Running(device, plan, litert, own, session.device)

    @contextlib.contextmanager
    def _workshop(self, name: str) -> Iterator[tuple[Path, Transcript]]:
        """A folder for the build, and a transcript that is kept when what happens inside fails."""
        transcript = Transcript()
        try:
            with scratch_folder("build") as folder:
                yield folder, transcript
        except HilError as error:
            if len(transcript):
                kept = transcript.save(self.options.transcripts or _transcripts(), name)
                error.transcript = "" if kept is None else str(kept)
            raise

    def _answers(self, data: bytes, plan: Deployment) -> Answers:
        litert, own = self._expected(data, plan)
        return reference_answers(litert, own, plan.input, self.options.inputs, self.options.seed)

    def _expected(self, data: bytes, plan: Deployment) -> tuple[Expected, Expected | None]:
        """What LiteRT computes, and what the runtime's kernels do where that is not the same."""
        own = self._runtime.reference(plan)
        litert = as_one_buffer(Reference(data, plan.imported), plan)
        return litert, None if own is None else as_one_buffer(own, plan)

    def _build(self, plan: Deployment, folder: Path, clock: StageClock) -> tuple[Project, Image]:
        with clock.stage("generate"):
            project = self._runtime.render(plan, folder, self._project)
        try:
            if project.insertion is not None:
                with clock.stage("link"):
                    return project, insert(project, self._archive, self._toolchain, self.board.budget.flash)
            with clock.stage("compile"):
                written = None if self._written is None else self._written.object_of(project)
                model_object = written or compile_model(project, self._toolchain)
            with clock.stage("link"):
                writer = self._written if written is not None else None
                direct = None if writer is None else writer.linker
                image = link(project, model_object, self._archive, self._toolchain, direct)
            if writer is not None:
                writer.check(project, image)
            return project, image
        except BudgetError as error:
            raise BudgetError(f"{plan.model_name} on {self.board.name}: {error}", error.shortfall_bytes) from error

    def generate(self, data: bytes, name: str, folder: Path, deployed: Deployment | None = None) -> Project:
        """Write the standalone project of the .tflite `data` into `folder`."""
        plan = deployed or self.deploy(data, name)
        return self._runtime.render(plan, folder, replace(self._project, standalone=True))


def _transcripts() -> Path:
    """Where transcripts are kept unless the user names a folder."""
    folder = cache_dir() / "transcripts"
    with contextlib.suppress(OSError):  # whoever writes there says so
        make_private(folder)
    return folder


def refuse_float(plan: Deployment, name: str) -> None:
    """Raise ModelError for a network that is float32, where bytes of int8 are given and taken."""
    if plan.input.is_float:
        raise ModelError("it is float32, which only measure --protocol hil takes", name)


def _layers(plan: Deployment, units: Sequence[int]) -> tuple[LayerTime, ...]:
    return tuple(
        LayerTime(step.index, str(step.kind), step.name, float(time_units))
        for step, time_units in zip(plan.steps, units, strict=True)
    )


def make_runtime(board: Board, options: Options) -> Runtime:
    """The runtime of the options. Raises UsageError for an unknown one, ToolMissing when it is not installed."""
    maker = RUNTIMES.get(options.runtime)
    if maker is None:
        raise UsageError(f"unknown runtime {options.runtime!r} (known: {', '.join(RUNTIMES)})")
    return maker(board, options.via)


def read_model(path: Path) -> bytes:
    """The bytes of a .tflite file. Raises ModelError."""
    try:
        return read_regular(path, MAX_MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def generate_project(path: Path, board: Board, options: Options, folder: Path) -> tuple[Project, Deployment]:
    """Write the standalone firmware project of the model at `path` into `folder`, which must be new or empty.

    Gives what it was generated from as well. Nothing is built, so what only the build needs (TFLM) may be absent.
    """
    board = _placed(board, options)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; name another one")
    _require_buildable(folder)
    project = replace(_project_options(options, find_toolchain()), standalone=True)
    runtime = make_runtime(board, options)
    plan = runtime.deploy(read_model(path), path.stem, keep_constant_channels=options.keep_constant_channels)
    return runtime.render(plan, folder, project), plan


def _require_buildable(folder: Path) -> None:
    """Raise UsageError for a folder in which CMake and make cannot build, whatever the project quotes."""
    bad = sorted({char for char in str(folder.absolute()) if char in _UNBUILDABLE or not char.isprintable()})
    if bad:
        raise UsageError(f"{folder}: CMake cannot build in a folder with {' '.join(map(repr, bad))} in its name")


def _placed(board: Board, options: Options) -> Board:
    """`board` with its RAM where the options want it. Raises UsageError for what the runtime cannot place."""
    if options.placement.weights == "ram" and options.runtime != DEFAULT_RUNTIME:
        raise UsageError(f"--place weights=ram is for --runtime {DEFAULT_RUNTIME}")
    return placed(board, options.placement)


def _placement_text(placement: Placement) -> str:
    """Part of a measurement's identity; nothing for what has always been so."""
    return "" if placement == AS_EVER else f" place:{placement}"


def _project_options(options: Options, toolchain: Toolchain) -> ProjectOptions:
    try:
        return ProjectOptions(profile=options.profile, compiler=toolchain.version, weights=options.placement.weights)
    except ValueError as error:
        raise UsageError(f"--profile: {error}") from error
