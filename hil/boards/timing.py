"""The `[timing]` table of a board file: what turns the core's counts into the board's cycles, and the evidence for it.

Without the table a board gets the core's cycles at zero wait states, and no milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Base = Literal["cycles", "instructions"]

_Count = Annotated[int, Field(ge=0, le=65_534)]
_Cycles = Annotated[int, Field(ge=0, le=1000)]
_Cost = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
_Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pipeline(_Strict):
    """Cycles that Arm's table leaves open (Cortex-M4: a range; Cortex-M7: no table).

    `refill` is P, paid for a taken branch, `refill_split` the same when the target is a 4-byte instruction across two
    words, `divide` is SDIV and UDIV (2-12 by operands, which a plugin cannot see), `address_stall` what an address
    computed by the instruction in front costs; `mispredict` is the Cortex-M7's.
    """

    refill: _Cycles = 2
    refill_split: _Cycles = 2
    divide: Annotated[int, Field(ge=2, le=12)] = 7
    address_stall: _Cycles = 0
    mispredict: _Cycles = 4


class CodeLines(_Strict):
    """What instruction fetches from flash go through; 0 `lines` is nothing. `ways` 0: any line goes anywhere."""

    line_bytes: Annotated[int, Field(ge=4, le=256)] = 32
    lines: _Count = 0
    ways: _Count = 0
    miss_cycles: _Cost = 0.0

    @model_validator(mode="after")
    def _powers_of_two(self) -> Self:
        ways = self.ways or self.lines
        if self.line_bytes & (self.line_bytes - 1):
            raise ValueError(f"line_bytes {self.line_bytes} is not a power of two")
        if self.lines and (self.lines % ways or (self.lines // ways) & (self.lines // ways - 1)):
            raise ValueError(f"{self.lines} lines in {ways} ways are not a power of two of sets")
        return self


class DataLines(CodeLines):
    """What reads of data go through: flash always, RAM from `cached_ram_from` bytes on (absent: no RAM at all).

    RAM that is closely coupled to the core comes first on the boards we know, and is free.
    """

    cached_ram_from: Annotated[int, Field(ge=0, lt=2**32)] | None = None


class EvidenceRow(_Strict):
    """One figure measured on a board by others, and what the model said of the same code.

    `source` cites the figure, `error_pct` is modelled / published - 1.
    """

    source: str
    board: str
    code: str
    clock_mhz: Annotated[float, Field(gt=0, le=10_000)]
    published_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    modelled_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    error_pct: Annotated[float, Field(ge=-100, le=1000, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        error_pct = 100 * (self.modelled_ms / self.published_ms - 1)
        if abs(error_pct - self.error_pct) > 0.1:
            raise ValueError(f"error_pct is {error_pct:+.1f} by the two figures, not {self.error_pct:+.1f}")
        return self


class Evidence(_Strict):
    """Why the constants may be believed: figures measured on boards, and how far the model was from them.

    `rows` cite the published figures, `method` says whether each was predicted by constants fitted without it.
    `interval_pct` is what the milliseconds are shown with.
    """

    source: str
    rows: tuple[EvidenceRow, ...]
    method: Literal["leave-one-out", "in-sample"]
    mean_error_pct: _Percent
    max_error_pct: _Percent
    interval_pct: _Percent
    note: str = ""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.rows:
            raise ValueError("evidence without rows is none; leave the table out")
        if not self.mean_error_pct <= self.max_error_pct <= self.interval_pct:
            raise ValueError("mean_error_pct <= max_error_pct <= interval_pct has to hold")
        return self


class Timing(_Strict):
    """board cycles = `scale` x `base` + misses x their cost, `base` being the core's cycles, or its instructions."""

    base: Base = "cycles"
    scale: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    pipeline: Pipeline = Pipeline()
    code: CodeLines = CodeLines()
    data: DataLines = DataLines()
    evidence: Evidence | None = None
