"""The table of timers: what a figure of time counts, and who provides it. Kinds never meet in a fit or comparison.

One more timer is one row here, and the name in the firmware's port that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

TimerKind = Literal["dwt-cycles", "icount-instructions", "renode-instructions", "modelled-cycles"]
Unit = Literal["cycles", "instructions"]
Place = Literal["hardware", "renode", "qemu"]

TIMER_STEPS = 2
"""A count begins and ends somewhere within a step of its timer: by as many two counts of the same may differ."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One kind of time.

    `via` are the places that have it; it is a place's own unless it is `modelled`, which takes a model of the board
    and is asked for. `words` say in short what is counted, `note` in sentences (``{clock}``: the core's frequency).
    """

    kind: TimerKind
    unit: Unit
    via: tuple[Place, ...]
    words: str
    note: str
    modelled: bool = False

    @property
    def simulated(self) -> bool:
        """Whether no board counts it."""
        return all(map(is_simulated, self.via))


def is_simulated(via: Place) -> bool:
    """Whether figures of a place are an emulator's: of all but the hardware, whatever counts there."""
    return via != "hardware"


_ROWS = (
    Timer(
        "dwt-cycles", "cycles", via=("hardware",),
        words="cycles of the core's own counter (DWT)",
        note="Cycles of the core's own counter at {clock}, the median of several single inferences on the board.",
    ),
    Timer(
        "icount-instructions", "instructions", via=("qemu",),
        words="instructions retired, counted by the emulator",
        note="Instructions that the emulated core executed in one inference, the median of several; the count is exact "
        "and the same in every run. It is not a time: on boards, one instruction has been seen to take 1.28 to "
        "1.70 cycles (Cortex-M4) or 0.74 to 0.93 (Cortex-M7), depending on the network, flash wait states and "
        "caches. Ratios between networks carry over roughly, milliseconds do not.",
    ),
    Timer(
        "renode-instructions", "instructions", via=("renode",),
        words="virtual time of Renode at one instruction a cycle",
        note="Renode's virtual time, which advances by one cycle an instruction, the median of several inferences. It "
        "is neither a time nor quite a count: its maintainers say that it is not 1:1.",
    ),
    Timer(
        "modelled-cycles", "cycles", via=("qemu",), modelled=True,
        words="cycles of a timing model, not of a core",
        note="Cycles of a timing model fed with the emulated core's instructions and memory accesses, the median of "
        "several inferences. A model is not a measurement on a board.",
    ),
)  # fmt: skip

TIMERS: Mapping[str, Timer] = {row.kind: row for row in _ROWS}
MODELLED: Final = "modelled-cycles"


def own_timer(via: Place) -> Timer:
    """The timer that a place has by itself."""
    return next(row for row in _ROWS if via in row.via and not row.modelled)


def timers_of(via: Place) -> tuple[TimerKind, ...]:
    """All timers that can be asked for at a place, its own one first."""
    return tuple(sorted((row.kind for row in _ROWS if via in row.via), key=lambda kind: TIMERS[kind].modelled))


def unit_of(kind: str) -> str:
    """What a timer counts; ``ticks`` for one that this version does not know (of a newer version's file)."""
    return TIMERS[kind].unit if kind in TIMERS else "ticks"


def words_of(kind: str) -> str:
    """What a timer counts, in words; its name where this version does not know it."""
    return TIMERS[kind].words if kind in TIMERS else kind
