"""What every runner has to do, whatever it runs images on. A new runner gets a subclass with its fixtures."""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from hil.boards.board import Board, load_board
from hil.boards.linked import linked
from hil.boards.target import Target
from hil.errors import (
    BoardError,
    InfrastructureError,
    LinkError,
    LinkTimeout,
    RunnerError,
    TargetFaultError,
    ToolMissing,
)
from hil.link import protocol
from hil.link.device import Device, Timeouts
from hil.patterns import Pattern, PatternKind
from hil.targets.runners.base import Runner, Session
from hil.targets.runners.qemu import QEMU, QemuRunner
from tests.contract.processes import children
from tests.firmware import images

RANDOM = Pattern(PatternKind.RANDOM, 1)
PATIENCE_S = 60.0  # with what a busy machine may keep waiting, and is never asked twice
Image = Callable[[str], Path]


def boot(session: Session) -> Device:
    """The device of a session, booted."""
    device = Device(session.port, session.timeouts)
    device.wait_ready()
    return device


class RunnerContract:
    """Subclasses give `runner`, `board`, `image` (of a model: C text) and say how to kill the place of a session."""

    via: ClassVar[str]
    death_noticed_s: ClassVar[float] = 10.0  # far below the time-out of an inference, above what a busy machine takes
    sessions: list[Session]

    @pytest.fixture
    def runner(self) -> Runner:
        raise NotImplementedError

    @pytest.fixture
    def board(self) -> Board:
        raise NotImplementedError

    @pytest.fixture
    def image(self) -> Image:
        raise NotImplementedError

    def kill_place(self) -> None:
        """Make the emulator (or probe) of the one open session die."""
        raise NotImplementedError

    def check_nothing_left(self) -> None:
        """Assert that no process and no open port of `sessions` is left."""
        raise NotImplementedError

    def within(self, opened: AbstractContextManager[Session], action: Callable[[Session], object]) -> object:
        """Result of `action` in a session, which `check_nothing_left` then knows."""
        self.sessions = []
        with opened as session:
            self.sessions.append(session)
            return action(session)

    # --- the contract -------------------------------------------------------------------------------------------

    def test_gives_a_booting_device(self, runner: Runner, board: Board, image: Image) -> None:
        output = self.within(runner.open(image(images.ADDER), board), lambda session: boot(session).run(RANDOM).output)
        assert output == bytes((value + 3) & 0xFF for value in RANDOM.data(10))
        self.check_nothing_left()

    def test_says_what_its_figures_are(self, runner: Runner, board: Board, image: Image) -> None:
        with runner.open(image(images.ADDER), board) as session:
            assert session.via == self.via
            assert session.simulated == (self.via != "hardware")
            assert session.timer == board.target(session.via).timer
            assert boot(session).identity().timer == session.timer
        assert session.ticks_to_units(0) == 0
        assert session.ticks_to_units(10**12) * session.ticks_per_unit == pytest.approx(10**12, rel=1e-9)

    def test_each_session_starts_from_reset(self, runner: Runner, board: Board, image: Image) -> None:
        made = image(images.ADDER)
        for _ in range(2):
            with runner.open(made, board) as session:
                device = boot(session)
                assert device.command("results", PATIENCE_S) == ["e-[No output yet]"]
                device.run(RANDOM)

    def test_errors_inside_pass_through(self, runner: Runner, board: Board, image: Image) -> None:
        def fail(_: Session) -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            self.within(runner.open(image(images.ADDER), board), fail)
        self.check_nothing_left()

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_interrupts_leave_nothing(
        self, runner: Runner, board: Board, image: Image, interrupt: type[BaseException]
    ) -> None:
        def fail(session: Session) -> None:
            boot(session)
            raise interrupt

        with pytest.raises(interrupt):
            self.within(runner.open(image(images.ADDER), board), fail)
        self.check_nothing_left()

    def test_a_fault_is_a_target_fault(self, runner: Runner, board: Board, image: Image) -> None:
        opened = runner.open(image(images.FAULTS["undefined"]), board)
        with pytest.raises(TargetFaultError, match="undefined") as caught:
            self.within(opened, lambda session: boot(session).run(RANDOM))
        assert {"pc", "lr", "sp", "cfsr", "hfsr", "bfar", "mmfar"} <= set(caught.value.registers)
        self.check_nothing_left()

    @pytest.mark.slow
    def test_an_endless_loop_is_a_time_out(self, runner: Runner, board: Board, image: Image) -> None:
        def impatient(session: Session) -> None:
            timeouts = replace(session.timeouts, inference_s=0.3)
            boot(replace(session, timeouts=timeouts)).run(RANDOM)

        with pytest.raises(LinkTimeout):
            self.within(runner.open(image(images.ENDLESS), board), impatient)
        self.check_nothing_left()

    def test_a_place_that_dies_is_noticed_at_once(self, runner: Runner, board: Board, image: Image) -> None:
        killed = noticed = 0.0

        def kill() -> None:
            nonlocal killed
            time.sleep(0.2)
            killed = time.monotonic()
            self.kill_place()

        def victim(session: Session) -> None:
            nonlocal noticed
            device = boot(replace(session, timeouts=replace(session.timeouts, inference_s=240.0)))
            killer = threading.Thread(target=kill)
            killer.start()
            try:
                device.run(RANDOM)
            finally:
                noticed = time.monotonic()  # before the runner asks whether the place still works
                killer.join()  # it may still tidy up after the place, which the runner is about to start again

        with pytest.raises((RunnerError, LinkError)) as caught:
            self.within(runner.open(image(images.ENDLESS), board), victim)
        assert 0 < killed < noticed < killed + self.death_noticed_s
        assert not isinstance(caught.value, LinkTimeout)
        self.check_nothing_left()

    def test_a_missing_image_is_an_error_that_names_it(self, runner: Runner, board: Board, tmp_path: Path) -> None:
        with pytest.raises(InfrastructureError, match=r"absent\.elf"):
            self.within(runner.open(tmp_path / "absent.elf", board), boot)


