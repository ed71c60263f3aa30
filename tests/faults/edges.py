"""Trust at the edges, tried: damaged files to all readers, and kill -9 with most results stored; as a table.

    python -m tests.faults.edges [--inputs N] [--kills N] [--seed N]

An input must end within 5 s, with an exit status of the design, at most one error line, no traceback, and nothing that
a terminal or a CI log would obey. A run that was killed must go on to the very results of one that was not, and leave
no temporary folder. Exit status 1 when something was otherwise.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from unittest.mock import patch

import typer

from hil.cli import app as cli_app
from hil.cli import main as cli
from tests.faults.edge_inputs import Kind, kinds, mutated
from tests.faults.edge_kills import KILLED, Killed

HANG_S = 5


class Hang(BaseException):
    """An input that took too long."""


@dataclass(slots=True)
class Tried:
    """What became of the inputs of one kind."""

    kind: str
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


@contextmanager
def alarmed() -> Iterator[None]:
    """Raises Hang inside after `HANG_S` seconds of processor time: other work on the machine is no hang."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def by_command(kind: Kind, path: Path) -> tuple[str, str]:
    """Status, and what was wrong with the answer (empty: nothing)."""
    words = [word.replace("FILE", str(path)).replace("FOLDER", str(path.parent)) for word in kind.words]
    environment = {key: value.replace("FILE", str(path)) for key, value in (kind.environment or {}).items()}
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    os.environ.update(environment)
    sys.argv = ["munas-hil", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(before)
    said = err.getvalue()
    if status not in kind.statuses:
        return str(status), f"status {status}: {said[-300:]}"
    if "Traceback" in said:
        return str(status), f"traceback: {said[-300:]}"
    if any(not (char == "\n" or char.isprintable()) for char in said):
        return str(status), f"raw text: {said[-300:]!r}"
    if any(line.lstrip().startswith(("::", "##[")) for line in said.split("\n")):
        return str(status), f"a workflow command: {said[-300:]!r}"
    lines = [line for line in said.split("\n") if line.startswith("munas-hil: ")]
    return str(status), "" if len(lines) == (status != 0) else f"{len(lines)} error lines: {said[-300:]}"


def by_reader(kind: Kind, path: Path) -> tuple[str, str]:
    assert kind.read is not None
    try:
        kind.read(path)
    except kind.errors as error:
        return type(error).__name__, ""
    return "read", ""


def try_one(kind: Kind, path: Path, tried: Tried) -> None:
    """Count what becomes of the file at `path`."""
    started = time.process_time()
    try:
        with alarmed():
            outcome, wrong = (by_reader if kind.read else by_command)(kind, path)
    except Hang:
        outcome, wrong = "hang", f"more than {HANG_S} s"
    except BaseException as error:
        outcome, wrong = "exception", "".join(traceback.format_exception(error))[-600:]
    tried.inputs += 1
    tried.outcomes[outcome] += 1
    tried.slowest_s = max(tried.slowest_s, time.process_time() - started)
    if wrong:
        kept = Path(tempfile.gettempdir()) / f"edge-{kind.name.replace(' ', '-')}-{len(tried.wrong)}-{path.name}"
        kept.write_bytes(path.read_bytes())
        tried.wrong.append(f"{kept}: {wrong}")


def fuzz(inputs: int, seed: int) -> list[Tried]:
    """About `inputs` damaged files in all, of every kind as many."""
    command = typer.main.get_command(cli_app.app)  # making it takes longer than most of what it does
    with tempfile.TemporaryDirectory() as name, patch.object(typer.main, "get_command", lambda _: command):
        folder = Path(name)
        known = kinds(folder)
        results = []
        for kind in known:
            rng = random.Random(f"{seed} {kind.name}")
            tried, place = Tried(kind.name), folder / kind.name.replace(" ", "-")
            place.mkdir()
            sound = Tried(kind.name)
            (place / kind.file).write_bytes(kind.sound)
            try_one(kind, place / kind.file, sound)
            if sound.wrong or not {"0", "read", "2" if kind.statuses == (2,) else "0"} & set(sound.outcomes):
                tried.wrong.append(f"the sound one: {sound.outcomes} {sound.wrong}")
            for _ in range(-(-inputs // len(known))):
                for old in place.iterdir():
                    old.unlink()
                path = place / kind.file
                path.write_bytes(mutated(kind, rng, folder))
                try_one(kind, path, tried)
            results.append(tried)
        return results


def show(tried: list[Tried], killed: list[Killed]) -> bool:
    """Print the tables; whether all was as it must be."""
    print("| input | tried | outcome (exit status, or error) | slowest | wrong |\n|---|---|---|---|---|")
    for item in tried:
        outcomes = ", ".join(f"{name}: {count}" for name, count in sorted(item.outcomes.items()))
        print(f"| {item.kind} | {item.inputs} | {outcomes} | {item.slowest_s:.2f} s | {len(item.wrong)} |")
    print(f"| all | {sum(item.inputs for item in tried)} | | | {sum(len(item.wrong) for item in tried)} |")
    if killed:
        print("\n| killed | kill -9 | stored at the first | lost | equal after resume | folders left |")
        print("|---|---|---|---|---|---|")
    for end in killed:
        print(f"| {end.what} | {end.kills} | {end.first} of {end.total} | {end.lost} | {end.equal} | {end.left} |")
    for item in tried:
        for text in item.wrong[:5]:
            print(f"{item.kind}: {text}", file=sys.stderr)
    return not any(item.wrong for item in tried) and all(end.sound for end in killed)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cli_app.console.width = 160
    tried = fuzz(options.inputs, options.seed) if options.inputs else []
    killed = [make(-(-options.kills // len(KILLED)), options.seed) for make in KILLED.values()] if options.kills else []
    return 0 if show(tried, killed) else 1


if __name__ == "__main__":
    sys.exit(main())
