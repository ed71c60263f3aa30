"""Terminal tables. What they show is what `--json` prints, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from hil.calibration.bench import BenchResult
from hil.calibration.estimates import ModelEstimate
from hil.cycle_model.model import Milliseconds
from hil.cycle_model.modelled import ModelledLatency
from hil.measure.measurement import Measurement, Repeatability
from hil.measure.rounding import BIT_FOR_BIT
from hil.terminal import printable
from hil.timers import MODELLED, TIMER_STEPS


def measurement_table(measurements: Sequence[Measurement]) -> Table:
    """One row a network; the caption names the identity, which is the same for all rows."""
    identity = measurements[0].identity if measurements else None
    caption = f"{identity.board} via {identity.via}, timer {identity.timer}" if identity else None
    unit = measurements[0].latency.unit if measurements else "time"
    columns = ["arena", "stack", "static", "RAM", "weights", "code", "flash", "outputs"]
    repeated = [item.repeatability for item in measurements if item.repeatability is not None]
    if repeated:
        columns[:0] = ["spread", "first"]
    modelled = [item.modelled for item in measurements if item.modelled is not None]
    if modelled:
        columns.insert(0, f"modelled {_modelled_unit(modelled)}".strip())
    table = Table("model", f"median {unit}", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    table.caption = caption and f"{caption}; sizes in bytes{_modelled_caption(modelled)}{_unsteady(repeated)}"
    for item in measurements:
        memory, outputs = item.memory, item.outputs
        sizes = (
            memory.arena_used, memory.stack_used, memory.static_ram, memory.ram_total,
            memory.flash_weights, memory.flash_code, memory.flash_total,
        )  # fmt: skip
        equal = "equal" if outputs.rule == BIT_FOR_BIT else outputs.rule
        verdict = f"{outputs.checked - outputs.mismatched}/{outputs.checked} {equal}"
        times = [f"{item.latency.median:,.0f}"]
        if modelled:  # networks of one board can differ in it: some reach into a bank that nothing is known of
            times.append(modelled_text(item.modelled, _modelled_unit(modelled)) if item.modelled else "-")
        if repeated:
            times += _repeated(item.repeatability)
        table.add_row(printable(item.model), *times, *(f"{size:,}" for size in sizes), verdict)
    return table


def _repeated(found: Repeatability | None) -> list[str]:
    """Spread of the same inference, marked where the timer does not explain it, and what the first one took more."""
    if found is None:
        return ["-", "-"]
    return [f"{found.spread:,}{'' if found.is_steady else ' !'}", f"{100 * found.warm_up:+.1f} %"]


def _unsteady(repeated: Sequence[Repeatability]) -> str:
    if all(item.is_steady for item in repeated):
        return ""
    return f"; !: more than the {TIMER_STEPS} that the timer explains, something disturbs the core"


def layer_table(item: Measurement) -> Table:
    """Time of each layer, in execution order; modelled cycles beside it where they were watched."""
    modelled = item.modelled.layers if item.modelled is not None else None
    heads = [f"median {item.latency.unit}", "share", *(["modelled cycles"] if modelled else [])]
    table = Table("layer", "operator", "name", *heads, title=item.model)
    for column in table.columns[3:]:
        column.justify = "right"
    total = sum(layer.median for layer in item.layers)
    for index, layer in enumerate(item.layers):
        share = f"{100 * layer.median / total:.1f} %" if total else "-"
        cells = [f"{layer.median:,.0f}", share, *([f"{modelled[index]:,}"] if modelled else [])]
        table.add_row(str(layer.index), layer.op, layer.name, *cells)
    return table


def _modelled_unit(modelled: Sequence[ModelledLatency]) -> str:
    """The unit of all of them; empty where each has to say its own."""
    units = {"cycles" if item.milliseconds is None else "ms" for item in modelled}
    return units.pop() if len(units) == 1 else ""


def modelled_text(found: ModelledLatency, said: str) -> str:
    """Milliseconds with their interval; cycles where there is no evidence for more. `said` is the column's unit."""
    if found.milliseconds is None:
        return f"{found.median:,}" if said else f"{found.median:,} cycles"
    return milliseconds_text(found.milliseconds) + ("" if said else " ms")


def milliseconds_text(time: Milliseconds) -> str:
    """With as many decimals as the interval lets mean anything."""
    decimals = 3 if time.estimate < 10 else 1 if time.estimate < 1000 else 0
    return f"{time.estimate:,.{decimals}f} ± {time.high - time.estimate:,.{decimals}f}"


def _modelled_caption(modelled: Sequence[ModelledLatency]) -> str:
    if not modelled:
        return ""
    timed = [item for item in modelled if item.milliseconds is not None]
    why = {item.reason: None for item in modelled if item.reason is not None and item.evidence is not None}
    wider = {reason: None for item in timed if item.milliseconds for reason in item.milliseconds.reasons}
    parts = [timed[0].evidence or ""] if timed else [] if why else ["no evidence for milliseconds"]
    parts += [*why, *([f"a wider interval for {', '.join(wider)}"] if wider else [])]
    return f"; modelled: timer {MODELLED}, {'; '.join(parts)}"


def estimate_table(estimates: Sequence[ModelEstimate]) -> Table:
    """One row a model."""
    table = Table("model", "MACs", "time", "interval", "arena", "RAM", "weights", "code", "flash", "fits")
    for column in table.columns[1:]:
        column.justify = "right"
    for item in estimates:
        found, latency = item.estimate, item.estimate.latency
        sizes = (found.arena, found.ram_total, found.flash_weights, found.flash_code, found.flash_total)
        interval = f"{latency.low:,.0f} .. {latency.high:,.0f}"
        cells = (f"{found.macs:,}", f"{latency.latency:,.0f}", interval, *(f"{size:,}" for size in sizes))
        table.add_row(printable(item.model), *cells, Text("yes") if item.fits else Text("no", "red"))
    table.caption = f"time in {printable(estimates[0].unit)}, sizes in bytes" if estimates else None
    return table


def bench_table(result: BenchResult) -> Table:
    """The result for a terminal."""
    table = Table("stage", "mean ms", "median ms", "max ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in result.stages:
        table.add_row(stage.name, *(f"{1e3 * value:.1f}" for value in (stage.mean, stage.median, stage.max)))
    table.caption = (
        f"{result.board} via {result.via}: {result.models_per_minute:.0f} models a minute with {result.workers} "
        f"workers ({result.samples} measured, {result.failed} failed, {result.wall_seconds:.1f} s)"
    )
    return table
