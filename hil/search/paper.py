"""The searches behind the µNAS paper's table and figure, as runs in folders of their own: what each is, what is there.

Each is run, and gone on with, by itself, so that a page can be made of whatever has been run so far.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hil.boards.board import load_board
from hil.errors import UsageError
from hil.measure.options import DEFAULT_BOARD
from hil.search.result import RESULT_FILE, SearchResult, read_search_result

Part = Literal["table", "pruning"]
FOLDER = Path("runs") / "paper"
PAGE_FILE = "paper.html"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One search. `options` are those of `munas-hil search` but for time, seed, workers, board and folder; `bounds`
    says what they bound in words."""

    key: str
    part: Part
    dataset: str
    bounds: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What all searches have in common: where they are, how long each is, its seed and its board's name or file."""

    folder: Path = FOLDER
    minutes: float = 60.0
    seed: int = 0
    board: str = DEFAULT_BOARD

    def command(self, experiment: Experiment) -> str:
        """What runs one of them alone."""
        words = ["munas-hil", "paper", experiment.part, "--only", experiment.key, "--minutes", f"{self.minutes:g}"]
        for name in ("folder", "seed", "board"):
            if (value := getattr(self, name)) != getattr(_USUAL, name):
                words += [f"--{name}", str(value)]
        return shlex.join(words)

    def is_done(self, experiment: Experiment) -> bool:
        """Whether it has been run for so long, or longer. Raises UsageError where what is there is another search."""
        if not (self.folder / experiment.key / RESULT_FILE).is_file():
            return False
        result, board = _result(self.folder, experiment), load_board(self.board).name
        if (result.board, result.seed) != (board, self.seed):
            raise UsageError(
                f"{self.folder / experiment.key} is a search for {result.board} with seed {result.seed}, not for"
                f" {board} with seed {self.seed}; name another --folder"
            )
        spent = result.settings.get("minutes")
        return isinstance(spent, int | float) and spent >= self.minutes


_USUAL = Asked()


def _table(dataset: str, counted: str, bounds: str, **options: Any) -> Experiment:
    """Without pruning, which leaves room unused where the size is what is bounded: networks are within the bounds
    before they are pruned."""
    return Experiment(
        f"{dataset}-{counted}", "table", dataset, bounds, {"dataset": dataset, "pruning": False, **options}
    )


def _pair(dataset: str, preset: str) -> tuple[Experiment, Experiment]:
    same = {"dataset": dataset, "preset": preset, "mode": "paper"}
    bounds = f"preset {preset}, counted as the paper counts"
    return (
        Experiment(f"{dataset}-pruned", "pruning", dataset, bounds, {**same, "pruning": True}),
        Experiment(f"{dataset}-dense", "pruning", dataset, bounds, {**same, "pruning": False}),
    )


EXPERIMENTS: Mapping[str, Experiment] = {
    item.key: item
    for item in (
        # SpArSe's figures for MNIST. 4 KB of the RAM are stack and static data as they are predicted without a
        # calibration, so that 2 KB are left for activations, the image among them.
        _table("mnist", "paper", "2,800 weights and biases, 2 KB for activations, the image included",
               max_model_size="2800", max_ram="6K", max_error=0.0136),
        _table("mnist", "device", "8 KB of weights and tables in flash", max_weights="8K", max_error=0.008),
        _table("fashion-mnist", "paper", "the paper's 64 k and 64 k", preset="munas-fashion", mode="paper"),
        _table("fashion-mnist", "device", "64 KB of flash with code, 64 KB of RAM with stack and arena"),
        _table("cifar10", "paper", "the paper's result: 11.4 k and 15.4 k", preset="munas-cifar10", mode="paper",
               max_model_size="11400", max_peak_memory="15400"),
        _table("cifar10", "device", "64 KB of flash with code, 64 KB of RAM with stack and arena"),
        _table("cifar10-binary", "paper", "the paper's result: 685 and 909", preset="munas-cifar10-binary",
               mode="paper", max_model_size="685", max_peak_memory="909"),
        _table("cifar10-binary", "device", "2 KB of weights and tables in flash", max_weights="2K"),
        *_pair("mnist", "munas-mnist"),
        *_pair("fashion-mnist", "munas-fashion"),
    )
}  # fmt: skip
"""By the name of the folder that each has below the folder of all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An experiment and what there is of it: a result, and `why` there is none, or none as it was asked for."""

    experiment: Experiment
    result: SearchResult | None
    why: str = ""


def entries_of(folder: Path, problems: Mapping[str, str] | None = None) -> list[Entry]:
    """All experiments with the results that `folder` has; `problems` are those of a run that has just been tried. A
    result that cannot be read, or is of another data set, keeps no other from being shown."""
    found = []
    for key, experiment in EXPERIMENTS.items():
        why, result = (problems or {}).get(key, ""), None
        if (folder / key / RESULT_FILE).is_file():
            try:
                result = _result(folder, experiment)
            except UsageError as error:
                why = why or str(error)
        found.append(Entry(experiment, result, why or ("" if result else "not run yet")))
    return found


def _result(folder: Path, experiment: Experiment) -> SearchResult:
    result = read_search_result(folder / experiment.key)
    if result.dataset != experiment.dataset:
        raise UsageError(f"{folder / experiment.key} is a search on {result.dataset}, not on {experiment.dataset}")
    return result


def chosen(part: Part, only: Sequence[str]) -> list[Experiment]:
    """The experiments of a part, or those of them that are named. Raises UsageError for a name that is not of it."""
    known = [item for item in EXPERIMENTS.values() if item.part == part]
    if unknown := [name for name in only if name not in {item.key for item in known}]:
        raise UsageError(f"--only {unknown[0]} is not of the {part} (known: {', '.join(item.key for item in known)})")
    return [item for item in known if not only or item.key in only]
