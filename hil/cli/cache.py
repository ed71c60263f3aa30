"""Command cache: what is kept of former builds and data sets, whether it is sound, and how to be rid of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from hil.cli.app import JsonOption, app, console, emit_json
from hil.errors import CheckFailed, InfrastructureError, UsageError


@app.command()
def cache(
    verify: Annotated[bool, typer.Option("--verify", help="Exit status 1 when an entry is damaged.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all entries.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the cache: libraries and data sets, and which of them are damaged (and made again when used)."""
    from munas.cache import CacheError, cache_dir, discard, entries

    if verify and clear:
        raise UsageError("--verify or --clear, not both")
    try:
        found = entries()
        for entry in found if clear else ():
            discard(entry.path)
    except CacheError as error:
        raise InfrastructureError(str(error)) from error
    except OSError as error:
        raise InfrastructureError(f"the cache folder {cache_dir()} cannot be read: {error.strerror}") from error
    damaged = [entry for entry in found if entry.damage]
    if as_json:
        rows = [{"entry": _name(entry.path), "bytes": entry.bytes, "damage": entry.damage or None} for entry in found]
        emit_json({"folder": str(cache_dir()), "cleared": clear, "entries": rows})
    else:
        table = Table("entry", "KB", "state", box=None)
        for entry in found:
            table.add_row(_name(entry.path), f"{entry.bytes / 1024:,.0f}", "removed" if clear else entry.damage or "ok")
        console.print(table if found else "the cache is empty")
        console.print(f"{cache_dir()}: {len(found)} entries, {len(damaged)} of them damaged", soft_wrap=True)
    if verify and damaged:
        raise CheckFailed(f"{len(damaged)} entries are damaged; they are made again when they are used, or --clear all")


def _name(path: object) -> str:
    return "/".join(str(path).rsplit("/", 2)[1:])
