"""The steps on a board that has booted: core, clock, line, counter, caches, memory. Each says what it means."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace

from hil.boards.linked import link_of
from hil.bring_up.clock import TRIAL_ROUNDS, pace_of, read_clock
from hil.bring_up.contact import ECHO, LOOP, LOOP_WITHOUT, MEMORY, READ, Contact
from hil.bring_up.report import Finding
from hil.errors import LinkError, TargetFaultError
from hil.timers import TIMER_STEPS

CPUID = 0xE000ED00
CORES: Mapping[int, str] = {0xC24: "cortex-m4", 0xC27: "cortex-m7", 0xD21: "cortex-m33", 0xC60: "cortex-m0plus"}
LINEAR_LIMIT = 0.001
EMULATED_ROUNDS = 50_000_000  # more would take minutes
ECHOES = 50
EMULATED_ECHOES = 5  # at each higher rate: an emulator's line has none, and a busy Renode takes seconds for one
RATES = (230_400, 460_800, 921_600)
COUNTER_BITS = 32
REPEATS = 20
SLOWER = 1.05

# Bits that a port switches on: (what it is, register, bits). RM0385, RM0432, RM0090; caches: the core's CCR.
ACCELERATORS: Mapping[str, tuple[tuple[str, int, int], ...]] = {
    "stm32f4": (("flash prefetch and caches", 0x40023C00, 7 << 8),),
    "stm32f7": (("instruction cache", 0xE000ED14, 1 << 17), ("flash accelerator", 0x40023C00, 3 << 8)),
    "stm32h7": (("instruction cache", 0xE000ED14, 1 << 17),),
    "stm32l4": (("flash prefetch and caches", 0x40022000, 7 << 8),),
}


def core(contact: Contact) -> Finding:
    """Which core it is, by its CPUID (B3.2.3 of the Armv7-M manual)."""
    _, words, _ = contact.ask(READ, CPUID)
    part = words[0] >> 4 & 0xFFF
    found, wanted = CORES.get(part, f"an unknown core (part 0x{part:03x})"), contact.board.core
    figures = {"cpuid": f"0x{words[0]:08x}"}
    if found.split("-")[-1] == wanted.split("-")[-1]:
        return Finding("core", "right", f"it is the {wanted} that the board file says", figures)
    return Finding("core", "wrong", f"it is {found}, the board file says {wanted}: is this another board?", figures)


def clock(contact: Contact, seconds: float) -> Finding:
    """The core's clock against the host's, over a loop of about `seconds`."""
    claimed, wanted = contact.device.identity().ticks_hz, contact.session.ticks_hz or contact.board.clock_hz
    figures: dict[str, int | float | str] = {"ticks_per_round": pace_of(contact).per_round, "claimed_hz": claimed}
    if not contact.emulated and claimed != wanted:
        return Finding(
            "clock", "wrong", f"the clock tree did not start: the core runs at its reset clock, {claimed:,} Hz, not "
            f"at {wanted:,} Hz. Is the crystal (or the ST-LINK's clock, MCO) that the port uses fitted and connected?",
            figures,
        )  # fmt: skip
    if contact.emulated:
        return Finding(
            "clock", "not here", "an emulator's time is virtual: there is nothing to compare it with", figures
        )
    found = read_clock(contact, seconds)
    figures |= {"measured_hz": found.measured_hz, "off_pct": 100 * found.off, "over_s": found.over_s}
    if found.celsius is not None:
        figures["celsius"] = found.celsius
    if not found.is_right:
        return Finding(
            "clock", "wrong", f"the core runs at {found.measured_hz:,} Hz by the host's clock, not at {wanted:,} Hz: "
            "another crystal than the port expects, or a wrong clock_hz in the board file", figures,
        )  # fmt: skip
    return Finding("clock", "right", found.words(), figures)


def line(contact: Contact, echoes: int = ECHOES) -> Finding:
    """The serial port: commands there and back, every one checked."""
    generator, before, started = random.Random(1), contact.device.retries, time.monotonic()
    for _ in range(echoes):
        sent = tuple(generator.getrandbits(32) for _ in range(3))
        _, words, _ = contact.ask(ECHO, *sent)
        if words[1:4] != sent:
            return Finding("line", "wrong", f"{sent} came back as {words[1:4]}, unnoticed by its CRC: report this")
    took_ms, retries = 1000 * (time.monotonic() - started) / echoes, contact.device.retries - before
    figures: dict[str, int | float | str] = {"exchanges": echoes, "repeated": retries, "ms_each": took_ms}
    if not contact.emulated and link_of(contact.board.target(contact.session.via)) == "uart":
        figures["baud"] = contact.board.baud
    if retries:
        return Finding(
            "line", "wrong", f"{retries} of {echoes} exchanges had to be repeated: bytes are damaged or lost. Try "
            "another cable or port of the computer, without a hub; see docs/link.md", figures,
        )  # fmt: skip
    return Finding("line", "right", f"{echoes} exchanges, each checked, none repeated", figures)


def rates(contact: Contact) -> Finding:
    """The serial port at more than its rate, up to the first that loses the device: so this comes last.

    Nothing runs at those rates; they show how much room the clock, the adapter and the cable leave at the board's own.
    """
    reached: list[str] = []
    figures: dict[str, int | float | str] = {}
    quick = contact.session.timeouts.command_s  # no loop of minutes is to come, and there may be no answer at all
    contact.device.timeouts = replace(contact.device.timeouts, inference_s=quick)
    own, higher = contact.board.baud, [rate for rate in RATES if rate > contact.board.baud]
    if not higher:
        return Finding("higher rates", "not here", f"none is tried above {own:,} baud")
    for rate in higher:
        try:
            if not (divided := contact.change_rate(rate)):
                return Finding("higher rates", "not here", "the link has no rate")
            found = line(contact, EMULATED_ECHOES if contact.emulated else ECHOES)
        except LinkError:
            found = Finding("line", "wrong", "no answer")
        if found.outcome == "wrong":
            break
        reached.append(f"{rate:,}")
        figures |= {f"off_pct_at_{rate}": 100 * (divided / rate - 1), f"ms_each_at_{rate}": found.figures["ms_each"]}
    if not reached:
        return Finding(
            "higher rates", "wrong", f"at {higher[0]:,} baud it is lost: {own} has little room. Is the core's clock "
            "right (see above), the cable short, the adapter one that can do more?", figures,
        )  # fmt: skip
    virtual = " (of an emulator's line, which has no rate of its own)" if contact.emulated else ""
    until = "" if len(reached) == len(higher) else f"; at {higher[len(reached)]:,} it is lost, which costs nothing"
    return Finding("higher rates", "right", f"at {', '.join(reached)} baud nothing is lost{virtual}{until}", figures)


def counter(contact: Contact) -> Finding:
    """That the cycle counter is continued past its 32 bits."""
    per_round = pace_of(contact).per_round
    rounds = round(1.05 * 2**COUNTER_BITS / per_round)
    figures: dict[str, int | float | str] = {"rounds": rounds}
    if contact.emulated and rounds > EMULATED_ROUNDS * 2:
        return Finding("counter", "not here", f"a wrap takes {2 * rounds:,} emulated instructions, minutes", figures)
    ticks, _, took_s = contact.ask(LOOP, rounds)
    off = ticks / (rounds * per_round) - 1
    figures |= {"ticks": ticks, "off_pct": 100 * off, "over_s": took_s}
    if ticks < 2**COUNTER_BITS or abs(off) > LINEAR_LIMIT:
        return Finding(
            "counter", "wrong", f"{rounds:,} rounds took {ticks:,} ticks, not {rounds * per_round:,.0f}: the counter "
            "is not continued over its wrap. Does the second timer of the port run, at the rate that it says?", figures,
        )  # fmt: skip
    return Finding(
        "counter", "right", f"{ticks:,} ticks, more than 32 bits hold, and as many as the loop takes", figures
    )


def repeats(contact: Contact) -> Finding:
    """The same loop many times: nothing but the timer's own step may tell two of them apart."""
    times = sorted(contact.ask(LOOP, TRIAL_ROUNDS)[0] for _ in range(REPEATS))
    spread, middle = times[-1] - times[0], times[len(times) // 2]
    figures = {"times": REPEATS, "median_ticks": middle, "spread_ticks": spread}
    if spread > TIMER_STEPS:
        return Finding(
            "repeatability", "wrong", f"the same loop took {times[0]:,} to {times[-1]:,} ticks: something interrupts "
            "it or shares its memory (a debugger that is attached, DMA, an interrupt left on)", figures,
        )  # fmt: skip
    return Finding("repeatability", "right", f"{REPEATS} times the same loop, {spread} ticks apart at most", figures)


def caches(contact: Contact) -> tuple[Finding, ...]:
    """A loop with and without each of what speeds the flash up."""
    rows = ACCELERATORS.get(contact.board.target(contact.session.via).port, ())
    if not rows:
        return (Finding("caches", "not here", "the port switches none on"),)
    if contact.emulated:
        return (Finding("caches", "not here", "an emulator has the registers at most, and no waiting for flash"),)
    found = []
    for name, address, bits in rows:
        fast, _, _ = contact.ask(LOOP, TRIAL_ROUNDS)
        slow, words, _ = contact.ask(LOOP_WITHOUT, address, bits, TRIAL_ROUNDS)
        figures = {"ticks_with": fast, "ticks_without": slow, "ratio": slow / fast}
        if words[0] != bits:
            text = f"the {name} was off (0x{words[0]:08x} of 0x{bits:08x}): the port did not switch it on"
            found.append(Finding(name, "wrong", text, figures))
        elif slow < SLOWER * fast and "cache" in name:
            text = (
                f"without the {name} the loop is as fast as with it: it runs from elsewhere, or switching it on failed"
            )
            found.append(Finding(name, "wrong", text, figures))
        else:
            found.append(Finding(name, "right", f"without it the loop takes {slow / fast:.2f} times as long", figures))
    return tuple(found)


def ram(contact: Contact) -> Finding:
    """Every word of RAM that the firmware does not use itself."""
    target, budget = contact.board.target(contact.session.via), contact.board.budget
    start = target.sram.origin + budget.sram
    size = target.sram.end - start
    if size < 4:
        return Finding("ram", "not here", "the budget is all the RAM that there is")
    _, words, _ = contact.ask(MEMORY, start, size)
    where = f"0x{start:08x} to 0x{target.sram.end:08x}"
    figures: dict[str, int | float | str] = {"bytes": size, "wrong_words": words[0]}
    if words[0]:
        return Finding(
            "ram", "wrong", f"of {where}, RAM by the board file, {words[0]:,} words do not hold what is written, the "
            f"first at 0x{words[1]:08x}: the chip has less RAM than its file says, or in several banks", figures,
        )  # fmt: skip
    return Finding("ram", "right", f"{where} holds what is written to it, every word", figures)


def flash_end(contact: Contact) -> Finding:
    """The last word of flash can be read. A chip with less of it faults, so this comes last."""
    last = contact.board.target(contact.session.via).flash.end - 4
    try:
        _, words, _ = contact.ask(READ, last)
    except TargetFaultError as error:
        return Finding("flash", "wrong", f"the last word of flash, at 0x{last:08x}, is not there: {error}")
    return Finding("flash", "right", f"the last word, at 0x{last:08x}, can be read", {"word": f"0x{words[0]:08x}"})


def guarded(step: str, error: LinkError | TargetFaultError) -> Finding:
    """The finding for a step in which the device was lost."""
    return Finding(step, "wrong", f"the device was lost: {error}")
