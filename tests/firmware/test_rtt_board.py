"""A 'connected' board without a UART: flashed by a script, its rings served at a TCP port as OpenOCD serves them."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.linked import linked
from hil.build.elf import read_symbols
from hil.errors import UsageError
from hil.link.gdb_remote import GdbRemote
from hil.link.rtt import SYMBOL, RttPort
from hil.measure.harness import Harness, Options
from hil.targets.runners.qemu import QEMU
from munas.arch.graph import build_graph
from munas.arch.space import MlpArchitecture
from munas.tflite.flatbuffer import write_tflite
from tests.fake_board import FakeBoard
from tests.firmware import images
from tests.firmware.test_hardware_measure import on_a_desk

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]


@contextmanager
def served(board: FakeBoard) -> Iterator[str]:
    """The URL of a server that hands on what goes over the rings of `board`, once its machine is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()
        thread = threading.Thread(target=_serve, args=(server, board, over), daemon=True)
        thread.start()
        try:
            yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join(10)
        assert not thread.is_alive()


def _serve(server: socket.socket, board: FakeBoard, over: threading.Event) -> None:
    server.settimeout(0.1)
    while not over.is_set():
        with suppress(TimeoutError):
            client, _ = server.accept()
            with client, suppress(OSError):
                _hand_on(client, board, over)


def _hand_on(client: socket.socket, board: FakeBoard, over: threading.Event) -> None:
    line = socket.socket(socket.AF_UNIX)
    while not over.is_set():  # its machine starts with the reset, which comes after the port was opened
        with suppress(OSError):
            line.connect(str(board.gdb))
            break
        time.sleep(0.02)
    with closing(RttPort(GdbRemote(line), read_symbols(board.folder / "last.elf")[SYMBOL])) as port:
        client.setblocking(False)
        while not over.is_set():
            port.timeout = 0.002
            if data := port.read(max(1, port.in_waiting)):
                client.sendall(data)
            with suppress(BlockingIOError):
                if not (sent := client.recv(4096)):
                    return
                port.write(sent)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBoard]:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    folder = tmp_path / "board"
    folder.mkdir()
    made = FakeBoard(folder, "mps2-an386", link="rtt")
    monkeypatch.setenv("PATH", str(made.install()), prepend=":")
    yield made
    made.kill()


def test_a_network_on_a_board_without_a_uart(board: FakeBoard) -> None:
    data = write_tflite(build_graph(MlpArchitecture((10,)), (16,), 4), seed=1)
    with served(board) as url:
        device = replace(board.device, port=url, link="rtt")
        found = Harness(on_a_desk("mps2-an386"), Options(via="hardware", devices=(device,))).measure(data, "mlp")
    measured = found.measurement
    assert (measured.outputs.checked, measured.outputs.mismatched) == (8, 0)
    assert "-DHIL_RTT=1" in measured.identity.flags
    plain = Harness(on_a_desk("mps2-an386"), Options()).measure(data, "mlp").measurement
    assert "-DHIL_RTT=1" not in plain.identity.flags
    # The timer's ticks here, instructions there: 25.6 for each, and a tick more or less.
    assert measured.latency.median == pytest.approx(25.6 * plain.latency.median, abs=26)


def test_firmware_and_bench_file_have_to_agree(board: FakeBoard) -> None:
    harness = Harness(linked(on_a_desk("mps2-an386"), "rtt"), Options(via="hardware", devices=(board.device,)))
    data = write_tflite(build_graph(MlpArchitecture((10,)), (16,), 4), seed=1)
    with pytest.raises(UsageError, match=r"talks over rtt, .* is reached by uart: say link"):
        harness.measure(data, "mlp")
