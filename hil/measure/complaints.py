"""What a device says against a network, as errors: while a runtime sets it up, and when a kernel refuses to run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hil.boards.board import Board
from hil.errors import BudgetError, ModelError
from hil.link.protocol import parse_refusal
from hil.runtimes.base import Deployment

_HAD = re.compile(r"bytes for its arena: (\d+)")
_MISSING = re.compile(r"missing: (\d+)")


def refuse_complaints(said: Sequence[str], plan: Deployment, board: Board) -> None:
    """Raise BudgetError or ModelError for what a runtime said while it set the network up: it keeps it from running."""
    refusals = [refusal for line in said if (refusal := parse_refusal(line)) is not None]
    if not refusals:
        return
    text = "; ".join(refusal.text for refusal in refusals)
    had, lacking = _HAD.search(text), [int(number) for number in _MISSING.findall(text)]
    if had is not None and (lacking or plan.arena_bytes > int(had[1])):
        short = max([plan.arena_bytes - int(had[1]), *lacking])
        raise BudgetError(
            f"{plan.model_name} on {board.name}: the network does not fit the budget: it overflows RAM by {short} "
            f"bytes or more ({text}); use a smaller network or a larger --sram",
            {"RAM": short},
        )
    refused = next((refusal for refusal in refusals if refusal.layer is not None), None)
    if refused is not None:
        others = [refusal.text for refusal in refusals if refusal is not refused]
        raise refused_by_kernel(refused.layer, others, plan, board)
    raise ModelError(f"the firmware cannot set it up on {board.name}: {text}", plan.model_name)


def refused_by_kernel(layer: int | None, said: Sequence[str], plan: Deployment, board: Board) -> ModelError:
    """The error that a layer's kernel does not take the network, for the reasons `said` on the device."""
    step = next((step for step in plan.steps if step.index == layer), None)
    what = "an operator of another subgraph" if step is None else f"layer {step.index} ({step.what})"
    text = f": {'; '.join(said)}" if said else ""
    return ModelError(f"{what} is refused by its kernel on {board.name}{text}", plan.model_name)
