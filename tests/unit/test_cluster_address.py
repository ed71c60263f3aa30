"""Where a cluster's head is, and whether it and one's own node are there. For clusters see `tests/contract`."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from munas.jobs.connection import HEAD_PATIENCE_S, Lifeline, head_of, require_answer


@pytest.mark.parametrize(
    ("address", "variable", "file", "expected"),
    [
        ("127.0.0.1:6379", None, None, "127.0.0.1:6379"),
        ("localhost:6379", "head:6379", "head:6379", "localhost:6379"),
        ("ray://127.0.0.1:10001", None, None, "127.0.0.1:10001"),
        ("auto", None, None, ""),
        ("auto", None, "127.0.0.1:6379\n", "127.0.0.1:6379"),
        ("auto", "192.0.2.7:6379", "127.0.0.1:6379", "192.0.2.7:6379"),
        ("auto", "ray://192.0.2.7:10001", None, "192.0.2.7:10001"),
    ],
)
def test_where_the_head_is(
    address: str,
    variable: str | None,
    file: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    if file is not None:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(file)
    assert head_of(address) == expected


@contextmanager
def deaf() -> Iterator[int]:
    """A port that nobody listens at, and nobody else can take."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


def test_a_head_that_is_away_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_answer(f"127.0.0.1:{server.getsockname()[1]}")
    with deaf() as port, pytest.raises(ConnectionError, match=rf"nothing answers at 127\.0\.0\.1:{port}: "):
        require_answer(f"127.0.0.1:{port}")
    with pytest.raises(ConnectionError, match=r"nothing answers at 127\.0\.0\.1:70000: "):
        require_answer("127.0.0.1:70000")


@pytest.mark.parametrize("head", ["", "head", "head:port"])
def test_what_is_no_address_is_left_to_ray(head: str) -> None:
    require_answer(head)


def lifeline(node: Path, head: str) -> Lifeline:
    """One that looks at once."""
    return Lifeline(str(node), head, looked=-math.inf)


def test_a_node_that_is_gone_is_seen(tmp_path: Path) -> None:
    """Its socket outlives it."""
    path = tmp_path / "raylet"
    with socket.create_server(("127.0.0.1", 0)) as head, socket.socket(socket.AF_UNIX) as node:
        node.bind(str(path))
        node.listen()
        where = f"127.0.0.1:{head.getsockname()[1]}"
        lifeline(path, where).require()
        node.close()
        with pytest.raises(ConnectionError, match="the node that this command is connected through is lost"):
            lifeline(path, where).require()


def test_a_head_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "raylet"
    with socket.socket(socket.AF_UNIX) as node, deaf() as port:
        node.bind(str(path))
        node.listen()
        where = f"127.0.0.1:{port}"
        lifeline(path, where).require()
        gone = replace(lifeline(path, where), answered=time.monotonic() - HEAD_PATIENCE_S)
        with pytest.raises(ConnectionError, match=f"its head at {where} does not answer any more"):
            gone.require()


def test_what_is_out_of_sight_is_not_looked_for() -> None:
    Lifeline("", "", looked=-math.inf).require()
