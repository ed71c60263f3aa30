"""The Renode runner keeps the runner's contract, with a stand-in for Renode. What Renode itself does is not tested."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hil.boards.board import Board, board_names, load_board
from hil.boards.core import load_core
from hil.errors import BoardError, RunnerError, ToolMissing
from hil.link.device import Timeouts
from hil.targets.runners.base import Runner, Session
from hil.targets.runners.qemu import QEMU
from hil.targets.runners.renode import RenodeRunner, find_renode, platform_file
from tests import fake_renode
from tests.contract.processes import gone
from tests.contract.test_runner import RANDOM, Image, RunnerContract, boot
from tests.fake_board import FakeBoard
from tests.firmware import images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def renode_objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The runtime with the port that the stand-in's machine has, under Renode's timer kind."""
    images.need_toolchain()
    folder = tmp_path_factory.mktemp("objects")
    text = (images.FIRMWARE / "port" / "mps2.c").read_text()
    assert "icount-instructions" in text
    (folder / "mps2.c").write_text(text.replace("icount-instructions", "renode-instructions"))
    sources = [*sorted((images.FIRMWARE / "runtime").glob("*.c")), folder / "mps2.c"]
    flags = [*load_core("cortex-m7").flags, *images.FLAGS, f"-I{images.FIRMWARE / 'runtime'}"]
    subprocess.run([images.GCC, *flags, "-c", *map(str, sources)], cwd=folder, check=True, timeout=120)
    return tuple(folder / f"{source.stem}.o" for source in sources)


@pytest.mark.firmware
@pytest.mark.qemu
class TestRenodeRunner(RunnerContract):
    via = "renode"

    @pytest.fixture
    def runner(self, tmp_path: Path) -> Runner:
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed")
        folder = tmp_path / "renode"
        self.fake = FakeBoard(folder, "mps2-an500")
        script = fake_renode.install(folder, "mps2-an500")
        return RenodeRunner([str(script)], Timeouts(10.0, 1.0, 20.0), start_timeout_s=10.0)

    @pytest.fixture
    def board(self) -> Board:
        return load_board("nucleo-f746zg")

    @pytest.fixture
    def image(self, renode_objects: tuple[Path, ...], tmp_path: Path) -> Image:
        return lambda model: images.link(images.header() + model, renode_objects, tmp_path, core="cortex-m7")

    def kill_place(self) -> None:
        self.fake.kill()

    def check_nothing_left(self) -> None:
        pid = self.fake.pid()
        assert pid is None or gone(pid, 1.0)
        assert self.sessions
        assert not any(session.port.is_open for session in self.sessions)  # type: ignore[attr-defined]

    # --- its own ------------------------------------------------------------------------------------------------

    def test_death_says_what_renode_said(self, runner: Runner, board: Board, image: Image) -> None:
        def victim(session: Session) -> None:
            device = boot(session)
            self.kill_place()
            device.run(RANDOM)

        with pytest.raises(RunnerError, match="error: the machine is gone"):
            self.within(runner.open(image(images.ENDLESS), board), victim)

    def test_a_renode_that_fails_says_why(self, board: Board, image: Image, tmp_path: Path) -> None:
        script = tmp_path / "renode.sh"
        script.write_text("#!/bin/sh\necho 'There was an error executing command: bad platform'\nexit 1\n")
        script.chmod(0o755)
        with (
            pytest.raises(RunnerError, match="bad platform"),
            RenodeRunner([str(script)]).open(image(images.ADDER), board),
        ):
            pass

    def test_a_renode_that_hangs_is_given_up(
        self, board: Board, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hil.targets.runners.renode.STOP_TIMEOUT_S", 0.2)
        script = tmp_path / "renode.sh"
        script.write_text("#!/bin/sh\nsleep 60\n")
        script.chmod(0o755)
        runner = RenodeRunner([str(script)], start_timeout_s=0.3)
        with pytest.raises(RunnerError, match=r"no serial port within 0\.3 s"), runner.open(image(images.ADDER), board):
            pass

    def test_a_board_without_a_platform(self, runner: Runner, image: Image) -> None:
        board = load_board("nucleo-f746zg").model_copy(update={"name": "nucleo-unknown"})
        with pytest.raises(BoardError, match=r"nucleo-unknown\.repl"), runner.open(image(images.ADDER), board):
            pass


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).hardware])
def test_platforms_describe_the_board(name: str) -> None:
    """Sizes and addresses are those of the board file; Renode's own syntax is not checked here."""
    board = load_board(name)
    assert board.hardware is not None
    text = platform_file(board).read_text()
    for region in (board.hardware.flash, board.hardware.sram):
        assert f"@ sysbus 0x{region.origin:08X}\n    size: 0x{region.length:X}" in text
    assert f'cpuType: "{board.core}"' in text
    assert "vcp: UART.STM32F7_USART" in text
    assert ("lowPowerMode: true" in text) == ("LPUART" in board.uart.name)


@pytest.mark.parametrize(("name", "shift"), [("nucleo-f746zg", 1), ("nucleo-h743zi", 1), ("nucleo-l4r5zi", 0)])
def test_renodes_timers_count_every_instruction(name: str, shift: int) -> None:
    """Its time is in whole nanoseconds. The coarse timer runs at 2^-shift of the counter's clock, as on the chip."""
    text = platform_file(load_board(name)).read_text()
    (mips,) = re.findall(r"^    PerformanceInMips: (\d+)$", text, re.MULTILINE)
    (counter,) = re.findall(r"^dwt: Miscellaneous\.DWT @ sysbus 0xE0001000\n    frequency: (\d+)$", text, re.MULTILINE)
    (coarse,) = re.findall(r"^timer2: Timers\.STM32_Timer @ \S+ \S+\n    frequency: (\d+)$", text, re.MULTILINE)
    assert 1000 % int(mips) == 0
    assert int(counter) == int(mips) * 1_000_000 == int(coarse) << shift


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_where_renode_is_looked_for(tmp_path: Path) -> None:
    ours, listed = program(tmp_path / "own" / "renode"), program(tmp_path / "bin" / "renode")
    run = program(tmp_path / "run" / "renode-run")
    path = str(listed.parent)
    assert find_renode({"RENODE_PATH": str(ours.parent), "PATH": path}) == [str(ours)]
    assert find_renode({"RENODE_PATH": str(ours), "PATH": path}) == [str(ours)]
    assert find_renode({"PATH": f"{run.parent}:{path}"}) == [str(listed)]
    assert find_renode({"PATH": str(run.parent)}) == [str(run), "exec", "--"]


def test_a_wrong_renode_path_is_not_ignored(tmp_path: Path) -> None:
    listed = program(tmp_path / "bin" / "renode")
    with pytest.raises(ToolMissing, match="neither a program nor a folder"):
        find_renode({"RENODE_PATH": str(tmp_path), "PATH": str(listed.parent)})
    with pytest.raises(ToolMissing, match="renode-run"):
        find_renode({"PATH": str(tmp_path)})
