"""The Renode runner keeps the contract: with a stand-in for Renode, and with Renode where RENODE_PATH names one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from hil.boards.board import Board, board_names, load_board
from hil.boards.core import load_core
from hil.errors import BoardError, RunnerError, TargetFaultError, ToolMissing
from hil.link.device import Timeouts
from hil.targets.runners.base import Runner, Session
from hil.targets.runners.qemu import QEMU, QemuRunner
from hil.targets.runners.renode import VARIABLE, RenodeRunner, find_renode, platform_file
from tests import fake_renode
from tests.contract.processes import children, gone, of_session
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
    def runner(self, tmp_path: Path) -> Iterator[Runner]:
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed")
        folder = tmp_path / "renode"
        self.fake = FakeBoard(folder, "mps2-an500")
        script = fake_renode.install(folder, "mps2-an500")
        runner = RenodeRunner([str(script)], Timeouts(10.0, 1.0, 20.0), start_timeout_s=120.0)
        yield runner
        runner.close()

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

        with pytest.raises(RunnerError, match="status 1: error: the machine is gone") as caught:
            self.within(runner.open(image(images.ENDLESS), board), victim)
        assert "warning" not in str(caught.value)

    def test_one_renode_for_all_sessions_until_one_fails(self, runner: Runner, board: Board, image: Image) -> None:
        made, starts = image(images.ADDER), self.fake.folder / "starts"
        for _ in range(3):
            self.within(runner.open(made, board), lambda session: boot(session).run(RANDOM))
            self.check_nothing_left()
        assert len(starts.read_text().splitlines()) == 1
        with pytest.raises(KeyError), runner.open(made, board):
            raise KeyError
        self.within(runner.open(made, board), boot)
        assert len(starts.read_text().splitlines()) == 2

    def test_its_folder_goes_with_it(
        self, runner: RenodeRunner, board: Board, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a folder with a space and quotes, which Renode's command line would take for the ends of words."""
        scratch = tmp_path / "a space's \" end"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        self.within(runner.open(image(images.ADDER), board), lambda session: boot(session).run(RANDOM))
        assert len(list(scratch.iterdir())) == 1
        runner.close()
        assert list(scratch.iterdir()) == []

    def test_a_dead_one_is_not_used_again(self, runner: RenodeRunner, board: Board, image: Image) -> None:
        made = image(images.ADDER)
        self.within(runner.open(made, board), boot)
        (kept,) = children(os.getpid(), "renode")
        os.kill(kept, signal.SIGKILL)
        assert gone(kept, 2.0)
        self.within(runner.open(made, board), lambda session: boot(session).run(RANDOM))

    def test_a_session_that_is_over_is_not_lost_with_its_renode(
        self, runner: RenodeRunner, board: Board, image: Image
    ) -> None:
        made = image(images.ADDER)

        def answered(session: Session) -> None:
            boot(session).run(RANDOM)
            (renode,) = children(os.getpid(), "renode")
            os.kill(renode, signal.SIGKILL)

        self.within(runner.open(made, board), answered)
        self.within(runner.open(made, board), lambda session: boot(session).run(RANDOM))


