"""A QEMU that was forked before its main function is, to itself and to us, one that was just started."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hil.targets.runners.qemu_start as qemu_start
from hil.boards.board import load_board
from hil.boards.linked import linked
from hil.calibration.forecast import tflite_of
from hil.calibration.population import DEFAULT_POPULATION, POPULATIONS
from hil.calibration.sample import Limits
from hil.errors import RunnerError
from hil.link.device import Device
from hil.measure.harness import Harness, Options
from hil.measure.measurement import Measurement
from hil.patterns import Pattern, PatternKind
from hil.targets.runners.qemu import QemuRunner
from tests.contract.processes import children, gone
from tests.firmware import images

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

BOARD = load_board("mps2-an386")
LIMITS = Limits(44_000, 52_000)
QEMUS, WAITING = "qemu-system-arm", "waiting"
HELD: set[int] = set()
"""What waited before a test began: the frames of a test that failed keep its runner."""


@pytest.fixture(autouse=True)
def own_library() -> Iterator[None]:
    gc.collect()  # runners of other tests, with what waits for them
    HELD.clear()
    HELD.update(children(os.getpid(), WAITING))
    qemu_start._library.cache_clear()
    yield
    qemu_start._library.cache_clear()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adder")
    return images.link(images.header() + images.ADDER, images.runtime(BOARD.core, folder / "runtime"), folder)


def answer(runner: QemuRunner, image: Path) -> tuple[int, bytes]:
    with runner.open(image, BOARD) as session:
        device = Device(session.port, session.timeouts)
        device.wait_ready()
        ticks, output = device.answer(Pattern(PatternKind.RANDOM, 1))
        return session.ticks_to_units(ticks), output


def waiting() -> list[int]:
    return [process for process in children(os.getpid(), WAITING) if process not in HELD]


# --- what it computes and counts ------------------------------------------------------------------------------------


def figures(measurement: Measurement) -> Measurement:
    """All that is not the host's time."""
    return replace(measurement, seconds={})


def require_same(board: str, samples: range, **options: Any) -> None:
    fresh, kept = (Harness(load_board(board), Options(fresh=way, **options)) for way in (True, False))
    for index in samples:
        data = tflite_of(POPULATIONS[DEFAULT_POPULATION].draw(7, index, LIMITS))
        first, second = (harness.measure(data, f"sample-{index}") for harness in (fresh, kept))
        assert figures(first.measurement) == figures(second.measurement)
        assert first.answers == second.answers
        assert first.functions == second.functions
    assert len(waiting()) == 1


@pytest.mark.parametrize("board", ["nucleo-f746zg", "mps2-an505"])
def test_a_campaigns_figures_are_those_of_the_long_way(board: str) -> None:
    require_same(board, range(2))


def test_the_timing_model_sees_the_same() -> None:
    require_same("nucleo-l4r5zi", range(1), modelled="beside")


@pytest.mark.parametrize("board", ["nucleo-f746zg", "mps2-an505", "mps2-an386"])
def test_the_figures_of_many_networks(board: str) -> None:
    require_same(board, range(2, 22))


# --- what it is -----------------------------------------------------------------------------------------------------


