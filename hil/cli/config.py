"""Command config: the file with all options of a command, their defaults and ranges."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from hil.calibration.options import CalibrateOptions
from hil.cli.app import app
from hil.errors import UsageError
from hil.options import OptionsModel, config_text
from hil.search.options import SearchOptions

MODELS: Mapping[str, type[OptionsModel]] = {"calibrate": CalibrateOptions, "search": SearchOptions}


@app.command()
def config(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="search or calibrate.")],
) -> None:
    """Print the configuration file of a command with all defaults: edit it, and pass it with --config."""
    model = MODELS.get(command)
    if model is None:
        raise UsageError(f"config {command}: choose {' or '.join(MODELS)}")
    sys.stdout.write(config_text(model, f"munas-hil {command}"))
