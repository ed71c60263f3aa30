"""However our process ends, QEMU ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.processes import children, gone
from tests.firmware import images
from tests.signals import INTERRUPTIBLE

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from hil.boards.board import load_board
from hil.link.device import Device
from hil.targets.runners.qemu import QemuRunner
from hil.patterns import Pattern, PatternKind

with QemuRunner().open(Path({image!r}), load_board("mps2-an386")) as session:
    device = Device(session.port, session.timeouts)
    device.wait_ready()
    print(session.port.port, flush=True)
    device.run(Pattern(PatternKind.RANDOM))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that starts an inference that never ends; its first line of output is the pty."""
    folder = tmp_path_factory.mktemp("kill")
    image = images.link(images.header() + images.ENDLESS, images.runtime("cortex-m4", folder / "rt"), folder)
    program = folder / "child.py"
    program.write_text(CHILD.format(root=str(ROOT), image=str(image)))
    return program


@pytest.fixture
def child(script: Path) -> Iterator[subprocess.Popen[str]]:
    """That program, running."""
    command = [*INTERRUPTIBLE, sys.executable, str(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_qemu_ends_with_us(child: subprocess.Popen[str], deadly: signal.Signals) -> None:
    assert child.stdout is not None
    pty = child.stdout.readline().strip()
    (emulator,) = children(child.pid, "qemu-system-arm")
    opened = _birth(pty)
    time.sleep(0.1)  # into the inference
    child.send_signal(deadly)
    assert gone(emulator, within_s=30)
    child.wait(30)
    deadline = time.monotonic() + 30  # the last of QEMU's threads may close it a little later
    while _birth(pty) == opened:
        assert time.monotonic() < deadline, f"{pty} is still there"
        time.sleep(0.01)


def _birth(pty: str) -> int | None:
    """What tells a pty from a later one with the same number; None when there is none."""
    try:
        return Path(pty).stat().st_ctime_ns
    except FileNotFoundError:
        return None


@pytest.mark.slow
def test_qemu_does_not_outlive_a_parent_that_dies_while_starting_it(script: Path) -> None:
    """Killed at any moment of the start: no emulator of that image remains."""
    image = script.with_name("image.elf")
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _until_child(process)
        time.sleep(0.004 * attempt)
        process.kill()
        process.communicate()
        assert _none_runs(str(image), within_s=30)


def _until_child(process: subprocess.Popen[bytes]) -> None:
    """Until the process has started one of its own, whatever its name is by then."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 20
    while not tasks.read_text().strip():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)


def _none_runs(word: str, within_s: float) -> bool:
    """Whether no process has `word` on its command line any more."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(word.encode() in _command_line(entry) for entry in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.01)
    return False


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
