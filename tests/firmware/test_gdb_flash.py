"""Flashing through GDB servers: those of QEMU and Renode, and some that fail."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.errors import FlashError, ToolMissing
from hil.link.device import Device, Timeouts
from hil.link.transport import open_port
from hil.patterns import Pattern, PatternKind
from hil.targets.detect import Connected
from hil.targets.flash import GdbServer, flasher_for, gdb
from hil.targets.flash.gdb import DIALECTS
from hil.targets.flash.gdb_mi import PROGRAMS
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QEMU
from hil.targets.runners.renode import VARIABLE
from tests.firmware import images
from tests.gdb_board import GdbBoard, dying_server, faulty_server, free_port, qemu_board, renode_board

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]
RANDOM = Pattern(PatternKind.RANDOM, 1)
ANSWER_S = 3.0


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return images.runtime("cortex-m4", tmp_path_factory.mktemp("objects"))


@pytest.fixture
def image(objects: tuple[Path, ...], tmp_path: Path) -> Path:
    return images.link(images.header() + images.ADDER, objects, tmp_path / "an image")


@pytest.fixture
def board() -> Iterator[GdbBoard]:
    if not any(map(shutil.which, PROGRAMS)):
        pytest.skip(f"{PROGRAMS[0]} is not installed")
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    with qemu_board("mps2-an386") as found:
        yield found


def server(address: str, answer_s: float = 8.0) -> GdbServer:
    return GdbServer(address, "qemu", 0, answer_s=answer_s)


def run_once(port: str, flasher: GdbServer, image: Path) -> bytes | None:
    """The output of the flashed image."""
    flasher.flash(image)
    link = open_port(port)
    try:
        flasher.reset(link)
        device = Device(link, Timeouts(60.0, 30.0, 60.0))
        device.wait_ready()
        return device.run(RANDOM).output
    finally:
        link.close()


@pytest.mark.slow
def test_images_follow_one_another(board: GdbBoard, objects: tuple[Path, ...], tmp_path: Path) -> None:
    for layers in (3, 1, 2):
        image = images.link(images.header(layers=layers) + images.ADDER, objects, tmp_path / str(layers))
        added = sum(range(layers))
        assert run_once(board.port, server(board.address), image) == bytes(
            (value + added) & 0xFF for value in RANDOM.data(10)
        )


def test_the_hardware_runner_uses_it(board: GdbBoard, image: Path) -> None:
    """From the bench file's words on; the emulator is what the real board would be."""
    device = Connected("A1", ("fake",), board.port, flash="gdb", gdb=board.address, gdb_server="qemu")
    fake = load_board("mps2-an386")
    fake = fake.model_copy(update={"hardware": fake.qemu})
    runner = HardwareRunner([device], flasher=flasher_for, timeouts=Timeouts(20.0, 10.0, 20.0))
    with runner.open(image, fake) as session:
        link = Device(session.port, session.timeouts)
        link.wait_ready()
        assert link.run(RANDOM).output is not None


def fails(flasher: GdbServer, image: Path, within_s: float = 10) -> str:
    """The error, which has to come within `within_s` (the 10 s are an idle machine's)."""
    started = time.monotonic()
    with pytest.raises(FlashError) as caught:
        flasher.flash(image)
    assert time.monotonic() - started < within_s
    return str(caught.value)


def test_no_server(board: GdbBoard, image: Path) -> None:
    said = fails(server(f"127.0.0.1:{free_port()}"), image)
    assert "no GDB server can be used" in said
    assert "refused" in said


def test_an_image_for_another_chip(board: GdbBoard, objects: tuple[Path, ...], tmp_path: Path) -> None:
    """QEMU takes writes to where nothing is; that it did not keep them is seen."""
    memory = images.memory_of(load_board("nucleo-f746zg").target("hardware"))
    image = images.link(images.header() + images.ADDER, objects, tmp_path, memory=memory)
    assert "does not hold the image after it was written: section .vectors" in fails(server(board.address), image)