def traits(process: int) -> dict[str, Any]:
    """What a process has from whoever started it."""
    proc = Path(f"/proc/{process}")
    status = dict(line.split(":\t", 1) for line in proc.joinpath("status").read_text().splitlines() if ":\t" in line)
    names = ("Name", "PPid", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Umask", "CapEff")
    found: dict[str, Any] = {name: status[name] for name in names}
    kinds = {path.name: os.readlink(path) for path in proc.joinpath("fd").iterdir()}
    found |= {"descriptors": {number: re.sub(r"\d+", "", kind) for number, kind in kinds.items()}}  # without its inode
    found |= {"folder": os.readlink(proc / "cwd"), "program": os.readlink(proc / "exe")}
    found |= {"limits": proc.joinpath("limits").read_text(), "leads": os.getsid(process) == process}
    return found


def test_it_has_what_one_that_was_just_started_has(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = [QemuRunner(), QemuRunner(keep_loaded=True)]
    assert answer(runners[1], image) == answer(runners[0], image)
    monkeypatch.chdir(tmp_path)  # after the one that waits was started
    found = []
    for runner in runners:
        with runner.open(image, BOARD) as session:
            Device(session.port, session.timeouts).wait_ready()
            (process,) = children(os.getpid(), QEMUS)
            found.append(traits(process))
    assert found[0] == found[1]


def test_rtt_gets_its_debugger(tmp_path: Path) -> None:
    board = linked(BOARD, "rtt")
    objects = images.compiled_for(board, "qemu", tmp_path / "rtt")
    made = images.link(images.header() + images.ADDER, objects, tmp_path, core=board.core)
    runner = QemuRunner(keep_loaded=True)
    for _ in range(2):
        with runner.open(made, board) as session:
            device = Device(session.port, session.timeouts)
            device.wait_ready()
            assert device.run(Pattern(PatternKind.RANDOM, 1)).output
    assert len(waiting()) == 1


def test_several_at_once_in_one_thread(image: Path) -> None:
    runner = QemuRunner(keep_loaded=True)
    wanted = answer(runner, image)
    with ExitStack() as sessions:
        opened = [sessions.enter_context(runner.open(image, BOARD)) for _ in range(3)]
        for session in reversed(opened):
            device = Device(session.port, session.timeouts)
            device.wait_ready()
            ticks, output = device.answer(Pattern(PatternKind.RANDOM, 1))
            assert (session.ticks_to_units(ticks), output) == wanted
        assert len(children(os.getpid(), QEMUS)) == 3
    assert children(os.getpid(), QEMUS) == []
    assert len(waiting()) == 1


# --- its end, and where it cannot be --------------------------------------------------------------------------------


def test_it_waits_no_longer_than_its_runner(image: Path) -> None:
    runner = QemuRunner(keep_loaded=True)
    answer(runner, image)
    assert len(waiting()) == 1
    del runner
    assert waiting() == []


def test_it_waits_no_longer_than_its_thread(image: Path) -> None:
    runner = QemuRunner(keep_loaded=True)
    seen: list[int] = []

    def measure() -> None:
        answer(runner, image)
        seen.extend(waiting())

    for _ in range(2):
        thread = threading.Thread(target=measure)
        thread.start()
        thread.join()
    assert len(set(seen)) == 2
    assert all(gone(process, 10) for process in seen)


def test_one_that_was_killed_costs_no_session(image: Path) -> None:
    runner = QemuRunner(keep_loaded=True)
    wanted = answer(runner, image)
    for process in waiting():
        os.kill(process, signal.SIGKILL)
        assert gone(process, 10)
    assert answer(runner, image) == wanted
    assert answer(runner, image) == wanted
    assert waiting() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CC", "false"), ("CC", "no-such-compiler"), ("CC", "cc '"), ("LD_PRELOAD", "libc.so.6")],
)
def test_where_it_cannot_wait_it_is_started_anew(
    image: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    runner = QemuRunner(keep_loaded=True)
    answer(runner, image)
    assert waiting() == []


def test_a_program_that_does_not_wait_is_started_anew(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is linked statically never sees the library: it takes the socket for its input, or ends."""
    library = tmp_path / "waiting.so"
    library.write_bytes(b"no library")  # the loader says so and goes on without it
    monkeypatch.setattr(qemu_start, "_library", lambda: library)
    monkeypatch.setattr(qemu_start, "_ANSWER_S", 1.0)
    runner = QemuRunner(keep_loaded=True)
    answer(runner, image)
    answer(runner, image)
    assert waiting() == []


def test_without_room_in_the_cache_it_is_started_anew(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_CACHE", "/dev/null/cache")
    answer(QemuRunner(keep_loaded=True), image)
    assert waiting() == []


def test_in_a_folder_that_is_gone_it_is_started_anew(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = QemuRunner(keep_loaded=True)
    wanted = answer(runner, image)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert answer(runner, image) == wanted


@pytest.mark.parametrize("interpreter", ["/bin/sh", "/usr/bin/env sh"])
def test_a_script_around_qemu_gets_what_it_would_get(image: Path, tmp_path: Path, interpreter: str) -> None:
    script = tmp_path / QEMUS
    script.write_text(f'#!{interpreter}\nexec {shutil.which(QEMUS)} "$@"\n')
    script.chmod(0o755)
    runner = QemuRunner(str(script), keep_loaded=True)
    wanted = answer(QemuRunner(), image)
    assert [answer(runner, image) for _ in range(2)] == [wanted, wanted]
    assert len(waiting()) == 1


def test_an_interruption_leaves_no_run_and_no_answer_for_the_next(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = QemuRunner(keep_loaded=True)
    wanted = answer(runner, image)
    real = socket.socket.recv
    with monkeypatch.context() as patched:

        def interrupted(line: socket.socket, *arguments: Any) -> bytes:
            patched.setattr(socket.socket, "recv", real)
            raise KeyboardInterrupt

        patched.setattr(socket.socket, "recv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            answer(runner, image)
    assert children(os.getpid(), QEMUS) == []
    assert answer(runner, image) == wanted


def answer_of_one_that_is_killed(runner: QemuRunner, image: Path) -> None:
    with runner.open(image, BOARD) as session:
        device = Device(session.port, session.timeouts)
        device.wait_ready()
        (process,) = children(os.getpid(), QEMUS)
        os.kill(process, signal.SIGKILL)
        device.run(Pattern(PatternKind.RANDOM, 1))


def test_where_children_are_not_waited_for(image: Path) -> None:
    """Whoever ignores SIGCHLD, or was started by one who does, has no zombies and no status of a child."""
    runner = QemuRunner(keep_loaded=True)
    wanted = answer(runner, image)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert answer(runner, image) == wanted
        with pytest.raises(RunnerError, match="QEMU ended"):
            answer_of_one_that_is_killed(runner, image)
    finally:
        signal.signal(signal.SIGCHLD, before)
