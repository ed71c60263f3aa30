"""How many networks a second are estimated and judged: python -m tests.estimates.throughput FILE [--networks N].

FILE is a calibration.toml. Printed are, for the image sizes of MNIST and CIFAR-10, the processor time of one estimate
of a graph and of one verdict of the search (graph, estimate, memory), as networks a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from munas.arch.graph import build_graph
from munas.arch.space import Architecture, random_cnn
from munas.cost.calibration_file import load_calibration
from munas.cost.estimate import estimate
from munas.cost.resources import Assessor

SHAPES = ((28, 28, 1), (32, 32, 3))


def rate(work: Callable[[Architecture], object], architectures: Sequence[Architecture]) -> float:
    """Architectures a second of processor time."""
    started = time.process_time()
    for architecture in architectures:
        work(architecture)
    return len(architectures) / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--networks", type=int, default=500)
    arguments = parser.parse_args()
    known = load_calibration(arguments.calibration)
    rng = np.random.default_rng(2)
    architectures = [random_cnn(rng) for _ in range(arguments.networks)]
    for shape in SHAPES:
        judge = Assessor(known.memory, known, shape, 10)
        estimates = rate(lambda item, shape=shape: estimate(build_graph(item, shape, 10), known), architectures)
        verdicts = rate(judge.assess, architectures)
        size = " x ".join(map(str, shape))
        print(f"{size:<11} {estimates:7,.0f} estimates a second, {verdicts:7,.0f} verdicts of the search a second")


if __name__ == "__main__":
    main()
