"""What the head of every page is made of: key figures, lines of the identity, names of places and timers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure. `met` is None where there is no target, or nothing to judge."""

    name: str
    value: str
    note: str
    target: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """The target and whether it was met, in words (colour alone would not do)."""
        if not self.target or self.met is None:
            return self.target
        return f"{'✓ meets' if self.met else '✗ misses'} {self.target}"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the identity. `code` is set in a fixed-width font, `wide` takes the whole width of the page."""

    name: str
    words: tuple[str, ...]  # never broken inside
    code: bool = False
    wide: bool = False


def via_name(via: str) -> str:
    """The name that the maker of an emulator gives it."""
    return {"qemu": "QEMU", "renode": "Renode"}.get(via, via)
