"""The hardware runner keeps the runner's contract, with an emulator behind the serial port and a script as probe."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.boards.board import Board, Probe, load_board
from hil.boards.linked import at_baud
from hil.boards.target import Region
from hil.errors import DeviceBusy, DeviceLost, DeviceMissing, FlashError, LinkTimeout, RunnerError, ToolMissing
from hil.link.device import ReconnectingPort, Timeouts
from hil.link.transport import open_port
from hil.targets.detect import Connected
from hil.targets.flash import PyOcd
from hil.targets.locks import any_device
from hil.targets.runners import hardware
from hil.targets.runners.base import Runner, Session
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QEMU
from tests.contract.test_runner import RANDOM, Image, RunnerContract, boot
from tests.fake_board import SERIAL_NUMBER, FakeBoard
from tests.firmware import images
from tests.unit.test_flash import elf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def objects_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.mark.firmware
@pytest.mark.qemu
class TestHardwareRunner(RunnerContract):
    """Contract, and what only a real board can do wrong."""

    via = "hardware"

    @pytest.fixture
    def fake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBoard]:
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed")
        folder = tmp_path / "board"
        folder.mkdir()
        self.fake_board = FakeBoard(folder, "mps2-an386")
        monkeypatch.setenv("PATH", str(self.fake_board.install()), prepend=":")
        monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
        yield self.fake_board
        self.fake_board.kill()

    @pytest.fixture
    def runner(self, fake: FakeBoard) -> Runner:
        return HardwareRunner([fake.device], timeouts=Timeouts(10.0, 1.0, 20.0), lock_wait_s=0.0, reconnect_s=0.0)

    @pytest.fixture
    def board(self) -> Board:
        real = load_board("mps2-an386")
        probe = Probe(pyocd="mps2", openocd="board/mps2.cfg")
        return real.model_copy(update={"hardware": real.qemu, "probe": probe})

    @pytest.fixture
    def image(self, objects_folder: Path, tmp_path: Path) -> Image:
        objects = images.runtime("cortex-m4", objects_folder / "m4")
        return lambda model: images.link(images.header() + model, objects, tmp_path)

    def kill_place(self) -> None:
        self.fake_board.kill()

    def check_nothing_left(self) -> None:
        assert self.sessions
        open_now = {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}
        assert os.path.realpath(self.fake_board.port) not in open_now
        with any_device((SERIAL_NUMBER,)):
            pass  # the lock is free again

    # --- its own ------------------------------------------------------------------------------------------------

    def test_the_probe_is_told_what_and_whom(self, runner: Runner, board: Board, image: Image) -> None:
        made = image(images.ADDER)
        with runner.open(made, board) as session:
            boot(session)
        flashed, reset = (self.fake_board.folder / "calls").read_text().splitlines()
        assert flashed == f"flash --no-wait --uid {SERIAL_NUMBER} --target mps2 --format elf {made}"
        assert reset == f"reset --no-wait --uid {SERIAL_NUMBER} --target mps2"

    def test_the_line_has_the_rate_that_the_image_was_built_for(
        self, fake: FakeBoard, board: Board, image: Image
    ) -> None:
        """Also after the port was away."""
        with HardwareRunner([fake.device]).open(image(images.ADDER), at_baud(board, 9600)) as session:
            boot(session)
            port = session.port
            assert isinstance(port, ReconnectingPort)
            for _ in range(2):
                assert port._port.baudrate == 9600  # type: ignore[attr-defined]
                port.reopen()

    def test_an_image_for_another_board_touches_none(self, fake: FakeBoard, board: Board, image: Image) -> None:
        """And no board is blamed for it."""
        assert board.hardware is not None
        moved = board.hardware.model_copy(update={"flash": Region(origin=0x0800_0000, length=1 << 20)})
        elsewhere = board.model_copy(update={"hardware": moved})
        with (
            pytest.raises(FlashError, match=r"is for 0x00000000 to .*it was built for another board") as caught,
            HardwareRunner([fake.device]).open(image(images.ADDER), elsewhere),
        ):
            pass
        assert not isinstance(caught.value, DeviceLost)
        assert not (fake.folder / "calls").exists()

    def test_a_failed_flash_is_told_at_once(
        self, fake: FakeBoard, board: Board, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No port is waited for, which such a flash does not bring."""
        other = Connected("another", ("fake",), str(fake.port), flash="pyocd")
        monkeypatch.setattr("hil.targets.runners.hardware._open_port", lambda *_: pytest.fail("it waits for the port"))
        with (
            pytest.raises(DeviceLost, match="pyocd failed with status 1: error: no such probe"),
            HardwareRunner([other]).open(image(images.ADDER), board),
        ):
            pass
        assert not fake.port.exists()

    def test_a_flash_that_hangs_has_its_own_time_out(self, fake: FakeBoard, board: Board, image: Image) -> None:
        (fake.folder / "bin" / "pyocd").write_text("#!/bin/sh\nsleep 60\n")
        runner = HardwareRunner([fake.device], flasher=lambda device, _: PyOcd(device.serial_number, "x", 0.3))
        with pytest.raises(DeviceLost, match=r"did not finish within 0\.3 s"), runner.open(image(images.ADDER), board):
            pass

    def test_a_flash_that_fails_once_does_not_cost_the_board(self, fake: FakeBoard, board: Board, image: Image) -> None:
        real = fake.folder / "bin" / "pyocd"
        real.rename(fake.folder / "real")
        real.write_text(f'#!/bin/sh\n[ -e {fake.folder}/tried ] && exec {fake.folder}/real "$@"\n'
                        f'touch {fake.folder}/tried\necho error: bad cable\nexit 1\n')  # fmt: skip
        real.chmod(0o755)
        runner = HardwareRunner([fake.device])
        with pytest.raises(FlashError, match="bad cable"), runner.open(image(images.ADDER), board):
            pass
        with runner.open(image(images.ADDER), board) as session:
            boot(session)
        self.sessions = True

    def test_a_time_out_of_a_board_that_works_is_not_the_board_s(
        self, runner: Runner, board: Board, image: Image
    ) -> None:
        """As of a network that never ends: the board is flashed again, and answers."""
        with (
            pytest.raises(LinkTimeout, match=f"too long .device {SERIAL_NUMBER}"),
            runner.open(image(images.ADDER), board) as session,
        ):
            too_long(session)
        assert (self.fake_board.folder / "calls").read_text().count("flash") == 2

    def test_a_board_that_died_is_lost(self, runner: Runner, board: Board, image: Image) -> None:
        with (
            pytest.raises(DeviceLost, match=r"tried twice: too long, then: .*no such probe") as caught,
            runner.open(image(images.ADDER), board) as session,
        ):
            too_long(session, self.fake_board)
        assert caught.value.device == SERIAL_NUMBER

    def test_a_missing_program_is_a_missing_tool(
        self, fake: FakeBoard, board: Board, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = image(images.ADDER)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(ToolMissing, match="pip install pyocd"), HardwareRunner([fake.device]).open(made, board):
            pass

    def test_one_session_a_device(self, runner: Runner, board: Board, image: Image) -> None:
        made = image(images.ADDER)
        with runner.open(made, board) as session:
            boot(session)
            with pytest.raises(DeviceBusy, match=f"{SERIAL_NUMBER} is used by process"), runner.open(made, board):
                pass
            assert boot_is_alive(session)

    def test_a_board_at_which_another_program_works_is_not_flashed(
        self, fake: FakeBoard, board: Board, image: Image
    ) -> None:
        master, slave = os.openpty()
        fake.port.symlink_to(os.ttyname(slave))
        with (
            open_port(str(fake.port)),
            pytest.raises(DeviceLost, match="another program uses the serial port"),
            HardwareRunner([fake.device]).open(image(images.ADDER), board),
        ):
            pass
        assert not (fake.folder / "calls").exists()
        os.close(master)
        os.close(slave)

    def test_a_port_that_is_not_there(self, fake: FakeBoard, board: Board, image: Image) -> None:
        lost = Connected(SERIAL_NUMBER, ("fake",), None, flash="pyocd")
        with (
            pytest.raises(RunnerError, match="no serial port"),
            HardwareRunner([lost]).open(image(images.ADDER), board),
        ):
            pass

    def test_no_devices_is_an_error_of_its_own(self, board: Board, image: Image) -> None:
        with (
            pytest.raises(DeviceMissing, match="boards --detect"),
            HardwareRunner([]).open(image(images.ADDER), board),
        ):
            pass

    def test_a_board_that_talks_on_and_on(
        self, fake: FakeBoard, board: Board, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a board says between flashing and reset is dropped, but not for ever."""
        monkeypatch.setattr("hil.targets.runners.hardware.QUIET_TIMEOUT_S", 0.5)
        monkeypatch.setattr("hil.targets.runners.hardware.QUIET_S", 60.0)  # a busy machine may keep the talker from it
        made = image(images.ADDER)
        master, slave = os.openpty()
        talking = threading.Event()

        def chatter() -> None:
            while not talking.wait(0.02):
                os.write(master, b"m-noise\r\n")

        name = os.ttyname(slave)
        thread = threading.Thread(target=chatter)
        thread.start()
        try:
            noisy = Connected(SERIAL_NUMBER, ("fake",), name, flash="pyocd")
            with pytest.raises(RunnerError, match="does not stop talking"), HardwareRunner([noisy]).open(made, board):
                pass
        finally:
            talking.set()
            thread.join()
            os.close(master)
            os.close(slave)


def too_long(session: Session, dying: FakeBoard | None = None) -> None:
    """A session that ends with a time-out, of a board that meanwhile may have died."""
    boot(session)
    if dying is not None:
        dying.give_trouble("gone")
    raise LinkTimeout("too long")


def boot_is_alive(session: Session) -> bool:
    """Whether a booted session's device still answers."""
    from hil.link.device import Device

    return Device(session.port, session.timeouts).run(RANDOM).output is not None


def test_a_silent_board_that_is_looked_at_late_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may be stopped for longer than a board may talk."""
    monkeypatch.setattr(hardware, "QUIET_TIMEOUT_S", 0.0)

    class Silent:
        in_waiting = 0

        def read(self, size: int) -> bytes:
            time.sleep(hardware.QUIET_S)
            return b""

    hardware._until_quiet(Silent(), Connected(SERIAL_NUMBER, ("fake",), "a port"))


def test_a_port_that_comes_back_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that resets takes its port along; the session's port is then a new one."""
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    image = elf(tmp_path / "image.elf", [(0, bytes(64))])
    name = tmp_path / "tty"
    pairs = [os.openpty() for _ in range(2)]
    name.symlink_to(os.ttyname(pairs[0][1]))

    class Nothing:
        def flash(self, image: Path) -> None:
            pass

        def reset(self, port: object) -> None:
            pass

    device = Connected(SERIAL_NUMBER, ("fake",), str(name))
    real = load_board("mps2-an386")
    runner = HardwareRunner([device], flasher=lambda device, board: Nothing(), reconnect_s=2.0)
    try:
        with runner.open(image, real.model_copy(update={"hardware": real.qemu})) as session:
            assert isinstance(session.port, ReconnectingPort)
            name.unlink()
            name.symlink_to(os.ttyname(pairs[1][1]))
            session.port.reopen()
            os.write(pairs[1][0], b"back")
            session.port.timeout = 60.0  # the kernel hands it over when it finds the time
            assert session.port.read(4) == b"back"
    finally:
        for descriptors in pairs:
            for descriptor in descriptors:
                os.close(descriptor)
