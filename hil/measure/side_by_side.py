"""The same networks under both runtimes, side by side: what an interpreter costs, layer by layer.

Layers are matched by operator and by the name of their result in the file: generated code folds PAD into the operator
behind it and has no RESHAPE, so some of TFLM's layers have no partner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from hil.boards.board import Board
from hil.measure.harness import Harness, Measured, Options, read_model
from hil.measure.measurement import LayerTime, Measurement

BOTH = "both"
_RUNTIMES = ("cmsis-nn", "tflm")


@dataclass(frozen=True, slots=True)
class Pair:
    """One network, measured with generated code and with TFLM."""

    generated: Measured
    interpreted: Measured

    @property
    def results(self) -> tuple[Measured, Measured]:
        """Generated code first."""
        return self.generated, self.interpreted

    @property
    def differing_answers(self) -> int:
        """Inputs on which the two devices answered differently."""
        return sum(a != b for a, b in zip(self.generated.answers, self.interpreted.answers, strict=True))


@dataclass(frozen=True, slots=True)
class LayerPair:
    """One layer of either runtime; None where the other one has none."""

    generated: LayerTime | None
    interpreted: LayerTime | None


def measure_pairs(paths: Sequence[Path], board: Board, options: Options) -> list[Pair]:
    """Measure each file with both runtimes. Raises HilError at the first that fails."""
    data = [read_model(path) for path in paths]
    harnesses = [Harness(board, replace(options, runtime=runtime)) for runtime in _RUNTIMES]
    return [
        Pair(*(harness.measure(content, path.stem) for harness in harnesses))
        for path, content in zip(paths, data, strict=True)
    ]


def layer_pairs(pair: Pair) -> Iterator[LayerPair]:
    """Layers in TFLM's order, which is the file's; those of generated code without a partner last."""
    generated, interpreted = (result.measurement.layers for result in pair.results)
    unmatched = {(layer.op, layer.name): layer for layer in generated}
    for layer in interpreted:
        yield LayerPair(unmatched.pop((layer.op, layer.name), None), layer)
    for layer in unmatched.values():
        yield LayerPair(layer, None)


def pairs_json(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The documents of `measure --json`, two a network, each with `differs_from_other`: inputs, of those checked."""
    return [
        {**result.measurement.to_json(), "differs_from_other": pair.differing_answers}
        for pair in pairs
        for result in pair.results
    ]


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
    table = Table("layer", "operator", *_RUNTIMES, "difference", title=measurement.model)
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
