"""Many small trainings for a table in the documentation: each is stored as it ends, so that a stopped one goes on.

A line of FOLDER/trained.jsonl is one training: what came of it, and the case that it is of.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from munas.arch.graph import build_graph
from munas.arch.space import Architecture, ArchitectureError, random_cnn, to_dict
from munas.data import Dataset, load_dataset
from munas.jobs.base import Job
from munas.jobs.local import LOCAL
from munas.search.training_jobs import task_of, trained_of, training_jobs
from munas.search.trial import Trained
from munas.training.train import PRELOAD

MACS = (5_000, 500_000)
"""Of the random networks: from what a few kilobytes hold to what trains in minutes."""
MODEL_SIZE = 64_000
MEMORY_BYTES = 4 << 30
STORE = "trained.jsonl"


@dataclass(frozen=True, slots=True)
class CaseOf:
    """One training on a data set; what else it is a table says, in fields of numbers and words."""

    dataset: str


C = TypeVar("C", bound=CaseOf)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one training: the int8 network's error on validation data (0..1), what the network has become, its weights and
    biases, its MACs, and training images a second of wall time."""

    error: float
    architecture: Any
    model_size: int
    macs: int
    images_per_second: float

    @classmethod
    def of(cls, trained: Trained, data: Dataset) -> Outcome:
        """What is kept of a network that was trained on a data set."""
        graph = build_graph(trained.architecture, data.input_shape, data.num_classes)
        architecture = to_dict(trained.architecture)
        return cls(trained.error, architecture, graph.model_size, graph.macs, trained.images_per_second)


def network(number: int, shape: tuple[int, int, int], classes: int) -> Architecture:
    """Random network `number` for inputs of a shape, within MACS and MODEL_SIZE."""
    rng = np.random.default_rng([number, *shape])
    while True:
        architecture = random_cnn(rng)
        try:
            graph = build_graph(architecture, shape, classes)
        except ArchitectureError:
            continue
        if MACS[0] <= graph.macs <= MACS[1] and graph.model_size <= MODEL_SIZE:
            return architecture


def stored(path: Path, kind: type[C]) -> dict[C, Outcome]:
    """What came of the trainings so far. A last line that was not written to its end does not count."""
    return {kind(**case): Outcome(**outcome) for outcome, case in map(json.loads, _whole_lines(path).splitlines())}


def _whole_lines(path: Path) -> bytes:
    """What was written to the end; nothing where there is no file yet."""
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def train(
    cases: Sequence[C], job: Callable[[C, Dataset, int], Job], folder: Path, workers: int
) -> Iterator[tuple[C, Outcome]]:
    """Train what is not stored in `folder` yet, `workers` at a time; `job` makes the training of a case from its data
    set and its number. Raises MunasError; a training that fails is told on standard error and left out."""
    if not cases:
        return
    folder.mkdir(parents=True, exist_ok=True)
    known = stored(folder / STORE, type(cases[0]))
    todo = [case for case in cases if case not in known]
    sets = {name: load_dataset(name) for name in {case.dataset for case in todo}}
    with (
        (folder / STORE).open("ab") as store,
        training_jobs(LOCAL, workers, MEMORY_BYTES, folder / "logs", PRELOAD) as jobs,
    ):
        store.truncate(len(_whole_lines(folder / STORE)))
        begun = 0
        while begun < len(todo) or jobs.busy:
            while begun < len(todo) and jobs.idle:
                jobs.submit(job(todo[begun], sets[todo[begun].dataset], begun))
                begun += 1
            for finished in jobs.wait():
                case, trained = todo[task_of(finished).trial.index], trained_of(finished)
                if trained is None:
                    print(f"{case}: {finished.message}", file=sys.stderr)
                    continue
                outcome = Outcome.of(trained, sets[case.dataset])
                store.write(json.dumps([asdict(outcome), asdict(case)]).encode() + b"\n")
                store.flush()
                yield case, outcome


def arguments(description: str | None, sets: Sequence[str], networks: int) -> argparse.ArgumentParser:
    """The options that the tables have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(sets))
    parser.add_argument("--networks", type=int, default=networks)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--passes", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    return parser


def tell(trainings: Iterator[tuple[C, Outcome]]) -> None:
    """Run trainings to their end, and say on standard error what came of each."""
    for number, (case, outcome) in enumerate(trainings, 1):
        print(f"{number}: {', '.join(map(str, asdict(case).values()))}: {outcome.error:.2%}", file=sys.stderr)
