"""Holds `estimate` to networks that calibration did not draw: python -m tests.estimates.check [--calibration FILE] ...

Each network is estimated and measured under QEMU; printed are, for each population, how many there are, the mean and
the largest error of the estimates, and how often the 95 % interval held what was measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from hil.boards.board import load_board
from hil.calibration.calibrate import calibration_for
from hil.errors import HilError
from hil.measure.harness import Harness, Options
from munas.cost.calibration import Latency
from tests.estimates import populations
from tests.estimates.populations import Named

MAX_MACS = 15_000_000  # of a public file: an hour of emulation is enough
BUDGET = (2 << 20, 1 << 20)


@dataclass(frozen=True, slots=True)
class Checked:
    """One network: instructions as measured, as estimated, the interval, and how many outputs were wrong."""

    population: str
    name: str
    measured: float
    estimate: float
    low: float
    high: float
    mismatched: int
    fastest: float
    slowest: float

    @property
    def error(self) -> float:
        """Signed, a fraction of what was measured."""
        return self.estimate / self.measured - 1.0

    @property
    def inside(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.low <= self.measured <= self.high


@cache
def _place(board: str, calibration: str) -> tuple[Harness, Latency]:
    """One harness a process."""
    harness = Harness(load_board(board).with_budget(*BUDGET), Options())
    return harness, calibration_for(Path(calibration), harness.identity).latency


def check(job: tuple[str, str, str, Named]) -> Checked | str:
    """Estimate and measure one network; a reason where it cannot be."""
    board, calibration, population, (name, data) = job
    harness, latency = _place(board, calibration)
    try:
        plan = harness.deploy(data, name)
        if sum(step.work.macs for step in plan.steps) > MAX_MACS:
            return f"{name}: too long to emulate here"
        found = latency.predict([step.work for step in plan.steps])
        measured = harness.measure(data, name).measurement
    except HilError as error:
        return str(error)
    times = measured.latency
    return Checked(
        population, name, times.median, found.latency, found.low, found.high, measured.outputs.mismatched,
        times.min, times.max,
    )  # fmt: skip


def summary(rows: Sequence[Checked]) -> Iterator[str]:
    """The table."""
    yield f"{'population':14} {'n':>4} {'MAPE':>7} {'max':>7} {'coverage':>9} {'half width':>11} {'wrong outputs':>14}"
    for population, items in itertools.groupby(rows, key=lambda row: row.population):
        part = list(items)
        errors = [abs(row.error) for row in part]
        widths = sorted((row.high - row.low) / 2 / row.estimate for row in part)
        inside, wrong = sum(row.inside for row in part), sum(row.mismatched for row in part)
        yield (
            f"{population:14} {len(part):4} {sum(errors) / len(part):7.2%} {max(errors):7.2%} {inside / len(part):9.1%}"
            f" {widths[len(part) // 2]:11.2%} {wrong:14}"
        )


def _jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, Named]]:
    drawn: dict[str, Iterable[Named]] = {
        "munas": populations.munas(arguments.count),
        "random-cnn": populations.random_cnns(arguments.count),
        "hand-written": populations.hand_written(),
        "public": populations.public(arguments.public),
    }
    for population, networks in drawn.items():
        if not arguments.only or population in arguments.only:
            for network in networks:
                yield arguments.board, str(arguments.calibration), population, network


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="nucleo-f746zg")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--count", type=int, default=60, help="networks of each population that is drawn")
    parser.add_argument("--only", nargs="*", default=[], help="populations; default: all")
    parser.add_argument("--public", type=Path, nargs="*", default=[], help="folders of .tflite files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.calibration is None:
        arguments.calibration = Path("runs") / f"{arguments.board}-cmsis-nn-qemu" / "calibration.toml"
    rows = []
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        for found in pool.map(check, _jobs(arguments)):
            if isinstance(found, str):
                print(f"left out: {found}"[:160], flush=True)
                continue
            rows.append(found)
            mark = "" if found.inside else "  OUTSIDE"
            print(f"{found.population} {found.name}: {found.measured:,.0f} {found.error:+.2%}{mark}", flush=True)
    print("\n".join(summary(rows)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
