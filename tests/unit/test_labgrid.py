"""What labgrid-client may say, without a lab: the real thing is in tests/firmware/test_labgrid.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hil.errors import HilError, InfrastructureError, RunnerError, ToolMissing, UsageError
from hil.targets import labgrid
from hil.targets.locks import hold

PORT = "targets: {board: {resources: [{NetworkSerialPort: {host: lab, port: 4000, protocol: raw, speed: 9600}}]}}"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labgrid-client that says what is in the file `env`, and keeps what it was asked."""
    script = tmp_path / "labgrid-client"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$2" != env ] || cat {tmp_path}/env\n')
    script.chmod(0o755)
    monkeypatch.setenv(labgrid.VARIABLE, str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "env"


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("nonsense", InfrastructureError, "does not say what a place has"),
        ("[}", InfrastructureError, "does not say what a place has"),
        ("targets: {a: {resources: []}, b: {resources: []}}", InfrastructureError, "does not say what a place has"),
        ("targets: {a: {resources: [3]}}", InfrastructureError, "does not say what a place has"),
        ("targets: {a: {resources: [{NetworkSerialPort: 3}]}}", InfrastructureError, "does not say what a place has"),
        ("targets: {a: {resources: []}}", RunnerError, "has 0 serial ports .*; it has nothing"),
        (PORT.replace("raw", "xmodem"), RunnerError, r"of the protocol 'xmodem' \(known: rfc2217, raw\)"),
        (PORT.replace("4000", "none"), RunnerError, "is not socket://HOST:PORT"),
        (PORT.replace("lab,", "[],"), RunnerError, "is not socket://HOST:PORT"),
        ("!!python/object/apply:os.abort []", InfrastructureError, "does not say what a place has"),
    ],
)
def test_what_labgrid_says_is_not_trusted(client: Path, said: str, error: type[HilError], message: str) -> None:
    client.write_text(said)
    with pytest.raises(error, match=message):
        labgrid.acquired("labgrid:board", ())
    os.close(hold("place labgrid:board"))  # nobody keeps it


def test_a_place_is_a_connected_board(client: Path) -> None:
    client.write_text(PORT)
    try:
        found = labgrid.acquired("labgrid:board", ("nucleo-f746zg",))
        program = str(client.with_name("labgrid-client"))
        assert (found.serial_number, found.port, found.boards) == (
            "labgrid:board", "socket://lab:4000", ("nucleo-f746zg",)
        )  # fmt: skip
        assert found.flash_command == (program, "--place=board", "bootstrap", "{image}")
        assert found.reset_command == found.power_cycle_command == (program, "--place=board", "power", "cycle")
        assert labgrid.acquired("labgrid:board", ("other",)).boards == ("other",)
        asked = client.with_name("calls").read_text().splitlines()
        assert asked == ["--place=board env"] * 2  # it was ours already: nothing to acquire
    finally:
        labgrid.release_all()
    client.write_text(PORT.replace("raw", "rfc2217"))
    try:
        found = labgrid.acquired("labgrid:board", ())
        assert (found.port, found.reset_command) == ("rfc2217://lab:4000?ign_set_control", ())
    finally:
        labgrid.release_all()


@pytest.mark.parametrize("name", ["", "a b", "a*", "a{image}", "a\nb"])
def test_what_no_place_is_called(client: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not labgrid:PLACE"):
        labgrid.acquired(f"labgrid:{name}", ())


def test_labgrid_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(labgrid.VARIABLE, "no-such-client")
    with pytest.raises(ToolMissing, match="pipx install labgrid"):
        labgrid.acquired("labgrid:board", ())


def test_a_held_lock_outlives_its_process_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the process that releases a place keeps it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = (
        "import subprocess\nfrom hil.targets.locks import hold\nlock = hold('place x')\n"
        "print(subprocess.Popen(['cat'], pass_fds=(lock,), stdin=0, stdout=subprocess.DEVNULL).pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert int(owner.stdout.readline()) > 0
        owner.wait(30)
        with pytest.raises(HilError, match="place x is used by process"):
            hold("place x")
        assert owner.stdin is not None
        owner.stdin.close()  # cat ends
        os.close(hold("place x", 30.0))
