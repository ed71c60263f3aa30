"""The base protocol: its replies as text, measuring with it, and what it can and cannot notice without checksums."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial

from hil.cli import main as cli
from hil.codegen.plan import Port
from hil.errors import HilError, LinkTimeout, ProtocolError
from hil.link.device import Device
from hil.link.mlperf_protocol import BaseTiming, parse_base_reply, parse_buffer, parse_results
from hil.link.transport import ReconnectingPort
from hil.measure.mlperf import Network, Windows, measure_base, measure_model, require_exact, sent_as
from hil.model.reference import Int8Array
from hil.targets.detect import Connected
from hil.targets.locks import any_device
from tests.faults.faulty import FaultyLine
from tests.faults.host_device import HostDevice, output, program, ticks
from tests.faults.injection import SHORT

REPLY = [
    "m-warmup-start-2", "m-warmup-done", "m-infer-start-4", "m-lap-us-1000", "m-lap-us-1400", "m-infer-done",
    "m-results-[0.500,-1.250]",
]  # fmt: skip
BRIEF = Windows(5, 0.05)
DATA = bytes(range(100))
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler for the host")


def test_reply() -> None:
    assert parse_base_reply(REPLY, 4, 2) == BaseTiming(4, 400, (0.5, -1.25))
    assert parse_base_reply(["m-[hello]", *REPLY, "some text"], 4, 2).elapsed_us == 400


@pytest.mark.parametrize("index", range(len(REPLY)))
@pytest.mark.parametrize("how", ["lost", "doubled", "cut", "refused"])
def test_every_line_must_be_there_once(index: int, how: str) -> None:
    line = REPLY[index]
    # A time stamp that lost its last digit is a time stamp: windows that must agree are for that.
    cut = line[:-5] if line.startswith("m-lap") else line[:-1]
    lines = {"lost": [], "doubled": [line, line], "cut": [cut], "refused": [line, "e-[no]"]}[how]
    with pytest.raises(ProtocolError):
        parse_base_reply([*REPLY[:index], *lines, *REPLY[index + 1 :]], 4, 2)


@pytest.mark.parametrize(
    "change",
    [("m-lap-us-1400", "m-lap-us-999"), ("1400", "14x0"), ("1400", ""), ("1400", "1_400"), ("-1.250", "-1.2.5"),
     ("0.500", "nan"), ("0.500", ""), ("start-4", "start-40"), ("start-2", "start-3")],
)  # fmt: skip
def test_damaged_lines_are_refused(change: tuple[str, str]) -> None:
    with pytest.raises(ProtocolError):
        parse_base_reply([line.replace(*change) for line in REPLY], 4, 2)


def test_buffer_and_results() -> None:
    assert parse_buffer(["m-buffer-00-ff-10", "m-buffer-7f"]) == b"\x00\xff\x10\x7f"
    assert parse_buffer(["e-[no]"]) is None
    for line in ("m-buffer-0", "m-buffer-0g", "m-bufferx", "m-buffer-00--01"):
        with pytest.raises(ProtocolError):
            parse_buffer(["m-buffer-00", line])
    assert parse_results(["m-results-[1,2.5,-3e-2]"]) == (1.0, 2.5, -0.03)


def test_inputs_are_sent_as_the_model_takes_them() -> None:
    port = Port(0, 0, 2, (1, 2), 0.5, -3)
    values = np.array([-128, 127], np.int8).tobytes()
    assert sent_as("kws01", values, port) == values
    assert sent_as("ic01", values, port) == b"\x00\xff"
    assert np.frombuffer(sent_as("ad01", values, port), "<f4").tolist() == [-62.5, 65.0]


@pytest.fixture
def host() -> Iterator[HostDevice]:
    device = HostDevice()
    yield device
    device.stop()


def at(line: FaultyLine) -> Device:
    line.boot()
    device = Device(ReconnectingPort(line.open), SHORT)
    device.wait_ready()
    return device


class Known:
    """What the host's firmware computes, as an expectation."""

    def run(self, inputs: list[Int8Array]) -> list[Int8Array]:
        return [np.frombuffer(output(inputs[0].tobytes()), np.int8)]


NETWORK = Network("host", Port(0, 0, 100, (1, 100), 0.25, -3), Port(0, 0, 300, (1, 300), 0.5, 5), Known())


