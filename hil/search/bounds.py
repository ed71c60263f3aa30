"""The bounds of a search in the user's units: what was typed, turned into `munas.search.objective.Bounds`, or refused.

Bounds are what the fitness is measured against. The hard budget is what a network must fit to be trained at all, and to
be exported: RAM and flash of the board, and every bound on resources that a preset or the user gives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hil.boards.bank import banks_touched
from hil.boards.board import Board
from hil.boards.sizes import typed_size_bytes
from hil.errors import UsageError
from hil.timers import MODELLED
from munas.cost.calibration import Calibration
from munas.search.metrics import METRICS, Form, Metric, MetricSpec
from munas.search.objective import PRESETS, Bounds

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})"
_TIME = re.compile(rf"^\s*{_NUMBER}\s*(ms|us|µs|s|[kKMG]?)\s*$")
_COUNT = re.compile(rf"^\s*{_NUMBER}\s*([kKMG]?)\s*$")
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}

# Data sets that the paper has no bounds for: what small networks reach on them.
_OWN_ERRORS: Final = {"digits": 0.05, "mnist-5k": 0.06}
_DEFAULT_ERROR: Final = 0.1


@dataclass(frozen=True, slots=True)
class BoundOptions:
    """The options as they were typed; None where one was left out."""

    preset: str | None = None
    error: float | None = None
    ram: str | None = None
    flash: str | None = None
    latency: str | None = None
    macs: str | None = None
    weights: str | None = None
    peak_memory: str | None = None
    model_size: str | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """What a calibration's time means: `unit` of its figures, and how many units a millisecond has (None: no time).

    `why` says why it is no time.
    """

    unit: str
    units_per_ms: float | None
    why: str = ""

    @property
    def ms_per_unit(self) -> float | None:
        """Milliseconds a unit, where the unit is a time."""
        return None if self.units_per_ms is None else 1.0 / self.units_per_ms


@dataclass(frozen=True, slots=True)
class Limits:
    """`bounds` of the objective, and `hard`: the resources that nothing may exceed."""

    bounds: Bounds
    hard: Bounds
    is_error_asked: bool  # by the user, and not by a default


def clock_of(board: Board, calibration: Calibration) -> Clock:
    """Whether `calibration`'s figures are a time: only cycles at a known clock are, and modelled ones with evidence."""
    timer, unit = str(calibration.identity.get("timer", "")), calibration.latency.unit
    if unit != "cycles":
        return Clock(unit, None, f"its timer is {timer}, and instructions are no time")
    if timer == MODELLED and (board.timing is None or board.timing.evidence is None):
        return Clock(unit, None, f"the board file of {board.name} has no evidence for its modelled cycles")
    if timer == MODELLED and (bank := _untimed(board)) is not None:
        return Clock(unit, None, f"a network of the whole budget uses {bank}, for which there is no evidence")
    return Clock(unit, board.clock_hz / 1e3)


def _untimed(board: Board) -> str | None:
    """The first bank of RAM inside the budget that modelled milliseconds do not hold for."""
    if board.qemu is None:
        return None
    origin = board.qemu.sram.origin
    reached = banks_touched(board.banks_via("qemu"), origin, origin + board.budget.sram)
    return next((bank.name for bank in reached if not bank.timed), None)


def limits_of(bound_options: BoundOptions, dataset: str, board: Board, calibration: Calibration | None) -> Limits:
    """Bounds and hard budget of a search on `dataset`.

    A preset brings the paper's bounds (on error, peak memory, size and MACs); without one, RAM and flash are bounded by
    the board's budget and the error by the data set's. What the user gives replaces or adds to that. Raises UsageError.
    """
    values = _preset(bound_options.preset, dataset)
    hard = {row.metric: float(_region_bytes(row, board)) for row in METRICS.values() if row.fills_region}
    hard |= Bounds(values).resources.values
    if bound_options.preset is None:
        values = {Metric.ERROR: _default_error(dataset), **hard}
    for row in METRICS.values():
        asked = getattr(bound_options, row.option.removeprefix("max_")) if row.option else None
        if asked is not None:
            values[row.metric] = _parsed(row, asked, board, calibration)
            if row.metric is not Metric.ERROR:  # it is not known before the training
                hard[row.metric] = values[row.metric]
    return Limits(Bounds(values), Bounds(hard), bound_options.error is not None)


