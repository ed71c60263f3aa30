"""Bring-up on emulated boards: what is right is found right, and what is made wrong is found wrong, in words."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.board import Board, Budget, load_board
from hil.boards.target import Region
from hil.bring_up import run as bring_up_module
from hil.bring_up import steps
from hil.bring_up.contact import Contact, RatedPort
from hil.bring_up.report import BringUp, Finding
from hil.bring_up.run import bring_up
from hil.errors import CheckFailed, LinkTimeout
from hil.targets.place import Place
from hil.targets.runners.base import Session
from hil.targets.runners.qemu import QEMU
from hil.targets.runners.renode import VARIABLE
from tests.firmware import images

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]
BOARD = load_board("mps2-an386")


@pytest.fixture(autouse=True)
def _tools() -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")


def outcomes(found: BringUp) -> dict[str, str]:
    return {item.step: item.outcome for item in found.findings}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mps2-an386", "mps2-an500"])
def test_an_emulated_board_is_right(name: str) -> None:
    told: list[Finding] = []
    found = bring_up(load_board(name), Place("qemu", "asked for"), told=told.append)
    assert outcomes(found) == {
        "place": "right", "flash and reset": "right", "boot": "right", "core": "right", "line": "right",
        "clock": "not here", "repeatability": "right", "counter": "right", "ram": "right", "caches": "not here",
        "flash": "right", "higher rates": "right",
    }  # fmt: skip
    assert tuple(told) == found.findings
    assert found.is_right
    (counter,) = [item for item in found.findings if item.step == "counter"]
    assert int(counter.figures["ticks"]) > 2**32
    document = json.loads(json.dumps(found.to_json()))
    assert (document["board"], document["right"], len(document["findings"])) == (name, True, 12)
    assert found.to_text().count("\n- **") == 12


def on(board: Board, step: Callable[[Contact], Finding], **changes: object) -> Finding:
    """What `step` finds on QEMU's machine when it believes `board`, and a session with `changes`."""
    found: list[Finding] = []

    def only(_: Board, session: Session, seconds: float, tell: Callable[[Finding], None]) -> None:
        device = bring_up_module.Device(session.port, session.timeouts)
        device.wait_ready()
        found.append(step(Contact(board, replace(session, **changes), device)))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bring_up_module, "_on_device", only)
        report = bring_up(BOARD, Place("qemu", "asked for"))
    assert found, report.to_text()
    return found[0]


def test_another_core() -> None:
    found = on(load_board("mps2-an500"), steps.core)
    assert (found.outcome, found.words[:38]) == ("wrong", "it is cortex-m4, the board file says c")


def test_less_ram_than_the_file_says() -> None:
    assert BOARD.qemu is not None
    target = BOARD.qemu.model_copy(update={"sram": Region(origin=0x20000000, length=(9 << 20) + 4096)})
    budget = Budget(flash=64 << 10, sram=9 << 20)  # from 4 to 8 MB the RAM is there a second time
    found = on(BOARD.model_copy(update={"qemu": target, "budget": budget}), steps.ram)
    assert found.outcome == "wrong"
    assert "1,024 words" in found.words
    assert "first at 0x20900000" in found.words


def test_clocks_of_a_board_that_is_not_emulated() -> None:
    """QEMU's virtual time runs at another rate than the host's, as a wrong crystal would make it."""
    found = on(BOARD, lambda contact: steps.clock(contact, 0.5), simulated=False)
    assert (found.outcome, "by the host's clock, not at 25,000,000 Hz" in found.words) == ("wrong", True)
    found = on(BOARD, lambda contact: steps.clock(contact, 0.5), simulated=False, ticks_hz=168_000_000)
    assert (found.outcome, "the clock tree did not start" in found.words) == ("wrong", True)