@needs_gcc
def test_latency_results_and_input_are_the_devices(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure_base(at(FaultyLine(host, [], 0, random.Random(1))), DATA_SENT, BRIEF)
    assert found.latency_us == pytest.approx(ticks(SEEN) / 25, rel=1e-3)
    assert found.results[:3] == tuple((value + 1 - 5) * 0.5 for value in SEEN_SIGNED[:3])
    assert (found.vendor, found.profile, found.read_back, len(found.windows_us)) == ("munas-hil", "ad01", True, 5)


# ad01 takes float32: what is sent, and what the network sees of it
SEEN = DATA
SEEN_SIGNED = np.frombuffer(SEEN, np.int8).tolist()
DATA_SENT = sent_as("ad01", DATA, NETWORK.input)


@needs_gcc
def test_results_are_held_against_the_network(host: HostDevice) -> None:
    found = measure_model(at(FaultyLine(host, [], 0, random.Random(1))), NETWORK, 3, BRIEF)
    assert found.error is not None
    assert found.error < 1e-9
    require_exact(found, NETWORK)


@needs_gcc
@pytest.mark.parametrize(
    "faults",
    [["loss"], ["corruption"], ["truncation"], ["duplication"], ["swapped line"], ["silence", "delay"], ["reset"],
     ["vanishing port"]],
    ids=lambda names: "+".join(names),
)  # fmt: skip
def test_no_wrong_median_gets_through(host: HostDevice, faults: list[str]) -> None:
    """Nor a wrong result; a single window may be slightly off, for nothing in the protocol would tell."""
    succeeded = 0
    for seed in range(6):
        line = FaultyLine(host, [], 0.01, random.Random(seed))
        device = at(line)
        line.faults = faults
        try:
            found = measure_base(device, DATA_SENT, BRIEF)
        except HilError:
            continue
        succeeded += 1
        assert found.latency_us == pytest.approx(ticks(SEEN) / 25, rel=1e-3)
        assert found.results[:3] == tuple((value + 1 - 5) * 0.5 for value in SEEN_SIGNED[:3])
    assert succeeded > 0


@needs_gcc
def test_a_device_that_forgets_its_input_is_noticed(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    line = FaultyLine(host, [], 0, random.Random(1))
    device = at(line)
    infer, calls = device.base_infer, iter(range(100))

    def reset_first(*arguments: object) -> BaseTiming:
        if next(calls) == 3:
            line.boot()
        return infer(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(device, "base_infer", reset_first)
    with pytest.raises(ProtocolError):
        measure_base(device, DATA_SENT, BRIEF)


def test_silence_is_a_time_out() -> None:
    master, slave = pty.openpty()
    try:
        with serial.Serial(os.ttyname(slave), timeout=0.01) as port, pytest.raises(LinkTimeout):
            measure_base(Device(port, SHORT), None, BRIEF)
    finally:
        os.close(master)
        os.close(slave)


@pytest.fixture
def serial_port() -> Iterator[str]:
    """A terminal's device file at which firmware runs that somebody else has started."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    process = subprocess.Popen([program()], stdin=master, stdout=master)
    yield os.ttyname(slave)
    process.kill()
    process.wait()
    os.close(master)
    os.close(slave)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of `munas-hil measure --protocol mlperf --json`."""
    monkeypatch.setattr(sys, "argv", ["munas-hil", "measure", "--protocol", "mlperf", "--json", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@needs_gcc
@pytest.mark.parametrize(
    ("option", "more", "baud"),
    [("--port", [], termios.B115200), ("--port", ["--baud", "9600"], termios.B9600), ("--device", [], termios.B38400)],
)
def test_command_at_a_port(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    serial_port: str,
    option: str,
    more: list[str],
    baud: int,
) -> None:
    """The whole way: detection, pyserial, the port and its rate, stock firmware's commands."""
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path))
    board = Connected("A1", ("nucleo-f746zg", "nucleo-l4r5zi"), serial_port, baud=38_400)
    monkeypatch.setattr("hil.targets.detect.connected_devices", lambda: (board,))
    assert command(monkeypatch, option, serial_port if option == "--port" else "A1", *more) == 0
    with open(serial_port, "rb", buffering=0) as line:
        assert termios.tcgetattr(line)[4] == baud
    (document,) = json.loads(capsys.readouterr().out)
    assert (document["vendor"], document["profile"], document["via"]) == ("munas-hil", "ad01", "port")
    assert document["device"] == (None if option == "--port" else "A1")
    assert len(document["latency"]["windows"]) == 5


@needs_gcc
def test_a_board_in_use_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, serial_port: str
) -> None:
    """By its lock, and by its port: who names that knows no lock."""
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path))
    boards = Connected("A1", ("x",), serial_port), Connected("B2", ("x",), None)
    monkeypatch.setattr("hil.targets.detect.connected_devices", lambda: boards)
    with any_device(("A1",)), serial.Serial(serial_port, exclusive=True):
        for arguments, message in (
            (["--device", "A1"], "A1 is used by process"),
            (["--port", serial_port], "Could not exclusively lock port"),
            (["--device", "B2"], "has no serial port"),
            (["--device", "C3"], "no device C3 is connected"),
        ):
            assert command(monkeypatch, *arguments) == 3
            assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "/dev/null/x"],
        ["--protocol", "mlperf"],
        ["--protocol", "x", "m.tflite"],
        [],
        ["--device", "A1"],
        ["--protocol", "mlperf", "--port", "/dev/null", "--device", "A1"],
        ["--protocol", "mlperf", "--port", "/dev/null", "--profile", "ic01"],
        ["m.tflite", "--baud", "9600"],
    ],
)
def test_usage_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["munas-hil", "measure", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("munas-hil: ")
