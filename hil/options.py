"""Options of a command as a model: each has one name, one default, one range and one sentence of help.

The command line is made of such a model (`hil.cli.generated`), and a TOML file with the same names sets the same
options; what is given on the command line wins. May import errors and files only.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from hil.errors import UsageError
from hil.files import read_toml

MAX_INPUTS = 10_000_000
MAX_SEED = 2**31 - 1
MAX_WORKERS = 256

M = TypeVar("M", bound="OptionsModel")


def _as_typed(value: Any) -> Any:
    """A size or a time may be a plain number in a file."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Quantity = Annotated[str, BeforeValidator(_as_typed)]
"""A number with a unit, such as ``64K`` or ``50ms``: its command knows what it means."""


class OptionsModel(BaseModel):
    """The options of one command. Unknown names, not-a-number and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: Any) -> Any:
        for field in fields_of(cls):
            if isinstance(values, Mapping) and isinstance(values.get(field.name), bool) and field.base is not bool:
                raise ValueError(f"{field.name} is {str(values[field.name]).lower()}, which is no {field.noun}")
        return values


def option(default: Any, *flags: str, help: str, **limits: Any) -> Any:
    """A field of an `OptionsModel`: `flags` as they are typed (default: two dashes and the field's name), `limits` as
    pydantic's Field takes them (ge, gt, le, lt). ``...`` as default: it must be given."""
    return Field(default, description=help, json_schema_extra={"flags": list(flags)}, **limits)


@dataclass(frozen=True, slots=True)
class OptionField:
    """One option as the command line and the file show it. `base` is bool, int, float, str or Path."""

    name: str
    flags: tuple[str, ...]
    help: str
    base: type
    default: Any  # None where there is none
    is_required: bool
    least: float | None
    most: float | None
    above: float | None = None
    below: float | None = None

    @property
    def noun(self) -> str:
        """What its values are called."""
        return {bool: "truth value", int: "number", float: "number", Path: "path"}.get(self.base, "text")


def fields_of(model: type[OptionsModel]) -> Iterator[OptionField]:
    """The options of a model in its order."""
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        flags = tuple(str(flag) for flag in typing.cast("list[str]", extra.get("flags") or []))
        base = _base(info.annotation)
        dashed = name.replace("_", "-")
        usual = f"--{dashed}/--no-{dashed}" if base is bool and info.default else f"--{dashed}"
        yield OptionField(
            name, flags or (usual,), info.description or "", base, None if info.is_required() else info.default,
            info.is_required(), _limit(info, "ge"), _limit(info, "le"), _limit(info, "gt"), _limit(info, "lt"),
        )  # fmt: skip


def _limit(info: FieldInfo, name: str) -> float | None:
    return next((getattr(item, name) for item in info.metadata if hasattr(item, name)), None)


def _base(annotation: Any) -> type:
    """bool, int, float, str or Path of ``int | None``, ``Literal["a"]`` and the like."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (item for item in typing.get_args(annotation) if item is not type(None))
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation if annotation in (bool, int, float, Path) else str


def read_options(model: type[M], given: Mapping[str, Any], file: Path | None = None) -> M:
    """The options in `file`, and those that were `given` on the command line, which win. Raises UsageError."""
    written = {} if file is None else read_toml(file, "configuration")
    try:
        return model(**{**written, **given})
    except ValidationError as error:
        raise UsageError(_problem(model, error, given, file)) from error


def _problem(model: type[OptionsModel], error: ValidationError, given: Mapping[str, Any], file: Path | None) -> str:
    # A misspelt name may show up as a missing one too: the misspelling is what its writer has to see.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    text = str(first["msg"]).removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    if not first["loc"]:
        return text if file is None else f"{file}: {text}"
    name = str(first["loc"][0])
    known = {field.name: field for field in fields_of(model)}
    if name not in known:
        return f"{file}: unknown option {name!r} (known: {', '.join(known)})"
    flag = known[name].flags[0].partition("/")[0]
    if first["type"] == "missing":
        return f"{flag} is missing: give it here, or {name} in a file with --config"
    where = flag if name in given or file is None else f"{file}: {name}"
    if isinstance(first["input"], float) and math.isnan(first["input"]):
        text = "input should be a number"  # of the limits none holds, whichever is looked at first
    return f"{where} {str(first['input'])[:80]}: {text}"


def config_text(model: type[OptionsModel], command: str) -> str:
    """The TOML file of a command with all defaults, each under its help and range; `read_options` reads it."""
    blocks = [f"# Options of `{command}`: pass this file with --config. What is given on the command line wins."]
    for field in fields_of(model):
        limits = range_text(field)
        comment = f"# {field.help}{f' ({limits})' if limits else ''}"
        value = field.default
        if value is None:
            blocks.append(f"{comment}\n# {field.name} = {_example(field)}")
        else:
            plain = str(value) if isinstance(value, Path) else value
            blocks.append(f"{comment}\n{tomli_w.dumps({field.name: plain}).rstrip()}")
    return "\n\n".join(blocks) + "\n"


def range_text(field: OptionField) -> str:
    """The option's limits in words; empty without any."""
    if field.least is not None and field.most is not None:
        return f"{field.least:,} to {field.most:,}"
    words = (("at least", field.least), ("above", field.above), ("at most", field.most), ("below", field.below))
    return ", ".join(f"{word} {value:,g}" for word, value in words if value is not None)


def _example(field: OptionField) -> str:
    if field.base is bool:
        return "true"
    return f"{field.least or 1}" if field.base in (int, float) else '""'
