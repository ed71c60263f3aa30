"""What `measure --protocol mlperf` does: the base protocol only, with firmware of ours or anybody's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from hil.cli.app import console, emit_json
from hil.errors import LinkTimeout, RunnerError, UsageError

if TYPE_CHECKING:
    from hil.boards.board import Board
    from hil.link.device import Device
    from hil.measure.harness import Options
    from hil.measure.mlperf import BaseMeasurement, Windows

Row = tuple[dict[str, Any], "BaseMeasurement"]
PROTOCOLS = ("hil", "mlperf")


def measure_by_base_protocol(
    models: Sequence[Path], board: Board, options: Options, protocol: str, as_json: bool
) -> None:
    """Build and run each model's firmware, and measure it as any MLPerf Tiny firmware."""
    from hil.measure.mlperf import Windows

    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {protocol!r} (known: {', '.join(PROTOCOLS)})")
    _show(_of_models(models, board, options, Windows()), as_json)


@dataclass(frozen=True, slots=True)
class Where:
    """Where firmware is running already: at a serial port, or on the connected board of that serial number or port.

    `baud` is the rate that it talks at; None: the board's, by bench file or board file, or the usual one.
    """

    port: str | None
    device: str | None
    baud: int | None = None

    @contextmanager
    def taken(self) -> Iterator[Place]:
        """The place, for this process alone. Raises UsageError, DeviceMissing, DeviceBusy, RunnerError."""
        from hil.boards.machines import USUAL_BAUD
        from hil.link.transport import check_url, is_url
        from hil.targets import labgrid
        from hil.targets.detect import connected_devices, named
        from hil.targets.locks import any_device

        if self.device is None:
            assert self.port is not None
            try:
                if is_url(self.port):
                    check_url(self.port)
            except ValueError as error:
                raise UsageError(f"--port: {error}") from error
            yield Place(self.port, None, self.baud or USUAL_BAUD)
            return
        is_place = labgrid.is_place(self.device)
        found = labgrid.acquired(self.device, ()) if is_place else named(connected_devices(), self.device)
        if found.port is None:
            raise RunnerError(f"device {found.describe()} has no serial port; name it in the bench file")
        with any_device((found.serial_number,)):
            yield Place(found.port, found.serial_number, self.baud or found.rate())


@dataclass(frozen=True, slots=True)
class Place:
    """A serial port and its rate; `device` is the serial number of the board there, where it is known."""

    port: str
    device: str | None
    baud: int


def measure_running(models: Sequence[Path], where: Where, protocol: str, seed: int, as_json: bool) -> None:
    """Measure whatever firmware is running already; it may be known to run the one model."""
    from hil.measure.mlperf import Windows

    if protocol != "mlperf" and where.port is not None:
        raise UsageError("--port is for --protocol mlperf; boards of ours are named with --device")
    if protocol != "mlperf" or (where.port is None and where.device is None):
        raise UsageError("measure needs a MODEL, or with --protocol mlperf the --port or --device that runs firmware")
    if where.port is not None and where.device is not None:
        raise UsageError("--port and --device both say where; give one of them")
    if len(models) > 1:
        raise UsageError("a device at --port runs one network; name at most one MODEL")
    with where.taken() as place:
        _show([_at_place(place, models[0] if models else None, seed, Windows())], as_json)


def _show(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        emit_json([document | found.to_json() for document, found in rows])
    else:
        console.print(_table(rows))


def _of_models(models: Sequence[Path], board: Board, options: Options, windows: Windows) -> list[Row]:
    from hil.measure.harness import Harness, read_model
    from hil.measure.mlperf import Network, measure_model, require_exact

    rows, harness = [], Harness(board, options)
    for path in models:
        with harness.running(read_model(path), path.stem) as running:
            plan = running.plan
            network = Network(path.stem, plan.input, plan.output, running.own or running.litert)
            found = measure_model(running.device, network, options.seed, windows)
        require_exact(found, network)
        where = {
            "board": board.name, "via": options.via, "device": running.serial_number,
            "simulated": harness.identity.simulated,
        }  # fmt: skip
        rows.append(({"model": path.stem, **where, "timer": harness.identity.timer}, found))
    return rows


def _at_place(place: Place, model: Path | None, seed: int, windows: Windows) -> Row:
    from hil.codegen.plan import make_plan
    from hil.measure.harness import read_model
    from hil.measure.mlperf import Network, measure_base, measure_model
    from hil.model.load import parse_model
    from hil.model.reference import Reference

    where = {
        "model": model.stem if model else None, "board": None, "via": "port", "device": place.device,
        "simulated": None, "timer": None,
    }  # fmt: skip
    if model is None:
        with _opened(place) as device:
            return where, measure_base(device, None, windows)
    data = read_model(model)
    core = parse_model(data, model.stem)
    plan = make_plan(core)
    with _opened(place) as device:
        network = Network(model.stem, plan.input, plan.output, Reference(data, core))
        return where, measure_model(device, network, seed, windows)


@contextmanager
def _opened(place: Place) -> Iterator[Device]:
    """The device at a serial port, in step."""
    from hil.link.device import Device
    from hil.link.transport import ReconnectingPort, open_port

    try:
        port = ReconnectingPort(lambda: open_port(place.port, place.baud))
    except OSError as error:  # pyserial's SerialException is one
        raise RunnerError(f"the serial port {place.port} cannot be opened: {error}") from error
    device = Device(port)
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
