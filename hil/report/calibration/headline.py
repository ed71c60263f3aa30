"""The head of the report: what was measured, on what, and the figures that matter, each against its target."""

from __future__ import annotations

import math

from hil.calibration.result import CalibrationResult
from hil.report.calibration.latency import law_text
from hil.report.charts import numbers
from hil.report.headline import Fact, Tile, via_name
from hil.targets.clock import CLOCK_LIMIT
from hil.timers import TIMERS, words_of
from munas.cost.optimise import CODE_LIMITS

TARGET_MAPE = 0.03
TARGET_WITHIN = 0.95
TARGET_OVER_BYTES = 512
TARGET_NETWORKS_PER_MINUTE = 120.0


def sentence(result: CalibrationResult) -> str:
    """The finding in a sentence."""
    mac, op = result.mac_only.metrics, result.per_operator.metrics
    if not result.samples:
        tried = f"; {numbers.plural(len(result.failed), 'sample')} failed" if result.failed else ""
        return f"No network was measured{tried}. There is nothing to fit, and every figure below is empty."
    if not math.isfinite(op.mape):
        return f"{numbers.plural(len(result.samples), 'network')} measured, too few to judge a fit."
    return (
        f"Over {numbers.plural(len(result.samples), 'network')} that it had not seen, the per-operator fit is off by "
        f"{numbers.percent(op.mape)} on average, and within 10 % for {numbers.share(op.within_10pct)} of them. "
        f"MACs alone are off by {numbers.percent(mac.mape)}."
    )


def provenance(result: CalibrationResult) -> str:
    """Where the times come from, in a sentence: nobody should take a simulated figure for a real one."""
    identity = result.identity
    if not identity.simulated:
        return f"Measured on the board itself: {words_of(identity.timer)}."
    worth = "are as good as the evidence for it" if identity.cycle_model else "say nothing about milliseconds"
    return (
        f"No board was involved. {via_name(identity.via)} ran the firmware for {identity.board}; times are "
        f"{words_of(identity.timer)}, and {worth}."
    )


def tiles(result: CalibrationResult) -> tuple[Tile, ...]:
    """The key figures."""
    mac, op = result.mac_only.metrics, result.per_operator.metrics
    checked, wrong = result.outputs_checked, result.outputs_mismatched
    return (
        Tile("MAPE, per operator", numbers.percent(op.mape), "mean absolute error, cross-validated",
             "target ≤ 3 %", _judge(op.mape, op.mape <= TARGET_MAPE)),
        Tile("Within 10 %, per operator", numbers.share(op.within_10pct), "of all networks",
             "target ≥ 95 %", _judge(op.within_10pct, op.within_10pct >= TARGET_WITHIN)),
        Tile("MAPE, MACs only", numbers.percent(mac.mape), f"{numbers.share(mac.within_10pct)} within 10 %"),
        Tile("Networks measured", numbers.count(len(result.samples)), f"{numbers.count(len(result.failed))} failed",
             "target: none fails", not result.failed if result.samples or result.failed else None),
        Tile("Outputs that differ", numbers.count(wrong if checked else math.nan),
             f"of {numbers.count(checked)} compared bit for bit", "target: none", wrong == 0 if checked else None),
        _memory_tile(result), _code_tile(result),
        *_board_tiles(result),
        Tile("Networks a minute", numbers.fixed(result.models_per_minute, 0),
             f"{numbers.plural(result.workers, 'worker')}, {numbers.seconds(result.wall_seconds)} in all",
             "target ≥ 120", _judge(result.models_per_minute, result.models_per_minute >= TARGET_NETWORKS_PER_MINUTE)),
    )  # fmt: skip


def _board_tiles(result: CalibrationResult) -> tuple[Tile, ...]:
    """Of connected boards only."""
    if not result.devices:
        return ()
    unsteady = sum(item.unsteady for item in result.devices)
    worst = max(item.worst_spread for item in result.devices)
    offs = [reading.off for item in result.devices for reading in item.clocks]
    off = max(offs, key=abs, default=math.nan)
    known = f"{numbers.plural(len(offs), 'reading')}, the worst" if offs else "no clock was measured"
    return (
        Tile("Unsteady measurements", numbers.count(unsteady), f"spread up to {numbers.percent(worst)}",
             "target: none", unsteady == 0),
        Tile("Clock against the host's", numbers.percent(off, signed=True), known, f"limit {100 * CLOCK_LIMIT:g} %",
             _judge(off, abs(off) <= CLOCK_LIMIT)),
    )  # fmt: skip


def _judge(value: float, met: bool) -> bool | None:
    return met if math.isfinite(value) else None


