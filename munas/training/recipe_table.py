"""The two recipes beside each other: the same random networks, trained as long by either.

    python -m munas.training.recipe_table --sets mnist fashion-mnist cifar10-binary --passes 3 --folder FOLDER

prints a table in Markdown. Errors are those of the int8 networks on validation data. What was trained is kept in FOLDER
(`munas.training.comparison`): a table that was stopped goes on, and one that is there is only printed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from munas.data import Dataset
from munas.jobs.base import NO_LIMITS, Job
from munas.search.training_jobs import training_job
from munas.search.trial import Task, Trial
from munas.training.comparison import STORE, CaseOf, arguments, network, stored, tell, train
from munas.training.recipes import RecipeKind
from munas.training.train import KerasTraining

KINDS: tuple[RecipeKind, ...] = get_args(RecipeKind)


@dataclass(frozen=True, slots=True)
class Case(CaseOf):
    """One training; `network` is the number of a random one, the same for both recipes and all seeds."""

    network: int
    seed: int
    kind: RecipeKind
    passes: float


def job(case: Case, data: Dataset, number: int) -> Job:
    """The training of a case, as job `number`: `passes` over the training images, whatever the recipe's own are."""
    training = KerasTraining(data, kind=case.kind)
    effort = min(1.0, case.passes / training.used_recipe.epochs)
    trial = Trial(number, network(case.network, data.input_shape, data.num_classes), 0.0, case.seed, None, "random")
    return training_job(Task(trial, (), effort), training, NO_LIMITS)


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
    options = arguments(__doc__, ("mnist", "fashion-mnist", "cifar10-binary"), networks=12).parse_args()
    cases = [
        Case(name, number, seed, kind, options.passes)
        for number in range(options.networks)  # so that one that is stopped has whole networks
        for seed in range(options.seeds)
        for name in options.sets
        for kind in KINDS
    ]
    tell(train(cases, job, options.folder, options.workers))
    known = stored(options.folder / STORE, Case)
    print(table({case: known[case].error for case in cases if case in known}))


if __name__ == "__main__":
    main()