@pytest.mark.firmware
class TestFailures:
    """Of a program in Renode's place."""

    @pytest.fixture
    def board(self) -> Board:
        return load_board("nucleo-f746zg")

    @pytest.fixture
    def elf(self, renode_objects: tuple[Path, ...], tmp_path: Path) -> Path:
        return images.link(images.header() + images.ADDER, renode_objects, tmp_path, core="cortex-m7")

    def fail(self, tmp_path: Path, script: str, elf: Path, board: Board, start_timeout_s: float = 120.0) -> str:
        """The error of a Renode that does what `script` says."""
        program(tmp_path / "renode").write_text(f"#!/bin/sh\n{script}\n")
        runner = RenodeRunner([str(tmp_path / "renode")], start_timeout_s=start_timeout_s)
        with pytest.raises(RunnerError) as caught, runner.open(elf, board):
            pass
        deadline = time.monotonic() + 30
        while children(os.getpid(), "renode"):  # what removes its folder ends a moment later
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return str(caught.value)

    def test_a_renode_that_fails_says_why(self, board: Board, elf: Path, tmp_path: Path) -> None:
        said = self.fail(tmp_path, "echo 'There was an error executing command: bad platform'\nexit 1", elf, board)
        assert "status 1" in said
        assert "bad platform" in said

    def test_a_script_that_fails_is_told_at_once(self, board: Board, elf: Path, tmp_path: Path) -> None:
        """Renode itself goes on, and waits for the next command."""
        started = time.monotonic()
        script = (
            "read include; read mark; echo '12:00:00.0000 [WARNING] a normal warning'\n"
            "echo \"There was an error executing command '$include'\"; echo 'Bad platform'\n"
            'echo "$mark" | sed "s/echo //; s/\\"//g"; sleep 60'
        )
        said = self.fail(tmp_path, script, elf, board)
        assert said.endswith("There was an error executing command 'include @machine.resc' Bad platform")
        assert time.monotonic() - started < 50  # it does not wait for the script, which takes 60 s

    def test_one_that_is_too_old_is_refused(self, board: Board, elf: Path, tmp_path: Path) -> None:
        """It would count in steps of whole quanta."""
        program(tmp_path / "renode").write_text(
            "#!/bin/sh\nread include; read mark; echo 'Renode, version 1.15.3.9 (abc)'\n"
            'echo "$mark" | sed "s/echo //; s/\\"//g"; sleep 60\n'
        )
        with pytest.raises(ToolMissing, match=r"1\.15\.3\.9.* 1\.16 is the oldest"):
            RenodeRunner([str(tmp_path / "renode")]).open(elf, board).__enter__()

    def test_a_renode_that_hangs_is_given_up(self, board: Board, elf: Path, tmp_path: Path) -> None:
        assert "did not do 'include @machine.resc' within 0.3 s" in self.fail(tmp_path, "sleep 60", elf, board, 0.3)

    @pytest.mark.parametrize(("content", "why"), [(b"#!text\n" * 100, "not an ELF file"), (None, "for Arm")])
    def test_what_is_no_image_is_refused(
        self, board: Board, tmp_path: Path, content: bytes | None, why: str
    ) -> None:  # fmt: skip
        image = tmp_path / "image.elf"
        image.write_bytes(Path("/bin/sh").read_bytes() if content is None else content)
        assert why in self.fail(tmp_path, "exit 1", image, board)

    def test_a_board_without_a_platform(self, elf: Path) -> None:
        board = load_board("nucleo-f746zg").model_copy(update={"name": "nucleo-unknown"})
        with pytest.raises(BoardError, match=r"nucleo-unknown\.repl"), RenodeRunner(["false"]).open(elf, board):
            pass

    def test_nothing_is_left_of_a_session_whose_owner_is_killed(self, elf: Path, tmp_path: Path) -> None:
        """Neither the emulator nor its folder."""
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        program(tmp_path / "renode").write_text("#!/bin/sh\necho $$ > pid\nexec sleep 600\n")
        owner = subprocess.Popen(
            [
                sys.executable, "-c",
                "import sys\nfrom pathlib import Path\nfrom hil.boards.board import load_board\n"
                "from hil.targets.runners.renode import RenodeRunner\n"
                "with RenodeRunner([sys.argv[1]]).open(Path(sys.argv[2]), load_board('nucleo-f746zg')): pass\n",
                str(tmp_path / "renode"), str(elf),
            ],
            env={**os.environ, "TMPDIR": str(scratch)},
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not (pids := [file for file in scratch.glob("*/pid") if file.read_text().strip()]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while not children(owner.pid, "sh"):  # what removes the folder is started after Renode
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pid = int(pids[0].read_text())
        owner.kill()
        owner.wait()
        assert gone(pid, 30.0)
        deadline = time.monotonic() + 60
        while list(scratch.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


# --- Renode itself ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renode() -> Iterator[RenodeRunner]:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no Renode: its runner was tested with a stand-in only")
    runner = RenodeRunner(find_renode(), Timeouts(60.0, 30.0, 60.0, 20.0), start_timeout_s=180.0)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def objects_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Board], tuple[Path, ...]]:
    """The runtime and a board's port as they are compiled for Renode, once."""

    @cache
    def compile_for(name: str) -> tuple[Path, ...]:
        return images.compiled_for(load_board(name), "renode", tmp_path_factory.mktemp(name))

    return lambda board: compile_for(board.name)


FAULTS = {
    "undefined": "undefined instruction",
    "nowhere": "instruction fetch forbidden",
    "frame": "stack overflowed",
    "recursion": "stack overflowed",
    "lockup": "undefined instruction",
    "wild": "core stopped",
}
WILD = "int hil_model_infer(hil_mark_fn m) { (void)m; ((void (*)(void))0x60000001)(); return 0; }"

# Gives what it finds at an address where nobody's memory is, and leaves another byte there.
SCRIBBLER = """
int hil_model_infer(hil_mark_fn mark)
{
    volatile uint8_t *const byte = (volatile uint8_t *)0x%x;
    (void)mark;
    hil_arena[hil_model.output_offset] = (int8_t)*byte;
    *byte = 7;
    return 0;
}
"""


@pytest.mark.firmware
@pytest.mark.parametrize("board_name", [name for name in board_names() if load_board(name).hardware])
class TestRealRenode(RunnerContract):
    """Every board with a platform, in Renode."""

    via = "renode"

    @pytest.fixture
    def runner(self, renode: RenodeRunner) -> Runner:
        return renode

    @pytest.fixture
    def board(self, board_name: str) -> Board:
        return load_board(board_name)

    @pytest.fixture
    def image(self, objects_of: Callable[[Board], tuple[Path, ...]], board: Board, tmp_path: Path) -> Image:
        objects, target = objects_of(board), board.target("renode")
        return lambda model: images.link(
            images.header() + model, objects, tmp_path, core=board.core, memory=images.memory_of(target)
        )  # fmt: skip

    def kill_place(self) -> None:
        for pid in _in_sessions_of(os.getpid()):
            with suppress(ProcessLookupError):  # a launcher ends with what it launched
                os.kill(pid, signal.SIGKILL)

    def check_nothing_left(self) -> None:
        assert self.sessions
        assert not any(session.port.is_open for session in self.sessions)  # type: ignore[attr-defined]
        assert len(_leaders(os.getpid())) <= 1  # the one that is kept

    @pytest.mark.parametrize("fault", FAULTS)
    def test_every_fault_is_reported(self, runner: Runner, board: Board, image: Image, fault: str) -> None:
        made = image(images.FAULTS.get(fault, WILD))
        started = 0.0

        def run(session: Session) -> None:
            nonlocal started
            device = boot(session)
            started = time.monotonic()
            device.run(RANDOM)

        with pytest.raises(TargetFaultError, match=FAULTS[fault]) as caught:
            self.within(runner.open(made, board), run)
        assert time.monotonic() - started < 15
        if "overflow" in FAULTS[fault]:
            assert images.symbol(made, "_text_start") <= caught.value.registers["pc"]
        self.check_nothing_left()

    def test_nothing_of_a_session_is_there_in_the_next(self, runner: Runner, board: Board, image: Image) -> None:
        """One machine runs both: neither its memory nor half a command that nobody completed."""
        made = image(SCRIBBLER % (board.target("renode").sram.end - 16))
        for _ in range(2):
            with runner.open(made, board) as session:
                device = boot(session)
                outputs = [device.run(RANDOM).output for _ in range(2)]
                session.port.write(b"hil run 1")
            assert [output[0] for output in outputs if output is not None] == [0, 7]

    @pytest.mark.parametrize("rounds", [1, 100_000])
    def test_every_instruction_is_counted(self, runner: Runner, board: Board, image: Image, rounds: int) -> None:
        made = image(images.countdown(rounds))
        with runner.open(made, board) as session:
            assert session.ticks_to_units(boot(session).run(RANDOM).ticks) == 2 * rounds + 2


@pytest.mark.firmware
@pytest.mark.qemu
def test_one_stm32_port_counts_alike_in_qemu_and_renode(
    renode: RenodeRunner, objects_of: Callable[[Board], tuple[Path, ...]], tmp_path: Path
) -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    board = load_board("netduinoplus2")
    counts, outputs = [], []
    for via, runner in (("qemu", QemuRunner()), ("renode", renode)):
        target = board.target(via)  # type: ignore[arg-type]
        objects = images.compiled_for(board, via, tmp_path / via)
        image = images.link(
            images.header() + images.ADDER, objects, tmp_path / via, core=board.core, memory=images.memory_of(target)
        )
        with runner.open(image, board) as session:  # type: ignore[attr-defined]
            reply = boot(session).run(RANDOM)
            counts.append(session.ticks_to_units(reply.ticks))
            outputs.append(reply.output)
    assert counts[0] == counts[1]
    assert outputs[0] == outputs[1]


def _in_sessions_of(parent: int) -> list[int]:
    """Processes of the sessions that `parent` has started Renode in: a launcher and what it launched, or one."""
    found = [pid for leader in _leaders(parent) for pid in of_session(leader)]
    assert found
    return found


def _leaders(parent: int) -> list[int]:
    return [pid for name in ("bash", "mono", "dotnet", "renode", "Renode") for pid in children(parent, name)]


# --- platform files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).hardware])
def test_platforms_describe_the_board(name: str) -> None:
    """Sizes and addresses are those of the board file; Renode's own syntax is not checked here."""
    board = load_board(name)
    assert board.hardware is not None
    text = platform_file(board).read_text()
    for region in (board.hardware.flash, board.hardware.sram):
        assert f"@ sysbus 0x{region.origin:08X}\n    size: 0x{region.length:X}" in text
    assert f'cpuType: "{board.core}"' in text
    assert board.uart is not None
    usart = "STM32_UART" if board.hardware.port == "stm32f4" else "STM32F7_USART"
    assert f"vcp: UART.{usart} @" in text
    assert ("lowPowerMode: true" in text) == ("LPUART" in board.uart.name)


@pytest.mark.parametrize(
    ("name", "shift"), [("nucleo-f746zg", 1), ("nucleo-h743zi", 1), ("nucleo-l4r5zi", 0), ("netduinoplus2", 1)]
)
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
