"""A place of a labgrid coordinator: ``--device labgrid:PLACE`` gives its serial port, flashing and power.

Through labgrid-client, as a program: labgrid brings a pyserial of its own, and so needs an environment of its own.
A place is acquired until this process ends, unless whoever runs it had acquired it already. It is released however the
process ends, kill -9 included: another one waits for that.
"""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from hil.boards.machines import HIGHEST_BAUD, LOWEST_BAUD
from hil.errors import DeviceBusy, DeviceMissing, InfrastructureError, RunnerError, ToolMissing, UsageError
from hil.link.transport import check_url
from hil.targets.detect import Connected
from hil.targets.locks import hold

PREFIX = "labgrid:"
VARIABLE = "LABGRID_CLIENT"
CLIENT = "labgrid-client"
INSTALL = f"pipx install labgrid==26.0.1 (or name the program of another environment in {VARIABLE})"
CLIENT_TIMEOUT_S = 60
LOCK_WAIT_S = 600.0  # as for a board of this machine
SERIAL = "NetworkSerialPort"
# How each is opened. The exporter's server need not confirm what a client sets, and ser2net does not.
_URLS = {"rfc2217": "rfc2217://{host}:{port}?ign_set_control", "raw": "socket://{host}:{port}"}
# A line on its input: there is nothing to release. The end of its input: our process is over, or wants it released.
_RELEASER = (
    'read -r _ && exit 0; said=$("$@" 2>&1) || '
    'printf "munas-hil: %s was not released: %s\\n" "$0" "$(printf %s "$said" | tail -n 1)" >&2'
)
_MEANINGS: dict[str, type[InfrastructureError]] = {
    "already acquired": DeviceBusy,
    "matches nothing": DeviceMissing,
    "no matching remote resource": DeviceMissing,  # its exporter does not run
}


@dataclass(frozen=True, slots=True)
class _Held:
    """A place that is ours: `lock` keeps off other processes of this user, whom labgrid does not tell from us."""

    device: Connected
    lock: int
    releaser: _Releaser | None  # None: it had been acquired before


_held: dict[str, _Held] = {}


def acquired(device: str, boards: tuple[str, ...]) -> Connected:
    """The place that `device` (``labgrid:PLACE``) names, acquired for this process. Which of `boards` is there labgrid
    does not say.

    Raises UsageError, ToolMissing, DeviceMissing when there is no such place, DeviceBusy when somebody else has it,
    RunnerError when it has no serial port of its own, InfrastructureError when labgrid does not answer.
    """
    if device not in _held:
        if not _held:
            atexit.register(release_all)
        _held[device] = _acquire(device)
    return replace(_held[device].device, boards=boards)


def is_place(device: str) -> bool:
    """Whether ``--device`` names a place."""
    return device.startswith(PREFIX)


def release_all() -> None:
    """Release what this process has acquired."""
    while _held:
        _, held = _held.popitem()
        os.close(held.lock)
        if held.releaser is not None:
            held.releaser.end(release=True)


def _acquire(device: str) -> _Held:
    client = _client(device)
    lock = hold(f"place {device}", LOCK_WAIT_S)
    releaser = None
    try:
        if _said(client, "env").returncode != 0:
            releaser = _Releaser(device, client, lock)
            try:
                _required(device, client, "acquire")
            except BaseException:
                releaser.end(release=False)
                releaser = None
                raise
        return _Held(_connected(device, client, _resources(_required(device, client, "env"))), lock, releaser)
    except BaseException:
        os.close(lock)
        if releaser is not None:
            releaser.end(release=True)
        raise


