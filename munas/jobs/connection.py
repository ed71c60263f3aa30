"""The connection of this process to a Ray cluster. Nothing of Ray is imported before there is one."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from munas.errors import JobsError

LOOK_S = 2.0
HEAD_PATIENCE_S = 45.0  # a head that is started again is waited for; Ray itself waits a minute
ANSWER_S = 10.0  # that the head of a cluster has to take a connection
_INSTALL = "install it with: pip install 'munas-hil[ray]'"
_users: list[str] = []  # the address of the cluster, as often as it is in use
_streams = contextlib.ExitStack()


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected, while somebody is inside: whoever is connected ends when the node does that he is
    connected through. Raises JobsError when Ray is not installed, or the cluster cannot be used."""
    ray = _connect(address)
    _users.append(address)
    try:
        yield ray
    finally:
        _users.remove(address)
        if not _users:
            _streams.close()
            # It may be gone. What it has not said yet, it says now, in this thread.
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                ray.shutdown()


def _connect(address: str) -> Any:
    head = head_of(address)
    if head.rpartition(":")[0] in ("127.0.0.1", "localhost"):  # or Ray takes another address of this host for it
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # or what is no head is asked for a quarter of an hour
    try:
        import ray
    except ImportError as error:
        raise JobsError(f"--cluster needs Ray ({error}); {_INSTALL}") from error
    if ray.is_initialized():
        if _users and _users[-1] == address:
            return ray
        ray.shutdown()
    _streams.enter_context(contextlib.redirect_stdout(_WithoutRay(sys.stdout)))
    try:
        require_answer(head)
        with _own_signals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is said by an exception, too
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="munas-hil")
    except Exception as error:  # any: what a cluster is not like shows in many ways
        _streams.close()
        text = " ".join(str(error).split())
        if "mismatch" in text.lower():
            text += "; install the same versions of Ray and Python here and on every node"
        else:
            text += f"; is a cluster running at {address}? Start one with: ray start --head"
        raise JobsError(f"cannot use the cluster {address}: {text}") from error
    return ray


@dataclass(slots=True)
class Lifeline:
    """What Ray ends this process for a while after it is gone, without a word of ours and with the status 1: `node`,
    the socket of the node that it is connected through, and `head`, HOST:PORT. Empty where they are out of sight."""

    node: str
    head: str
    looked: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, ray: Any) -> Lifeline:
        """Of the connection that there is."""
        context = ray.get_runtime_context()
        own = context.get_node_id()
        path = next((str(node["RayletSocketName"]) for node in ray.nodes() if node["NodeID"] == own), "")
        return cls(path, context.gcs_address) if os.path.exists(path) else cls("", "")

    def require(self) -> None:
        """Raise ConnectionError when one of them is gone. Looks now and then only."""
        now = time.monotonic()
        if not self.node or now - self.looked < LOOK_S:
            return
        self.looked = now
        if _is_gone(socket.AF_UNIX, self.node):
            raise ConnectionError("the node that this command is connected through is lost")
        host, _, port = self.head.rpartition(":")
        if not _is_gone(socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port))):
            self.answered = now
        elif now - self.answered > HEAD_PATIENCE_S:
            raise ConnectionError(f"its head at {self.head} does not answer any more")


def _is_gone(family: socket.AddressFamily, address: Any) -> bool:
    """Whether nobody listens there. Who is on this machine and too busy to say so is there."""
    with socket.socket(family) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return family is not socket.AF_UNIX
    return False


class _WithoutRay:
    """Standard output without what a thread of Ray prints there of a lost node: pages, among results. What is lost is
    told by those who have jobs there."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def write(self, text: str) -> int:
        """As of any stream."""
        return len(text) if threading.current_thread().name.startswith("ray_") else self._output.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


def head_of(address: str) -> str:
    """HOST:PORT of a cluster's head, as far as it is known here. For ``auto``, Ray's variable says it, or its file."""
    if address == "auto":
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        address = ""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
        address = os.environ.get("RAY_ADDRESS") or address
    return address.removeprefix("ray://")


def require_answer(head: str) -> None:
    """Raise ConnectionError when nobody listens at HOST:PORT: Ray itself would wait for minutes, or for ever."""
    host, _, port = head.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(f"nothing answers at {head}: {error}") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; whoever had it gets it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
