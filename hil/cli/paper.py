"""Command paper: the searches behind the µNAS paper's table and figure, and the page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hil.cli.app import app, console
from hil.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from hil.search.paper import Experiment

WhatArgument = Annotated[str, typer.Argument(metavar="table|pruning", help="Which of the two.")]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Folder of the run folders and the page; default runs/paper.")
]
MinutesOption = Annotated[
    float,
    typer.Option("--minutes", help="Time of each search; one that had as much is not run again.", min=0.1, max=1e5),
]
OnlyOption = Annotated[list[str] | None, typer.Option("--only", help="One search, by its name; may be repeated.")]
RunOption = Annotated[
    bool, typer.Option("--run/--page-only", help="Run the searches, or make the page of what is there.")
]
BoardOption = Annotated[str | None, typer.Option("--board", "-b", help="Board name, or a board's .toml file.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Trainings at a time; default: cores.", min=1, max=256)
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of the searches.", min=0, max=2**31 - 1)]


@app.command()
def paper(
    what: WhatArgument,
    folder: FolderOption = None,
    minutes: MinutesOption = 60.0,
    only: OnlyOption = None,
    run: RunOption = True,
    board: BoardOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = 0,
) -> None:
    """Run, or go on with, the searches of the paper's table or of its figure on pruning; a page of ours and theirs."""
    from hil.files import write_text
    from hil.report.paper import render_paper
    from hil.search.paper import FOLDER, PAGE_FILE, chosen, entries_of, is_done

    where = folder or FOLDER
    experiments = chosen(_part(what), only or [])
    problems: dict[str, str] = {}
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {where}: {error.strerror}; name another folder") from error

    def write_page() -> None:
        write_text(where / PAGE_FILE, render_paper(entries_of(where, problems), where, minutes))

    write_page()
    for experiment in experiments if run else ():
        if is_done(where, experiment, minutes):
            _tell(f"{experiment.key}: has been run for {minutes:g} minutes or more")
            continue
        problem = _search(experiment, where, {"minutes": minutes, "workers": workers, "seed": seed, "board": board})
        if problem:
            problems[experiment.key] = problem
            _tell(f"{experiment.key}: {problem}")
        write_page()
    entries = entries_of(where, problems)
    missing = [item.experiment.key for item in entries if item.result is None and item.experiment in experiments]
    _tell(f"page: {where / PAGE_FILE}")
    if missing:
        _tell(f"not run: {', '.join(missing)}")


def _part(what: str) -> Literal["table", "pruning"]:
    parts: tuple[Literal["table", "pruning"], ...] = ("table", "pruning")
    for part in parts:
        if what == part:
            return part
    raise UsageError(f"paper {what}: choose table or pruning")


def _search(experiment: Experiment, folder: Path, more: dict[str, object]) -> str:
    """Run one search; empty, or why there is no (good) result: one that misses its bounds is no end of the others."""
    from hil.cli.search import run_search
    from hil.options import read_options
    from hil.search.options import SearchOptions

    given = {name: value for name, value in more.items() if value is not None}
    _tell(f"{experiment.key}: {experiment.bounds}")
    try:
        run_search(
            read_options(SearchOptions, {**experiment.options, **given, "output": folder / experiment.key}, None)
        )
    except (CheckFailed, UsageError) as error:
        return str(error)
    return ""


def _tell(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