def test_what_is_no_image_for_arm(board: GdbBoard, tmp_path: Path) -> None:
    assert "is not for Arm" in fails(server(board.address), Path("/bin/sh"))
    (tmp_path / "text").write_text("no ELF")
    assert "text cannot be read" in fails(server(board.address), tmp_path / "text")


@pytest.mark.parametrize("after_bytes", [1500, 6000])
def test_a_server_that_dies(board: GdbBoard, image: Path, after_bytes: int) -> None:
    """While the image is written."""
    with dying_server(board.address, after_bytes, lambda: os.kill(board.pid, signal.SIGKILL)) as address:
        said = fails(server(address), image)
    assert "died during '-target-download'" in said


@pytest.fixture
def slow_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU's server is asked by commands of its monitor, the first of which may take long."""
    asked = replace(DIALECTS["qemu"], halt=("monitor info status", "monitor info version"), first_s=60.0)
    monkeypatch.setattr(gdb, "DIALECTS", {"qemu": asked})


@pytest.mark.slow
def test_a_server_that_hangs(board: GdbBoard, image: Path) -> None:
    with dying_server(board.address, 1500, lambda: os.kill(board.pid, signal.SIGSTOP)) as address:
        assert "hangs: '-target-download'" in fails(server(address, ANSWER_S), image, within_s=20)


@pytest.mark.slow
@pytest.mark.usefixtures("slow_at_first")
def test_the_first_command_may_take_longer(board: GdbBoard, image: Path) -> None:
    with dying_server(board.address, b"qRcmd", lambda: time.sleep(3 * ANSWER_S)) as address:
        server(address, ANSWER_S).flash(image)  # it compares what it wrote


@pytest.mark.slow
@pytest.mark.usefixtures("slow_at_first")
@pytest.mark.parametrize("packet", [b"info version".hex().encode(), b"X0"])
def test_only_the_first_command_may(board: GdbBoard, image: Path, packet: bytes) -> None:
    """A server that hangs later is told as fast as any other."""
    with dying_server(board.address, packet, lambda: os.kill(board.pid, signal.SIGSTOP)) as address:
        assert "hangs" in fails(server(address, ANSWER_S), image, within_s=20)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "does not halt"])
def test_a_target_that_does_not_halt(board: GdbBoard, image: Path, fault: str) -> None:
    with faulty_server(fault) as address:  # type: ignore[arg-type]
        assert "does not halt within 3 s" in fails(server(address, ANSWER_S), image)


def test_a_missing_debugger(image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt-get install gdb-multiarch"):
        server("127.0.0.1:1").flash(image)


def test_every_kind_of_server_says_where_its_words_are_from() -> None:
    for name, dialect in DIALECTS.items():
        assert dialect.run, name
        assert dialect.source.startswith("run: ") == (name in ("qemu", "renode")), name


@pytest.mark.slow
def test_renodes_server(tmp_path: Path) -> None:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no Renode")
    if not any(map(shutil.which, PROGRAMS)):
        pytest.skip(f"{PROGRAMS[0]} is not installed")
    board = load_board("nucleo-f746zg")
    target = board.target("renode")
    objects = images.compiled_for(board, "renode", tmp_path / "objects")
    with renode_board(board.name) as found:
        flasher = GdbServer(found.address, "renode", target.flash.origin, answer_s=60.0)
        for layers in (3, 2):
            image = images.link(
                images.header(layers=layers) + images.ADDER, objects, tmp_path / str(layers), core=board.core,
                memory=images.memory_of(target),
            )  # fmt: skip
            added = sum(range(layers))
            wanted = bytes((value + added) & 0xFF for value in RANDOM.data(10))
            assert run_once(found.port, flasher, image) == wanted
        elsewhere = images.memory_of(load_board("mps2-an386").target("qemu"))
        source, folder = images.header() + images.ADDER, tmp_path / "other"
        image = images.link(source, objects, folder, core=board.core, memory=elsewhere)
        assert "does not hold the image: 'compare-sections'" in fails(flasher, image, within_s=60)
