"""Measuring networks on a board, and writing their firmware projects."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from hil.boards.board import Board, Via, load_board
from hil.codegen.render import DEFAULT_PROFILE
from hil.cycle_model.plugin import find_plugin
from hil.errors import UsageError
from hil.measure.harness import MIN_INPUTS, Measured, Options, generate_project, read_model
from hil.measure.harness import Harness as MeasuringHarness
from hil.measure.measurement import Identity, Measurement
from hil.runtimes.registry import DEFAULT_RUNTIME
from hil.targets.place import VIAS, Place, choose_place
from hil.targets.runners.qemu import QEMU
from hil.timers import MODELLED, timers_of

Model = str | os.PathLike[str] | bytes
"""An int8 .tflite: the path of a file, or its bytes."""

Modelled = Literal["off", "beside", "timer"]


class Harness:
    """A board, or an emulator of it, with toolchain and kernels found: measures one network after the other.

    `board` is a `Board`, the name of one, or the path of a board file. `via` says where firmware runs: ``auto`` (a
    connected board, else QEMU, else Renode where only that is installed), ``hardware``, ``renode``, ``qemu``, or a
    place that was chosen before. `device` is the serial number or port of one of several connected boards; `several`
    takes all of them, whichever is free.
    `timer` is ``modelled-cycles`` for figures of the cycle model instead of the place's own timer (via qemu);
    `beside` has that model watch, and its cycles stand in `Measurement.modelled`. `seed` is that of the random ones
    among the `inputs` that are verified. `profile` is the MLPerf model id that the firmware answers with.

    Raises BoardError, UsageError, ToolMissing, DeviceMissing, DeviceAmbiguous, BuildError.
    """

    def __init__(
        self, board: Board | str, *, via: str | Place = "auto", device: str | None = None, several: bool = False,
        runtime: str = DEFAULT_RUNTIME, timer: str | None = None, beside: bool = False, inputs: int = MIN_INPUTS,
        seed: int = 0, profile: str = DEFAULT_PROFILE,
    ) -> None:  # fmt: skip
        self.board = board_of(board)
        self.place = (
            via
            if isinstance(via, Place)
            else choose_place(self.board, via, device, several=several, timer=timer or (MODELLED if beside else None))
        )
        modelled = modelled_as(self.board, self.place.via, timer, beside=beside)
        self.options = Options(
            via=self.place.via, inputs=inputs, seed=seed, runtime=runtime, devices=self.place.devices,
            modelled=modelled, profile=profile,
        )  # fmt: skip
        if modelled != "off":
            find_plugin(QEMU)  # rather than after the build
        self.inner = MeasuringHarness(self.board, self.options)
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False  # each measurement has given back its board or emulator already

    @property
    def identity(self) -> Identity:
        """What every measurement carries: figures of other identities may not meet them."""
        return self.inner.identity

    def measure(self, model: Model, name: str | None = None) -> Measurement:
        """Time (whole and per layer), flash, RAM, and outputs held against LiteRT's reference kernels.

        `name` is for people; default: the file's. Raises ModelError, BudgetError, TargetFaultError, and
        InfrastructureError. Outputs that differ are no error: see `Measurement.outputs`.
        """
        return self.measured(model, name).measurement

    def measured(self, model: Model, name: str | None = None) -> Measured:
        """The measurement with the plan that the firmware was generated from, the device's answers and its code."""
        if not self._is_open:
            raise UsageError("this harness was closed: measure inside of its `with`")
        data, usual = content_of(model)
        return self.inner.measure(data, name or usual)


def generate(
    model: str | os.PathLike[str], folder: str | os.PathLike[str], board: Board | str, *, via: str | None = None,
    runtime: str = DEFAULT_RUNTIME, profile: str = DEFAULT_PROFILE,
) -> tuple[Path, ...]:  # fmt: skip
    """Write the firmware project of a network into `folder` (new or empty); gives its files. CMake alone builds it.

    Without `via` it is the port of the real board, where the board has one. Raises UsageError, BoardError, ModelError.
    """
    chosen = board_of(board)
    options = Options(via=via_to_build(chosen, via), runtime=runtime, profile=profile)
    generate_project(Path(model), chosen, options, Path(folder))
    return tuple(sorted(path for path in Path(folder).rglob("*") if path.is_file()))


def content_of(model: Model) -> tuple[bytes, str]:
    """The bytes of a .tflite and what to call it. Raises ModelError for a file that cannot be read."""
    if isinstance(model, bytes):
        return model, "model"
    path = Path(model)
    return read_model(path), path.stem


def via_of(board: Board, via: str, timer: str | None = None) -> Via:
    """The place that `via` stands for, for what runs nothing. Raises UsageError, BoardError."""
    if via == "auto" or via not in VIAS:
        return choose_place(board, via, several=True, timer=timer).via
    chosen: Via = via  # type: ignore[assignment]  # one of VIAS, and not "auto"
    board.target(chosen)
    return chosen


def via_to_build(board: Board, via: str | None) -> Via:
    """The place that a firmware project is for: the real board where there is one, unless `via` says otherwise."""
    if via is None:
        return "qemu" if board.hardware is None else "hardware"
    return via_of(board, via)


def modelled_as(board: Board, via: Via, timer: str | None, *, beside: bool = False) -> Modelled:
    """What the cycle model does: nothing, stand `beside` the timer, or take its place. Raises UsageError."""
    board.target(via)
    known = timers_of(via)
    if timer is not None and timer not in known:
        raise UsageError(f"--timer {timer} does not exist via {via} (known: {', '.join(known)})")
    if timer == MODELLED:
        return "timer"
    return "beside" if beside else "off"


def board_of(board: Board | str) -> Board:
    """A board, or the one of that name or file. Raises BoardError."""
    return board if isinstance(board, Board) else load_board(board)
