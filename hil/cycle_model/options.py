"""What the engine is told: numbers only. Board constants come from `hil.boards.timing`, addresses from the ELF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.boards.bank import Bank
from hil.boards.core import Core
from hil.boards.target import Target
from hil.boards.timing import CodeLines, Timing
from hil.cycle_model.regions import Regions
from hil.errors import BoardError

CYCLE_MODELS = {"cortex-m4": 4, "cortex-m7": 7, "cortex-m33": 33}
"""What the engine calls each cycle model that a core file may name."""
ENGINE_CORES = tuple(CYCLE_MODELS.values())
"""The same in the order of `core_t` (engine/model.h)."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A cache of `lines` lines of `line_bytes` each; 0 lines: none. `ways` 0: any line goes anywhere."""

    line_bytes: int = 32
    lines: int = 0
    ways: int = 0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of `engine/engine.h`. Addresses are the emulated machine's; `flash` and `ram` are (origin, bytes).

    The Cortex-M4's `refill` is P of Arm's table, `refill_split` the same for a 4-byte target across two words, `divide`
    the cycles of SDIV and UDIV, `accumulate` and `long_multiply` what such multiplications take longer, `address_stall`
    what an address computed by the instruction before costs. `ram` is what the data lines cover besides flash,
    `data_random` that they replace any line of a set.
    """

    core: int
    inference: int
    layers: tuple[int, ...] = ()
    flash: tuple[int, int] = (0, 0)
    ram: tuple[int, int] = (0, 0)
    refill: int = 2
    refill_split: int = 2
    divide: int = 7
    accumulate: int = 0
    long_multiply: int = 0
    address_stall: int = 0
    mispredict: int = 0
    unaligned: int = 1
    code: Lines = Lines()
    data: Lines = Lines()
    data_covers_ram: bool = False
    data_random: bool = False


def engine_options(
    timing: Timing, core: Core, target: Target, regions: Regions, banks: Sequence[Bank] = ()
) -> EngineOptions:
    """What the plugin is told, for an image with `regions` on `target`, whose RAM is made of `banks`.

    Raises BoardError for a core without a cycle model.
    """
    cached = [bank.region for bank in banks if bank.cached]
    pipeline = core.pipeline
    return EngineOptions(
        core=_engine_core(core),
        inference=regions.inference,
        layers=tuple(regions.layers),
        flash=(target.flash.origin, target.flash.length),
        ram=(cached[0].origin, cached[-1].end - cached[0].origin) if cached else (0, 0),
        refill=pipeline.refill,
        refill_split=pipeline.refill_split,
        divide=pipeline.divide,
        accumulate=pipeline.accumulate,
        long_multiply=pipeline.long_multiply,
        address_stall=pipeline.address_stall,
        mispredict=pipeline.mispredict,
        unaligned=pipeline.unaligned,
        code=_worth_following(timing.code),
        data=Lines(timing.data.line_bytes, timing.data.lines, timing.data.ways),
        data_covers_ram=bool(cached),
        data_random=timing.data.replacement == "random",
    )


def _worth_following(code: CodeLines) -> Lines:
    """Lines of code are followed where a miss costs something: it takes a quarter of the plugin's time."""
    return Lines(code.line_bytes, code.lines, code.ways) if code.miss_cycles else Lines()


def _engine_core(core: Core) -> int:
    known = f"(known: {', '.join(CYCLE_MODELS)})"
    if core.cycle_model is None:
        raise BoardError(f"core {core.name} has no cycle model {known}: instruction counts only, with --no-timing")
    if core.cycle_model not in CYCLE_MODELS:
        raise BoardError(f"core {core.name} asks for cycle model {core.cycle_model!r}, which does not exist {known}")
    return CYCLE_MODELS[core.cycle_model]
