"""A labgrid coordinator and exporter of this machine, with one emulated board. All of it listens on loopback only.

The coordinator, the exporter, the client and the driver of the power port are labgrid's. The probe is a driver of ours,
which labgrid loads from the environment file that `LG_ENV` names, as it does any driver that is not its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hil.targets.labgrid import CLIENT, VARIABLE

START_S = 60.0
_DRIVER = """
import subprocess

import attr
from labgrid.driver.common import Driver
from labgrid.factory import target_factory
from labgrid.protocol import BootstrapProtocol


@target_factory.reg_driver
@attr.s(eq=False)
class PyocdDriver(Driver, BootstrapProtocol):
    bindings = {"port": "NetworkPowerPort"}
    uid = attr.ib(validator=attr.validators.instance_of(str))

    @Driver.check_active
    def load(self, filename=None):
        subprocess.run(
            ["pyocd", "flash", "--no-wait", "--uid", self.uid, "--target", "mps2", "--format", "elf", filename],
            check=True,
        )
"""


@dataclass
class Lab:
    """What runs. `environment` is what clients need to find it."""

    folder: Path
    port: int
    coordinator: subprocess.Popen[bytes]
    exporter: subprocess.Popen[bytes]
    environment: dict[str, str] = field(default_factory=dict)

    def client(self, *words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """labgrid-client, as somebody."""
        environment = {**os.environ, **self.environment, **({"LG_USERNAME": user} if user else {})}
        environment.pop("LG_ENV", None)
        return subprocess.run([program("client"), *words], env=environment, capture_output=True, text=True, timeout=60)

    def owner(self, place: str) -> str:
        """HOST/USER who has acquired a place, empty when nobody has."""
        lines = self.client("--place", place, "show").stdout.splitlines()
        (line,) = (line for line in lines if line.strip().startswith("acquired:"))
        found = line.partition(":")[2].strip()
        return "" if found == "None" else found

    def wait_until_free(self, place: str) -> None:
        """Until nobody has it."""
        deadline = time.monotonic() + START_S
        while self.owner(place):
            assert time.monotonic() < deadline, f"{place} was not released"


def program(name: str) -> str:
    """Path of one of labgrid's programs. Skips the test when labgrid is not installed."""
    client = shutil.which(os.environ.get(VARIABLE) or CLIENT)
    if client is None:
        pytest.skip(f"labgrid is not installed: neither {CLIENT} on the PATH nor {VARIABLE}")
    return str(Path(client).with_name(f"labgrid-{name}"))


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_environment(folder: Path, place: str, uid: str) -> Path:
    """A labgrid environment file, whose probe flashes the board `uid`."""
    (folder / "pyocd_driver.py").write_text(_DRIVER)
    path = folder / "environment.yaml"
    path.write_text(
        f"targets:\n  main:\n    resources:\n      RemotePlace: {{name: {place}}}\n"
        f"    drivers:\n      PyocdDriver: {{uid: '{uid}'}}\n      NetworkPowerDriver: {{delay: 0.0}}\n"
        "imports: [pyocd_driver.py]\n"
    )
    return path


@contextlib.contextmanager
def power_switch(switched: Callable[[bool], None]) -> Iterator[str]:
    """URL of a relay, in the words of labgrid's NetworkPowerPort of the model rest."""

    class Relay(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            switched(self.rfile.read(int(self.headers["Content-Length"])) == b"1")
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{{index}}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def lab(folder: Path, groups: dict[str, dict[str, dict[str, object]]]) -> Iterator[Lab]:
    """Coordinator and exporter with resources by group, and a place for each group. `groups` is written as YAML, which
    JSON is."""
    import json

    resources = folder / "resources.yaml"
    resources.write_text(json.dumps(groups))
    port = free_port()
    environment = {"LG_COORDINATOR": f"127.0.0.1:{port}", "LG_HOSTNAME": "desk", "LG_USERNAME": "me"}
    with contextlib.ExitStack() as running:
        coordinator = _start(running, folder, "coordinator", "--listen", f"127.0.0.1:{port}")
        exporter = _start(
            running, folder, "exporter", "--coordinator", f"127.0.0.1:{port}", "--name", "shelf",
            "--hostname", "127.0.0.1", str(resources),
        )  # fmt: skip
        found = Lab(folder, port, coordinator, exporter, environment)
        deadline = time.monotonic() + START_S
        while any(f"shelf/{group}/" not in found.client("resources").stdout for group in groups):
            assert time.monotonic() < deadline, (folder / "exporter.log").read_text()
        for group in groups:
            for words in (("create",), ("add-match", f"shelf/{group}/*")):
                answer = found.client("--place", group, *words)
                assert answer.returncode == 0, answer.stderr
        yield found


def _start(running: contextlib.ExitStack, folder: Path, name: str, *words: str) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [program(name), *words], cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    running.callback(process.wait)
    running.callback(process.kill)
    if name == "coordinator":
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(words[-1].split(":")[1]))):
                return process
            assert process.poll() is None, (folder / f"{name}.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return process
