"""The core's clock against the host's: the one thing that a device cannot say of itself.

Cycles are only worth something at the clock that they are told to have been counted at. A wrong crystal, an oscillator
that never started, a clock tree that was set up for another board: all of them answer as if nothing were wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hil.boards.board import Board
from hil.bring_up.contact import LOOP, Contact
from hil.bring_up.image import build_bring_up
from hil.build.toolchain import Toolchain, find_toolchain
from hil.errors import DeviceLost
from hil.link.device import Device
from hil.targets.clock import CLOCK_LIMIT, ClockReading
from hil.targets.detect import Connected, linked_as
from hil.targets.place import make_runner
from munas.scratch import scratch_folder

TRIAL_ROUNDS = 100_000
IDLE_COMMANDS = 5
SECONDS = 2.0  # for which a calibration measures a clock
MOST_S = 30.0
_JITTER_SHARE = (
    4  # the host's jitter may take this part of the limit: a serial adapter answers 16 ms late, now and then
)


@dataclass(frozen=True, slots=True)
class Pace:
    """Ticks of a round of the loop. Of a command that does almost nothing: ticks, the host's seconds, their spread."""

    per_round: float
    idle_ticks: int
    idle_s: float
    jitter_s: float


def pace_of(contact: Contact) -> Pace:
    """How fast the loop is on this core, and how fast the line."""
    idle = [contact.ask(LOOP, 1) for _ in range(IDLE_COMMANDS)]
    ticks, _, _ = contact.ask(LOOP, 1 + TRIAL_ROUNDS)
    seconds = sorted(took_s for _, _, took_s in idle)
    return Pace((ticks - idle[-1][0]) / TRIAL_ROUNDS, idle[-1][0], seconds[len(seconds) // 2], seconds[-1] - seconds[0])


def read_clock(contact: Contact, seconds: float = SECONDS) -> ClockReading:
    """Measured over a loop of about `seconds`, or longer where the line's jitter asks for it."""
    claimed, pace = contact.device.identity().ticks_hz, pace_of(contact)
    seconds = min(MOST_S, max(seconds, _JITTER_SHARE * pace.jitter_s / CLOCK_LIMIT))
    ticks, _, took_s = contact.ask(LOOP, round(seconds * claimed / pace.per_round))
    ran_s = max(took_s - pace.idle_s, 1e-9)
    return ClockReading(
        device=contact.session.device or "",
        claimed_hz=claimed,
        measured_hz=round((ticks - pace.idle_ticks) / ran_s),
        over_s=took_s,
        within=pace.jitter_s / ran_s,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        celsius=contact.celsius(),
    )


def clock_of(
    board: Board,
    device: Connected,
    *,
    seconds: float = SECONDS,
    toolchain: Toolchain | None = None,
    now: Callable[[], float] = time.monotonic,
) -> ClockReading:
    """The clock of a connected `device`, which is flashed for it.

    Raises DeviceLost when it is not the board's within 1 %, or cannot be measured; ToolMissing, BuildError.
    """
    board = linked_as(board, (device,))
    with scratch_folder("clock") as folder:
        image = build_bring_up(board, "hardware", toolchain or find_toolchain(), folder)
        with make_runner("hardware", (device,)).open(image.elf, board) as session:
            patient = replace(session.timeouts, inference_s=3 * MOST_S)
            link = Device(session.port, patient)
            link.wait_ready()
            found = read_clock(Contact(board, session, link, now), seconds)
    wanted = session.ticks_hz or board.clock_hz
    problem = ""
    if found.claimed_hz != wanted:
        problem = f"says that it runs at {found.claimed_hz:,} Hz, not at {wanted:,}: its clock tree did not start"
    elif not found.is_right:
        problem = (
            f"runs at {found.words()}, not at {wanted:,} Hz: another crystal than the port expects, or a wrong clock_hz"
        )
    if problem:
        raise DeviceLost(
            device.serial_number,
            f"device {device.describe()} {problem}; cycles at that clock are not {board.name}'s "
            f"(more: munas-hil bring-up --board {board.name} --device {device.serial_number})",
        )
    return found


def clocks_of(
    board: Board,
    devices: Sequence[Connected],
    tell: Callable[[str], None] = lambda _: None,
    measure: Callable[[Board, Connected], ClockReading] = clock_of,
) -> tuple[ClockReading, ...]:
    """A reading of each of `devices` whose clock is right; `tell` hears of the others, and why they are left out.

    Raises DeviceLost when none is left, and what is wrong with no device (ToolMissing, BuildError, DeviceBusy).
    """
    found, lost = list[ClockReading](), list[DeviceLost]()
    for device in devices:
        try:
            found.append(measure(board, device))
        except DeviceLost as error:
            lost.append(error)
    if not found and lost:
        raise lost[0]
    for item in lost:
        tell(f"{item}; going on without it")
    return tuple(found)
