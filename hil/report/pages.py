"""The templates of all pages: how they are found, and that nothing in them is trusted."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hil.report.charts import numbers


def _finalize(value: object) -> object:
    """Applied by Jinja to all it prints: plain text loses control characters before it is escaped."""
    return numbers.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def environment() -> Environment:
    """Of the templates of this package: all is escaped, and what is undefined is an error."""
    return Environment(
        loader=PackageLoader("hil.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
