"""Data files about hardware: found by name, read, validated, with errors that say what to do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from hil.errors import BoardError
from hil.files import read_toml

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Problem:
    where: str
    text: str


def names_in(folder: Path) -> tuple[str, ...]:
    """Names of the data files in `folder`, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def find_file(kind: str, name: str, folders: tuple[Path, ...]) -> Path:
    """The file of the `kind` (``core``, ``SoC``) called `name` in the first of `folders` that has it.

    Raises BoardError for an unknown name, with the nearest one and those that are known.
    """
    for folder in folders:
        if name in names_in(folder):
            return folder / f"{name}.toml"
    known = sorted({item for folder in folders for item in names_in(folder)})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise BoardError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")


def read_table(kind: str, path: Path) -> dict[str, Any]:
    """The TOML document at `path`. Raises BoardError."""
    return read_toml(path, f"{kind} file", BoardError)


def validated(kind: str, path: Path, model: type[_M], table: Mapping[str, Any]) -> _M:
    """`table`, the content of `path`, as `model`. Raises BoardError with the first mistake."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise BoardError(f"{kind} file {path.name}: {_first_problem(error, model)}") from error


def load_named(kind: str, name: str, folders: tuple[Path, ...], model: type[_M]) -> _M:
    """The `kind` called `name`, read and validated. Raises BoardError, also when the file has another name in it."""
    path = find_file(kind, name, folders)
    table = read_table(kind, path)
    if table.get("name") != name:
        raise BoardError(f"{path.name} says name = {table.get('name')!r}; it has to be the file's name")
    return validated(kind, path, model, table)


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt key also shows up as a missing one: the misspelling is what the reader has to see.
    items = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    problems = [_describe(item, model) for item in items]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    first = problems[0]
    return f"{first.where}: {first.text}{more}" if first.where else f"{first.text}{more}"


def _describe(item: Mapping[str, Any], model: type[BaseModel]) -> _Problem:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return _Problem(where, str(item["msg"]).removeprefix("Value error, "))
    table = _table_at(model, item["loc"][:-1])
    near = difflib.get_close_matches(str(item["loc"][-1]), list(table.model_fields), n=1)
    return _Problem(where, "unknown key" + (f"; did you mean {near[0]!r}?" if near else ""))


def _table_at(model: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel]:
    """The model of the table at `loc` below `model`."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
