"""Kinds of time, and the unit that each counts in. Kinds never meet in a fit, a table or a comparison."""

from __future__ import annotations

from typing import Literal

TimerKind = Literal["dwt-cycles", "icount-instructions", "renode-instructions", "modelled-cycles"]
UNITS: dict[str, str] = {
    "dwt-cycles": "cycles",
    "icount-instructions": "instructions",
    "renode-instructions": "instructions",
    "modelled-cycles": "cycles",
}
