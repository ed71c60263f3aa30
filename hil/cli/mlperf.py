"""What `measure --protocol mlperf` does: the base protocol only, with firmware of ours or anybody's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from hil.cli.app import console, emit_json
from hil.errors import LinkTimeout, RunnerError, UsageError

if TYPE_CHECKING:
    from hil.board import Board
    from hil.link import Device
    from hil.measure import Options
    from hil.mlperf import BaseMeasurement, Windows

Row = tuple[dict[str, Any], "BaseMeasurement"]
PROTOCOLS = ("hil", "mlperf")


def measure_by_base_protocol(
    models: Sequence[Path], board: Board, options: Options, protocol: str, as_json: bool
) -> None:
    """Build and run each model's firmware, and measure it as any MLPerf Tiny firmware."""
    from hil.mlperf import Windows

    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {protocol!r} (known: {', '.join(PROTOCOLS)})")
    _show(_of_models(models, board, options, Windows()), as_json)


def measure_at_port(models: Sequence[Path], protocol: str, port: str | None, seed: int, as_json: bool) -> None:
    """Measure whatever firmware is running at `port` already; it may be known to run the one model."""
    from hil.mlperf import Windows

    if port is None:
        raise UsageError("measure needs a MODEL, or with --protocol mlperf the --port of a device that runs firmware")
    if protocol != "mlperf":
        raise UsageError("--port is for --protocol mlperf; boards of ours are named with --device")
    if len(models) > 1:
        raise UsageError("a device at --port runs one network; name at most one MODEL")
    _show([_at_port(port, models[0] if models else None, seed, Windows())], as_json)


def _show(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        emit_json([document | found.to_json() for document, found in rows])
    else:
        console.print(_table(rows))


def _of_models(models: Sequence[Path], board: Board, options: Options, windows: Windows) -> list[Row]:
    from hil.measure import Rig, read_model
    from hil.mlperf import Network, measure_model, require_exact

    rows, rig = [], Rig(board, options)
    for path in models:
        with rig.running(read_model(path), path.stem) as running:
            plan = running.plan
            network = Network(path.stem, plan.input, plan.output, running.own or running.litert)
            found = measure_model(running.device, network, options.seed, windows)
        require_exact(found, network)
        where = {"board": board.name, "via": options.via, "simulated": rig.identity.simulated}
        rows.append(({"model": path.stem, **where, "timer": rig.identity.timer}, found))
    return rows


def _at_port(port: str, model: Path | None, seed: int, windows: Windows) -> Row:
    from hil.measure import read_model
    from hil.mlperf import Network, measure_base, measure_model
    from hil.model import parse_model
    from hil.plan import make_plan
    from hil.reference import Reference

    where = {"model": model.stem if model else None, "board": None, "via": "port", "simulated": None, "timer": None}
    if model is None:
        with _opened(port) as device:
            return where, measure_base(device, None, windows)
    data = read_model(model)
    core = parse_model(data, model.stem)
    plan = make_plan(core)
    with _opened(port) as device:
        network = Network(model.stem, plan.input, plan.output, Reference(data, core))
        return where, measure_model(device, network, seed, windows)


@contextmanager
def _opened(port: str) -> Iterator[Device]:
    """The device at a serial port, in step."""
    import serial

    from hil.link import POLL_S, Device, ReconnectingPort

    try:
        device = Device(ReconnectingPort(lambda: serial.Serial(port, 115_200, timeout=POLL_S)))
    except OSError as error:  # pyserial's SerialException is one
        raise RunnerError(f"the serial port {port} cannot be opened: {error}") from error
    try:
        try:
            device.synchronise()
        except LinkTimeout:
            device.wait_ready()  # opening the port may have reset it, and it still boots
        yield device
    finally:
        device.close()


def _table(rows: Sequence[Row]) -> Table:
    columns = ("model", "device", "median us of its clock", "windows us", "iterations", "error", "input read back")
    table = Table(*columns, box=None)
    for document, found in rows:
        windows = " ".join(f"{value:,.3f}" for value in found.windows_us)
        error = "not compared" if found.error is None else f"{found.error:.4f}"
        table.add_row(
            document["model"] or found.profile, f"{found.vendor} {found.profile}", f"{found.latency_us:,.3f}", windows,
            str(found.iterations), error, "yes" if found.read_back else "no",
        )  # fmt: skip
    return table
