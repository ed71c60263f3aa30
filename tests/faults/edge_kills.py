"""kill -9 of calibrate, search and verify when at least half of their results are stored; then on to the end."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import test_search_kill as search_program
from tests.networks import small_network

ROOT = Path(__file__).resolve().parents[2]
BOARD = "mps2-an386"
SAMPLES = 60  # of calibrate
INPUTS = 300  # of verify
TRIALS = 120  # of the search
DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class Killed:
    """`first` of `total` results were stored at the first kill; `lost` of those of any kill were not there later.

    `left` counts temporary folders.
    """

    what: str
    kills: int
    first: int
    total: int
    lost: int
    equal: bool
    left: int

    @property
    def sound(self) -> bool:
        """Whether all was as it must be."""
        return self.kills > 0 and 2 * self.first >= self.total and not self.lost and self.equal and not self.left


def _start(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "hil", *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def _stored(path: Path) -> dict[int, str]:
    """Record of each stored sample, without what no two runs share."""
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            rows = connection.execute("SELECT sample, status, record FROM results").fetchall()
    except sqlite3.OperationalError:  # it is made just now
        return {}
    return {sample: f"{status} {json.dumps(_timeless(json.loads(record)))}" for sample, status, record in rows}


def _timeless(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _timeless(value) for key, value in sorted(document.items()) if key != "seconds"}
    return [_timeless(item) for item in document] if isinstance(document, list) else document


def _kill(words: Sequence[str], folder: Path, store: Path, total: int, kills: int, seed: int) -> tuple[int, int, int]:
    """Kill the command `kills` times, when half is stored and each time a little later.

    Gives back the kills, how much was stored at the first, and how many stored results were gone or another later.
    """
    rng, done, first, lost = random.Random(seed), 0, 0, 0
    before: dict[int, str] = {}
    for number in range(kills):
        wanted = total // 2 + 1 + number * (total // 2 - 2) // kills
        with _start(words, folder) as process:
            deadline = time.monotonic() + DEADLINE_S
            while len(found := _stored(store)) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(rng.uniform(0.0, 0.1))  # at whatever it is doing then
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
        done += 1
        first = first or len(found)
        _wait_for_children(process.pid)
        now = _stored(store)
        lost += sum(now.get(sample) != text for sample, text in before.items())
        before = now
    return done, first, lost


def _wait_for_children(session: int) -> None:
    deadline = time.monotonic() + 30
    while search_program.finalists(session) and time.monotonic() < deadline:
        time.sleep(0.05)


def _finish(words: Sequence[str], folder: Path) -> Any:
    with _start(words, folder) as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    if process.returncode != 0:
        raise RuntimeError(f"{words} ended with {process.returncode}: {(folder / 'log').read_text()[-500:]}")
    return json.loads(out)


def _left(folder: Path) -> int:
    """Temporary folders, of ours and of the cache."""
    cache = Path(os.environ.get("MUNAS_HIL_CACHE", folder / "cache"))
    return len(list((folder / "tmp").iterdir())) + sum(1 for _ in cache.glob("*/.*~*"))


def _both(what: str, words: Sequence[str], names: tuple[str, str], least: int, kills: int, seed: int) -> Killed:
    """`words` with RUN in them, run through once and killed beside it.

    `least` is what is asked for; a calibration stores its probes beside that.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        (folder / "net.tflite").write_bytes(small_network(2))
        np.savez(folder / "data.npz", **_data())
        stores = [folder / run / names[0] for run in ("whole", "killed")]
        variants = [[word.replace("RUN", run) for word in words] for run in ("whole", "killed")]
        _finish(variants[0], folder)
        total = len(_stored(stores[0]))
        done, first, lost = _kill(variants[1], folder, stores[1], total, kills, seed)
        before = _stored(stores[1])
        _finish(variants[1], folder)
        after, whole = _stored(stores[1]), _stored(stores[0])
        lost += sum(after.get(sample) != text for sample, text in before.items())
        equal = after == whole and total >= least
        if names[1]:
            texts = [(folder / run / names[1]).read_bytes() for run in ("whole", "killed")]
            equal = equal and texts[0] == texts[1]
        return Killed(what, done, first, total, lost, equal, _left(folder))


def _data() -> dict[str, Any]:
    from hil.model.load import parse_model

    model = parse_model(small_network(2), "net")
    shape = model.tensors[model.inputs[0]].shape
    rng = np.random.default_rng(1)
    classes = model.tensors[model.outputs[0]].shape[-1]
    x = rng.integers(-128, 128, (INPUTS, *shape[1:]), dtype=np.int8)
    return {"x": x, "y": rng.integers(0, classes, INPUTS)}


def calibrate(kills: int, seed: int) -> Killed:
    """Real firmware under QEMU."""
    words = ["calibrate", "--board", BOARD, "--via", "qemu", "-n", str(SAMPLES), "-o", "RUN", "--json"]
    return _both("calibrate", words, ("store.sqlite", "calibration.toml"), SAMPLES, kills, seed)


def verify(kills: int, seed: int) -> Killed:
    """Real firmware under QEMU."""
    words = ["verify", "net.tflite", "--data", "data.npz", "--board", BOARD, "--via", "qemu", "-o", "RUN/v.sqlite"]
    return _both("verify", [*words, "--json"], ("v.sqlite", ""), INPUTS, kills, seed)


def search(kills: int, seed: int) -> Killed:
    """The search with a trainer of random weights."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, killed = folder / "whole", folder / "killed"
        for run in (whole, killed, folder / "tmp"):
            run.mkdir()
        with search_program.running(whole, TRIALS, 1) as main:
            main.wait(DEADLINE_S)
        done = first = lost = 0
        before: list[Any] = []
        for number in range(kills):
            wanted = TRIALS // 2 + 1 + number * (TRIALS // 2 - 2) // kills
            with search_program.running(killed, TRIALS, 1, hangs=TRIALS - 1) as main:  # it cannot be over before
                while main.poll() is None and len(list(killed.glob("attempts-*"))) <= wanted:
                    time.sleep(0.02)
                time.sleep(rng.uniform(0.0, 0.1))
                if main.poll() is not None:
                    break
                main.kill()
            done += 1
            _wait_for_children(main.pid)
            now = search_program.stored(killed)[1]
            first = first or len(now)
            lost += sum(item not in now for item in before)
            before = now
        with search_program.running(killed, TRIALS, 1) as main:
            main.wait(DEADLINE_S)
        equal = search_program.stored(killed) == search_program.stored(whole)
        return Killed("search", done, first, TRIALS, lost, equal, len(list((folder / "tmp").iterdir())))


KILLED: dict[str, Callable[[int, int], Killed]] = {"calibrate": calibrate, "verify": verify, "search": search}
