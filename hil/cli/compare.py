"""Command compare: a regression gate between two runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from hil.cli.app import JsonOption, app, console, emit_json
from hil.errors import CheckFailed
from hil.terminal import printable

if TYPE_CHECKING:
    from hil.measure.compare import Change, Comparison

SHOWN = ("latency", "arena_used", "ram_total", "flash_total")
DifferingOption = Annotated[
    list[str] | None, typer.Option("--differing", help="Identity field that is compared, or model; may be repeated.")
]


@app.command()
def compare(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="A measure --json file, or a folder of measure -o or of a run.")
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="The same, to be held against A.")],
    policy: Annotated[Path | None, typer.Option("--policy", help="TOML with limits; default: 1 % time.")] = None,
    differing: DifferingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs, per network and in total; exit status 1 when something got worse than the policy allows."""
    from hil.measure.compare import Policy, declared, load_policy, read_run
    from hil.measure.compare import compare as run_comparison

    chosen = Policy() if policy is None else load_policy(policy)
    chosen = replace(chosen, differing=declared([*chosen.differing, *(differing or [])]))
    result = run_comparison(read_run(before), read_run(after), chosen)
    if as_json:
        emit_json(result.to_json())
    else:
        console.print(_table(result))
        for name, (was, now) in result.differing.items():
            console.print(f"{name}: {was} -> {now}", highlight=False, markup=False)
    if result.regressions:
        more = f" (and {len(result.regressions) - 5} more)" if len(result.regressions) > 5 else ""
        raise CheckFailed(f"{'; '.join(result.regressions[:5])}{more}")


def _table(result: Comparison) -> Table:
    table = Table("network", *(f"{name}, {result.unit}" if name == "latency" else name for name in SHOWN), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for pair in result.pairs:
        table.add_row(printable(pair.model), *(_cell(pair.changes[name]) for name in SHOWN))
    table.add_row("total", *(_cell(result.total[name]) for name in SHOWN))
    return table


def _cell(change: Change) -> Text:
    percent = "new" if change.percent is None else f"{change.percent:+.2f} %"
    text = f"{change.after:,.10g} ({percent})"
    return Text(text, "red" if change.worse else "")