@pytest.fixture(scope="module")
def objects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runtime's objects go, compiled once."""
    return tmp_path_factory.mktemp("objects")


class QemuPlace(RunnerContract):
    """What sessions under QEMU have in common."""

    via = "qemu"

    @pytest.fixture
    def runner(self) -> Runner:
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed")
        return QemuRunner(timeouts=Timeouts(boot_s=20.0, command_s=10.0, inference_s=20.0))

    def kill_place(self) -> None:
        (emulator,) = children(os.getpid(), "qemu-system-arm")
        os.kill(emulator, signal.SIGKILL)

    def check_nothing_left(self) -> None:
        assert children(os.getpid(), "qemu-system-arm") == []
        assert self.sessions
        assert not any(session.port.is_open for session in self.sessions)  # type: ignore[attr-defined]


@pytest.mark.firmware
@pytest.mark.qemu
@pytest.mark.parametrize("board_name", ["mps2-an386", "nucleo-f746zg"])
class TestQemuRunner(QemuPlace):
    """QEMU, both cores."""

    @pytest.fixture
    def board(self, board_name: str) -> Board:
        return load_board(board_name)

    @pytest.fixture
    def image(self, board: Board, objects_folder: Path, tmp_path: Path) -> Image:
        objects = images.runtime(board.core, objects_folder / board.core)
        return lambda model: images.link(images.header() + model, objects, tmp_path, core=board.core)

    # --- QEMU's own ---------------------------------------------------------------------------------------------

    def test_a_lock_up_is_a_target_fault(self, runner: Runner, board: Board, image: Image) -> None:
        made = image(images.FAULTS["lockup"])
        with pytest.raises(TargetFaultError, match="locked up") as caught:
            self.within(runner.open(made, board), lambda session: boot(session).run(RANDOM))
        assert images.symbol(made, "_text_start") <= caught.value.registers["pc"] < images.symbol(made, "_text_end")

    def test_death_names_the_signal(self, runner: Runner, board: Board, image: Image) -> None:
        def victim(session: Session) -> None:
            device = boot(session)
            self.kill_place()
            device.run(RANDOM)

        with pytest.raises(RunnerError, match="SIGKILL") as caught:
            self.within(runner.open(image(images.ADDER), board), victim)
        assert isinstance(caught.value.__cause__, LinkError)

    def test_an_unusable_image_is_an_error(self, runner: Runner, board: Board, tmp_path: Path) -> None:
        text = tmp_path / "image.elf"  # QEMU runs what is no ELF as a raw binary: straight into a lock-up
        text.write_text("#!not an ELF\n" * 1000)
        with pytest.raises((RunnerError, TargetFaultError)):
            self.within(runner.open(text, board), boot)
        assert children(os.getpid(), "qemu-system-arm") == []

    def test_an_unknown_machine_is_a_runner_error(self, runner: Runner, board: Board, image: Image) -> None:
        assert board.qemu is not None
        target = Target.model_validate({**board.qemu.model_dump(), "machine": "mps2-an999"})
        wrong = board.model_copy(update={"qemu": target})
        with pytest.raises(RunnerError, match="unsupported machine"):
            self.within(runner.open(image(images.ADDER), wrong), boot)

    def test_a_board_without_qemu_is_a_board_error(self, runner: Runner, board: Board, image: Image) -> None:
        wrong = board.model_copy(update={"qemu": None})
        with pytest.raises(BoardError, match="no target for --via qemu"):
            self.within(runner.open(image(images.ADDER), wrong), boot)

    def test_a_missing_qemu_is_a_missing_tool(self, board: Board, image: Image) -> None:
        runner = QemuRunner(program="qemu-system-absent")
        with pytest.raises(ToolMissing, match="apt-get install qemu-system-arm"):
            self.within(runner.open(image(images.ADDER), board), boot)

    def test_sessions_in_several_threads(self, runner: Runner, board: Board, image: Image) -> None:
        made = image(images.ADDER)

        def count(_: int) -> int:
            with runner.open(made, board) as session:
                return session.ticks_to_units(boot(session).run(RANDOM).ticks)

        with ThreadPoolExecutor(2) as pool:
            assert len(set(pool.map(count, range(4)))) == 1
        assert children(os.getpid(), "qemu-system-arm") == []

    def test_no_second_of_waiting_for_the_port(self, runner: Runner, board: Board, image: Image) -> None:
        """QEMU polls an unconnected port once a second; ours is connected before the machine exists."""
        made, seconds = image(images.ADDER), [math.inf]
        while min(seconds) >= 0.9 and len(seconds) <= 20:  # one is enough: a port that is polled always takes a second
            started = time.monotonic()
            with runner.open(made, board) as session:
                boot(session)
                seconds.append(time.monotonic() - started)
        assert min(seconds) < 0.9, seconds

    def test_silence_is_announced_in_the_devices_time(self, runner: Runner, board: Board, image: Image) -> None:
        with runner.open(image(images.ADDER), board) as session:
            device = boot(session)
            ticks = device.run(RANDOM).ticks
            key, fields = protocol.parse_extension(device.command("hil memory")[0]) or ("", ["0"])
            assert key == protocol.KEYS["SILENCE"]
            assert int(fields[0]) == pytest.approx(2 * ticks / 25, abs=3)


