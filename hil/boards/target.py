"""Where an image can run: a memory map, a port file, a timer."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hil.boards.machines import own_tick_ns
from hil.boards.sizes import SizeBytes
from hil.timers import TimerKind


class Strict(BaseModel):
    """A table of a data file: no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(Strict):
    """A memory region: `origin` (address) and `length` in bytes."""

    origin: Annotated[int, Field(ge=0, lt=2**32)]
    length: SizeBytes

    @property
    def end(self) -> int:
        """First address behind the region."""
        return self.origin + self.length

    @model_validator(mode="after")
    def _inside_address_space(self) -> Self:
        if self.end > 2**32:
            raise ValueError(f"region 0x{self.origin:08x} + {self.length} leaves the 32-bit address space")
        return self


class Target(Strict):
    """Where an image can run: memory map, port file, timer.

    `tick_ns` is the tick of an emulated timer, 0 where that counts the core's clocks. `machine` is QEMU's. Whether they
    are what the place has: `hil.boards.machines`.
    """

    port: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    flash: Region
    sram: Region
    timer: TimerKind
    tick_ns: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    machine: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    defines: dict[Annotated[str, Field(pattern=r"^HIL_[A-Z0-9_]+$")], int] = {}

    @model_validator(mode="before")
    @classmethod
    def _own_tick(cls, raw: Any) -> Any:
        # A file need not say what its machine's tick is; one that does has to be right.
        if isinstance(raw, dict) and "tick_ns" not in raw:
            return {**raw, "tick_ns": own_tick_ns(raw.get("machine"))}
        return raw

    @model_validator(mode="after")
    def _no_overlap(self) -> Self:
        if self.flash.origin < self.sram.end and self.sram.origin < self.flash.end:
            raise ValueError(
                f"flash 0x{self.flash.origin:08x}-0x{self.flash.end:08x} and sram "
                f"0x{self.sram.origin:08x}-0x{self.sram.end:08x} overlap"
            )
        return self
