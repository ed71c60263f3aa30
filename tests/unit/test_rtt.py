"""RTT's rings over a memory, and the debugger's protocol that such a memory is reached by."""

from __future__ import annotations

import re
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from serial import SerialException, SerialTimeoutException

from hil.boards.board import load_board
from hil.boards.linked import at_baud, link_of, linked, parse_link
from hil.errors import UsageError
from hil.link import rtt
from hil.link.gdb_remote import ONCE_MORE_S, GdbRemote
from hil.link.rtt import ID, SPAN, RttPort
from hil.targets.bench_file import BenchDevice, read_bench
from hil.targets.detect import Connected, connected_devices, linked_as
from tests.conftest import ROOT

BLOCK, UP, DOWN = 0x2000_0100, 0x2000_1000, 0x2000_2000


class Ram:
    """64 KB from 0x20000000 on. The device in it runs when the core does: it gives what it has to say and takes what it
    is told, as far as the rings allow."""

    def __init__(self, up: int = 16, down: int = 8, *, started: bool = True) -> None:
        self.bytes = bytearray(1 << 16)
        self.sizes = up, down
        self.to_say, self.heard = bytearray(), bytearray()
        self.is_halted = True
        self.listens = True
        if started:
            self.start()

    def start(self) -> None:
        self.put(BLOCK, ID + struct.pack("<ii", 1, 1))
        self.put(BLOCK + 24, struct.pack("<6I", 0, UP, self.sizes[0], 0, 0, 2))
        self.put(BLOCK + 48, struct.pack("<6I", 0, DOWN, self.sizes[1], 0, 0, 2))

    def put(self, address: int, data: bytes) -> None:
        self.bytes[address - 0x2000_0000 : address - 0x2000_0000 + len(data)] = data

    def word(self, address: int) -> int:
        return int(struct.unpack_from("<I", self.bytes, address - 0x2000_0000)[0])

    def halt(self) -> None:
        self.is_halted = True

    def go(self) -> None:
        self.is_halted = False
        self._run()

    def _run(self) -> None:
        size, written = self.word(BLOCK + 32), self.word(BLOCK + 36)
        while self.to_say and size and (written + 1) % size != self.word(BLOCK + 40):
            self.put(UP + written, bytes([self.to_say.pop(0)]))
            written = (written + 1) % size
            self.put(BLOCK + 36, struct.pack("<I", written))
        size, read = self.word(BLOCK + 56), self.word(BLOCK + 64)
        while self.listens and size and read != self.word(BLOCK + 60):
            self.heard.append(self.bytes[DOWN + read - 0x2000_0000])
            read = (read + 1) % size
            self.put(BLOCK + 64, struct.pack("<I", read))

    def read(self, address: int, size: int) -> bytes:
        assert self.is_halted
        return bytes(self.bytes[address - 0x2000_0000 : address - 0x2000_0000 + size])

    def write(self, address: int, data: bytes) -> None:
        assert self.is_halted
        self.put(address, data)

    def close(self) -> None:
        pass


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=90)), max_size=8),
)  # fmt: skip
def test_every_byte_arrives_once_and_in_order(up: int, down: int, said: list[tuple[bool, bytes]]) -> None:
    ram = Ram(up, down)
    port = RttPort(ram, BLOCK)
    sent, expected, got = b"", b"", b""
    for is_up, data in said:
        if is_up:
            ram.to_say += data
            expected += data
            while len(got) < len(expected):
                chunk = port.read(max(1, port.in_waiting))
                assert chunk
                got += chunk
        else:
            assert port.write(data) == len(data)
            sent += data
    ram.go()
    assert (got, bytes(ram.heard)) == (expected, sent)


def test_what_the_device_says_while_it_is_written_to_is_kept() -> None:
    ram = Ram(up=8, down=4)
    port = RttPort(ram, BLOCK)
    ram.to_say += b"0123456789abcdefghij"
    assert port.write(b"a command that is long") == 22
    said = b""
    while len(said) < 20:
        said += port.read(max(1, port.in_waiting))
    assert said == b"0123456789abcdefghij"


def test_before_the_firmware_has_started_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ram = Ram(started=False)
    port = RttPort(ram, BLOCK)
    port.timeout = 0.0
    assert port.read() == b""
    monkeypatch.setattr(rtt, "WRITE_S", 0.0)
    with pytest.raises(SerialTimeoutException, match="does not take"):
        port.write(b"x")
    ram.start()
    ram.put(BLOCK + 56, bytes(4))  # it is copied word by word
    with pytest.raises(SerialTimeoutException, match="does not take"):
        port.write(b"x")
    ram.start()
    assert port.write(b"x") == 1


