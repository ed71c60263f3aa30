"""The two recipes beside each other: the same random networks, trained as long by either.

    python -m munas.training.recipe_table --sets mnist fashion-mnist cifar10-binary --passes 3 --folder FOLDER

prints a table in Markdown. Errors are those of the int8 networks on validation data. A line of FOLDER/trained.jsonl is
one training, so that a table that was stopped goes on, and one that is there is only printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from munas.arch.graph import build_graph
from munas.arch.space import Architecture, ArchitectureError, random_cnn
from munas.data import Dataset, load_dataset
from munas.jobs.base import NO_LIMITS, Job
from munas.jobs.local import LOCAL
from munas.search.training_jobs import task_of, trained_of, training_job, training_jobs
from munas.search.trial import Task, Trial
from munas.training.recipes import RecipeKind
from munas.training.train import PRELOAD, KerasTraining

KINDS: tuple[RecipeKind, ...] = get_args(RecipeKind)
MACS = (5_000, 500_000)
"""Of the networks: from what a few kilobytes hold to what trains in minutes."""
MODEL_SIZE = 64_000
MEMORY_BYTES = 4 << 30
STORE = "trained.jsonl"


@dataclass(frozen=True, slots=True)
class Case:
    """One training; `network` is the number of a random one, the same for both recipes and all seeds."""

    dataset: str
    network: int
    seed: int
    kind: RecipeKind
    passes: float


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


def job(case: Case, data: Dataset, number: int) -> Job:
    """The training of a case, as job `number`: `passes` over the training images, whatever the recipe's own are."""
    training = KerasTraining(data, kind=case.kind)
    effort = min(1.0, case.passes / training.used_recipe.epochs)
    trial = Trial(number, network(case.network, data.input_shape, data.num_classes), 0.0, case.seed, None, "random")
    return training_job(Task(trial, (), effort), training, NO_LIMITS)


def stored(path: Path) -> dict[Case, float]:
    """Errors of the trainings so far. A last line that was not written to its end does not count."""
    return {Case(**case): float(error) for error, case in map(json.loads, _whole_lines(path).splitlines())}


def _whole_lines(path: Path) -> bytes:
    """What was written to the end; nothing where there is no file yet."""
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def train(cases: Sequence[Case], folder: Path, workers: int) -> Iterator[tuple[Case, float]]:
    """Train what is not stored in `folder` yet, `workers` at a time. Raises MunasError; a training that fails is told
    on standard error and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    known = stored(folder / STORE)
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
                store.write(json.dumps([trained.error, asdict(case)]).encode() + b"\n")
                store.flush()
                yield case, trained.error


def table(errors: Mapping[Case, float]) -> str:
    """Markdown: for each data set the median error by either recipe, and how much and how often the first is better."""
    ours, others = KINDS
    lines = [
        f"| data set | networks, seeds | passes | {ours} | {others} | {ours} better by, median | {ours} better |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, passes in sorted({(case.dataset, case.passes) for case in errors}):
        mine = [case for case in errors if (case.dataset, case.passes, case.kind) == (name, passes, ours)]
        beside = {case: replace(case, kind=others) for case in mine}
        pairs = [(errors[case], errors[other]) for case, other in beside.items() if other in errors]
        if not pairs:
            continue
        networks, seeds = len({case.network for case in mine}), len({case.seed for case in mine})
        first, second = (100 * statistics.median(side) for side in zip(*pairs, strict=True))
        gain = 100 * statistics.median(other - own for own, other in pairs)
        better = sum(own < other for own, other in pairs)
        lines.append(
            f"| {name} | {networks}, {seeds} | {passes:g} | {first:.1f} % | {second:.1f} % | {gain:.1f} points"
            f" | {better} of {len(pairs)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion-mnist", "cifar10-binary"])
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--passes", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    cases = [
        Case(name, number, seed, kind, options.passes)
        for number in range(options.networks)  # so that one that is stopped has whole networks
        for seed in range(options.seeds)
        for name in options.sets
        for kind in KINDS
    ]
    for number, (case, error) in enumerate(train(cases, options.folder, options.workers), 1):
        print(
            f"{number}: {case.dataset}, network {case.network}, seed {case.seed}, {case.kind}: {error:.2%}",
            file=sys.stderr,
        )
    errors = stored(options.folder / STORE)
    print(table({case: errors[case] for case in cases if case in errors}))


if __name__ == "__main__":
    main()
