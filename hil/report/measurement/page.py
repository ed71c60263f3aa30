"""The report of one or several measured networks as one HTML page that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Template
from markupsafe import Markup

from hil.cycle_model.modelled import ModelledLatency
from hil.measure.measurement import Identity, Measurement, Outputs
from hil.measure.result import MeasuredNetwork, MeasurementResult
from hil.measure.rounding import BIT_FOR_BIT
from hil.report.arena import arena_figure
from hil.report.charts import numbers
from hil.report.charts.tables import Column, Table, bar
from hil.report.headline import Fact, Tile, via_name
from hil.report.pages import environment
from hil.timers import words_of


@dataclass(frozen=True, slots=True)
class Section:
    """One network."""

    name: str
    tiles: tuple[Tile, ...]
    layers: Table
    cycles: Table | None
    memory: Table
    arena: Markup | None


def render_measurement(result: MeasurementResult) -> str:
    """One self-contained HTML document: inline style and SVG, no script, no reference to anything outside.

    Deterministic: the same `result` gives the same text. Every text of `result` is escaped.
    """
    identity = result.networks[0].measurement.identity
    runtimes = {item.measurement.identity.runtime for item in result.networks}
    return _template().render(
        identity=identity,
        simulated=identity.simulated,
        via=via_name(identity.via),
        sentence=_sentence(result),
        provenance=_provenance(identity),
        facts=_facts(identity, runtimes),
        sections=[_section(item, number, len(runtimes) > 1) for number, item in enumerate(result.networks)],
    )


def _sentence(result: MeasurementResult) -> str:
    outputs = [item.measurement.outputs for item in result.networks]
    checked, wrong = sum(item.checked for item in outputs), sum(item.mismatched for item in outputs)
    networks = numbers.plural(len(outputs), "network")
    if wrong:
        return f"{networks} measured; {wrong} of {checked} outputs differ from LiteRT's reference kernels."
    rules = sorted({item.rule for item in outputs})
    return (
        f"{networks} measured; all {checked} outputs equal those of LiteRT's reference kernels, {', or '.join(rules)}."
    )


def _provenance(identity: Identity) -> str:
    what = words_of(identity.timer)
    if not identity.simulated:
        return f"Measured on the board itself: {what}."
    return f"No board was involved. {via_name(identity.via)} ran the firmware for {identity.board}; times are {what}."


def _facts(identity: Identity, runtimes: set[str]) -> tuple[Fact, ...]:
    return (
        Fact("Board", (identity.board,)), Fact("Core", (identity.core,)), Fact("Via", (via_name(identity.via),)),
        Fact("Simulated", ("yes, no board was involved" if identity.simulated else "no",)),
        Fact("Timer", (identity.timer,), code=True), Fact("Clock", (numbers.frequency(identity.clock_hz),)),
        Fact("Runtime", tuple(sorted(runtimes))), Fact("Kernels", tuple(identity.kernels.split())),
        Fact("Optimised for", (identity.optimise,)),
        Fact("Compiler", tuple(identity.compiler.split()), wide=True),
        Fact("Flags", tuple(identity.flags.split()), code=True, wide=True),
        Fact("Firmware sources", (identity.firmware,), code=True, wide=True),
    )  # fmt: skip


def _section(item: MeasuredNetwork, number: int, named: bool) -> Section:
    measurement = item.measurement
    runtime = f", {measurement.identity.runtime}" if named else ""
    return Section(
        name=numbers.shorten(measurement.model, 80) + runtime,
        tiles=_tiles(measurement),
        layers=_layers(measurement),
        cycles=None if measurement.modelled is None else _cycles(measurement.modelled),
        memory=_memory(measurement),
        arena=None if item.arena is None else arena_figure(item.arena, number),
    )


def _tiles(item: Measurement) -> tuple[Tile, ...]:
    memory, outputs, modelled = item.memory, item.outputs, item.modelled
    low, high = numbers.count(item.latency.min), numbers.count(item.latency.max)
    tiles = [
        Tile(
            f"Time, {item.latency.unit}", numbers.count(item.latency.median), f"{low} to {high}; median of single runs"
        )
    ]
    if modelled is not None and modelled.milliseconds is not None:
        time = modelled.milliseconds
        interval = f"{numbers.significant(time.low)} to {numbers.significant(time.high)}; modelled, not measured"
        tiles.append(Tile("Time, milliseconds", numbers.significant(time.estimate), interval))
    if (repeated := item.repeatability) is not None:
        note = f"first inference {numbers.percent(repeated.warm_up, signed=True)}; {len(repeated.times)} times the same"
        tiles.append(
            Tile("Spread", numbers.count(repeated.spread), note, "what the timer explains", repeated.is_steady)
        )
    return (
        *tiles,
        Tile("Flash", numbers.size(memory.flash_total), f"{memory.flash_total:,} B, code and weights"),
        Tile("RAM", numbers.size(memory.ram_total), f"{memory.ram_total:,} B, arena, stack and static"),
        Tile(
            "Outputs equal", f"{outputs.checked - outputs.mismatched} of {outputs.checked}",
            f"against LiteRT's reference kernels, {_rule(outputs)}", "all", outputs.mismatched == 0,
        ),
    )  # fmt: skip


def _rule(outputs: Outputs) -> str:
    if outputs.rule == BIT_FOR_BIT:
        return outputs.rule
    return f"{outputs.rule} of an output; largest difference {outputs.largest_error:.1e}"


def _layers(item: Measurement) -> Table:
    total = sum(layer.median for layer in item.layers)
    most = max((layer.median for layer in item.layers), default=0.0)
    rows = tuple(
        (
            f"{layer.index} {layer.op}", numbers.shorten(layer.name, 60), bar(layer.median, most, "time"),
            numbers.count(layer.median), numbers.percent(layer.median / total if total else 0.0),
        )
        for layer in item.layers
    )  # fmt: skip
    columns = (Column("Layer", "code"), Column("Name in the file"), Column("Time", "graphic"),
               Column(item.latency.unit.capitalize(), "number"), Column("Share", "number"))  # fmt: skip
    return Table(f"Time of each layer, median {item.latency.unit}", columns, rows)


def _cycles(found: ModelledLatency) -> Table:
    whole = found.median
    most = max(found.shares.values(), default=0)
    rows = tuple(
        (name, bar(part, most, "time"), numbers.count(part), numbers.percent(part / whole if whole else 0.0))
        for name, part in found.shares.items()
    )
    columns = (Column("Class"), Column("Cycles", "graphic"), Column("", "number"), Column("Share", "number"))
    return Table("Modelled cycles by class, one inference", columns, rows, found.evidence or "")


def _memory(item: Measurement) -> Table:
    memory = item.memory
    parts = (
        ("Flash", "weights and layer tables", memory.flash_weights), ("Flash", "code", memory.flash_code),
        ("RAM", "arena", memory.arena_planned), ("RAM", "stack, reserved", memory.stack_reserved),
        ("RAM", "static", memory.static_ram),
    )  # fmt: skip
    most = max(size for _, _, size in parts)
    rows = tuple((where, what, bar(size, most, "code"), f"{size:,} B") for where, what, size in parts)
    columns = (Column("Memory"), Column("Part"), Column("Bytes", "graphic"), Column("", "number"))
    note = f"Touched by an inference: {memory.arena_used:,} B of the arena, {memory.stack_used:,} B of the stack."
    return Table("Where flash and RAM go", columns, rows, note)


@cache
def _template() -> Template:
    return environment().get_template("measurement.html.j2")