def test_a_device_that_does_not_listen_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ram = Ram(down=4)
    ram.listens = False
    monkeypatch.setattr(rtt, "WRITE_S", 0.01)
    with pytest.raises(SerialTimeoutException):
        RttPort(ram, BLOCK).write(b"longer than the ring")


@pytest.mark.parametrize(("at", "value"), [(32, 1), (32, 1 << 31), (36, 16), (40, 99), (56, 1)])
def test_damaged_rings_are_no_rings(at: int, value: int) -> None:
    ram = Ram()
    ram.put(BLOCK + at, struct.pack("<I", value))
    with pytest.raises(SerialException, match="is damaged"):
        RttPort(ram, BLOCK).read()


@pytest.mark.parametrize(("at", "content"), [(0, b"moved"), (16, b"\2"), (28, b"\4"), (56, b"\4")])
def test_a_block_that_is_written_over_is_told_at_once(at: int, content: bytes) -> None:
    """Its name, its counts, where a ring lies, how long one is: nothing is taken from there, nothing put there."""
    ram = Ram(up=16, down=8)
    port = RttPort(ram, BLOCK)
    ram.to_say += b"ready"
    assert port.read(5) == b"ready"
    ram.put(BLOCK + at, content)
    before = bytes(ram.bytes)
    for use in (lambda: port.write(b"x"), port.read):
        with pytest.raises(SerialException, match="written over the RTT block at 0x20000100"):
            use()
    assert bytes(ram.bytes) == before


def test_the_core_stands_still_unless_it_is_waited_for() -> None:
    ram = Ram()
    port = RttPort(ram, BLOCK)
    ram.to_say += b"m-ready"
    assert port.read(7) == b"m-ready"
    assert ram.is_halted
    port.write(b"name%")
    assert not ram.is_halted


def test_a_closed_port() -> None:
    port = RttPort(Ram(), BLOCK)
    port.close()
    port.close()
    with pytest.raises(SerialException, match="closed"):
        port.read()


# --- the debugger's protocol ------------------------------------------------------------------------------------------


