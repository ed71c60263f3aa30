"""A calibration in Renode whose emulators are killed at random moments: every sample is there once, and none failed.

``RENODE_PATH=FOLDER python -m tests.faults.renode_kills --samples 436 --kills 20``: networks and, beside them, probes.
With ``--folder`` the run is kept there, and one that was stopped goes on; the file `kills` has a line for each so far.
Exit status 1 when a sample is missing, there twice or failed, an emulator was not killed, or the calibration did not
end with 0.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from hil.calibration.calibrate import FIRST_PROBE
from hil.targets.runners.renode_process import ARGUMENTS

POLL_S = 0.2
MARK = "MUNAS_RENODE_KILLS"  # an environment variable: which campaign a process belongs to
LAUNCHERS = ("sh", "bash", "setpriv")


def emulators(mark: str) -> list[int]:
    """Renodes with `mark` in their environment, without the scripts that launched them.

    Whose child they are says nothing: what forks the workers is nobody's child (`munas.jobs.fork_server`).
    """
    found = list[int]()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if rest.split()[0] == "Z" or name in LAUNCHERS or ARGUMENTS[0].encode() not in words:
                continue
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def stored(folder: Path) -> dict[str, int]:
    """How many samples are stored, by status, in the store of a run folder."""
    found = dict[str, int]()
    for path in folder.glob("*.sqlite"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store, suppress(sqlite3.OperationalError):
            for status, count in store.execute("SELECT status, count(*) FROM results GROUP BY status"):
                found[status] = found.get(status, 0) + count
    return found


def kills(folder: Path) -> list[str]:
    """For each emulator killed so far, how many samples were stored by then."""
    file = folder / "kills"
    return file.read_text().splitlines() if file.exists() else []


def twice_and_missing(folder: Path) -> tuple[int, int]:
    """How many samples are stored more than once, and how many below the highest are not there, of networks and of
    probes, which are numbered from `FIRST_PROBE`."""
    numbers = list[int]()
    for path in folder.glob("*.sqlite"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            numbers += [number for (number,) in store.execute("SELECT sample FROM results")]
    once = set(numbers)
    networks = {number for number in once if number < FIRST_PROBE}
    expected = max(networks, default=-1) + 1 + max((number + 1 - FIRST_PROBE for number in once - networks), default=0)
    return len(numbers) - len(once), expected - len(once)


def campaign(command: Sequence[str], folder: Path, moments: Sequence[int], drawn: random.Random) -> int:
    """Run `command`, killing an emulator whenever as many samples as the next of `moments` are stored.

    Its exit status.
    """
    left = sorted(moments)
    with (folder / "log").open("ab") as log:
        mark = str(os.getpid())
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, MARK: mark})
        while process.poll() is None:
            time.sleep(POLL_S)
            if left and sum(stored(folder).values()) >= left[0] and (running := emulators(mark)):
                time.sleep(drawn.uniform(0, 1))  # into whatever it does by then
                with suppress(ProcessLookupError), (folder / "kills").open("a") as file:
                    os.kill(drawn.choice(running), signal.SIGKILL)
                    file.write(f"{sum(stored(folder).values())}\n")
                left.pop(0)
    return process.returncode


def main() -> int:
    """The campaign, and a line on how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="nucleo-f746zg")
    parser.add_argument("--samples", type=int, default=436)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    drawn, started = random.Random(options.seed), time.monotonic()
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        first = sum(stored(folder).values())
        moments = [drawn.randrange(first, options.samples) for _ in range(options.kills - len(kills(folder)))]
        command = [
            sys.executable, "-m", "hil", "calibrate", "--via", "renode", "--board", options.board,
            "-n", str(options.samples), "-o", str(folder),
        ]  # fmt: skip
        status = campaign(command, folder, moments, drawn)
        found, killed, took_s = stored(folder), len(kills(folder)), time.monotonic() - started
        twice, missing = twice_and_missing(folder)
        print((folder / "log").read_text()[-2000:])
    total = sum(found.values())
    print(
        f"exit status {status}; {killed} emulators killed; {total} samples, {found}; {twice} twice, {missing} missing; "
        f"{total - first} in {took_s:.0f} s"
    )
    good = status == 0 and killed >= options.kills and set(found) == {"ok"} and total >= options.samples
    return int(not good or twice + missing > 0)


if __name__ == "__main__":
    sys.exit(main())
