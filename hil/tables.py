"""Terminal tables. What they show is what `--json` prints, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hil.measurement import Measurement
from hil.terminal import printable


def measurement_table(measurements: Sequence[Measurement]) -> Table:
    """One row a network; the caption names the identity, which is the same for all rows."""
    identity = measurements[0].identity if measurements else None
    caption = f"{identity.board} via {identity.via}, timer {identity.timer}" if identity else None
    unit = measurements[0].latency.unit if measurements else "time"
    table = Table("model", f"median {unit}", "arena", "stack", "static", "RAM", "weights", "code", "flash", "outputs")
    for column in table.columns[1:]:
        column.justify = "right"
    table.caption = caption and f"{caption}; sizes in bytes"
    for item in measurements:
        memory, outputs = item.memory, item.outputs
        sizes = (
            memory.arena_used, memory.stack_used, memory.static_ram, memory.ram_total,
            memory.flash_weights, memory.flash_code, memory.flash_total,
        )  # fmt: skip
        verdict = f"{outputs.checked - outputs.mismatched}/{outputs.checked} equal"
        table.add_row(printable(item.model), f"{item.latency.median:,.0f}", *(f"{size:,}" for size in sizes), verdict)
    return table
