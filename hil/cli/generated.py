"""Commands whose options are a model: one parameter a field, and --config for a file with the same names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from hil.cli.app import JsonOption
from hil.options import OptionField, OptionsModel, fields_of, range_text, read_options

M = TypeVar("M", bound=OptionsModel)
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML with these options; `munas-hil config` prints one."),
]


def command_of(
    app: typer.Typer, model: type[M], json_option: Any = JsonOption
) -> Callable[[Callable[[M, bool], None]], Callable[[M, bool], None]]:
    """Make a command of a function that takes the options of `model`, and whether JSON was asked for.

    No parameter has a default on the command line, so that what was given there is told from what the file says.
    """

    def decorate(run: Callable[[M, bool], None]) -> Callable[[M, bool], None]:
        def command(*, config: Path | None, as_json: bool, **values: Any) -> None:
            given = {name: value for name, value in values.items() if value is not None}
            run(read_options(model, given, config), as_json)

        parameters = [_parameter(field) for field in fields_of(model)]
        parameters.append(_keyword("config", ConfigOption, None))
        parameters.append(_keyword("as_json", json_option, False))
        described: Any = command
        described.__name__, described.__doc__ = run.__name__, run.__doc__
        described.__signature__ = inspect.Signature(parameters)
        described.__annotations__ = {item.name: item.annotation for item in parameters}
        app.command()(command)
        return run

    return decorate


def _parameter(field: OptionField) -> inspect.Parameter:
    """Typer knows limits that belong to the range only; others are said in the help, and checked by the model."""
    is_open = field.above is not None or field.below is not None
    limits = {"min": field.least, "max": field.most} if field.base in (int, float) and not is_open else {}
    default = "" if field.default is None or field.base is bool else f"  [default: {field.default}]"
    limited = f"  [{range_text(field)}]" if is_open else ""
    text = f"{field.help}{default}{limited}"
    info = typer.Option(*field.flags, help=text, show_default=False, **limits)  # type: ignore[arg-type]
    return _keyword(field.name, Annotated[field.base | None, info], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
