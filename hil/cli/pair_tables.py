"""Terminal tables of the same networks under both runtimes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hil.measure.measurement import Measurement
from hil.measure.side_by_side import PAIR_RUNTIMES, Pair, layer_pairs


def pair_tables(pairs: Sequence[Pair]) -> list[Table]:
    """The summary, two rows a network, and a table of layers for each network."""
    return [_summary(pairs), *(_layer_table(pair) for pair in pairs)]


def _summary(pairs: Sequence[Pair]) -> Table:
    unit = pairs[0].generated.measurement.latency.unit if pairs else "time"
    table = Table(
        "model", "runtime", f"median {unit}", "arena", "stack", "static", "RAM", "weights", "code", "LiteRT", "other"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    table.caption = "sizes in bytes; LiteRT, other: inputs with equal outputs, against LiteRT and the other runtime"
    for pair in pairs:
        for result in pair.results:
            table.add_row(*_cells(result.measurement, pair.differing_answers))
    return table


def _cells(item: Measurement, differing: int) -> list[str]:
    memory, outputs = item.memory, item.outputs
    figures = (
        round(item.latency.median), memory.arena_planned, memory.stack_used, memory.static_ram, memory.ram_total,
        memory.flash_weights, memory.flash_code,
    )  # fmt: skip
    equal = (outputs.checked - different for different in (outputs.litert_mismatched, differing))
    verdicts = (f"{count}/{outputs.checked}" for count in equal)
    return [item.model, item.identity.runtime, *(f"{figure:,}" for figure in figures), *verdicts]


def _layer_table(pair: Pair) -> Table:
    measurement = pair.generated.measurement
    table = Table("layer", "operator", *PAIR_RUNTIMES, "difference", title=measurement.model)
    for column in table.columns[2:]:
        column.justify = "right"
    for number, layers in enumerate(layer_pairs(pair)):
        known = layers.interpreted or layers.generated
        assert known is not None
        times = [None if layer is None else layer.median for layer in (layers.generated, layers.interpreted)]
        first, second = times
        change = "" if first is None or second is None or not second else f"{100 * (first / second - 1):+.1f} %"
        shown = ["-" if time is None else f"{time:,.0f}" for time in times]
        table.add_row(str(number), known.op, *shown, change)
    table.caption = f"median {measurement.latency.unit}; difference: cmsis-nn against tflm"
    return table
