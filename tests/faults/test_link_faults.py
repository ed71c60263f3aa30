"""The link against a serial line that fails: no wrong figure, no hang, no leak; what stays is an error of its kind."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence

import pytest
from serial import SerialException

from hil.boards.board import load_board
from hil.errors import HilError, LinkError, LinkTimeout, ProtocolError
from hil.link import protocol
from hil.link.device import MAX_DIED, Device
from hil.link.transport import ReconnectingPort
from hil.measure.harness import Options
from hil.patterns import Pattern, PatternKind
from hil.targets.runners.base import Session
from hil.targets.runners.qemu import QEMU, QemuRunner
from tests.contract.processes import children
from tests.faults import injection
from tests.faults.faulty import BYTES, FAULTS, FaultyLine
from tests.faults.host_device import HostDevice, open_descriptors
from tests.firmware import images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler for the host"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_at_a_higher_rate_costs_retries_only(fault: str) -> None:
    before = open_descriptors()
    outcome = injection.exchanges([fault], 250, seed=11, rate=0.03)
    assert outcome.struck[fault] > 0
    assert (outcome.wrong, outcome.succeeded) == (0, outcome.tried)
    assert outcome.slowest_s < 10
    assert open_descriptors() == before
    assert children(os.getpid(), "device") == []


@pytest.mark.slow
def test_measurements_with_all_faults() -> None:
    outcome = injection.measurements(FAULTS, 20, seed=3)
    assert outcome.struck.total() > 20
    assert outcome.wrong == 0
    assert outcome.succeeded >= 19


def test_the_harness_would_notice_a_wrong_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checksums, that is."""
    monkeypatch.setattr(protocol, "crc32", lambda _: 0)

    def gullible(line: str, _sequence: int = 0) -> tuple[str, list[str]] | None:
        if not line.startswith("m-hil-") or "-[" not in line:
            return None
        key, _, values = line.removeprefix("m-hil-").partition("-[")
        return key, values.split("]")[0].split(",")

    class Trusting(Device):
        def _present_crc(self, _size: int, crc: int, _otherwise: type[ProtocolError]) -> int:
            return crc

    monkeypatch.setattr(protocol, "parse_extension", gullible)
    monkeypatch.setattr(injection, "Device", Trusting)
    outcome = injection.exchanges(["corruption", "duplication"], 300, seed=1, rate=0.2)
    assert outcome.wrong > 0


@pytest.fixture
def host() -> Iterator[HostDevice]:
    device = HostDevice()
    yield device
    device.stop()


