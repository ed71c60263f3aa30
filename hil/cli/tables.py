"""Terminal tables. What they show is what `--json` prints, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hil.cycle_model.model import Milliseconds
from hil.cycle_model.modelled import TIMER, ModelledLatency
from hil.measure.measurement import Measurement
from hil.terminal import printable


def measurement_table(measurements: Sequence[Measurement]) -> Table:
    """One row a network; the caption names the identity, which is the same for all rows."""
    identity = measurements[0].identity if measurements else None
    caption = f"{identity.board} via {identity.via}, timer {identity.timer}" if identity else None
    unit = measurements[0].latency.unit if measurements else "time"
    columns = ["arena", "stack", "static", "RAM", "weights", "code", "flash", "outputs"]
    modelled = [item.modelled for item in measurements if item.modelled is not None]
    if modelled:
        columns.insert(0, "modelled ms" if modelled[0].milliseconds else "modelled cycles")
    table = Table("model", f"median {unit}", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    table.caption = caption and f"{caption}; sizes in bytes{_modelled_caption(modelled)}"
    for item in measurements:
        memory, outputs = item.memory, item.outputs
        sizes = (
            memory.arena_used, memory.stack_used, memory.static_ram, memory.ram_total,
            memory.flash_weights, memory.flash_code, memory.flash_total,
        )  # fmt: skip
        verdict = f"{outputs.checked - outputs.mismatched}/{outputs.checked} equal"
        times = [f"{item.latency.median:,.0f}", *([modelled_text(item.modelled)] if item.modelled else [])]
        table.add_row(printable(item.model), *times, *(f"{size:,}" for size in sizes), verdict)
    return table


def modelled_text(found: ModelledLatency) -> str:
    """Milliseconds with their interval; cycles where there is no evidence for more."""
    return f"{found.median:,}" if found.milliseconds is None else milliseconds_text(found.milliseconds)


def milliseconds_text(time: Milliseconds) -> str:
    """With as many decimals as the interval lets mean anything."""
    decimals = 3 if time.estimate < 10 else 1 if time.estimate < 1000 else 0
    return f"{time.estimate:,.{decimals}f} ± {time.high - time.estimate:,.{decimals}f}"


def _modelled_caption(modelled: Sequence[ModelledLatency]) -> str:
    if not modelled:
        return ""
    return f"; modelled: timer {TIMER}, {modelled[0].evidence or 'no evidence for milliseconds'}"
