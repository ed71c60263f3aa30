"""Command worker: this host becomes a node of a Ray cluster, with its boards."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hil.boards.board import load_board
from hil.cli.app import app, console
from hil.errors import DeviceMissing, ToolMissing, UsageError

_LOOPBACK = ("127.0.0.1", "localhost")
_INSTALL = "pip install 'munas-hil[ray]'"


@app.command()
def worker(
    cluster: Annotated[str, typer.Option("--cluster", metavar="HOST:PORT", help="Address of the cluster's head.")],
    boards: Annotated[
        list[str] | None,
        typer.Option("--board", "-b", help="Only this board; default: all that are connected."),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=0, max=1024, help="Jobs at a time; default: cores, but one a board.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--listen", metavar="IP", help="Address of this host that the cluster reaches it by.")
    ] = None,
) -> None:
    """Join a Ray cluster with the boards that are connected here; ends with Ctrl-C, or with the cluster.

    Each board is a resource, board:NAME, of which one job at a time takes one. Ray listens on this host's address then.
    """
    there = advertised(tuple(boards or ()))
    for name, count in sorted(there.items()):
        console.print(f"board:{name}: {count}", highlight=False)
    command = ray_command(cluster, there, cpus, address)
    os.execv(command[0], command)


def advertised(wanted: tuple[str, ...]) -> Counter[str]:
    """How many boards of each name are certainly connected. Raises DeviceMissing for a wanted one that is not."""
    from hil.targets.detect import connected_devices

    names = [load_board(name).name for name in wanted]
    found = Counter(item.boards[0] for item in connected_devices() if len(item.boards) == 1)
    for name in names:
        if not found[name]:
            raise DeviceMissing(f"no board {name} is connected here; munas-hil boards --detect shows what is")
    return Counter({name: count for name, count in found.items() if not names or name in names})


def ray_command(cluster: str, boards: Counter[str], cpus: int | None, address: str | None) -> list[str]:
    """What joins the cluster. Raises ToolMissing, and UsageError for an address that is not HOST:PORT."""
    host, _, port = cluster.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(f"--cluster {cluster} is not HOST:PORT, as ray start --head shows it")
    if host in _LOOPBACK:
        raise UsageError(
            f"a cluster at {host} is for this machine alone, and Ray lets no node join it: start its head "
            "with --node-ip-address, an address by which its nodes reach it"
        )
    program = Path(sys.executable).with_name("ray")
    if not program.exists():
        raise ToolMissing("Ray", _INSTALL)
    jobs = cpus if cpus is not None else max(os.cpu_count() or 1, boards.total())
    command = [str(program), "start", f"--address={cluster}", f"--num-cpus={jobs}", "--block", "--disable-usage-stats"]
    if boards:
        command.append(f"--resources={json.dumps({f'board:{name}': count for name, count in sorted(boards.items())})}")
    if address is not None:
        command.append(f"--node-ip-address={address}")
    return command