def _region_bytes(row: MetricSpec, board: Board) -> int:
    return board.budget.flash if row.region == "flash" else board.budget.sram


def _parsed(row: MetricSpec, asked: str | float, board: Board, calibration: Calibration | None) -> float:
    """A bound as it was typed, in the unit of the metric's figures."""
    if row.form is Form.FRACTION:
        return _error(float(asked))
    if row.form is Form.BYTES:
        most = None if row.region is None else _region_bytes(row, board)
        return _bytes(row.flag, str(asked), most, board)
    if row.form is Form.TIME:
        return _latency(str(asked), board, calibration)
    return _count(row.flag, str(asked))


def _preset(name: str | None, dataset: str) -> dict[Metric, float]:
    if name is None:
        return {}
    preset = PRESETS.get(name)
    if preset is None:
        raise UsageError(f"--preset {name} does not exist (known: {', '.join(PRESETS)})")
    if _family(preset.dataset) != _family(dataset):
        raise UsageError(f"--preset {name} is for --dataset {preset.dataset}, not for {dataset}")
    return dict(preset.bounds.values)


def _family(dataset: str) -> str:
    """Data sets that a preset may be used for: mnist-5k is a part of MNIST."""
    return "mnist" if dataset == "mnist-5k" else dataset


def _default_error(dataset: str) -> float:
    if dataset in _OWN_ERRORS:
        return _OWN_ERRORS[dataset]
    errors = [preset.bounds.values.get(Metric.ERROR) for preset in PRESETS.values() if preset.dataset == dataset]
    # CIFAR-10 has two presets: the one without pruning asks for less.
    return max((error for error in errors if error is not None), default=_DEFAULT_ERROR)


def _error(value: float) -> float:
    if not 0.0 < value < 1.0:
        raise UsageError(f"--max-error {value:g} is not a fraction between 0 and 1 (0.1 is 10 %)")
    return value


def _bytes(option: str, text: str, most: int | None, board: Board) -> float:
    size_bytes = typed_size_bytes(option, text)
    if most is not None and size_bytes > most:
        raise UsageError(
            f"{option} {text} is more than the {most} bytes that the budget of {board.name} allows;"
            " raise that with --flash or --sram"
        )
    return float(size_bytes)


def _count(option: str, text: str) -> float:
    match = _COUNT.match(text)
    value = 0.0 if match is None else float(match[1]) * _FACTORS[match[2].lower()]
    if not value > 0:
        raise UsageError(f"{option}: {text!r} is not a positive number; write one such as 250k or 1.5M")
    return value


def _latency(text: str, board: Board, calibration: Calibration | None) -> float:
    if calibration is None:
        raise UsageError(
            f"--max-latency {text} needs a calibration of {board.name}; make one with: munas-hil calibrate --board"
            f" {board.name}, or bound the work with --max-macs"
        )
    match = _TIME.match(text)
    value = 0.0 if match is None else float(match[1])
    if match is None or not value > 0:
        raise UsageError(f"--max-latency: {text!r} is not a positive time; write 50ms, or 5M in the calibration's unit")
    if match[2] not in _SECONDS:
        return value * _FACTORS[match[2].lower()]
    clock = clock_of(board, calibration)
    if clock.units_per_ms is None:
        reason = f"this calibration cannot tell milliseconds ({clock.why})"
        raise UsageError(f"--max-latency {text}: {reason}; {_ways(clock)}")
    return value * _SECONDS[match[2]] * 1e3 * clock.units_per_ms


def _ways(clock: Clock) -> str:
    return (
        f"give a number of {clock.unit} such as 5M, or calibrate with --timer {MODELLED} on a board with timing"
        " evidence or on a real board (--via hardware) and search with the same options"
    )