def booted(host: HostDevice, faults: Sequence[str], patience_s: float = 60.0) -> tuple[FaultyLine, Device]:
    """A device in step, on a line that from now on has these faults in every exchange. `patience_s` for its port."""
    line = FaultyLine(host, [], 1.0, random.Random(5))
    line.boot()
    device = Device(ReconnectingPort(line.open, patience_s), injection.SHORT)
    device.wait_ready()
    device.identity()
    line.faults = faults
    return line, device


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("silence", LinkTimeout), ("truncation", LinkTimeout), ("corruption", LinkError), ("loss", LinkError),
        ("flood", ProtocolError),
    ],
)  # fmt: skip
def test_what_stays_is_an_error_of_its_kind(
    host: HostDevice, fault: str, kind: type[HilError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.faulty.FLOOD_BYTES", (2_000_000, 2_000_001))
    _, device = booted(host, [fault])
    started = time.monotonic()
    with pytest.raises(kind):
        _run_often(device)
    assert time.monotonic() - started < 30


def _run_often(device: Device) -> None:
    for seed in range(100):  # a lucky command may get through, a hundred do not
        device.run(Pattern(PatternKind.RANDOM, seed))


def test_a_port_that_stays_away_is_a_link_error(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once, not at every attempt."""
    line, device = booted(host, [], patience_s=0.3)
    line.generation, line.absent = line.generation + 1, 10**9
    waits, reopen = [], ReconnectingPort.reopen

    def counted(port: ReconnectingPort) -> None:
        waits.append(port)
        reopen(port)

    monkeypatch.setattr(ReconnectingPort, "reopen", counted)
    with pytest.raises(LinkError, match="vanished and did not come back") as caught:
        device.run(Pattern(PatternKind.RANDOM, 1))
    assert not isinstance(caught.value, (LinkTimeout, ProtocolError))
    assert len(waits) == 1


def test_a_port_that_comes_and_goes_is_given_up_soon(host: HostDevice) -> None:
    """Each time it is gone again with the first command: a real one is away for seconds."""
    line, device = booted(host, [])
    device.upload(bytes(100))
    line.faults = ["vanishing port"]
    with pytest.raises(LinkError):
        device.run()
    assert line.struck["vanishing port"] == MAX_DIED


def test_another_device_at_the_port_that_was_away_is_refused(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    line, device = booted(host, [])
    known = protocol.parse_identity
    monkeypatch.setattr(protocol, "parse_identity", lambda values: known([values[0], "f" * 32, *values[2:]]))
    line.generation += 1
    with pytest.raises(ProtocolError, match="another firmware answers"):
        device.run(Pattern(PatternKind.RANDOM, 1))


def test_a_reset_between_input_and_inference_is_noticed(host: HostDevice) -> None:
    line, device = booted(host, [])
    data = bytes(range(100))
    actions = (device.answer, lambda: device.infer(3, 0), device.profile)
    right = ((injection.ticks(data), injection.output(data)), [injection.ticks(data)] * 3, injection.layer_ticks(data))
    for action, wanted in zip(actions, right, strict=True):
        device.upload(data)
        line.boot()
        assert action() == wanted
    assert device.retries > 0


def test_a_reset_between_inference_and_download_is_noticed(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    line, device = booted(host, [])
    pattern, download, resets = Pattern(PatternKind.RANDOM, 9), device.download, iter([True, False])

    def late() -> bytes:
        if next(resets):
            line.boot()
        return download()

    monkeypatch.setattr(device, "download", late)
    data = pattern.data(100, -3)
    assert device.answer(pattern) == (injection.ticks(data), injection.output(data))


def test_a_long_output_is_sent_only_where_it_is_not_what_was_expected(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, device = booted(host, [])
    pattern, download, sent = Pattern(PatternKind.RANDOM, 9), device.download, []
    monkeypatch.setattr(device, "download", lambda: sent.append(True) or download())
    data = pattern.data(100, -3)
    right = injection.output(data)
    assert len(right) > protocol.INLINE_OUTPUT_BYTES
    wrong = bytes((right[0] ^ 1, *right[1:]))
    for expected, times in ((right, 0), (wrong, 1), (right[:-1], 2), (right + b"\0", 3), (b"", 4), (None, 5)):
        assert device.answer(pattern, expected) == (injection.ticks(data), right)
        assert len(sent) == times


def test_of_a_measurement_the_first_output_is_read(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its checksum is that of the expected one: so the device's way to compute it is seen to be ours."""
    line, download, read = FaultyLine(host, [], 1.0, random.Random(5)), Device.download, []

    def counted(device: Device) -> bytes:
        read.append(device)
        return download(device)

    monkeypatch.setattr(Device, "download", counted)
    line.boot()
    _, right = injection.measurement(line, Options(inputs=8, seed=1))
    assert right is True
    assert len(read) == 1


def test_an_endless_measurement_does_not_exist() -> None:
    """All faults, all the time: it ends, and not with a figure that is wrong."""
    before = open_descriptors()
    outcome = injection.measurements([name for name in FAULTS if name != "flood"], 2, seed=1, rate=0.5)
    assert outcome.wrong == 0
    assert outcome.slowest_s < 60
    assert open_descriptors() == before


class _Emulated:
    """A QEMU session as the device behind the faulty line. It cannot be reset."""

    def __init__(self, session: Session) -> None:
        self._port = session.port

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def replies(self, commands: int) -> bytes:
        said, deadline = b"", time.monotonic() + 60
        while said.count(b"m-ready\r\n") < commands:
            said += self._port.read(max(1, self._port.in_waiting))
            assert time.monotonic() < deadline, said[-200:]
        return said

    def reset(self) -> None:
        raise SerialException("QEMU is not reset here")


@pytest.mark.firmware
@pytest.mark.qemu
def test_an_emulated_core_behind_a_faulty_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    folder = tmp_path_factory.mktemp("faulty")
    image = images.link(images.header() + images.ADDER, images.runtime("cortex-m4", folder / "runtime"), folder)
    with QemuRunner().open(image, load_board("mps2-an386")) as session:
        target = _Emulated(session)
        line = FaultyLine(target, [], 0.03, random.Random(2))
        line.arrive(target.replies(1))
        device = Device(ReconnectingPort(line.open), injection.SHORT)
        device.wait_ready()
        line.faults = [*BYTES, "delay", "silence", "flood"]
        for seed in range(150):
            pattern = Pattern(PatternKind.RANDOM, seed)
            _, output = device.answer(pattern)
            assert output == bytes((value + 3) & 0xFF for value in pattern.data(100)[:10])
        assert line.struck.total() > 10
        assert device.retries > 0


def test_options_are_those_of_measure() -> None:
    assert Options().inputs == 8  # what the measurements of the table have