def _memory_tile(result: CalibrationResult) -> Tile:
    found = result.memory
    under = found.arena_under + found.ram_under + found.flash_under
    exact = found.arena_max_error == 0
    over = max(found.ram_max_error, found.flash_max_error)
    note = f"arena {'exact' if exact else f'off by {found.arena_max_error:,} B'}, too small {_times(under)}"
    met = exact and under == 0 and over <= TARGET_OVER_BYTES
    if not result.samples:
        return Tile("Largest memory error", numbers.MISSING, "nothing to compare", "target ≤ 512 B, never under")
    return Tile("Largest memory error", f"{over:,}{numbers.NBSP}B", note, "target ≤ 512 B, never under", met)


def _code_tile(result: CalibrationResult) -> Tile:
    limit = CODE_LIMITS.get(result.identity.optimise)
    target = "" if limit is None else f"target ≤ {numbers.size(limit)}"
    if not result.samples:
        return Tile("Code besides weights", numbers.MISSING, "nothing was linked", target)
    largest = max(item.flash_code for item in result.samples)
    return Tile("Code besides weights", f"{largest:,}{numbers.NBSP}B", "largest of all networks", target,
                None if limit is None else largest <= limit)  # fmt: skip


def _times(number: int) -> str:
    return "never" if number == 0 else f"{number:,} times"


def facts(result: CalibrationResult) -> tuple[Fact, ...]:
    """The identity of the run; a calibration is valid for this and nothing else."""
    identity = result.identity
    clock = numbers.frequency(identity.clock_hz)
    return (
        Fact("Board", (identity.board,)), Fact("Core", (identity.core,)), Fact("Via", (via_name(identity.via),)),
        Fact("Simulated", ("yes, no board was involved" if identity.simulated else "no",)),
        Fact("Timer", (identity.timer,), code=True),
        *([Fact("Timing model", (identity.cycle_model,), code=True)] if identity.cycle_model else []),
        Fact("Clock", (f"{clock}, not used here" if identity.simulated else clock,)),
        Fact("Runtime", (identity.runtime,)), Fact("Kernels", tuple(identity.kernels.split())),
        Fact("Optimised for", (identity.optimise,)),
        Fact("Budget", (f"{numbers.size(result.budget_flash)} flash,", f"{numbers.size(result.budget_sram)} SRAM")),
        Fact("Created", (result.created,)), Fact("Seed", (str(result.seed),)),
        Fact("Workers", (str(result.workers),)),
        Fact("Compiler", tuple(identity.compiler.split()), wide=True),
        Fact("Flags", tuple(identity.flags.split()), code=True, wide=True),
        Fact("Firmware sources", (identity.firmware,), code=True, wide=True),
    )  # fmt: skip


def methods(result: CalibrationResult, r2: float, dropped: int) -> tuple[tuple[str, str], ...]:
    """Notes on method: (what, how)."""
    notes = [
        ("Time", _time_note(result)),
        ("Networks", f"Random draws from the µNAS search space (seed {result.seed}), spread over the budget and over "
         "input shapes, written as int8 .tflite with random weights. Each becomes firmware of its own."),
        ("Outputs", "Before a time counts, the outputs of every network are compared bit for bit with LiteRT's "
         "reference kernels, on random and on extreme inputs."),
        ("Cross-validation", f"{numbers.count(result.per_operator.folds)} folds of networks: a prediction shown here "
         "comes from a fit that did not see its network. The coefficients below and in the calibration file are "
         "fitted to all networks."),
        ("MACs only", f"The proxy that µNAS searches with: {law_text(result.mac_only, result.unit) or 'not fitted'}. "
         f"R² = {numbers.fixed(r2, 3)} is the squared correlation of MACs and time over all networks, the figure "
         "that the µNAS paper gives as 0.975 for an STM32H743 board; it is not cross-validated. R² in the table of "
         "both fits is."),
        ("Per operator", "How often each loop of a kernel runs follows from the layer's geometry; how much a pass "
         "costs is fitted, for each kernel path, with costs that are never negative and the least relative error."),
        ("95 % interval", f"Holds the middle 95 % of the relative errors on unseen networks; it held the measured "
         f"time of {numbers.share(result.interval_coverage)} of them, cross-validated."),
        ("Memory", "Flash and static RAM from the ELF's program headers and symbols, arena and stack from what the "
         "device found overwritten. Predictions come from the architecture alone. 1 KB is 1024 bytes."),
    ]  # fmt: skip
    if dropped:
        notes.append(("Not drawn", f"{numbers.plural(dropped, 'network')} without a positive, finite time, MAC count "
                                   "or prediction."))  # fmt: skip
    return tuple(notes)


def _time_note(result: CalibrationResult) -> str:
    timer = TIMERS.get(result.identity.timer)
    return "" if timer is None else timer.note.replace("{clock}", numbers.frequency(result.identity.clock_hz))
