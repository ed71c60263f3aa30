"""Bring-up from the first step to the last: a step that fails is told, and those that need it are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hil.boards.board import Board
from hil.bring_up import steps
from hil.bring_up.contact import Contact, RatedPort
from hil.bring_up.image import build_bring_up
from hil.bring_up.report import BringUp, Finding
from hil.build.toolchain import find_toolchain
from hil.errors import HilError, LinkError, TargetFaultError
from hil.link.device import Device
from hil.targets.detect import linked_as
from hil.targets.place import Place, make_runner
from hil.targets.runners.base import Session
from munas.scratch import scratch_folder

LONGEST_S = 300.0  # of one step: a 32-bit counter at 16 MHz, the reset clock, takes 268 s
Told = Callable[[Finding], None]


def bring_up(board: Board, place: Place, seconds: float = 10.0, told: Told = lambda _: None) -> BringUp:
    """All steps on `board` at `place`; `told` hears of each finding as it is made. `seconds`: for the clock.

    Raises ToolMissing and BuildError when the image cannot be made; what is wrong with the board is in the report.
    """
    board, toolchain = linked_as(board, place.devices), find_toolchain()
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        told(finding)

    tell(Finding("place", "right", place.reason))
    with scratch_folder("bring-up") as folder:
        image = build_bring_up(board, place.via, toolchain, folder)
        try:
            with make_runner(place.via, place.devices).open(image.elf, board) as session:
                tell(Finding("flash and reset", "right", f"{image.elf.stat().st_size:,} bytes of ELF are on it"))
                _on_device(board, session, seconds, tell)
        except HilError as error:
            reached = findings[-1].step if findings else "nothing"
            tell(Finding("contact", "wrong", f"behind {reached!r}: {error}"))
    devices = ", ".join(device.describe() for device in place.devices) or place.via
    return BringUp(board.name, place.via, devices, toolchain.version, tuple(findings))


def _on_device(board: Board, session: Session, seconds: float, tell: Told) -> None:
    session = replace(session, port=RatedPort(session.port))
    device = Device(session.port, replace(session.timeouts, inference_s=LONGEST_S))
    device.wait_ready()
    identity = device.identity()
    tell(Finding("boot", "right", f"the firmware answers; its timer counts {identity.timer}"))
    contact = Contact(board, session, device)
    for name, step in (
        ("core", steps.core), ("line", steps.line), ("clock", lambda found: steps.clock(found, seconds)),
        ("repeatability", steps.repeats), ("counter", steps.counter), ("ram", steps.ram),
    ):  # fmt: skip
        _take(name, step, contact, tell)
    for finding in steps.caches(contact):
        tell(finding)
    # These two may lose the device.
    _take("flash", steps.flash_end, contact, tell)
    _take("higher rates", steps.rates, contact, tell)


def _take(name: str, step: Callable[[Contact], Finding], contact: Contact, tell: Told) -> None:
    try:
        tell(step(contact))
    except (LinkError, TargetFaultError) as error:
        tell(steps.guarded(name, error))
        raise