@pytest.mark.firmware
@pytest.mark.qemu
class TestLoadedQemuRunner(QemuPlace):
    """QEMUs that are forks of one that waits, loaded."""

    @pytest.fixture
    def runner(self) -> Runner:
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed")
        return QemuRunner(timeouts=Timeouts(boot_s=20.0, command_s=10.0, inference_s=20.0), keep_loaded=True)

    @pytest.fixture
    def board(self) -> Board:
        return load_board("mps2-an386")

    @pytest.fixture
    def image(self, board: Board, objects_folder: Path, tmp_path: Path) -> Image:
        objects = images.runtime(board.core, objects_folder / board.core)
        return lambda model: images.link(images.header() + model, objects, tmp_path, core=board.core)


class RttContract(RunnerContract):
    """What a runner whose link is RTT has to do besides."""

    def test_long_commands_and_replies_go_round_the_rings(self, runner: Runner, board: Board, image: Image) -> None:
        with runner.open(image(images.ADDER), board) as session:
            device = boot(session)
            for seed in range(20):
                data = Pattern(PatternKind.RANDOM, seed).data(100)
                device.upload(data)
                assert device.answer()[1] == bytes((value + 3) & 0xFF for value in data[:10])
            assert device.retries == 0


@pytest.mark.slow
@pytest.mark.firmware
@pytest.mark.qemu
class TestRttRunner(RttContract, QemuPlace):
    """QEMU without a UART: the rings of firmware/port/rtt.c, through its GDB server."""

    @pytest.fixture
    def board(self) -> Board:
        return linked(load_board("mps2-an386"), "rtt")

    @pytest.fixture
    def image(self, board: Board, objects_folder: Path, tmp_path: Path) -> Image:
        objects = images.compiled_for(board, "qemu", objects_folder / "rtt")
        return lambda model: images.link(images.header() + model, objects, tmp_path, core=board.core)

    # --- RTT's own ----------------------------------------------------------------------------------------------

    def test_as_many_instructions_as_with_a_uart(
        self, runner: Runner, board: Board, image: Image, objects_folder: Path, tmp_path: Path
    ) -> None:
        plain = images.runtime(board.core, objects_folder / board.core)
        serial = images.link(images.header() + images.countdown(10_000), plain, tmp_path / "uart", core=board.core)
        counts = []
        for made, place in ((image(images.countdown(10_000)), board), (serial, load_board("mps2-an386"))):
            with runner.open(made, place) as session:
                device = boot(session)
                counts.append({session.ticks_to_units(device.run(RANDOM).ticks) for _ in range(3)})
        assert counts == [{20_002}, {20_002}]

    def test_an_image_with_a_uart_is_refused(
        self, runner: Runner, board: Board, objects_folder: Path, tmp_path: Path
    ) -> None:
        plain = images.runtime(board.core, objects_folder / board.core)
        made = images.link(images.header() + images.ADDER, plain, tmp_path, core=board.core)
        with pytest.raises(RunnerError, match="was not built for RTT"):
            self.within(runner.open(made, board), boot)
        assert children(os.getpid(), "qemu-system-arm") == []
