"""What `tests.faults.renode_kills` kills: without Renode, by a process that is started as Renode is."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from hil.calibration.calibrate import FIRST_PROBE
from hil.targets.runners.renode_process import ARGUMENTS
from tests.faults.renode_kills import MARK, emulators, twice_and_missing

ORPHAN = '"$0" -c "import time; time.sleep(60)" "$@" >/dev/null 2>&1 & echo $!'


def test_an_emulator_is_found_though_it_is_nobodys_child() -> None:
    own = {**os.environ, MARK: "ours"}
    said = subprocess.run(["sh", "-c", ORPHAN, sys.executable, *ARGUMENTS], env=own, stdout=subprocess.PIPE, check=True)
    pid = int(said.stdout)
    try:
        deadline = time.monotonic() + 30
        while not (found := emulators("ours")) and time.monotonic() < deadline:
            time.sleep(0.05)  # until the shell's child has become what it is told to be
        assert found == [pid]
        assert emulators("another's") == []
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("numbers", "counted"),
    [
        ([0, 1, 2, FIRST_PROBE, FIRST_PROBE + 1], (0, 0)),
        ([0, 2, FIRST_PROBE + 1], (0, 2)),
        ([0, 0, FIRST_PROBE, FIRST_PROBE], (2, 0)),
        ([], (0, 0)),
    ],
)
def test_networks_and_probes_are_counted_apart(tmp_path: Path, numbers: list[int], counted: tuple[int, int]) -> None:
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as store, store:
        store.execute("CREATE TABLE results (sample INTEGER)")
        store.executemany("INSERT INTO results VALUES (?)", [(number,) for number in numbers])
    assert twice_and_missing(tmp_path) == counted
