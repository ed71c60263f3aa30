"""Text that comes from file names and files, made safe to show on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with all that a terminal would obey (escapes, line ends, writing direction) as backslash escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
