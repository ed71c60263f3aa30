"""Device over a port that a test controls byte by byte: time-outs, damage, faults, a port that dies."""

from __future__ import annotations

import os
import pickle
import termios
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from serial import SerialException

from hil.errors import LinkError, LinkTimeout, ProtocolError, TargetFaultError
from hil.link import protocol
from hil.link.device import Device, Timeouts
from hil.link.session import KernelRefused, Refused
from hil.link.transport import PortVanished, ReconnectingPort, open_port
from hil.patterns import Pattern, PatternKind

SHORT = Timeouts(boot_s=0.05, command_s=0.05, inference_s=0.1)
PATIENT = Timeouts(boot_s=60, command_s=60, inference_s=60)  # for what answers at once: no time-out is a busy machine's
BUILD = "0123456789abcdef0123456789abcdef"
OUTPUT = bytes(range(6))
INPUT = ("input", 40, protocol.crc32(Pattern(PatternKind.RANDOM, 1).data(40, -3)))  # what a device boots with
IDENTITY = (
    protocol.extension_line(
        "id", protocol.VERSION, BUILD, "kws01", "dwt-cycles", 216_000_000, 2, 512, 40, len(OUTPUT), -3, 4
    ),
    protocol.extension_line("map", 9000, 0x20000000, 2048, 900, 0x20000C00, 0),
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These ports answer at once, so that nothing is waited for before another attempt."""
    monkeypatch.setattr("hil.link.session.QUIET_S", 0.0)


def resequenced(line: str, sequence: int) -> str:
    """A line as the device sends it for a command with that sequence."""
    try:
        found = protocol.parse_extension(line)
    except ProtocolError:
        return line  # damaged on purpose
    return line if found is None else protocol.extension_line(found[0], *found[1], sequence=sequence)


class ScriptedPort:
    """Answers each command by `answer`: the lines, or None for silence. `log` has what was sent, without frames.

    An empty command is answered as a device does, unless the device is `dead`.
    """

    dead = False

    def __init__(self, answer: Callable[[str], list[str] | None], banner: str = "") -> None:
        self.timeout: float | None = None
        self.log: list[str] = []
        self.closed = False
        self._answer = answer
        self._out = bytearray(banner.encode("latin-1"))

    @property
    def in_waiting(self) -> int:
        return len(self._out)

    def read(self, size: int = 1, /) -> bytes:
        if not self._out:
            time.sleep(0.005)  # as a port with a time-out does, only sooner
        data = bytes(self._out[:size])
        del self._out[:size]
        return data

    def write(self, data: bytes, /) -> int:
        command, sequence = protocol.unframe(data.decode().removesuffix(protocol.TERMINATOR)) or ("damaged", 0)
        if not command:
            self._out += b"" if self.dead else b"e-[Unknown command: ]\r\nm-ready\r\n"
            return len(data)
        self.log.append(command)
        lines = self._answer(command)
        if lines is not None:
            sent = [resequenced(line, sequence) for line in lines]
            self._out += "".join(f"{line}\r\n" for line in [*sent, protocol.READY]).encode("latin-1")
        return len(data)

    def close(self) -> None:
        self.closed = True


def device(answers: dict[str, list[str] | None]) -> tuple[Device, ScriptedPort]:
    """A device that answers these commands and `hil id`."""
    table = {"hil id": list(IDENTITY), **answers}
    port = ScriptedPort(lambda command: table.get(command, [f"e-[Unknown command: {command}]"]))
    return Device(port, PATIENT), port


def test_boot_message_is_read_to_ready() -> None:
    port = ScriptedPort(lambda _: None, "\x00noise\r\nm-timestamp-mode-performance\r\nm-init-done\r\nm-ready\r\n")
    assert Device(port, PATIENT).wait_ready() == ["\x00noise", "m-timestamp-mode-performance", "m-init-done"]


@pytest.mark.parametrize("banner", ["", "m-timestamp-mode-performance\r\n", "m-ready"])
def test_silence_at_boot_is_a_time_out(banner: str) -> None:
    started = time.monotonic()
    port = ScriptedPort(lambda _: None, banner)
    port.dead = True
    with pytest.raises(LinkTimeout, match="boot message"):
        Device(port, SHORT).wait_ready()
    assert time.monotonic() - started >= 0.05


def test_a_machine_that_stood_still_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a device that answers a moment later, nor endless talk of one that has answered."""

    class Stopped(ScriptedPort):
        late = 0.0

        def read(self, size: int = 1, /) -> bytes:
            if self.log and not Stopped.late:
                Stopped.late = 1000.0
                return b""
            return super().read(size)

    def monotonic() -> float:
        return real() + Stopped.late

    real = time.monotonic
    monkeypatch.setattr("hil.link.transport.time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
    port = Stopped(lambda _: [protocol.extension_line("memory", 1, 2, 3)])
    made = Device(port, PATIENT)
    assert made.memory() == protocol.MemoryReport(1, 2, 3)
    assert (port.log, made.retries) == (["hil memory"], 0)


def test_fault_at_boot_is_a_fault() -> None:
    said = "e-[fault pc=00000012 lr=0 sp=0 cfsr=00010000 hfsr=0 bfar=0 mmfar=0 stack=0"
    banner = f"\r\n{said} crc={protocol.crc32(said.encode()):08x}]\r\n"
    with pytest.raises(TargetFaultError, match="undefined instruction") as caught:
        Device(ScriptedPort(lambda _: None, banner), PATIENT).wait_ready()
    assert caught.value.registers["pc"] == 0x12


def test_identity_is_asked_for_once() -> None:
    made, port = device({})
    assert made.identity().build_id == BUILD
    assert made.identity().output_zero_point == 4
    assert made.memory_map().static_bytes == 900
    assert port.log == ["hil id"]


def test_a_damaged_reply_is_asked_for_again() -> None:
    replies = iter([[IDENTITY[0].replace("kws01", "kws02"), IDENTITY[1]], ["e-[Unknown command: hix]"], list(IDENTITY)])
    port = ScriptedPort(lambda _: next(replies))
    assert Device(port, PATIENT).identity().profile == "kws01"
    assert port.log == ["hil id"] * 3


def test_damage_that_stays_is_a_protocol_error() -> None:
    made, port = device({"hil id": ["m-hil-id-[1]-00000000"]})
    with pytest.raises(ProtocolError, match=r"wrong CRC.*10 attempts"):
        made.identity()
    assert len(port.log) == 10


def test_another_version_is_named() -> None:
    made, _ = device({"hil id": [protocol.extension_line("id", 9, "x"), IDENTITY[1]]})
    with pytest.raises(ProtocolError, match="another version"):
        made.identity()


def test_stock_firmware_is_recognised() -> None:
    stock = Device(ScriptedPort(lambda command: [f"e-[Unknown command: {command.split()[0]}]"]), PATIENT)
    assert not stock.has_extension()
    assert device({})[0].has_extension()


def run_line(pattern: Pattern, ticks: int = 77) -> str:
    data = pattern.data(40, -3)
    return protocol.extension_line("run", ticks, protocol.crc32(data), protocol.crc32(OUTPUT), OUTPUT.hex())


def test_run_checks_that_the_input_is_the_hosts() -> None:
    asked, other = Pattern(PatternKind.RANDOM, 5), Pattern(PatternKind.RANDOM, 6)
    made, _ = device({"hil run 5 0": [run_line(asked)]})
    assert made.run(asked) == protocol.RunReply(77, protocol.crc32(asked.data(40, -3)), protocol.crc32(OUTPUT), OUTPUT)
    made, _ = device({"hil run 5 0": [run_line(other)]})
    with pytest.raises(ProtocolError, match="differs from the host's"):
        made.run(asked)


def test_an_announced_silence_extends_the_time_out() -> None:
    class Slow(ScriptedPort):
        started = 0.0
        sequence = 0

        def read(self, size: int = 1, /) -> bytes:
            if self.log[1:] and not self.started:
                self.started = time.monotonic()
            if self.started and not self.in_waiting and time.monotonic() - self.started > 0.3:
                lines = (protocol.extension_line(*what, sequence=self.sequence) for what in (INPUT, ("ticks", 0, 5)))
                self._out += "".join(f"{line}\r\n" for line in (*lines, protocol.READY)).encode()
                self.started = float("inf")
            return super().read(size)

        def write(self, data: bytes, /) -> int:
            command, self.sequence = protocol.unframe(data.decode()[:-1]) or ("", 0)
            if command == "hil id":
                return super().write(data)
            self.log.append(command)
            self._out += f"{protocol.extension_line('silence', announced_us, sequence=self.sequence)}\r\n".encode()
            return len(data)

    announced_us = 20_000_000  # it takes 0.3 s
    assert Device(Slow(lambda _: list(IDENTITY)), SHORT).infer(1, 0) == [5]
    announced_us = 1
    with pytest.raises(LinkTimeout):
        Device(Slow(lambda _: list(IDENTITY)), SHORT).infer(1, 0)


def test_samples_over_several_lines() -> None:
    first, second = protocol.extension_line("ticks", 0, *range(16)), protocol.extension_line("ticks", 16, 16)
    given = protocol.extension_line(*INPUT)
    assert device({"hil infer 17 2": [given, first, second]})[0].infer(17, 2) == list(range(17))
    with pytest.raises(ProtocolError, match="16 figures of 'ticks' came back instead of 17"):
        device({"hil infer 17 2": [given, first]})[0].infer(17, 2)
    for damaged in ([given, first, first], [given, second], [first, second]):  # one line lost, another one doubled
        with pytest.raises(ProtocolError, match=r"missing|instead of one"):
            device({"hil infer 17 2": damaged})[0].infer(17, 2)


def test_profile_must_have_every_layer_in_order() -> None:
    given = protocol.extension_line(*INPUT)
    both = [protocol.extension_line("layers", 0, 10), protocol.extension_line("layers", 1, 20)]
    assert device({"hil profile": [given, *both]})[0].profile() == [10, 20]
    for damaged in (both[:1], both[::-1], [protocol.extension_line("layers", 0, 10, 2**32 - 1)]):
        with pytest.raises(ProtocolError, match="layer"):
            device({"hil profile": [given, *damaged]})[0].profile()


def test_upload_in_chunks_and_checked_as_a_whole() -> None:
    data = bytes(range(40))
    made, port = device(
        {
            protocol.put_command(0, data): [protocol.extension_line("put", 0, 40)],
            "hil input": [protocol.extension_line("input", 40, protocol.crc32(data))],
        }
    )
    made.upload(data)
    assert port.log[-1] == "hil input"
    made, _ = device(
        {
            protocol.put_command(0, data): [protocol.extension_line("put", 0, 40)],
            "hil input": [protocol.extension_line("input", 40, protocol.crc32(data) ^ 1)],
        }
    )
    with pytest.raises(ProtocolError, match="another CRC"):
        made.upload(data)


def test_download() -> None:
    made, _ = device({"hil get 0 6": [protocol.extension_line("data", 0, OUTPUT.hex())]})
    assert made.download() == OUTPUT


def test_refusal_is_quoted() -> None:
    made, _ = device({"hil memory": ["e-[Kernel refused: layer 3]"]})
    with pytest.raises(ProtocolError, match="Kernel refused: layer 3"):
        made.memory()


def test_a_kernel_that_refuses_is_told_from_other_refusals_with_what_an_interpreter_said() -> None:
    said = ["e-[Output type is 7]", "e-[failed to invoke]", "e-[Kernel refused: layer 3]"]
    made, port = device({"hil memory": said})
    with pytest.raises(KernelRefused, match="Output type is 7; failed to invoke; Kernel refused") as caught:
        made.memory()
    assert (caught.value.refusal.layer, caught.value.said) == (3, ("Output type is 7", "failed to invoke"))
    assert port.log.count("hil memory") == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.refusal, again.said) == (str(caught.value), caught.value.refusal, caught.value.said)


@pytest.mark.parametrize("words", ["layer ", "layer x", "layer -1", "layer " + "9" * 5000, "layer 3 4"])
def test_a_layer_that_is_no_number_is_none(words: str) -> None:
    made, _ = device({"hil memory": [f"e-[Kernel refused: {words}]"]})
    with pytest.raises(Refused) as caught:
        made.memory()
    assert not isinstance(caught.value, KernelRefused)


def test_base_protocol() -> None:
    lines = [
        "m-warmup-start-1", "m-warmup-done", "m-infer-start-4", "m-lap-us-1000", "m-lap-us-1400", "m-infer-done",
        "m-results-[0.5,-1.250]",
    ]  # fmt: skip
    made, _ = device({"infer 4 1": lines, "name": ["m-name-dut-[x]"], "profile": ["m-profile-[P]", "m-model-[ic01]"]})
    timing = made.base_infer(4, 1)
    assert (timing.elapsed_us, timing.results) == (400, (0.5, -1.25))
    assert (made.name(), made.model()) == ("x", "ic01")
    with pytest.raises(ProtocolError, match="not what MLPerf firmware answers"):
        device({"infer 4 1": lines[:4]})[0].base_infer(4, 1)


def test_endless_talk_is_ended() -> None:
    endless, _ = device({"hil memory": ["x" * 4000] * (protocol.MAX_REPLY_BYTES // 4000 + 1)})
    with pytest.raises(ProtocolError, match="does not stop talking"):
        endless.memory()
    no_lines = Device(ScriptedPort(lambda _: None, "x" * (protocol.MAX_REPLY_BYTES + 2)), PATIENT)
    with pytest.raises(ProtocolError, match="line without end"):
        no_lines.wait_ready()


@pytest.mark.parametrize("dead", ["read", "write", "in_waiting"])
def test_a_port_that_dies_is_a_link_error(dead: str) -> None:
    class DeadPort(ScriptedPort):
        def read(self, size: int = 1, /) -> bytes:
            if dead == "read":
                raise SerialException("device reports readiness to read but returned no data")
            return super().read(size)

        def write(self, data: bytes, /) -> int:
            if dead == "write":
                raise OSError(5, "Input/output error")
            return super().write(data)

        @property
        def in_waiting(self) -> int:
            if dead == "in_waiting":
                raise OSError(5, "Input/output error")
            return super().in_waiting

    with pytest.raises(LinkError, match="serial port died") as caught:
        Device(DeadPort(lambda _: None), SHORT).identity()
    assert not isinstance(caught.value, LinkTimeout)
    assert caught.value.__cause__ is not None


def test_a_port_that_vanishes_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial lets termios' own exception through, which is no OSError."""

    def vanished(*_: object) -> None:
        raise termios.error(5, "Input/output error")

    master, slave = os.openpty()
    name = os.ttyname(slave)
    try:
        port = ReconnectingPort(lambda: open_port(name), patience_s=0.2)
        monkeypatch.setattr(termios, "tcsetattr", vanished)
        with pytest.raises(PortVanished, match="vanished while it was opened"):
            port.reopen()
    finally:
        os.close(master)
        os.close(slave)


def test_close_closes_the_port() -> None:
    made, port = device({})
    made.close()
    assert port.closed


@pytest.mark.parametrize("end", ["m-rea", "m-rxady\r\n", "\x00m-ready\r\n", ""])
def test_a_damaged_m_ready_costs_little_and_nothing_is_asked_again(end: str) -> None:
    class Careless(ScriptedPort):
        def write(self, data: bytes, /) -> int:
            size = super().write(data)
            if b"memory" in data:
                self._out[self._out.rindex(b"m-ready") :] = end.encode()
            return size

    report = protocol.extension_line("memory", 1, 2, 3)
    port = Careless(lambda command: list(IDENTITY) if command == "hil id" else [report])
    made = Device(port, PATIENT)
    started = time.monotonic()
    assert made.memory() == protocol.MemoryReport(1, 2, 3)
    assert made.identity().build_id == BUILD
    assert time.monotonic() - started < 5
    assert port.log == ["hil memory", "hil id"]


def test_a_reply_to_another_command_is_not_taken() -> None:
    """The device answers each command with the reply to the one before, as after a time-out that came too early."""
    late: list[str] = []

    class Behind(ScriptedPort):
        def write(self, data: bytes, /) -> int:
            command, sequence = protocol.unframe(data.decode()[:-1]) or ("", 0)
            late.append(protocol.extension_line("memory", len(late), 0, 0, sequence=sequence) if command else "e-[x]")
            self._out += f"{late[-2] if len(late) > 1 else 'e-[y]'}\r\nm-ready\r\n".encode()
            return len(data)

    with pytest.raises(ProtocolError):
        Device(Behind(lambda _: None), SHORT).memory()


@pytest.mark.parametrize("said", ["Command too long or not text", "Unknown command: hjl", "Damaged command"])
def test_damage_twice_in_a_row_is_the_lines_fault(said: str) -> None:
    """None of these can be meant of a command that the host sent: it is sent again until it arrives."""
    answers = [[f"e-[{said}]"], [f"e-[{said}]"], list(IDENTITY)]
    port = ScriptedPort(lambda _: answers.pop(0))
    assert Device(port, PATIENT).identity().build_id == BUILD
    assert port.log == ["hil id"] * 3


def test_a_line_that_damages_everything_ends() -> None:
    port = ScriptedPort(lambda _: ["e-[Command too long or not text]"])
    with pytest.raises(ProtocolError, match="after 10 attempts"):
        Device(port, PATIENT).identity()


def test_stock_firmware_is_recognised_after_two_answers() -> None:
    port = ScriptedPort(lambda _: ["e-[Unknown command: hil]"])
    assert not Device(port, PATIENT).has_extension()
    assert port.log == ["hil id"] * 2