class _Releaser:
    """The process that releases a place when ours is over."""

    def __init__(self, device: str, client: Sequence[str], lock: int) -> None:
        host = os.environ.get("LG_HOSTNAME", socket.gethostname())
        user = os.environ.get("LG_USERNAME", getpass.getuser())
        command = ["timeout", str(CLIENT_TIMEOUT_S), *client, "release-from", f"{host}/{user}"]
        ours, self._end = os.pipe()
        try:
            # In a session of its own: Ctrl-C is for us. It keeps the lock until the place is released.
            self._process = subprocess.Popen(
                ["sh", "-c", _RELEASER, device, *command], stdin=ours, stdout=subprocess.DEVNULL, env=_environment(),
                pass_fds=(lock,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(self._end)
            raise InfrastructureError(f"{device}: what would release it cannot be started: {error}") from error
        finally:
            os.close(ours)

    def end(self, *, release: bool) -> None:
        """Let it release the place, or not, and wait for it."""
        if not release:
            with suppress(BrokenPipeError):
                os.write(self._end, b"keep\n")
        os.close(self._end)
        self._process.wait()


def _client(device: str) -> tuple[str, ...]:
    name = device.removeprefix(PREFIX)
    if not name or not name.isprintable() or set(name) & set("{}*? "):
        raise UsageError(f"--device {device} is not {PREFIX}PLACE")
    wanted = os.environ.get(VARIABLE) or CLIENT
    program = shutil.which(wanted)
    if program is None:
        raise ToolMissing(wanted, INSTALL)
    return program, f"--place={name}"


def _environment() -> dict[str, str]:
    # LG_ENV is for drivers: with it, all places that it names would be acquired, and YAML comes behind other lines.
    return {name: value for name, value in os.environ.items() if name != "LG_ENV"}


def _said(client: Sequence[str], verb: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*client, verb], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=CLIENT_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"{' '.join(client)} {verb}: {error}") from error


def _required(device: str, client: Sequence[str], verb: str) -> str:
    """What labgrid answers. Raises what its refusal means."""
    answer = _said(client, verb)
    if answer.returncode == 0:
        return answer.stdout
    lines = (answer.stderr.strip() or "it said nothing").splitlines()
    text = lines[-1].removeprefix(f"{CLIENT}: ").removeprefix("Server error: ").removeprefix("Error: ")
    kind = next((kind for words, kind in _MEANINGS.items() if words in text), InfrastructureError)
    where = os.environ.get("LG_COORDINATOR", "127.0.0.1:20408")
    raise kind(f"{device}: {text} (labgrid's coordinator {where})")


def _resources(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Class and arguments of each resource of the one place in labgrid's YAML. Raises InfrastructureError."""
    try:
        import yaml
    except ImportError as error:
        raise ToolMissing("PyYAML", "pip install 'munas-hil[labgrid]'") from error
    try:
        (place,) = yaml.safe_load(text)["targets"].values()
        return [(str(kind), dict(arguments)) for item in place["resources"] for kind, arguments in item.items()]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InfrastructureError(f"{CLIENT} env does not say what a place has: {type(error).__name__}") from error


def _connected(device: str, client: Sequence[str], resources: Sequence[tuple[str, dict[str, Any]]]) -> Connected:
    ports = [arguments for kind, arguments in resources if kind == SERIAL]
    if len(ports) != 1:
        there = ", ".join(kind for kind, _ in resources) or "nothing"
        raise RunnerError(f"{device} has {len(ports)} serial ports ({SERIAL}), and one is needed; it has {there}")
    protocol = ports[0].get("protocol", "rfc2217")
    if protocol not in _URLS:
        raise RunnerError(f"{device} has a serial port of the protocol {protocol!r} (known: {', '.join(_URLS)})")
    speed = ports[0].get("speed")
    if speed is not None and not (isinstance(speed, int) and LOWEST_BAUD <= speed <= HIGHEST_BAUD):
        raise RunnerError(
            f"{device}: its serial port runs at {speed!r} baud, firmware at {LOWEST_BAUD} to {HIGHEST_BAUD}"
        )
    url = _URLS[protocol].format(host=ports[0].get("host"), port=ports[0].get("port"))
    try:
        check_url(url)
    except ValueError as error:
        raise RunnerError(f"{device}: {error}") from error
    cycle = (*client, "power", "cycle")
    return Connected(
        device, (), url, flash="command", source="labgrid", flash_command=(*client, "bootstrap", "{image}"),
        reset_command=cycle if protocol == "raw" else (), power_cycle_command=cycle,
        baud=speed,
    )  # fmt: skip
