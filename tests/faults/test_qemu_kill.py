"""However our process ends, QEMU ends with it, and the one that waits to be forked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
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

with QemuRunner(keep_loaded={keep_loaded}).open(Path({image!r}), load_board("mps2-an386")) as session:
    device = Device(session.port, session.timeouts)
    device.wait_ready()
    print("booted", flush=True)
    device.run(Pattern(PatternKind.RANDOM))
"""


@pytest.fixture(scope="module", params=[False, True], ids=["anew", "loaded"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that starts an inference that never ends, and says so."""
    folder = tmp_path_factory.mktemp("kill")
    image = images.link(images.header() + images.ENDLESS, images.runtime("cortex-m4", folder / "rt"), folder)
    program = folder / "child.py"
    program.write_text(CHILD.format(root=str(ROOT), image=str(image), keep_loaded=request.param))
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
def test_qemu_ends_with_us(script: Path, child: subprocess.Popen[str], deadly: signal.Signals) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "booted\n"
    started = children(child.pid, "qemu-system-arm") + children(child.pid, "waiting")
    assert len(started) == (2 if "keep_loaded=True" in script.read_text() else 1)
    time.sleep(0.1)  # into the inference
    child.send_signal(deadly)
    assert all(gone(process, within_s=30) for process in started)
    child.wait(30)


@pytest.mark.slow
def test_qemu_does_not_outlive_a_parent_that_dies_while_starting_it(script: Path) -> None:
    """Killed at any moment of the start: nothing that it started remains."""
    for attempt in range(6):
        mark = f"MUNAS_HIL_TEST={uuid.uuid4()}"
        command = ["env", mark, sys.executable, str(script)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _until_child(process)
        time.sleep(0.004 * attempt)
        process.kill()
        process.communicate()
        assert _none_runs(mark, within_s=30)


def _until_child(process: subprocess.Popen[bytes]) -> None:
    """Until the process has started one of its own, whatever its name is by then."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 120
    while not tasks.read_text().strip():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)


def _none_runs(mark: str, within_s: float) -> bool:
    """Whether no process has `mark` in the environment that it was started with any more."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(mark.encode() in _environment(entry) for entry in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.01)
    return False


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
