"""What pruning gives: the same random networks pruned in four ways, and what is left of them trained from scratch.

    python -m munas.training.pruning_table --sets mnist fashion-mnist --passes 3 --folder FOLDER

prints a table in Markdown. Errors are those of the int8 networks on validation data. What was trained is kept in FOLDER
(`munas.training.comparison`): a table that was stopped goes on, and one that is there is only printed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from munas.arch.space import AnyArchitecture, parse_architecture
from munas.data import Dataset
from munas.jobs.base import NO_LIMITS, Job
from munas.search.training_jobs import training_job
from munas.search.trial import Task, Trial
from munas.training.comparison import STORE, CaseOf, Outcome, arguments, network, stored, tell, train
from munas.training.recipes import Recipe, recipe_of

if TYPE_CHECKING:
    from munas.training.fit import KerasTrainer, Training

LOSS, WHOLE, SCRATCH = "loss", "not pruned", "from scratch"

WAYS: Mapping[str, str] = {
    WHOLE: "not pruned",
    LOSS: "by kernels times the running mean of their gradients (after arXiv 1906.10771): ours",
    "norm": "by kernels' norms, masks chosen anew every 16 batches (arXiv 2006.07253): the authors'",
    "gradual": "by kernels' norms, what is masked stays masked (arXiv 1710.01878)",
    "soft": "by kernels' norms, set to zero at epochs' starts and trained on (after arXiv 1808.06866)",
    SCRATCH: "what ours leaves, trained from scratch for as many passes",
}
"""What a row of the table is, in the order of the rows."""

PRUNED = tuple(way for way in WAYS if way not in (WHOLE, SCRATCH))

SCRATCH_SEED = 1000
"""Added to the seed of a network that is trained from scratch: other weights than those that pruning began with."""


@dataclass(frozen=True, slots=True)
class Case(CaseOf):
    """One training; `network` is the number of a random one, the same for all ways and seeds, `sparsity` the share of
    its channels that goes."""

    network: int
    seed: int
    way: str
    sparsity: float
    passes: float


@dataclass(frozen=True, slots=True)
class MaskedTraining:
    """A `TrainerFactory` by a recipe that prunes in one of the ways."""

    dataset: Dataset
    recipe: Recipe
    way: str

    def __call__(self) -> KerasTrainer:
        from munas.training import maskings
        from munas.training.fit import KerasTrainer, Training

        kinds: Mapping[str, type[Training]] = {"gradual": maskings.Gradual, "soft": maskings.Soft}
        pruning = replace(self.recipe.pruning, criterion="loss" if self.way == LOSS else "norm")
        recipe = replace(self.recipe, pruning=pruning)
        return KerasTrainer(self.dataset, recipe, training=kinds.get(self.way, Training))


def job(left: Mapping[Case, Outcome], case: Case, data: Dataset, number: int) -> Job:
    """The training of a case, as job `number`: `passes` over the training images. `left` has what our pruning left of
    the network of a case that is trained from scratch."""
    architecture: AnyArchitecture = network(case.network, data.input_shape, data.num_classes)
    sparsity, seed = case.sparsity if case.way in PRUNED else 0.0, case.seed
    if case.way == SCRATCH:
        architecture, seed = parse_architecture(left[replace(case, way=LOSS)].architecture), seed + SCRATCH_SEED
    recipe = recipe_of(case.dataset)
    effort = min(1.0, case.passes / recipe.epochs)
    trial = Trial(number, architecture, sparsity, seed, None, "random")
    return training_job(Task(trial, (), effort), MaskedTraining(data, recipe, case.way), NO_LIMITS)


def table(outcomes: Mapping[Case, Outcome]) -> str:
    """Markdown: for each data set and way the median error, how much and how often it is better than ours, and, as
    medians, the weights and MACs of what is left and the images a second that it was trained at."""
    lines = [
        "| data set | way | error | better by, median | better | weights left | MACs left | images a second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({case.dataset for case in outcomes}):
        for way, words in WAYS.items():
            beside = {case: replace(case, way=LOSS) for case in outcomes if (case.dataset, case.way) == (name, way)}
            pairs = [(outcomes[case], outcomes[ours]) for case, ours in beside.items() if ours in outcomes]
            if pairs:
                lines.append(f"| {name} | {words} | {_compared(pairs, way)} | {_sizes([own for own, _ in pairs])} |")
    return "\n".join(lines)


def _compared(pairs: Sequence[tuple[Outcome, Outcome]], way: str) -> str:
    error = f"{statistics.median(own.error for own, _ in pairs):.2%}"
    if way == LOSS:
        return f"{error} | |"
    gain = 100 * statistics.median(ours.error - own.error for own, ours in pairs)
    better = sum(own.error < ours.error for own, ours in pairs)
    return f"{error} | {gain:+.2f} points | {better} of {len(pairs)}"


def _sizes(outcomes: Sequence[Outcome]) -> str:
    size = statistics.median(outcome.model_size for outcome in outcomes)
    macs = statistics.median(outcome.macs for outcome in outcomes)
    speed = statistics.median(outcome.images_per_second for outcome in outcomes)
    return f"{size:,.0f} | {macs / 1000:,.0f} K | {speed:,.0f}"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = arguments(__doc__, ("mnist", "fashion-mnist"), networks=3)
    parser.add_argument("--sparsity", type=float, default=0.6, help="share of the channels that goes")
    options = parser.parse_args()
    cases = [
        Case(name, number, seed, way, options.sparsity, options.passes)
        for number in range(options.networks)  # so that one that is stopped has whole networks
        for seed in range(options.seeds)
        for name in options.sets
        for way in WAYS
    ]
    first = [case for case in cases if case.way != SCRATCH]
    tell(train(first, partial(job, {}), options.folder, options.workers))
    left = stored(options.folder / STORE, Case)
    again = [case for case in cases if case.way == SCRATCH and replace(case, way=LOSS) in left]
    tell(train(again, partial(job, left), options.folder, options.workers))
    known = stored(options.folder / STORE, Case)
    print(table({case: known[case] for case in cases if case in known}))


if __name__ == "__main__":
    main()