@contextmanager
def server(*answers: bytes) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """A line whose far end gives these packets, one for each that it gets; and what it got."""
    near, far = socket.socketpair()
    got: list[bytes] = []

    def serve() -> None:
        left, received = list(answers), b""
        while chunk := far.recv(4096):
            received += chunk
            while True:
                start = received.find(b"$")
                end = received.find(b"#", start)
                if b"\x03" in received[: start if start >= 0 else None]:
                    received = received.replace(b"\x03", b"", 1)
                    got.append(b"\x03")
                elif start >= 0 and 0 <= end <= len(received) - 3:
                    got.append(received[start + 1 : end])
                    received = received[end + 3 :]
                    if got[-1] == b"c":
                        continue
                else:
                    break
                if left:
                    far.sendall(b"+" + left.pop(0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with near, far:
        yield near, got
        near.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def packet(content: bytes) -> bytes:
    return b"$%s#%02x" % (content, sum(content) % 256)


def test_halting_reading_writing_and_going() -> None:
    answers = [b"S05", b"0011ff", b"OK", b"T02thread:01;", b"ab"]
    with server(*map(packet, answers)) as (line, got):
        core = GdbRemote(line)
        assert core.read(0x2000_0000, 3) == b"\x00\x11\xff"
        core.write(0x2000_0010, b"\x01\xfe")
        core.go()
        core.go()  # it runs
        core.halt()
        core.halt()  # it has halted
        assert core.read(0x2000_0020, 1) == b"\xab"
    assert got == [b"?", b"m20000000,3", b"M20000010,2:01fe", b"c", b"\x03", b"m20000020,1"]


def test_a_stop_that_is_told_twice() -> None:
    with server(packet(b"S05") + packet(b"T05thread:01;"), packet(b"T02thread:01;") + packet(b"ab")) as (line, _):
        core = GdbRemote(line)
        assert core.read(0x2000_0020, 1) == b"\xab"


@pytest.mark.parametrize(
    ("answer", "said"), [(b"E14", "cannot be read"), (b"zz", "cannot be read"), (b"W00", "program ended")]
)
def test_what_a_server_refuses_is_a_dead_port(answer: bytes, said: str) -> None:
    with server(packet(b"S05"), packet(answer)) as (line, _):
        core = GdbRemote(line)
        with pytest.raises(SerialException, match=said):
            core.read(0x2000_0000, 4)


def test_run_length_encoding_and_damage() -> None:
    wrong = b"$0*&#00"  # the checksum is another; what comes after our minus is right
    with server(packet(b"S05"), wrong + packet(b"0*&")) as (line, _):
        assert GdbRemote(line).read(0x2000_0000, 5) == bytes(5)  # 0 and 9 more


def test_a_server_that_is_silent_or_gone() -> None:
    with server() as (line, _), pytest.raises(SerialException, match=r"does not answer within 0\.05 s"):
        GdbRemote(line, answer_s=0.05)
    near, far = socket.socketpair()
    far.close()
    with near, pytest.raises(SerialException, match=r"broke|gone"):
        GdbRemote(near)


def test_whoever_was_stopped_looks_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the time may have passed while the whole machine stood still, and the server with it."""
    waits = list[float]()

    def selected(*arguments: Any) -> Any:
        waits.append(arguments[-1])
        return ([], [], []) if len(waits) == 1 else select.select(*arguments)

    monkeypatch.setattr("hil.link.gdb_remote.select", SimpleNamespace(select=selected))
    with server(packet(b"S05")) as (line, _):
        GdbRemote(line)
    assert waits[1] == ONCE_MORE_S


# --- which link -------------------------------------------------------------------------------------------------------


def test_the_link_is_part_of_the_build() -> None:
    board = load_board("nucleo-f746zg")
    assert linked(board, "uart") is board
    over = linked(board, parse_link("rtt"))
    assert [link_of(over.target(via)) for via in ("hardware", "renode", "qemu")] == ["rtt"] * 3
    assert link_of(board.target("qemu")) == "uart"
    assert over.target("renode").defines["HIL_RENODE"] == 1
    with pytest.raises(UsageError, match=r"--link swo does not exist \(known: uart, rtt\)"):
        parse_link("swo")


def test_the_rate_is_part_of_the_build() -> None:
    """Of hardware's and Renode's: QEMU's lines have none."""
    board = load_board("nucleo-f746zg")
    assert at_baud(board, None) is at_baud(board, 115_200) is board
    slow = at_baud(board, 9600)
    assert (slow.baud, slow.uart and slow.uart.tx) == (9600, "PD8")
    assert slow.target("hardware").defines == {"HIL_BAUD": 9600}
    assert slow.target("renode").defines == {"HIL_BAUD": 9600, "HIL_RENODE": 1}
    assert slow.target("qemu") == board.target("qemu")
    assert at_baud(slow, 115_200).target("hardware") == board.target("hardware")
    without = at_baud(board.model_copy(update={"uart": None}), 9600)
    assert without.target("hardware").defines == {"HIL_BAUD": 9600}
    assert board.hardware is not None
    one = board.model_copy(update={"hardware": board.hardware.model_copy(update={"port": "nrf51"})})
    with pytest.raises(UsageError, match=r"nrf51\.c runs at 115200 baud only, not at 9600"):
        at_baud(one, 9600)
    devices = [Connected("A", ("x",), "a", baud=9600), Connected("B", ("x",), "b")]
    assert linked_as(board, devices[:1]).baud == 9600
    with pytest.raises(UsageError, match=r"A by uart at 9600 baud, B by uart"):
        linked_as(board, devices)
    assert linked_as(board, [Connected("A", ("x",), "a", baud=115_200), devices[1]]) is board  # which is B's, too


def test_the_bench_file_says_it_and_boards_have_to_agree() -> None:
    said = {"board": "nucleo-f746zg", "serial_number": "1", "link": "rtt"}
    assert BenchDevice.model_validate({**said, "port": "socket://localhost:9090"}).link == "rtt"
    with pytest.raises(ValidationError, match="needs port"):  # the board's own is a UART, where nobody would answer
        BenchDevice.model_validate(said)
    devices = [Connected("A", ("x",), "a"), Connected("B", ("x",), "b", link="rtt")]
    board = load_board("nucleo-f746zg")
    assert linked_as(board, []) is linked_as(board, devices[:1]) is board
    assert link_of(linked_as(board, devices[1:]).target("hardware")) == "rtt"
    with pytest.raises(UsageError, match=r"A by uart, B by rtt"):
        linked_as(board, devices)


def test_the_example_of_the_documentation_is_a_bench_file(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "link.md").read_text()
    (example,) = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if 'link = "rtt"' in block]
    (tmp_path / "bench.toml").write_text(example)
    (device,) = connected_devices(read_bench(tmp_path / "bench.toml"), ())
    assert (device.link, device.flash, device.port) == ("rtt", "gdb", "socket://localhost:9090")


def test_the_block_is_as_long_as_the_layout_says() -> None:
    assert SPAN == 16 + 2 * 4 + 2 * 6 * 4
