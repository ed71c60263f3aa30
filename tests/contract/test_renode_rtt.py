"""RTT's rings in the RAM of boards under Renode, through its GDB server: the runner's contract, with boards' firmware.

Nothing but tests does so: that server listens on all addresses, and obeys whoever connects (docs/link.md)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.boards.board import Board, load_board
from hil.boards.linked import linked
from hil.build.elf import read_symbols
from hil.errors import RunnerError
from hil.link.gdb_remote import GdbRemote
from hil.link.rtt import SYMBOL, RttPort
from hil.targets.runners.base import Runner, Session
from hil.targets.runners.renode import EMULATED, VARIABLE
from hil.timers import is_simulated
from tests.contract.processes import gone
from tests.contract.test_runner import RANDOM, Image, RttContract, boot
from tests.firmware import images
from tests.gdb_board import renode_board

BUSY_S = 60.0  # until an emulator answers that other work keeps from running


class RttOfRenode:
    """A runner; `pid` is of the one Renode that it has running."""

    pid = 0

    @contextmanager
    def open(self, image: Path, board: Board) -> Iterator[Session]:
        """See `Runner.open`."""
        if not image.is_file():
            raise RunnerError(f"the image {image.name} does not exist")
        with renode_board(board.name, image) as found:
            self.pid = found.pid
            host, _, number = found.address.partition(":")
            port = RttPort(
                GdbRemote(socket.create_connection((host, int(number)), BUSY_S), BUSY_S), read_symbols(image)[SYMBOL]
            )
            try:
                yield Session(
                    port, "renode", is_simulated("renode"), board.target("renode").timer, timeouts=EMULATED,
                    ticks_hz=board.clock_hz,
                )  # fmt: skip
            finally:
                port.close()


@pytest.fixture(scope="module")
def objects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the objects of each board go, compiled once."""
    return tmp_path_factory.mktemp("objects")


@pytest.mark.firmware
@pytest.mark.slow
@pytest.mark.parametrize("board_name", ["nucleo-f746zg", "nucleo-l4r5zi", "nucleo-h743zi"])
class TestRttOfRenode(RttContract):
    via = "renode"
    death_noticed_s = BUSY_S

    @pytest.fixture
    def runner(self) -> Runner:
        if VARIABLE not in os.environ:
            pytest.skip(f"{VARIABLE} names no Renode")
        self.place = RttOfRenode()
        return self.place

    @pytest.fixture
    def board(self, board_name: str) -> Board:
        return linked(load_board(board_name), "rtt")

    @pytest.fixture
    def image(self, board: Board, objects_folder: Path, tmp_path: Path) -> Image:
        folder = objects_folder / board.name
        objects = tuple(folder.glob("*.o")) or images.compiled_for(board, "renode", folder)
        memory = images.memory_of(board.target("renode"))
        return lambda model: images.link(
            images.header() + model, objects, tmp_path / "linked", core=board.core, memory=memory
        )

    def kill_place(self) -> None:
        os.killpg(self.place.pid, signal.SIGKILL)

    def check_nothing_left(self) -> None:
        assert gone(self.place.pid, BUSY_S)
        assert self.sessions
        assert not any(session.port.is_open for session in self.sessions)  # type: ignore[attr-defined]

    # --- its own ------------------------------------------------------------------------------------------------

    def test_as_many_instructions_as_with_a_uart(self, runner: Runner, board: Board, image: Image) -> None:
        with runner.open(image(images.countdown(10_000)), board) as session:
            device = boot(session)
            assert {session.ticks_to_units(device.run(RANDOM).ticks) for _ in range(3)} == {20_002}
