"""What a person sees: the one console, which lets nothing of what it prints be obeyed by a terminal or a CI log.

Names of files, and what is in them, reach every message sooner or later. So nobody has to remember to escape them:
all text is made printable where it is rendered, and no line begins like a workflow command where it is written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_COMMAND = re.compile(r"^((?:[ \t]|\x1b\[[0-9;]*m)*)(?=::|##\[)", re.MULTILINE)  # as GitHub and Azure read their logs

_UNBROKEN_SPACES = str.maketrans("\u00a0\u202f", "  ")  # what reports put before a unit; as wide as a plain one
_NARROWEST_TEXT = 12  # columns; text is folded, figures are not


def printable(text: str) -> str:
    """`text` with all that a terminal would obey (escapes, line ends, writing direction) as backslash escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """The same, but for the ends of lines."""
    return "\n".join(map(printable, text.split("\n")))


def inert(text: str) -> str:
    """`text` without a line that a CI log would take for a command: a backslash stands before it."""
    return _COMMAND.sub(r"\1\\", text)


class _LogSafe:
    """A text stream in which no line begins with a workflow command. What is no text passes through."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._at_start = True

    def wraps(self, stream: IO[str]) -> bool:
        """Whether what is written goes to `stream`."""
        return self._stream is stream

    def write(self, text: str) -> int:
        """Write `text`, which may go on with the last line."""
        if text:
            first, newline, rest = text.partition("\n")
            self._stream.write((inert(first) if self._at_start else first) + newline + inert(rest))
            self._at_start = text.endswith("\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class SafeConsole(Console):
    """A rich console for text that is not ours: no markup, no emoji codes, no highlighting of what looks like code."""

    _safe: _LogSafe | None = None

    def __init__(self, *, width: int | None = None, file: IO[str] | None = None) -> None:
        super().__init__(
            stderr=True, file=file, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
        )

    @property
    def file(self) -> IO[str]:
        """Where it writes."""
        stream = super().file
        if self._safe is None or not self._safe.wraps(stream):
            self._safe = _LogSafe(stream)
        return cast("IO[str]", self._safe)

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def print(self, *objects: Any, **kwargs: Any) -> None:
        """See rich; a table's figures are never cut, however narrow the terminal is."""
        super().print(*(_whole_figures(self, item) for item in objects), **kwargs)

    def render_str(self, text: str, *args: Any, **kwargs: Any) -> Text:
        """See rich; printable before its width is taken."""
        return super().render_str(printable_lines(text.translate(_UNBROKEN_SPACES)), *args, **kwargs)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See rich; every text that is not a control code of rich's own is printable."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or (text.isascii() and text.isprintable()):
                yield segment
            else:
                yield Segment(printable_lines(text.translate(_UNBROKEN_SPACES)), segment.style)

    def command(self, line: str) -> None:
        """Write a workflow command of our own: the one line that a CI log shall obey."""
        stream = sys.stderr if self._file is None else self._file
        stream.write(f"{printable(line)}\n")
        stream.flush()


def _whole_figures(console: Console, item: Any) -> Any:
    """`item` such that no figure in its tables is cut: figures (columns at the right) keep their width, and where that
    is more than the terminal has, each row becomes lines."""
    if isinstance(item, Group):
        return Group(*(_whole_figures(console, part) for part in item.renderables), fit=item.fit)
    if not isinstance(item, Table):
        return item
    taken = 1
    for column in item.columns:
        head, *sizes = (Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells))
        if column.justify == "right":
            column.min_width = max(head.minimum, *(size.maximum for size in sizes), 1)
            taken += column.min_width
        else:
            column.overflow = "fold"
            taken += min(max(head.minimum, *(size.minimum for size in sizes), 1), _NARROWEST_TEXT)
        taken += 3
    return item if taken <= console.width else _stacked(console, item)


def _stacked(console: Console, table: Table) -> Group:
    """Each row of `table` as lines of a name and what stands in its cell; empty cells are left out."""
    parts: list[RenderableType] = [table.title] if table.title else []
    first, *others = table.columns
    for index, head in enumerate(first.cells):
        lines = Table.grid(padding=(0, 2))
        figures = [list(column.cells)[index] for column in others]
        for column, cell in zip(others, figures, strict=True):
            if str(cell):
                lines.add_row("", column.header, cell)
        if lines.row_count:
            sizes = [Measurement.get(console, console.options, cell).maximum for cell in lines.columns[2].cells]
            lines.columns[2].min_width = min(max(sizes), console.width - _NARROWEST_TEXT)
        parts += [head, lines]
    return Group(*parts, *([table.caption] if table.caption else []))
