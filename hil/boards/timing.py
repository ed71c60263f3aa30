"""The `[timing]` table of a SoC or board file: what turns a core's counts into a board's cycles, and why to believe it.

Without the table a board gets the core's cycles at zero wait states, and no milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Base = Literal["cycles", "instructions"]

_Count = Annotated[int, Field(ge=0, le=65_534)]
_Cycles = Annotated[int, Field(ge=0, le=1000)]
_Cost = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pipeline(_Strict):
    """Cycles of a core that no table of its instructions says: `[pipeline]` of a core's file.

    Cortex-M3 and M4: `refill` is P, paid for a taken branch, `refill_split` the same when the target is a 4-byte
    instruction across two words, `address_stall` what an address computed by the instruction in front costs,
    `accumulate` and `long_multiply` what multiplications with an accumulator or a product of 64 bits take longer. All:
    `divide` is SDIV and UDIV (by operands, which a plugin cannot see), `unaligned` is paid for each part beyond the
    first that an unaligned load is read in; their ranges are what has been published, lowest and highest. `mispredict`
    is paid for a branch that was predicted wrong, where the core predicts. `float_doubt` is how many cycles more than
    modelled a float instruction may take: published figures are of integer code.
    """

    refill: _Cycles = 2
    refill_split: _Cycles = 2
    divide: Annotated[int, Field(ge=1, le=40)] = 7
    divide_range: tuple[_Cycles, _Cycles] | None = None
    accumulate: _Cycles = 0
    long_multiply: _Cycles = 0
    address_stall: _Cycles = 0
    mispredict: _Cycles = 0
    unaligned: _Cycles = 1
    unaligned_range: tuple[_Cycles, _Cycles] | None = None
    float_doubt: _Cycles = 0

    @model_validator(mode="after")
    def _ranges_hold(self) -> Self:
        for name in ("divide", "unaligned"):
            low, high = getattr(self, f"{name}_range") or (getattr(self, name),) * 2
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} {getattr(self, name)} is not in {name}_range {low} to {high}")
        return self


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
    """What reads of data go through: flash always, RAM where a bank of the SoC is `cached`.

    `miss_cycles` is for flash, `ram_miss_cycles` for cached RAM, `ram_miss_range` what other evidence says of that.
    `replacement` is which line a new one takes the place of: the one used longest ago, or any of its set.
    """

    replacement: Literal["oldest", "random"] = "oldest"
    ram_miss_cycles: _Cost = 0.0
    ram_miss_range: tuple[_Cost, _Cost] | None = None

    @model_validator(mode="after")
    def _range_holds(self) -> Self:
        low, high = self.ram_miss_range or (self.ram_miss_cycles,) * 2
        if not low <= self.ram_miss_cycles <= high:
            raise ValueError(f"ram_miss_cycles {self.ram_miss_cycles:g} is not in ram_miss_range {low:g} to {high:g}")
        return self


class EvidenceRow(_Strict):
    """One figure measured on a board by others, and what the model said of the same code.

    `source` cites the figure, `error_pct` is modelled / published - 1; `held_out`: by constants fitted without the row.
    `network` is what several rows may have in common, empty for one of its own. `wider_pct`: what the network does that
    the interval of the board does not cover (hil/cycle_model/model.py); such a row has no part in that interval.
    """

    source: str
    board: str
    code: str
    network: str = ""
    clock_mhz: Annotated[float, Field(gt=0, le=10_000)]
    published_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    modelled_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    error_pct: Annotated[float, Field(ge=-100, le=1000, allow_inf_nan=False)]
    held_out: bool = True
    wider_pct: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        error_pct = 100 * (self.modelled_ms / self.published_ms - 1)
        if abs(error_pct - self.error_pct) > 0.1:
            raise ValueError(f"error_pct is {error_pct:+.1f} by the two figures, not {self.error_pct:+.1f}")
        return self


_MIN_ROWS = 3


class Evidence(_Strict):
    """Why the constants may be believed: figures measured on boards, and how far the model was from those of them that
    it had not been fitted to. The interval of milliseconds follows from these errors alone. Two images of one network
    are likely to err alike, so that it is as wide as if there were no more figures than networks."""

    source: str
    rows: tuple[EvidenceRow, ...]
    note: str = ""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if len(self.errors_pct) < _MIN_ROWS:
            raise ValueError(f"evidence takes at least {_MIN_ROWS} rows that nothing was fitted to (held_out)")
        return self

    @property
    def out_of_fit(self) -> tuple[EvidenceRow, ...]:
        """The rows that were held out and that the interval has to cover by itself."""
        return tuple(row for row in self.rows if row.held_out and not row.wider_pct)

    @property
    def errors_pct(self) -> tuple[float, ...]:
        """Their errors."""
        return tuple(row.error_pct for row in self.out_of_fit)

    @property
    def mean_error_pct(self) -> float:
        """Mean of their magnitudes."""
        return sum(map(abs, self.errors_pct)) / len(self.errors_pct)

    @property
    def max_error_pct(self) -> float:
        """The largest magnitude."""
        return max(map(abs, self.errors_pct))

    @property
    def interval_pct(self) -> float:
        """Half of the 95 % prediction interval for one more error, and at least the worst of them."""
        return round(max(prediction_pct(self.errors_pct, _independent(self.out_of_fit)), self.max_error_pct), 1)

    def inside(self, row: EvidenceRow) -> bool:
        """Whether `row` is in the interval that the rows of the other networks alone give, and in what it adds itself.

        Raises ValueError when there are none.
        """
        others = [
            other
            for other in self.out_of_fit
            if other is not row and (not other.network or other.network != row.network)
        ]
        if not others:
            raise ValueError("all evidence is of one network")
        errors = [other.error_pct for other in others]
        return abs(row.error_pct) <= prediction_pct(errors, _independent(others)) + row.wider_pct


def _independent(rows: Sequence[EvidenceRow]) -> int:
    """Rows, those of one network counted as one."""
    names = [row.network for row in rows]
    return len(set(names) - {""}) + names.count("")


def prediction_pct(errors_pct: Sequence[float], independent: int) -> float:
    """Half of the 95 % prediction interval for one more error: Student's t with as many degrees of freedom as there are
    `independent` ones, n, times the root mean square of all, times sqrt(1 + 1/n)."""
    rms = math.sqrt(sum(error**2 for error in errors_pct) / len(errors_pct))
    return student_t_975(independent) * rms * math.sqrt(1 + 1 / independent)


def student_t_975(degrees: int) -> float:
    """The 97.5 % quantile of Student's t (tables; between two of them the larger value)."""
    return next(value for most, value in _STUDENT_T if degrees <= most)


_STUDENT_T = (
    (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306), (9, 2.262),
    (10, 2.228), (11, 2.201), (13, 2.179), (16, 2.145), (20, 2.110), (30, 2.080), (60, 2.040), (1_000_000, 2.000),
)  # fmt: skip


class Timing(_Strict):
    """board cycles = `scale` x `base` + misses x their cost, `base` being the core's cycles, or its instructions."""

    base: Base = "cycles"
    scale: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    code: CodeLines = CodeLines()
    data: DataLines = DataLines()
    evidence: Evidence | None = None