def test_a_loop_that_is_disturbed() -> None:
    class Disturbed(Contact):
        """Now and then something takes 3 ticks."""

        def ask(self, command: int, *arguments: int) -> tuple[int, tuple[int, ...], float]:
            ticks, words, took_s = super().ask(command, *arguments)
            return ticks + 3 * (next(count) % 7 == 0), words, took_s

    count = itertools.count()
    found = on(BOARD, lambda contact: steps.repeats(Disturbed(contact.board, contact.session, contact.device)))
    assert (found.outcome, "something interrupts it" in found.words) == ("wrong", True)


@pytest.mark.slow
def test_a_line_that_loses_bytes() -> None:
    class Lossy:
        """Drops every 400th byte that the device sends."""

        def __init__(self, port: object) -> None:
            self._port, self._count = port, 0

        def __getattr__(self, name: str) -> object:
            return getattr(self._port, name)

        def read(self, size: int = 1) -> bytes:
            kept = bytearray()
            for byte in self._port.read(size):  # type: ignore[attr-defined]
                self._count += 1
                if self._count % 400:
                    kept.append(byte)
            return bytes(kept)

    def lossy(contact: Contact) -> Finding:
        contact.device._exchange._channel.port = Lossy(contact.session.port)  # type: ignore[assignment]
        return steps.line(contact)

    found = on(BOARD, lossy)
    assert (found.outcome, "had to be repeated" in found.words) == ("wrong", True)


@pytest.mark.slow
@pytest.mark.parametrize(("most", "outcome", "words"), [
    (460_800, "right", "at 230,400, 460,800 baud nothing is lost (of an emulator's line, which has no rate of its "
     "own); at 921,600 it is lost"),
    (115_200, "wrong", "at 230,400 baud it is lost: 115200 has little room"),
])  # fmt: skip
def test_an_adapter_that_cannot_do_more(most: int, outcome: str, words: str) -> None:
    class Slow(RatedPort):
        """At more than `most` baud nothing comes through."""

        rate = 115_200

        def set_rate(self, rate: int) -> None:
            super().set_rate(rate)
            self.rate = rate

        def read(self, size: int = 1) -> bytes:
            got = super().read(size)
            return got if self.rate <= most else b""

    def slow(contact: Contact) -> Finding:
        port = Slow(contact.session.port)
        contact.device._exchange._channel.port = port
        timeouts = replace(contact.session.timeouts, command_s=2.0)
        return steps.rates(replace(contact, session=replace(contact.session, port=port, timeouts=timeouts)))

    found = on(BOARD, slow)
    assert (found.outcome, words in found.words) == (outcome, True), found.words


def test_a_board_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def open(self, image: Path, board: Board) -> AbstractContextManager[Session]:
            @contextmanager
            def opened() -> object:  # type: ignore[misc]
                raise LinkTimeout("no complete reply to the boot message within 10.0 s")
                yield

            return opened()  # type: ignore[return-value]

    monkeypatch.setattr(bring_up_module, "make_runner", lambda *_: Silent())
    found = bring_up(BOARD, Place("qemu", "asked for"))
    assert outcomes(found) == {"place": "right", "contact": "wrong"}
    assert "no complete reply" in found.findings[-1].words
    assert not found.is_right


def test_the_command_says_1_when_something_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hil.cli import bring_up as command

    wrong = BringUp("mps2-an386", "qemu", "qemu", "gcc", (Finding("ram", "wrong", "too little"),))
    monkeypatch.setattr(bring_up_module, "bring_up", lambda *_: wrong)
    with pytest.raises(CheckFailed, match="wrong: ram"):
        command.bring_up("mps2-an386", "qemu", seconds=1.0, output=tmp_path / "new" / "report.md")
    assert "**ram**: wrong. too little" in (tmp_path / "new" / "report.md").read_text()


@pytest.mark.slow
def test_under_renode() -> None:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no Renode")
    found = bring_up(load_board("nucleo-l4r5zi"), Place("renode", "asked for"))
    assert found.is_right, found.to_text()
    assert outcomes(found)["ram"] == outcomes(found)["core"] == outcomes(found)["higher rates"] == "right"
