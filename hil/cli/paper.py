"""Command paper: the searches behind the µNAS paper's table and figure, and the page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hil.cli.app import BoardOption, app, console
from hil.errors import CheckFailed, UsageError
from hil.measure.options import DEFAULT_BOARD

if TYPE_CHECKING:
    from hil.search.paper import Asked, Experiment

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
    board: BoardOption = DEFAULT_BOARD,
    workers: WorkersOption = None,
    seed: SeedOption = 0,
) -> None:
    """Run, or go on with, the searches of the paper's table or of its figure on pruning; a page of ours and theirs."""
    from hil.files import write_text
    from hil.report.paper import render_paper
    from hil.search.paper import FOLDER, PAGE_FILE, Asked, chosen, entries_of

    asked = Asked(folder or FOLDER, minutes, seed, board)
    experiments = chosen(_part(what), only or [])
    problems: dict[str, str] = {}
    try:
        asked.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {asked.folder}: {error.strerror}; name another folder") from error
    page = asked.folder / PAGE_FILE

    def write_page() -> None:
        write_text(page, render_paper(entries_of(asked.folder, problems), asked))

    write_page()
    for experiment in experiments if run else ():
        try:
            if asked.is_done(experiment):
                _tell(f"{experiment.key}: has been run for {minutes:g} minutes or more")
                continue
            _search(experiment, asked, workers)
        except (CheckFailed, UsageError) as error:  # one that misses its bounds is no end of the others
            problems[experiment.key] = str(error)
            _tell(f"{experiment.key}: {error}")
        write_page()
    _tell(f"page: {page}")
    if problems:
        raise CheckFailed(f"not run, or not as asked: {', '.join(problems)}; {page} says why")


def _part(what: str) -> Literal["table", "pruning"]:
    parts: tuple[Literal["table", "pruning"], ...] = ("table", "pruning")
    for part in parts:
        if what == part:
            return part
    raise UsageError(f"paper {what}: choose table or pruning")


def _search(experiment: Experiment, asked: Asked, workers: int | None) -> None:
    """Run one search, or go on with it."""
    from hil.cli.search import run_search
    from hil.options import read_options
    from hil.search.options import SearchOptions

    _tell(f"{experiment.key}: {experiment.bounds}")
    given = {"minutes": asked.minutes, "seed": asked.seed, "board": asked.board}
    given |= {"output": asked.folder / experiment.key} | ({} if workers is None else {"workers": workers})
    run_search(read_options(SearchOptions, {**experiment.options, **given}, None))


def _tell(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
