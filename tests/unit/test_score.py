"""The score on the test set: the same in one process and in several, and no process outlives an interruption."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from hil.errors import InfrastructureError
from hil.search.score import Scorer
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.data import Dataset, Examples
from munas.tflite.flatbuffer import write_tflite
from tests.network_trainer import INPUT_SHAPE, NUM_CLASSES
from tests.search_stub import stub_dataset

ENOUGH = 1000
ENDLESS = 3_000_000  # scored in a minute: the signal always comes before the end


def dataset(examples: int) -> Dataset:
    rng = np.random.default_rng(1)
    inputs = rng.integers(0, 17, (examples, *INPUT_SHAPE), np.uint8)
    return replace(stub_dataset(), test=Examples(inputs, rng.integers(0, NUM_CLASSES, examples)))


@pytest.fixture(scope="module")
def tflite() -> bytes:
    return write_tflite(build_graph(random_cnn(np.random.default_rng(3)), INPUT_SHAPE, NUM_CLASSES), 1)


MARK = "TEST_SCORE_OF"


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started from here on can be told by its environment: nobody's child, as a fork server has left us."""
    monkeypatch.setenv(MARK, str(os.getpid()))


def workers() -> list[int]:
    """Processes that one that we have started has forked."""
    ours = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _parent(entry) and _is_marked(entry)]
    return [process for process in ours if _parent(Path("/proc") / str(process)) in ours]


def _is_marked(entry: Path) -> bool:
    try:
        return f"{MARK}={os.getpid()}".encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _parent(entry: Path) -> int:
    """The parent of a process that runs; 0 for one that is gone."""
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


@contextmanager
def when_it_works(act: int, seen: list[int] | None = None) -> Iterator[None]:
    """Once there are processes, each gets the signal `act`; for SIGALRM, this process does."""

    def wait() -> None:
        deadline = time.monotonic() + 200
        while len(found := workers()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)  # for what comes after their start
        if seen is not None:
            seen.extend(found)
        if act == signal.SIGALRM:
            signal.pthread_kill(threading.main_thread().ident or 0, act)
        else:
            for process in found:
                with suppress(ProcessLookupError):  # ended with the first one
                    os.kill(process, act)

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


@pytest.mark.slow
def test_the_score_does_not_depend_on_the_processes(tflite: bytes) -> None:
    data = dataset(ENOUGH)
    assert Scorer(data, 2)(tflite) == Scorer(data, 1)(tflite)


@pytest.mark.slow
def test_a_process_that_dies_is_told(tflite: bytes) -> None:
    with when_it_works(signal.SIGKILL), pytest.raises(InfrastructureError, match=r"has died.*same command again"):
        Scorer(dataset(ENDLESS), 2)(tflite)


@pytest.mark.slow
def test_an_interruption_ends_the_processes_at_once(tflite: bytes) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    found: list[int] = []
    try:
        with when_it_works(signal.SIGALRM, found), pytest.raises(KeyboardInterrupt):
            Scorer(dataset(ENDLESS), 2)(tflite)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert found
    assert workers() == []
    assert not any(_parent(Path("/proc") / str(process)) for process in found)
