"""What bring-up has found, as a document for people and for programs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hil.version import VERSION

Outcome = Literal["right", "wrong", "not here"]
Figure = int | float | str


@dataclass(frozen=True, slots=True)
class Finding:
    """One step. `words` say what was found and, where something is wrong, what to look at; `figures` have units in
    their names."""

    step: str
    outcome: Outcome
    words: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BringUp:
    """All findings on one board at one place, in the order in which they were made."""

    board: str
    via: str
    device: str
    compiler: str
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return all(item.outcome != "wrong" for item in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As `bring-up --json` prints it."""
        return {
            "board": self.board,
            "via": self.via,
            "device": self.device,
            "munas_hil": VERSION,
            "compiler": self.compiler,
            "host": platform.platform(),
            "right": self.is_right,
            "findings": [
                {"step": item.step, "outcome": item.outcome, "words": item.words, "figures": dict(item.figures)}
                for item in self.findings
            ],
        }

    def to_text(self) -> str:
        """A report that can be sent with a bug report (Markdown)."""
        lines = [
            f"# Bring-up of {self.board} via {self.via}", "",
            f"munas-hil {VERSION}, {self.compiler}, {platform.platform()}; device {self.device}", "",
        ]  # fmt: skip
        for item in self.findings:
            figures = ", ".join(f"{name} {_shown(value)}" for name, value in item.figures.items())
            lines.append(f"- **{item.step}**: {item.outcome}. {item.words}{f' ({figures})' if figures else ''}")
        return "\n".join(lines) + "\n"


def _shown(value: Figure) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else value
